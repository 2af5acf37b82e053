//! Examines BlueZ and the adapter of this machine, for an operator. Serves no phone.

use bluer::gatt::local::{Application, Characteristic, CharacteristicRead, Service};
use bluer::{Adapter, Session};
use uuid::Uuid;

use super::adapter::{find_adapter, power_on};
use super::bluez_session::BlueZSession;
use super::bluez_version::BlueZVersion;
use super::fault::RadioFault;
use crate::protocol::SERVICE_UUID;

/// The UUID of a service that no phone looks for: it only shows whether BlueZ accepts one.
const PROBE_UUID: Uuid = Uuid::from_u128(0x5d3e_3c1c_7a55_4f0d_8f0b_6a1c_b1f0_2e77);

/// The state of BlueZ and the adapter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RadioExamination {
    /// The adapter's name, such as `hci0`.
    pub adapter: String,
    /// The adapter's Bluetooth address.
    pub address: String,
    /// (5, 66) for 5.66, if BlueZ's device id tells it.
    pub bluez_version: Option<(u8, u8)>,
    /// How many more advertisements can be registered on the adapter.
    pub advertisements_free: u8,
    /// Whether any process has registered a terminal's service with BlueZ.
    pub is_registered: bool,
}

/// Examines the adapter that the service would use. Switches it on.
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
    let properties = async {
        let advertisements_free = adapter
            .supported_advertising_instances()
            .await
            .map_err(fault("reading the number of free advertising instances"))?;
        let address = adapter.address().await.map_err(fault("reading the adapter's address"))?;
        let services = adapter.uuids().await.map_err(fault("reading the registered services"))?;
        let is_registered =
            services.is_some_and(|uuids| uuids.contains(&Uuid::from_u128(SERVICE_UUID)));
        Ok((advertisements_free, address, is_registered))
    };
    let (advertisements_free, address, is_registered) =
        properties.await.map_err(|(error, during)| RadioFault::of(&error, &name, during))?;
    Ok(RadioExamination {
        address: address.to_string(),
        bluez_version: BlueZVersion::read(&adapter).await.number(),
        advertisements_free,
        is_registered,
        adapter: name,
    })
}

/// Registers a GATT service for a moment. For that, BlueZ calls back over the bus, which the bus
/// policy has to allow. Connected phones see the service appear and disappear, so this is not for a
/// terminal that is serving phones.
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

/// The adapter of that name, or the first; switched on.
async fn open_adapter(bluez: &Session, wanted: Option<&str>) -> Result<Adapter, RadioFault> {
    let adapter = find_adapter(bluez, wanted).await?;
    power_on(&adapter).await?;
    Ok(adapter)
}
