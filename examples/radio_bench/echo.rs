//! The floor: a GATT server over BlueZ that only answers, and the phone's side of it.

use std::sync::{Arc, Mutex, PoisonError};

use bluer::adv::Advertisement;
use bluer::gatt::CharacteristicWriter;
use bluer::gatt::local::{
    Application, Characteristic, CharacteristicControlEvent, CharacteristicNotify,
    CharacteristicNotifyMethod, CharacteristicWrite, CharacteristicWriteMethod, Service,
    characteristic_control,
};
use bluer::{Session, Uuid};
use florin::link::PhoneLink;
use florin::protocol::{INBOX_UUID, OUTBOX_UUID, SERVICE_UUID, VALUE_OCTETS_MAX};
use futures::StreamExt;

use crate::payer::Trip;

/// Serves until it is killed. It has the payment service's UUIDs, so that the same phone finds it.
pub async fn serve(adapter: &str, code: &str) -> anyhow::Result<()> {
    let session = Session::new().await?;
    let adapter = session.adapter(adapter)?;
    adapter.set_powered(true).await?;
    let writer: Arc<Mutex<Option<CharacteristicWriter>>> = Arc::default();
    let to_phone = Arc::clone(&writer);
    let inbox = Characteristic {
        uuid: Uuid::from_u128(INBOX_UUID),
        write: Some(CharacteristicWrite {
            write: true,
            write_without_response: true,
            method: CharacteristicWriteMethod::Fun(Box::new(move |value, _| {
                answer(&value, to_phone.lock().unwrap_or_else(PoisonError::into_inner).as_ref());
                Box::pin(async { Ok(()) })
            })),
            ..CharacteristicWrite::default()
        }),
        ..Characteristic::default()
    };
    let (mut control, control_handle) = characteristic_control();
    let outbox = Characteristic {
        uuid: Uuid::from_u128(OUTBOX_UUID),
        notify: Some(CharacteristicNotify {
            notify: true,
            method: CharacteristicNotifyMethod::Io,
            ..CharacteristicNotify::default()
        }),
        control_handle,
        ..Characteristic::default()
    };
    let service = Service {
        uuid: Uuid::from_u128(SERVICE_UUID),
        primary: true,
        characteristics: vec![inbox, outbox],
        ..Service::default()
    };
    let application = Application { services: vec![service], ..Application::default() };
    let _application = adapter.serve_gatt_application(application).await?;
    let advertisement = Advertisement {
        service_uuids: [Uuid::from_u128(SERVICE_UUID)].into(),
        local_name: Some(format!("Florin {code}")),
        discoverable: Some(true),
        ..Advertisement::default()
    };
    let _advertisement = adapter.advertise(advertisement).await?;
    println!("the echo server runs");
    while let Some(event) = control.next().await {
        if let CharacteristicControlEvent::Notify(subscribed) = event {
            *writer.lock().unwrap_or_else(PoisonError::into_inner) = Some(subscribed);
        }
    }
    Ok(())
}

/// Sends as many octets as the first two octets of the value say. In a write of several values,
/// only the last one asks for octets.
fn answer(value: &[u8], writer: Option<&CharacteristicWriter>) {
    let (Some(writer), Some((&octets, _))) = (writer, value.split_first_chunk::<2>()) else {
        return;
    };
    let mut left = usize::from(u16::from_be_bytes(octets));
    while left > 0 {
        let length = left.min(VALUE_OCTETS_MAX);
        if writer.try_send(&vec![0x5a; length]).is_err() {
            eprintln!("the echo was lost");
        }
        left -= length;
    }
}

/// Writes as many octets as the payment wrote, and waits for as many as it received.
pub async fn round_trip(link: &mut impl PhoneLink, trip: &Trip) -> anyhow::Result<()> {
    let mut up = trip.up.max(2);
    while up > 0 {
        let length = up.min(link.value_octets_max());
        up -= length;
        let mut value = vec![0; length];
        if up == 0 {
            let wanted = u16::try_from(trip.down)?.to_be_bytes();
            for (octet, wanted) in value.iter_mut().zip(wanted) {
                *octet = wanted;
            }
        }
        link.write(value).await?;
    }
    let mut down = 0;
    while down < trip.down {
        down += link.next_value().await?.len();
    }
    Ok(())
}
