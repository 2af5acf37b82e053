//! The GATT service while it is up: one loop that takes what BlueZ and the driver say, and hands it
//! on.

use std::future::Future;
use std::num::NonZeroU16;
use std::pin::Pin;
use std::time::Duration;

use bluer::gatt::CharacteristicWriter;
use bluer::gatt::local::{
    Application, ApplicationHandle, Characteristic, CharacteristicControl,
    CharacteristicControlEvent, CharacteristicNotify, CharacteristicNotifyMethod,
    CharacteristicRead, CharacteristicWrite, CharacteristicWriteMethod, CharacteristicWriteRequest,
    ReqError, ReqResult, Service as GattService, characteristic_control,
};
use bluer::{Adapter, Address, DeviceEvent, DeviceProperty, Session, Uuid, UuidExt};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_stream::StreamExt;

use super::PeripheralSettings;
use super::advertising::Advertising;
use super::bluez::BlueZ;
use super::bluez_session::BlueZSession;
use super::bus_watch::{Arrival, BusEvent, BusWatch};
use super::fault::RadioFault;
use super::outbox::Outbox;
use super::phones::{Phones, Sent};
use super::radio::{connected_phones, find_adapter, in_time, is_phone, power_cycle, switch_on};
use crate::link::{LinkCommand, LinkEvent, RecoveryAction, att};
use crate::protocol::{INBOX_UUID, INFO_UUID, OUTBOX_UUID, SERVICE_UUID, VALUE_OCTETS_MAX};
use crate::terminal::{AdvertisingPace, PhoneId};

/// Assigned numbers of the Device Information service (Bluetooth SIG, Device Information Service
/// 1.1).
const DEVICE_INFORMATION: u16 = 0x180a;
const MODEL_NUMBER: u16 = 0x2a24;
const FIRMWARE_REVISION: u16 = 0x2a26;
const MANUFACTURER_NAME: u16 = 0x2a29;

/// How many values may wait between BlueZ's callbacks and the loop. The loop never waits for a
/// phone, so a few do.
const INPUTS_MAX: usize = 1024;
/// So many places of the event queue stay free of values, for what must be told in any case.
const EVENTS_RESERVED: usize = 128;
/// So many values of one phone may wait while there is hardly any room: as many as the longest
/// command has at the smallest MTU. It is those who have more that are disconnected.
const WAITING_FAIR: u32 = 128;
/// How long a phone gets to receive what was sent last, before it is disconnected, in milliseconds:
/// some intervals of a slow connection, since BlueZ tells nobody when a notification has left.
const DISCONNECT_DELAY_MS: u64 = 500;
/// How long BlueZ gets to disconnect, in milliseconds; then the phone is taken for gone.
const DISCONNECT_TIMEOUT_MS: u64 = 5_000;
/// How often a phone's connection is looked at, in milliseconds, in case BlueZ removed it without a
/// word.
const PHONE_CHECK_INTERVAL_MS: u64 = 10_000;

/// Why the loop has ended.
pub(super) enum Ended {
    /// The driver is gone.
    NobodyListens,
    /// The radio is.
    Fault(RadioFault),
}

/// What comes in from BlueZ's callbacks and the watching tasks.
enum Input {
    Wrote { address: Address, mtu: u16, value: Vec<u8> },
    Arrived { address: Address },
    OutboxClosed { address: Address, number: u64 },
    PhoneGone { address: Address, phone: PhoneId },
}

/// The service as it is registered with BlueZ. Dropping it takes it down.
pub(super) struct Service {
    adapter: Adapter,
    advertising: Advertising,
    inputs: mpsc::Receiver<Input>,
    input_sender: mpsc::Sender<Input>,
    outbox_control: CharacteristicControl,
    phones: Phones,
    _application: ApplicationHandle,
}

impl Service {
    /// Registers everything with BlueZ over this session, and advertisements over the registrar;
    /// `action` is what a fault before calls for. To be run, with all that it does later, by
    /// the session's own thread.
    pub(super) async fn start(
        session: &Session,
        registrar: BlueZSession,
        settings: &PeripheralSettings,
        pace: AdvertisingPace,
        next_phone: u64,
        action: Option<RecoveryAction>,
        events: &mpsc::Sender<LinkEvent>,
    ) -> Result<Self, RadioFault> {
        let adapter = find_adapter(session, settings.adapter.as_deref()).await?;
        // What does not depend on each other is asked at once: a phone waits for the sum of the
        // answers.
        let switching = async {
            match action {
                Some(RecoveryAction::PowerCycle) => power_cycle(&adapter).await.map(|()| false),
                Some(_) | None => switch_on(&adapter).await,
            }
        };
        let (was_off, bluez) = tokio::join!(switching, BlueZ::ask(&adapter));
        if was_off? {
            let reason = format!("the Bluetooth adapter {} was off", adapter.name());
            let _ = events
                .send(LinkEvent::Recovering { action: RecoveryAction::PowerOn, reason })
                .await;
        }
        tracing::debug!(?bluez, "BlueZ answers");
        let (input_sender, inputs) = mpsc::channel(INPUTS_MAX);
        let (application, outbox_control) =
            application(settings, &input_sender, bluez.has_fixed_places());
        let registering = async {
            in_time(adapter.serve_gatt_application(application)).await?.map_err(|error| {
                RadioFault::of(&error, adapter.name(), "registering the GATT service")
            })
        };
        // The service is asked for first; no phone is so quick as to miss it.
        let advertising = Advertising::start(
            registrar,
            adapter.clone(),
            settings.terminal_id,
            pace,
            events.clone(),
        );
        // Who comes from now on is heard on the bus.
        let here_already = connected_phones(&adapter);
        let (application, advertising, here_already) =
            tokio::try_join!(biased; registering, advertising, here_already)?;
        for address in here_already {
            let _ = input_sender.try_send(Input::Arrived { address });
        }
        Ok(Self {
            adapter,
            advertising,
            inputs,
            input_sender,
            outbox_control,
            phones: Phones::new(next_phone, bluez.has_own_outboxes()),
            _application: application,
        })
    }

    pub(super) fn adapter_name(&self) -> &str {
        self.adapter.name()
    }

    pub(super) fn pace(&self) -> AdvertisingPace {
        self.advertising.pace()
    }

    pub(super) fn next_phone(&self) -> u64 {
        self.phones.next_phone()
    }

    /// Serves phones until something ends it; then every phone is reported as gone.
    pub(super) async fn run(
        &mut self,
        bus: &mut BusWatch,
        events: &mpsc::Sender<LinkEvent>,
        commands: &mut mpsc::Receiver<LinkCommand>,
    ) -> Ended {
        let ended = match self.serve(bus, events, commands).await {
            Ok(()) => Ended::NobodyListens,
            Err(fault) => Ended::Fault(fault),
        };
        for phone in self.phones.ids() {
            let _ = events.send(LinkEvent::Disconnected { phone }).await;
        }
        ended
    }

    async fn serve(
        &mut self,
        bus: &mut BusWatch,
        events: &mpsc::Sender<LinkEvent>,
        commands: &mut mpsc::Receiver<LinkCommand>,
    ) -> Result<(), RadioFault> {
        loop {
            tokio::select! {
                // In this order: a subscription is taken in before the write that came after it, and writes come last, so
                // that a phone that floods starves nobody.
                biased;
                heard = bus.next() => match heard {
                    BusEvent::Loss => return Err(RadioFault::BlueZRestarted),
                    BusEvent::Change => self.advertising.look(),
                    BusEvent::Arrival(arrival) => self.look_at(arrival),
                },
                fault = self.advertising.failed() => return Err(fault),
                control = self.outbox_control.next() => match control {
                    Some(CharacteristicControlEvent::Notify(writer)) => {
                        self.subscribed(writer, events).await;
                    }
                    Some(CharacteristicControlEvent::Write(_)) => {}
                    None => return Err(RadioFault::BlueZRestarted),
                },
                command = commands.recv() => match command {
                    Some(LinkCommand::Notify { phone, value }) => self.notify(phone, value),
                    Some(LinkCommand::Disconnect { phone }) => self.disconnect(phone),
                    Some(LinkCommand::Advertise(pace)) => self.advertising.set_pace(pace),
                    None => return Ok(()),
                },
                // The service keeps a sender itself, so there is always one.
                Some(input) = self.inputs.recv() => match input {
                    Input::Wrote { address, mtu, value } => self.wrote(address, mtu, value, events).await,
                    Input::Arrived { address } => {
                        let _ = self.phone_at(address, events).await;
                    }
                    Input::OutboxClosed { address, number } => self.phones.remove_outbox(address, number),
                    Input::PhoneGone { address, phone } => {
                        if self.phones.remove(address, phone) {
                            let _ = events.send(LinkEvent::Disconnected { phone }).await;
                            self.advertising.renew();
                        }
                    }
                },
            }
        }
    }

    /// A phone has subscribed to the outbox.
    async fn subscribed(&mut self, writer: CharacteristicWriter, events: &mpsc::Sender<LinkEvent>) {
        let address = writer.device_address();
        if let Some(phone) = self.phone_at(address, events).await {
            self.phones.has_spoken(phone);
        }
        let number = self.phones.next_outbox();
        let inputs = self.input_sender.clone();
        let outbox = Outbox::start(writer, async move {
            let _ = inputs.send(Input::OutboxClosed { address, number }).await;
        });
        match outbox {
            Ok(outbox) => self.phones.add_outbox(address, number, outbox),
            Err(error) => tracing::warn!(%error, "a notification socket could not be taken over"),
        }
    }

    /// Somebody has connected.
    fn look_at(&self, Arrival { adapter, address }: Arrival) {
        if adapter != self.adapter.name() {
            return;
        }
        let (adapter, inputs) = (self.adapter.clone(), self.input_sender.clone());
        tokio::spawn(async move {
            let Ok(device) = adapter.device(address) else { return };
            if is_phone(&device).await {
                let _ = inputs.send(Input::Arrived { address }).await;
            }
        });
    }

    async fn wrote(
        &mut self,
        address: Address,
        mtu: u16,
        value: Vec<u8>,
        events: &mpsc::Sender<LinkEvent>,
    ) {
        let Some(phone) = self.phone_at(address, events).await else { return };
        self.phones.has_spoken(phone);
        if events.capacity() == events.max_capacity() {
            self.phones.none_waits();
        }
        self.phones.one_more_waits(phone);
        let room = events.capacity();
        if room < EVENTS_RESERVED {
            // The driver is behind. What is in the queue is kept.
            if let Some(most) = self.phones.has_most_waiting(WAITING_FAIR) {
                tracing::warn!(phone = ?most, "too many values wait: the phone is disconnected");
                self.disconnect(most);
            }
            if room < EVENTS_RESERVED / 2 {
                self.disconnect(phone);
            }
            if self.phones.is_leaving(phone) {
                return;
            }
        }
        let value_octets_max = att::value_octets_max(usize::from(mtu));
        let _ = events.send(LinkEvent::Wrote { phone, value_octets_max, value }).await;
    }

    /// Which phone this is; reported when it is new.
    async fn phone_at(
        &mut self,
        address: Address,
        events: &mpsc::Sender<LinkEvent>,
    ) -> Option<PhoneId> {
        let (adapter, inputs) = (&self.adapter, &self.input_sender);
        let watch = |phone| watch_phone(adapter.clone(), address, phone, inputs.clone());
        let (phone, is_new) = self.phones.at(address, watch)?;
        if is_new {
            tracing::debug!(?phone, "a phone is connected");
            let _ = events.send(LinkEvent::Connected { phone }).await;
            // For the next one.
            self.advertising.renew();
        }
        Some(phone)
    }

    fn notify(&mut self, phone: PhoneId, value: Vec<u8>) {
        match self.phones.send(phone, value) {
            Sent::Yes | Sent::Gone => {}
            Sent::Stuck => {
                tracing::warn!(?phone, "the phone takes no notifications: it is disconnected");
                self.disconnect(phone);
            }
        }
    }

    fn disconnect(&mut self, phone: PhoneId) {
        let (adapter, inputs) = (self.adapter.clone(), self.input_sender.clone());
        self.phones.leave(phone, |address, has_spoken| {
            tokio::spawn(async move {
                sleep(Duration::from_millis(DISCONNECT_DELAY_MS)).await;
                if let Ok(device) = adapter.device(address) {
                    let disconnecting = async {
                        // What has never said a word may have been paired with the machine
                        // meanwhile: then it stays.
                        if has_spoken || is_phone(&device).await {
                            device.disconnect().await
                        } else {
                            Ok(())
                        }
                    };
                    match timeout(Duration::from_millis(DISCONNECT_TIMEOUT_MS), disconnecting).await
                    {
                        Ok(Ok(())) => {}
                        Ok(Err(error)) => {
                            tracing::debug!(?phone, %error, "the phone was not disconnected")
                        }
                        Err(_) => {
                            tracing::debug!(?phone, "BlueZ has not disconnected the phone in time")
                        }
                    }
                }
                let _ = inputs.send(Input::PhoneGone { address, phone }).await;
            })
        });
    }
}

/// Reports when the phone's connection has ended.
fn watch_phone(
    adapter: Adapter,
    address: Address,
    phone: PhoneId,
    inputs: mpsc::Sender<Input>,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        if let Err(error) = until_gone(&adapter, address).await {
            tracing::debug!(?phone, %error, "the phone's connection cannot be watched any more");
        }
        let _ = inputs.send(Input::PhoneGone { address, phone }).await;
    })
}

async fn until_gone(adapter: &Adapter, address: Address) -> bluer::Result<()> {
    let device = adapter.device(address)?;
    // Before the question, so that no change falls between the two.
    let mut changes = Box::pin(device.events().await?);
    let pause = Duration::from_millis(PHONE_CHECK_INTERVAL_MS);
    while device.is_connected().await? {
        let next_end = async {
            while let Some(DeviceEvent::PropertyChanged(property)) = changes.next().await {
                if matches!(property, DeviceProperty::Connected(false)) {
                    return;
                }
            }
        };
        if timeout(pause, next_end).await.is_ok() {
            return Ok(());
        }
    }
    Ok(())
}

// Where the attributes stand in the table, the same at every start. BlueZ would take them in the
// order in which it hears of them on the bus, which changes; phones remember a table, and one whose
// service has the same place and another order inside makes them write to the wrong attribute.
// BlueZ puts the configuration of the outbox into the first free place of the service, so the
// outbox comes first and the place after its value is left to it.
const PAYMENT_SERVICE_HANDLE: u16 = 0x0100;
const OUTBOX_VALUE_HANDLE: u16 = PAYMENT_SERVICE_HANDLE + 2;
const INBOX_VALUE_HANDLE: u16 = PAYMENT_SERVICE_HANDLE + 5;
const INFO_VALUE_HANDLE: u16 = PAYMENT_SERVICE_HANDLE + 7;
const DEVICE_INFORMATION_HANDLE: u16 = 0x0110;

/// What is registered with BlueZ, and the stream of its subscriptions.
fn application(
    settings: &PeripheralSettings,
    inputs: &mpsc::Sender<Input>,
    has_fixed_places: bool,
) -> (Application, CharacteristicControl) {
    let place = |handle| NonZeroU16::new(handle).filter(|_| has_fixed_places);
    let (outbox_control, outbox_handle) = characteristic_control();
    let inputs = inputs.clone();
    let inbox = Characteristic {
        uuid: Uuid::from_u128(INBOX_UUID),
        write: Some(CharacteristicWrite {
            // bluer's text has these two the wrong way round; what it sends to BlueZ is right:
            // `write` is the write with response. Both are offered, so the order of the
            // two does not matter here.
            write: true,
            write_without_response: true,
            method: CharacteristicWriteMethod::Fun(Box::new(move |value, request| {
                // Now and not in the future that is returned, so that values queue up in the order
                // of their calls.
                let result = accept(&inputs, value, &request);
                Box::pin(async move { result })
            })),
            ..CharacteristicWrite::default()
        }),
        handle: place(INBOX_VALUE_HANDLE),
        ..Characteristic::default()
    };
    let outbox = Characteristic {
        uuid: Uuid::from_u128(OUTBOX_UUID),
        notify: Some(CharacteristicNotify {
            notify: true,
            method: CharacteristicNotifyMethod::Io,
            ..CharacteristicNotify::default()
        }),
        control_handle: outbox_handle,
        handle: place(OUTBOX_VALUE_HANDLE),
        ..Characteristic::default()
    };
    let info = constant(Uuid::from_u128(INFO_UUID), settings.info(), place(INFO_VALUE_HANDLE));
    let payment = GattService {
        uuid: Uuid::from_u128(SERVICE_UUID),
        primary: true,
        handle: place(PAYMENT_SERVICE_HANDLE),
        characteristics: vec![inbox, outbox, info],
        ..GattService::default()
    };
    let text = |number, text: &str, number_in_service: u16| {
        constant(
            Uuid::from_u16(number),
            text.as_bytes().to_vec(),
            place(DEVICE_INFORMATION_HANDLE + 2 * number_in_service),
        )
    };
    let device_information = GattService {
        uuid: Uuid::from_u16(DEVICE_INFORMATION),
        primary: true,
        handle: place(DEVICE_INFORMATION_HANDLE),
        characteristics: vec![
            text(MANUFACTURER_NAME, "Florin", 1),
            text(MODEL_NUMBER, "Florin terminal", 2),
            text(FIRMWARE_REVISION, env!("CARGO_PKG_VERSION"), 3),
        ],
        ..GattService::default()
    };
    let application =
        Application { services: vec![payment, device_information], ..Application::default() };
    (application, outbox_control)
}

/// Takes a written value. BlueZ puts long writes together before it hands them over, so an offset
/// is a phone's mistake; no value of the protocol is longer than one write carries.
fn accept(
    inputs: &mpsc::Sender<Input>,
    value: Vec<u8>,
    request: &CharacteristicWriteRequest,
) -> ReqResult<()> {
    if request.prepare_authorize {
        // Only the question whether it may write; the value comes with the next call.
        return Ok(());
    }
    if request.offset != 0 {
        return Err(ReqError::InvalidOffset);
    }
    if value.len() > VALUE_OCTETS_MAX {
        return Err(ReqError::InvalidValueLength);
    }
    let input = Input::Wrote { address: request.device_address, mtu: request.mtu, value };
    // Where the write has a response, the phone learns that the value was lost; where not, the
    // fragment's number says it.
    inputs.try_send(input).map_err(|_| ReqError::Failed)
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
