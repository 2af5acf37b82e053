//! The GATT database that is registered with BlueZ: services, characteristics and their handles,
//! and what reads and writes do.

use std::future::Future;
use std::num::NonZeroU16;
use std::pin::Pin;

use bluer::gatt::local::{
    Application, Characteristic, CharacteristicControl, CharacteristicControlHandle,
    CharacteristicNotify, CharacteristicNotifyMethod, CharacteristicRead, CharacteristicWrite,
    CharacteristicWriteMethod, CharacteristicWriteRequest, ReqError, ReqResult, Service,
    characteristic_control,
};
use bluer::{Address, Uuid, UuidExt};

use crate::protocol::{INBOX_UUID, INFO_UUID, OUTBOX_UUID, SERVICE_UUID, VALUE_OCTETS_MAX};

/// Assigned numbers of the Device Information service (Bluetooth SIG, Device Information Service
/// 1.1).
const DEVICE_INFORMATION: u16 = 0x180a;
const MODEL_NUMBER: u16 = 0x2a24;
const FIRMWARE_REVISION: u16 = 0x2a26;
const MANUFACTURER_NAME: u16 = 0x2a29;

// The handles of the attributes are the same at every start. Otherwise BlueZ would assign them in
// the order in which it hears of the attributes on the bus, which changes. Phones cache a database:
// after a change of the order within a service, they would write to the wrong attribute. BlueZ puts
// the Client Characteristic Configuration of the outbox into the first free handle of the service.
// So the outbox comes first, and the handle after its value stays free.
const PAYMENT_SERVICE_HANDLE: u16 = 0x0100;
const OUTBOX_VALUE_HANDLE: u16 = PAYMENT_SERVICE_HANDLE + 2;
const INBOX_VALUE_HANDLE: u16 = PAYMENT_SERVICE_HANDLE + 5;
const INFO_VALUE_HANDLE: u16 = PAYMENT_SERVICE_HANDLE + 7;
const DEVICE_INFORMATION_HANDLE: u16 = 0x0110;

/// A value that a phone has written to the inbox.
pub(super) struct InboxWrite {
    pub(super) address: Address,
    /// The connection's ATT MTU.
    pub(super) mtu: u16,
    pub(super) value: Vec<u8>,
}

/// The application to register with BlueZ, and the stream of subscriptions to the outbox. `info` is
/// the value of that characteristic. `enqueue` takes a written value, or returns false.
pub(super) fn application(
    info: Vec<u8>,
    keeps_requested_handles: bool,
    enqueue: impl Fn(InboxWrite) -> bool + Send + Sync + 'static,
) -> (Application, CharacteristicControl) {
    let handle = |handle| NonZeroU16::new(handle).filter(|_| keeps_requested_handles);
    let (outbox_control, outbox_control_handle) = characteristic_control();
    let payment = Service {
        uuid: Uuid::from_u128(SERVICE_UUID),
        primary: true,
        handle: handle(PAYMENT_SERVICE_HANDLE),
        characteristics: vec![
            inbox(handle(INBOX_VALUE_HANDLE), enqueue),
            outbox(handle(OUTBOX_VALUE_HANDLE), outbox_control_handle),
            constant(Uuid::from_u128(INFO_UUID), info, handle(INFO_VALUE_HANDLE)),
        ],
        ..Service::default()
    };
    let text = |number, text: &str, number_in_service: u16| {
        constant(
            Uuid::from_u16(number),
            text.as_bytes().to_vec(),
            handle(DEVICE_INFORMATION_HANDLE + 2 * number_in_service),
        )
    };
    let device_information = Service {
        uuid: Uuid::from_u16(DEVICE_INFORMATION),
        primary: true,
        handle: handle(DEVICE_INFORMATION_HANDLE),
        characteristics: vec![
            text(MANUFACTURER_NAME, "Florin", 1),
            text(MODEL_NUMBER, "Florin terminal", 2),
            text(FIRMWARE_REVISION, env!("CARGO_PKG_VERSION"), 3),
        ],
        ..Service::default()
    };
    let application =
        Application { services: vec![payment, device_information], ..Application::default() };
    (application, outbox_control)
}

/// The characteristic to which phones write.
fn inbox(
    handle: Option<NonZeroU16>,
    enqueue: impl Fn(InboxWrite) -> bool + Send + Sync + 'static,
) -> Characteristic {
    Characteristic {
        uuid: Uuid::from_u128(INBOX_UUID),
        write: Some(CharacteristicWrite {
            // bluer's documentation has these two the wrong way round; what it sends to BlueZ is
            // right: `write` is the write with response. Both are offered, so their order does not
            // matter here.
            write: true,
            write_without_response: true,
            method: CharacteristicWriteMethod::Fun(Box::new(move |value, request| {
                // This runs here and not in the returned future, so that values are queued in the
                // order of the calls.
                let result = accept_write(&enqueue, value, &request);
                Box::pin(async move { result })
            })),
            ..CharacteristicWrite::default()
        }),
        handle,
        ..Characteristic::default()
    }
}

/// The characteristic through which the terminal notifies phones.
fn outbox(
    handle: Option<NonZeroU16>,
    control_handle: CharacteristicControlHandle,
) -> Characteristic {
    Characteristic {
        uuid: Uuid::from_u128(OUTBOX_UUID),
        notify: Some(CharacteristicNotify {
            notify: true,
            method: CharacteristicNotifyMethod::Io,
            ..CharacteristicNotify::default()
        }),
        control_handle,
        handle,
        ..Characteristic::default()
    }
}

/// Takes a written value, or answers with an ATT error. BlueZ assembles a long write before it
/// hands it over, so an offset is a phone's mistake; no value of the protocol is longer than one
/// write carries.
fn accept_write(
    enqueue: impl Fn(InboxWrite) -> bool,
    value: Vec<u8>,
    request: &CharacteristicWriteRequest,
) -> ReqResult<()> {
    if request.prepare_authorize {
        // This call only asks whether the phone may write; the value comes with the next one.
        return Ok(());
    }
    if request.offset != 0 {
        return Err(ReqError::InvalidOffset);
    }
    if value.len() > VALUE_OCTETS_MAX {
        return Err(ReqError::InvalidValueLength);
    }
    let write = InboxWrite { address: request.device_address, mtu: request.mtu, value };
    // A phone that writes with response learns from this error that the value was lost. Without
    // response, the terminal notices it by the next fragment's number.
    if enqueue(write) { Ok(()) } else { Err(ReqError::Failed) }
}

/// A characteristic whose value never changes.
fn constant(uuid: Uuid, value: Vec<u8>, handle: Option<NonZeroU16>) -> Characteristic {
    Characteristic {
        uuid,
        read: Some(CharacteristicRead {
            read: true,
            fun: Box::new(move |request| {
                let part = value.get(usize::from(request.offset)..).map(<[u8]>::to_vec);
                let result = part.ok_or(ReqError::InvalidOffset);
                Box::pin(async move { result })
                    as Pin<Box<dyn Future<Output = ReqResult<Vec<u8>>> + Send>>
            }),
            ..CharacteristicRead::default()
        }),
        handle,
        ..Characteristic::default()
    }
}
