//! The phone's radio: a GATT central over btleplug, which is BlueZ on Linux.
//!
//! Finds terminals, connects, and carries values. It knows no message and no payment, and takes
//! nobody's word for who a terminal is: names, short codes and addresses help to choose and prove
//! nothing.
//!
//! How values are written: with response, one at a time, where the characteristic offers it. A
//! write without response is quicker by one exchange, but some platforms drop it without a word
//! when their queue is full, and BlueZ may close the connection before the last one has left. In
//! return it costs nothing where it matters: with the MTU of 517 that BlueZ and phones agree on,
//! each message of a payment is one value, and the terminal works on it while the response is under
//! way.

use std::collections::{BTreeMap, HashSet};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use btleplug::api::{
    Central as _, CentralEvent, CharPropFlags, Characteristic, Manager as _, Peripheral as _,
    ScanFilter, ValueNotification, WriteType,
};
use btleplug::platform::{Adapter, Manager, Peripheral, PeripheralId};
use futures::{Stream, StreamExt};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use crate::link::{PhoneLink, PhoneLinkError, att};
use crate::protocol::{AdvertisedName, INBOX_UUID, OUTBOX_UUID, SERVICE_UUID};

/// How often a connection is tried. The first one to a device often fails in the radio (Android's
/// 133, BlueZ's `le-connection-abort-by-local`); more than three mean that the terminal is not
/// there.
const CONNECT_ATTEMPTS_MAX: u32 = 3;
/// How long one try may take, with the discovery of services, in milliseconds: ten times what is
/// usual.
const CONNECT_MS_MAX: u64 = 12_000;
/// How long to wait before the next try, in milliseconds, so that the stack sees the end of the
/// last.
const CONNECT_PAUSE_MS: u64 = 400;
/// How long to subscribe may take, in milliseconds: one exchange.
const SUBSCRIBE_MS_MAX: u64 = 5_000;
/// How long a disconnection may take, in milliseconds: BlueZ waits 2 s by itself.
const DISCONNECT_MS_MAX: u64 = 4_000;
/// How often everything in reach is looked at, in milliseconds, beside the events, which may be
/// lost.
const LOOK_MS: u64 = 300;
/// The longest value in octets, whatever the MTU: BlueZ before 5.69 counts the handle, and in a
/// long write the offset, into the 512 octets of a value that is written to it, and refuses more
/// (bluez issue 570).
const WRITTEN_OCTETS_MAX: usize = 508;
/// What BlueZ reports where the radio measured nothing.
const RSSI_UNKNOWN_DBM: i16 = 127;

/// Why the radio cannot be used, or not for this. Each says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CentralError {
    /// The system bus is not there.
    #[error(
        "the system's message bus (D-Bus) cannot be reached: {0}. Is this machine set up with dbus and BlueZ?"
    )]
    NoBus(String),
    /// bluetoothd does not run.
    #[error(
        "the Bluetooth service does not run ({0}); start it, for example with `sudo systemctl start bluetooth`"
    )]
    NoDaemon(String),
    /// The bus does not let this user.
    #[error(
        "this user may not use Bluetooth ({0}); add the user to the group `bluetooth` and log in again, or ask the \
         administrator"
    )]
    PermissionDenied(String),
    /// No adapter at all.
    #[error(
        "this machine has no Bluetooth adapter; plug one in, and look with `bluetoothctl list`"
    )]
    NoAdapter,
    /// Not the one that was asked for.
    #[error("there is no Bluetooth adapter `{wanted}`; there is: {there}")]
    NoSuchAdapter {
        /// Asked for.
        wanted: String,
        /// The names of those there are.
        there: String,
    },
    /// Off or blocked.
    #[error(
        "the Bluetooth adapter is off ({0}); turn it on with `rfkill unblock bluetooth` and `bluetoothctl power on`"
    )]
    AdapterOff(String),
    /// No connection came about.
    #[error("cannot connect to the machine: {0}. Go closer and try again")]
    Connect(String),
    /// Connected, and the service is not there or not as it should be.
    #[error(
        "the machine does not offer the payment service as it should: {0}. If it was updated lately, forget it with \
         `bluetoothctl remove` and try again"
    )]
    Service(String),
    /// Anything else that the stack says.
    #[error("Bluetooth failed: {0}")]
    Other(String),
}

impl CentralError {
    /// Is it about this machine's Bluetooth, and not about a terminal?
    pub fn is_about_this_machine(&self) -> bool {
        match self {
            Self::NoBus(_)
            | Self::NoDaemon(_)
            | Self::PermissionDenied(_)
            | Self::NoAdapter
            | Self::NoSuchAdapter { .. }
            | Self::AdapterOff(_) => true,
            Self::Connect(_) | Self::Service(_) | Self::Other(_) => false,
        }
    }
}

/// A terminal that advertises in reach.
#[derive(Debug, Clone)]
pub struct FoundTerminal {
    /// From its advertised name; none where the name was not received yet.
    pub short_code: Option<String>,
    /// How strongly it was received last, in dBm; none where the radio does not tell.
    pub rssi_dbm: Option<i16>,
    /// Its name says that it takes no payments now. Anybody can advertise that; a machine that
    /// says it is not worth connecting to.
    pub is_out_of_service: bool,
    peripheral: Peripheral,
}

/// One adapter in the central role.
#[derive(Debug, Clone)]
pub struct Central {
    adapter: Adapter,
    adapter_name: String,
    disconnections: Arc<Mutex<JoinSet<()>>>,
}

impl Central {
    /// Opens an adapter by its name, such as `hci1`; without a name the first.
    ///
    /// # Errors
    /// [`CentralError`], with what to do.
    pub async fn open(name: Option<&str>) -> Result<Self, CentralError> {
        let manager = Manager::new().await.map_err(|error| classify(&error))?;
        let mut adapters = BTreeMap::new();
        for adapter in manager.adapters().await.map_err(|error| classify(&error))? {
            let info = adapter.adapter_info().await.map_err(|error| classify(&error))?;
            // `hci1 (usb:v1D6Bp0246d0552)` on Linux.
            let name = info.split_whitespace().next().unwrap_or_default().to_owned();
            adapters.insert(name, adapter);
        }
        let there = adapters.keys().cloned().collect::<Vec<_>>().join(", ");
        let chosen = match name {
            None => adapters.pop_first(),
            Some(wanted) if !adapters.is_empty() => {
                let adapter = adapters.remove(wanted);
                let adapter = adapter.ok_or_else(|| CentralError::NoSuchAdapter {
                    wanted: wanted.to_owned(),
                    there,
                })?;
                Some((wanted.to_owned(), adapter))
            }
            Some(_) => None,
        };
        let (adapter_name, adapter) = chosen.ok_or(CentralError::NoAdapter)?;
        Ok(Self { adapter, adapter_name, disconnections: Arc::default() })
    }

    /// The adapter's name.
    pub fn adapter_name(&self) -> &str {
        &self.adapter_name
    }

    /// Listens for `scan_ms` milliseconds; the terminals in reach, strongest first. With a short
    /// code it returns as soon as a terminal of that code was heard.
    ///
    /// # Errors
    /// [`CentralError`] if the adapter cannot scan.
    pub async fn scan(
        &self,
        scan_ms: u64,
        short_code: Option<&str>,
    ) -> Result<Vec<FoundTerminal>, CentralError> {
        // While a connection ends, some adapters cannot scan.
        self.settle().await;
        let events = self.adapter.events().await.map_err(|error| classify(&error))?;
        let known: HashSet<PeripheralId> =
            self.peripherals().await?.iter().map(Peripheral::id).collect();
        let filter = ScanFilter { services: vec![Uuid::from_u128(SERVICE_UUID)] };
        self.adapter.start_scan(filter).await.map_err(|error| classify(&error))?;
        let found = self.listen(events, &known, scan_ms, short_code).await;
        // A scan that goes on disturbs connecting; that it cannot be stopped is no reason not to
        // try.
        if let Err(error) = self.adapter.stop_scan().await {
            tracing::debug!(%error, "the scan could not be stopped");
        }
        found
    }

    async fn listen(
        &self,
        mut events: Pin<Box<dyn Stream<Item = CentralEvent> + Send>>,
        known: &HashSet<PeripheralId>,
        scan_ms: u64,
        short_code: Option<&str>,
    ) -> Result<Vec<FoundTerminal>, CentralError> {
        let end = Instant::now() + Duration::from_millis(scan_ms);
        let mut look = tokio::time::interval(Duration::from_millis(LOOK_MS));
        // Devices that advertised in this scan. BlueZ also lists what it met days ago.
        let mut fresh = HashSet::new();
        let mut found: Vec<FoundTerminal> = Vec::new();
        loop {
            let candidates = tokio::select! {
                () = tokio::time::sleep_until(end) => break,
                _ = look.tick() => self.peripherals().await?,
                event = events.next() => match event {
                    Some(event) => {
                        let Some((id, is_fresh)) = device_of(event, known) else { continue };
                        if is_fresh {
                            fresh.insert(id.clone());
                        }
                        self.adapter.peripheral(&id).await.into_iter().collect()
                    }
                    // The bus is gone; the next look says so.
                    None => {
                        tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
                        self.peripherals().await?
                    }
                },
            };
            for peripheral in candidates {
                let is_fresh = fresh.contains(&peripheral.id());
                let Some(terminal) = terminal_of(peripheral, is_fresh).await else { continue };
                let is_wanted =
                    short_code.is_some() && terminal.short_code.as_deref() == short_code;
                let id = terminal.peripheral.id();
                found.retain(|other| other.peripheral.id() != id);
                if is_wanted {
                    return Ok(vec![terminal]);
                }
                found.push(terminal);
            }
        }
        if let Some(short_code) = short_code {
            found.retain(|terminal| terminal.short_code.as_deref() == Some(short_code));
        }
        found.sort_by_key(|terminal| std::cmp::Reverse(terminal.rssi_dbm.unwrap_or(i16::MIN)));
        Ok(found)
    }

    async fn peripherals(&self) -> Result<Vec<Peripheral>, CentralError> {
        self.adapter.peripherals().await.map_err(|error| classify(&error))
    }

    /// Connects to a terminal and subscribes to its outbox.
    ///
    /// # Errors
    /// [`CentralError::Connect`] after three tries; [`CentralError::Service`] if it is no terminal.
    pub async fn connect(&self, terminal: &FoundTerminal) -> Result<CentralLink, CentralError> {
        self.settle().await;
        let peripheral = &terminal.peripheral;
        let mut fault = String::new();
        for attempt in 0..CONNECT_ATTEMPTS_MAX {
            if attempt > 0 {
                tokio::time::sleep(Duration::from_millis(CONNECT_PAUSE_MS)).await;
            }
            match timeout(Duration::from_millis(CONNECT_MS_MAX), self.connect_once(peripheral))
                .await
            {
                Ok(Ok(link)) => return Ok(link),
                Ok(Err(error @ CentralError::Service(_))) => {
                    self.disconnect(peripheral).await;
                    return Err(error);
                }
                Ok(Err(error)) if error.is_about_this_machine() => return Err(error),
                Ok(Err(error)) => {
                    let (CentralError::Connect(detail) | CentralError::Other(detail)) = error
                    else {
                        continue;
                    };
                    fault = detail;
                }
                Err(_) => fault = "it took too long".to_owned(),
            }
            tracing::debug!(attempt, fault, "a connection failed");
            // Half a connection keeps the next from coming about.
            self.disconnect(peripheral).await;
        }
        Err(CentralError::Connect(fault))
    }

    async fn connect_once(&self, peripheral: &Peripheral) -> Result<CentralLink, CentralError> {
        peripheral.connect().await.map_err(|error| classify(&error))?;
        peripheral.discover_services().await.map_err(|error| classify(&error))?;
        let inbox = characteristic(peripheral, INBOX_UUID, "inbox")?;
        let outbox = characteristic(peripheral, OUTBOX_UUID, "outbox")?;
        let write_type = if inbox.properties.contains(CharPropFlags::WRITE) {
            WriteType::WithResponse
        } else if inbox.properties.contains(CharPropFlags::WRITE_WITHOUT_RESPONSE) {
            WriteType::WithoutResponse
        } else {
            return Err(CentralError::Service("its inbox cannot be written".into()));
        };
        // Before the subscription, so that not even the first notification is lost.
        let notifications = peripheral.notifications().await.map_err(|error| classify(&error))?;
        let events = self.adapter.events().await.map_err(|error| classify(&error))?;
        let subscription = peripheral.subscribe(&outbox);
        timeout(Duration::from_millis(SUBSCRIBE_MS_MAX), subscription)
            .await
            .map_err(|_| CentralError::Connect("the subscription took too long".into()))?
            .map_err(|error| classify(&error))?;
        // What was lost before the events were watched shows here.
        if !peripheral.is_connected().await.map_err(|error| classify(&error))? {
            return Err(CentralError::Connect("the connection was lost at once".into()));
        }
        // BlueZ has exchanged the MTU before it reports services. Where a platform does not tell,
        // btleplug says 23.
        let value_octets_max =
            att::value_octets_max(usize::from(peripheral.mtu())).min(WRITTEN_OCTETS_MAX);
        Ok(CentralLink {
            central: self.clone(),
            peripheral: peripheral.clone(),
            inbox,
            outbox,
            write_type,
            value_octets_max,
            notifications,
            events,
            is_over: false,
        })
    }

    async fn disconnect(&self, peripheral: &Peripheral) {
        let disconnection =
            timeout(Duration::from_millis(DISCONNECT_MS_MAX), peripheral.disconnect());
        if let Ok(Err(error)) = disconnection.await {
            tracing::debug!(%error, "could not disconnect");
        }
    }

    /// Waits until every connection that was ended is down, at most some seconds. To be called
    /// before the process ends: BlueZ keeps a connection whose user is gone.
    pub async fn settle(&self) {
        let mut disconnections = self.disconnections.lock().await;
        while disconnections.join_next().await.is_some() {}
    }
}

/// Which device an event is about, and whether it shows that the device is in reach now.
fn device_of(event: CentralEvent, known: &HashSet<PeripheralId>) -> Option<(PeripheralId, bool)> {
    match event {
        CentralEvent::DeviceDiscovered(id) | CentralEvent::ServicesAdvertisement { id, .. } => {
            let is_new = !known.contains(&id);
            Some((id, is_new))
        }
        CentralEvent::RssiUpdate { id, .. }
        | CentralEvent::DeviceUpdated(id)
        | CentralEvent::ManufacturerDataAdvertisement { id, .. }
        | CentralEvent::ServiceDataAdvertisement { id, .. } => Some((id, true)),
        CentralEvent::DeviceConnected(_)
        | CentralEvent::DeviceDisconnected(_)
        | CentralEvent::DeviceServicesModified(_)
        | CentralEvent::StateUpdate(_) => None,
    }
}

/// The terminal that this device is, if it is one and in reach.
async fn terminal_of(peripheral: Peripheral, is_fresh: bool) -> Option<FoundTerminal> {
    let properties = peripheral.properties().await.ok()??;
    // BlueZ forgets the strength when a scan ends, so one that has it was heard in this scan.
    if !properties.services.contains(&Uuid::from_u128(SERVICE_UUID))
        || !(is_fresh || properties.rssi.is_some())
    {
        return None;
    }
    let names = [properties.advertisement_name, properties.local_name];
    let name = names.iter().flatten().find_map(|name| AdvertisedName::read(name));
    let short_code = name.map(|name| name.short_code.to_owned());
    let is_out_of_service = name.is_some_and(|name| name.is_out_of_service);
    let rssi_dbm = properties.rssi.filter(|rssi| *rssi != RSSI_UNKNOWN_DBM);
    Some(FoundTerminal { short_code, rssi_dbm, is_out_of_service, peripheral })
}

fn characteristic(
    peripheral: &Peripheral,
    uuid: u128,
    name: &str,
) -> Result<Characteristic, CentralError> {
    let (service, uuid) = (Uuid::from_u128(SERVICE_UUID), Uuid::from_u128(uuid));
    peripheral
        .characteristics()
        .into_iter()
        .find(|characteristic| {
            characteristic.service_uuid == service && characteristic.uuid == uuid
        })
        .ok_or_else(|| CentralError::Service(format!("it has no {name}")))
}

/// One connection. Dropping it ends the connection.
pub struct CentralLink {
    central: Central,
    peripheral: Peripheral,
    inbox: Characteristic,
    outbox: Characteristic,
    write_type: WriteType,
    value_octets_max: usize,
    notifications: Pin<Box<dyn Stream<Item = ValueNotification> + Send>>,
    events: Pin<Box<dyn Stream<Item = CentralEvent> + Send>>,
    is_over: bool,
}

impl CentralLink {
    /// Begins to disconnect. It goes on by itself; [`Central::settle`] waits for it.
    fn let_go(&mut self) {
        if std::mem::replace(&mut self.is_over, true) {
            return;
        }
        // Without a runtime there is nobody left who could talk to the bus.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (central, peripheral) = (self.central.clone(), self.peripheral.clone());
        let disconnection = async move { central.disconnect(&peripheral).await };
        match self.central.disconnections.try_lock() {
            Ok(mut disconnections) => {
                disconnections.spawn(disconnection);
            }
            // Somebody settles at this moment; the task still runs.
            Err(_) => {
                runtime.spawn(disconnection);
            }
        }
    }
}

impl PhoneLink for CentralLink {
    fn value_octets_max(&self) -> usize {
        self.value_octets_max
    }

    async fn write(&mut self, value: Vec<u8>) -> Result<(), PhoneLinkError> {
        if self.is_over {
            return Err(PhoneLinkError::Lost("disconnected".into()));
        }
        // BlueZ would turn it into a long write: more exchanges than two values, and some of its
        // versions refuse it.
        if value.len() > self.value_octets_max {
            let detail = format!(
                "a value of {} octets over a link for {}",
                value.len(),
                self.value_octets_max
            );
            return Err(PhoneLinkError::Unusable(detail));
        }
        self.peripheral
            .write(&self.inbox, &value, self.write_type)
            .await
            .map_err(|error| PhoneLinkError::Lost(printable(&error)))
    }

    async fn next_value(&mut self) -> Result<Vec<u8>, PhoneLinkError> {
        if self.is_over {
            return Err(PhoneLinkError::Lost("disconnected".into()));
        }
        loop {
            tokio::select! {
                // What was said before the connection ended counts.
                biased;
                notification = self.notifications.next() => match notification {
                    Some(notification) if notification.uuid == self.outbox.uuid => return Ok(notification.value),
                    Some(_) => {}
                    None => return Err(PhoneLinkError::Lost("the bus is gone".into())),
                },
                event = self.events.next() => match event {
                    Some(CentralEvent::DeviceDisconnected(id)) if id == self.peripheral.id() => {
                        return Err(PhoneLinkError::Lost("the machine or the radio ended it".into()));
                    }
                    Some(CentralEvent::StateUpdate(btleplug::api::CentralState::PoweredOff)) => {
                        return Err(PhoneLinkError::Lost("the adapter was turned off".into()));
                    }
                    Some(_) => {}
                    None => return Err(PhoneLinkError::Lost("the bus is gone".into())),
                },
            }
        }
    }

    async fn subscribe_again(&mut self) -> Result<(), PhoneLinkError> {
        let again = async {
            self.peripheral.unsubscribe(&self.outbox).await?;
            self.peripheral.subscribe(&self.outbox).await
        };
        timeout(Duration::from_millis(SUBSCRIBE_MS_MAX), again)
            .await
            .map_err(|_| PhoneLinkError::Lost("the subscription took too long".into()))?
            .map_err(|error| PhoneLinkError::Lost(printable(&error)))
    }

    async fn disconnect(&mut self) {
        // Not awaited here: BlueZ takes 2 s, and the person wants to see the result.
        self.let_go();
    }
}

impl Drop for CentralLink {
    fn drop(&mut self) {
        self.let_go();
    }
}

impl std::fmt::Debug for CentralLink {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("CentralLink")
            .field("value_octets_max", &self.value_octets_max)
            .finish_non_exhaustive()
    }
}

/// What a fault of the stack means for the person. btleplug hands BlueZ's errors on as they come,
/// and their D-Bus names show in the debug form only.
fn classify(error: &btleplug::Error) -> CentralError {
    match error {
        btleplug::Error::PermissionDenied => CentralError::PermissionDenied(printable(error)),
        btleplug::Error::NoAdapterAvailable => CentralError::NoAdapter,
        btleplug::Error::DeviceNotFound
        | btleplug::Error::NotConnected
        | btleplug::Error::TimedOut(_) => CentralError::Connect(printable(error)),
        btleplug::Error::UnexpectedCallback
        | btleplug::Error::UnexpectedCharacteristic
        | btleplug::Error::NoSuchCharacteristic
        | btleplug::Error::NotSupported(_)
        | btleplug::Error::Uuid(_)
        | btleplug::Error::InvalidBDAddr(_)
        | btleplug::Error::RuntimeError(_)
        | btleplug::Error::Other(_) => classify_bus_error(&format!("{error:?}"), printable(error)),
    }
}

fn classify_bus_error(debug: &str, detail: String) -> CentralError {
    let named = |names: &[&str]| names.iter().any(|name| debug.contains(name));
    // BlueZ's own NotPermitted and NotAuthorized are what the other side's attributes answer, not
    // what this user may do.
    if named(&["DBus.Error.AccessDenied"]) {
        CentralError::PermissionDenied(detail)
    } else if named(&["DBus.Error.FileNotFound", "DBus.Error.NoServer", "DBus.Error.Disconnected"])
    {
        CentralError::NoBus(detail)
    } else if named(&[
        "DBus.Error.ServiceUnknown",
        "DBus.Error.NameHasNoOwner",
        "DBus.Error.Spawn",
        "NoSuchUnit",
    ]) {
        CentralError::NoDaemon(detail)
    } else if named(&["org.bluez.Error.NotReady", "org.bluez.Error.Blocked", "rfkill"]) {
        CentralError::AdapterOff(detail)
    } else if named(&[
        "org.bluez.Error.",
        "DBus.Error.NoReply",
        "DBus.Error.UnknownObject",
        "timed out",
    ]) {
        CentralError::Connect(detail)
    } else {
        CentralError::Other(detail)
    }
}

/// What the stack says, safe for a screen and short.
fn printable(error: &btleplug::Error) -> String {
    let text: String =
        error.to_string().chars().filter(|character| !character.is_control()).take(160).collect();
    text.trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_bus_says_becomes_what_to_do() {
        for (debug, hint) in [
            (
                "Other(DbusError(D-Bus error: Rejected (org.freedesktop.DBus.Error.AccessDenied)))",
                "group",
            ),
            (
                "Other(DbusError(D-Bus error: Failed (org.freedesktop.DBus.Error.FileNotFound)))",
                "D-Bus",
            ),
            (
                "Other(DbusError(D-Bus error: No name (org.freedesktop.DBus.Error.ServiceUnknown)))",
                "systemctl start",
            ),
            ("Other(DbusError(D-Bus error: Not Ready (org.bluez.Error.NotReady)))", "rfkill"),
            (
                "Other(DbusError(D-Bus error: le-connection-abort-by-local (org.bluez.Error.Failed)))",
                "closer",
            ),
            (
                "Other(DbusError(D-Bus error: Write not permitted (org.bluez.Error.NotPermitted)))",
                "closer",
            ),
            ("Other(something)", "failed"),
        ] {
            let error = classify_bus_error(debug, "detail".into());
            assert!(error.to_string().contains(hint), "{debug}: {error}");
        }
    }

    #[tokio::test]
    async fn without_bluetooth_the_error_says_what_is_missing() {
        // Machines that run tests differ; whichever fault it is, it is one with advice.
        if let Err(error) = Central::open(Some("no-such-adapter")).await {
            assert!(error.is_about_this_machine(), "{error:?}");
        } else {
            panic!("an adapter of that name");
        }
    }
}
