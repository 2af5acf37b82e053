//! How Bluetooth on this machine is, for an operator; no phone is served.

use bluer::gatt::local::{Application, Characteristic, CharacteristicRead, Service};
use bluer::{Adapter, Session};
use uuid::Uuid;

use super::bluez::BlueZ;
use super::bluez_session::BlueZSession;
use super::fault::RadioFault;
use super::radio::{find_adapter, switch_on};
use crate::protocol::SERVICE_UUID;

/// A service that nobody looks for, to see whether BlueZ takes one.
const PROBE_UUID: Uuid = Uuid::from_u128(0x5d3e_3c1c_7a55_4f0d_8f0b_6a1c_b1f0_2e77);

/// What was seen of BlueZ and the adapter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RadioExamination {
    /// The adapter's name: `hci0`.
    pub adapter: String,
    /// Its address.
    pub address: String,
    /// (5, 66) for 5.66, where BlueZ says so.
    pub bluez_version: Option<(u8, u8)>,
    /// How many more advertisements the adapter takes.
    pub advertisements_free: u8,
    /// Whether a terminal's service is registered with BlueZ, by whatever process.
    pub is_registered: bool,
}

/// Looks at the adapter that the service would use, and switches it on.
///
/// # Errors
/// [`RadioFault`].
pub async fn examine_radio(wanted: Option<&str>) -> Result<RadioExamination, RadioFault> {
    let wanted = wanted.map(str::to_owned);
    BlueZSession::open().await?.run(|bluez| examine(bluez, wanted)).await
}

async fn examine(bluez: Session, wanted: Option<String>) -> Result<RadioExamination, RadioFault> {
    let adapter = open_adapter(&bluez, wanted.as_deref()).await?;
    let name = adapter.name().to_owned();
    let fault = |during| move |error: bluer::Error| (error, during);
    let seen = async {
        let advertisements_free = adapter
            .supported_advertising_instances()
            .await
            .map_err(fault("asking whether it can advertise"))?;
        let address = adapter.address().await.map_err(fault("asking for its address"))?;
        let services = adapter.uuids().await.map_err(fault("asking for its services"))?;
        let is_registered =
            services.is_some_and(|uuids| uuids.contains(&Uuid::from_u128(SERVICE_UUID)));
        Ok((advertisements_free, address, is_registered))
    };
    let (advertisements_free, address, is_registered) =
        seen.await.map_err(|(error, during)| RadioFault::of(&error, &name, during))?;
    Ok(RadioExamination {
        address: address.to_string(),
        bluez_version: BlueZ::ask(&adapter).await.version(),
        advertisements_free,
        is_registered,
        adapter: name,
    })
}

/// Registers a GATT service for a moment: BlueZ calls back over the bus for it, which the bus
/// policy has to allow. Phones that are connected see a service come and go: not for a terminal
/// that serves some.
///
/// # Errors
/// [`RadioFault`].
pub async fn probe_registration(wanted: Option<&str>) -> Result<(), RadioFault> {
    let wanted = wanted.map(str::to_owned);
    BlueZSession::open().await?.run(|bluez| probe(bluez, wanted)).await
}

async fn probe(bluez: Session, wanted: Option<String>) -> Result<(), RadioFault> {
    let adapter = open_adapter(&bluez, wanted.as_deref()).await?;
    let read = CharacteristicRead {
        read: true,
        fun: Box::new(|_| Box::pin(async { Ok(Vec::new()) })),
        ..CharacteristicRead::default()
    };
    let characteristic =
        Characteristic { uuid: PROBE_UUID, read: Some(read), ..Characteristic::default() };
    let service = Service {
        uuid: PROBE_UUID,
        primary: true,
        characteristics: vec![characteristic],
        ..Service::default()
    };
    let application = Application { services: vec![service], ..Application::default() };
    let registered = adapter.serve_gatt_application(application).await;
    registered
        .map(drop)
        .map_err(|error| RadioFault::of(&error, adapter.name(), "registering a GATT service"))
}

/// The adapter of that name, or the first, switched on.
async fn open_adapter(bluez: &Session, wanted: Option<&str>) -> Result<Adapter, RadioFault> {
    let adapter = find_adapter(bluez, wanted).await?;
    switch_on(&adapter).await?;
    Ok(adapter)
}
