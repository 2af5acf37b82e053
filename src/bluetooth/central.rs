//! The phone's Bluetooth: a GATT central over btleplug, which uses BlueZ on Linux.
//!
//! It finds terminals, connects, and carries values. It knows no messages and no payments, and it
//! does not prove who a terminal is: names, short codes and addresses help to choose a terminal and
//! prove nothing.
//!
//! Values are written with response, one at a time, if the characteristic offers that. A write
//! without response is quicker by one exchange, but some platforms silently drop it when their
//! queue is full, and BlueZ may close the connection before the last one has left. The response
//! costs no time where it matters: with the MTU of 517 that BlueZ and phones agree on, each message
//! of a payment is one value, and the terminal works on it while the response is under way.

use std::collections::{BTreeMap, HashSet};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use btleplug::api::{
    Central as _, CentralEvent, CentralState, CharPropFlags, Characteristic, Manager as _,
    Peripheral as _, ScanFilter, ValueNotification, WriteType,
};
use btleplug::platform::{Adapter, Manager, Peripheral, PeripheralId};
use futures::{Stream, StreamExt};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use crate::link::{PhoneLink, PhoneLinkError, att};
use crate::protocol::{AdvertisedName, INBOX_UUID, OUTBOX_UUID, SERVICE_UUID};

/// How many attempts a connection gets. The first one to a device often fails in the radio
/// (Android's 133, BlueZ's `le-connection-abort-by-local`); after three failures the terminal is
/// not there.
const CONNECT_ATTEMPTS_MAX: u32 = 3;
/// How long one attempt may take, with the discovery of services, in milliseconds: ten times the
/// usual.
const CONNECT_TIMEOUT_MS: u64 = 12_000;
/// How long to wait before the next attempt, in milliseconds, so that the stack has finished the
/// previous one.
const CONNECT_PAUSE_MS: u64 = 400;
/// How long a subscription may take, in milliseconds. It is one exchange.
const SUBSCRIBE_TIMEOUT_MS: u64 = 5_000;
/// How long a disconnection may take, in milliseconds. BlueZ itself waits 2 s.
const DISCONNECT_TIMEOUT_MS: u64 = 4_000;
/// How often all devices are polled, in milliseconds, since events may be lost.
const POLL_INTERVAL_MS: u64 = 300;
/// The longest value that is written, in octets, whatever the MTU: BlueZ before 5.69 counts the
/// handle, and in a long write the offset, towards the 512 octets of a written value, and refuses
/// more (bluez issue 570).
const WRITTEN_OCTETS_MAX: usize = 508;
/// The strength that BlueZ reports if the radio measured none.
const RSSI_UNKNOWN_DBM: i16 = 127;

/// Why Bluetooth cannot be used, or a terminal cannot be connected. Each says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CentralError {
    #[error("the D-Bus system bus cannot be reached ({0}). Run `sudo systemctl start dbus`")]
    BusUnreachable(String),
    #[error("BlueZ is not running ({0}). Run `sudo systemctl start bluetooth`")]
    BlueZNotRunning(String),
    /// The bus policy does not allow this user to call BlueZ.
    #[error(
        "D-Bus does not let this user talk to BlueZ ({0}). Add the user to the group `bluetooth` \
         with `sudo usermod -aG bluetooth $USER`, and log in again"
    )]
    AccessDenied(String),
    #[error(
        "this computer has no Bluetooth adapter. Plug one in; `bluetoothctl list` shows the \
         adapters that BlueZ has"
    )]
    NoAdapter,
    /// The requested adapter is absent, and others are present.
    #[error(
        "there is no Bluetooth adapter `{wanted}`; BlueZ has: {present}. Plug it in, or choose \
         another one with `--adapter`"
    )]
    AdapterNotFound { wanted: String, present: String },
    /// The adapter is switched off, or blocked by rfkill.
    #[error(
        "the Bluetooth adapter is off ({0}). Run `rfkill unblock bluetooth` and \
         `bluetoothctl power on`"
    )]
    AdapterOff(String),
    #[error("cannot connect to the machine ({0}). Go closer and try again")]
    Connect(String),
    /// Connected, but the payment service is absent or incomplete.
    #[error(
        "the machine does not offer the payment service as it should: {0}. If it was updated \
         recently, remove it from BlueZ with `bluetoothctl remove` and its address, and try again"
    )]
    Service(String),
    /// Any other error of the Bluetooth stack.
    #[error("Bluetooth failed: {0}. Try again; if it fails again, see `journalctl -u bluetooth`")]
    Other(String),
}

impl CentralError {
    /// Whether the fault is in this computer's Bluetooth, and not in a terminal.
    pub fn is_about_this_machine(&self) -> bool {
        match self {
            Self::BusUnreachable(_)
            | Self::BlueZNotRunning(_)
            | Self::AccessDenied(_)
            | Self::NoAdapter
            | Self::AdapterNotFound { .. }
            | Self::AdapterOff(_) => true,
            Self::Connect(_) | Self::Service(_) | Self::Other(_) => false,
        }
    }
}

/// A terminal in reach that advertises.
#[derive(Debug, Clone)]
pub struct FoundTerminal {
    /// From its advertised name; none if the name was not received yet.
    pub short_code: Option<String>,
    /// The signal strength of its last advertisement, in dBm; none if the radio did not measure it.
    pub rssi_dbm: Option<i16>,
    /// Its advertised name says that it takes no payments now. Anybody can advertise that, but
    /// connecting to such a machine is of no use.
    pub is_out_of_service: bool,
    peripheral: Peripheral,
}

/// One Bluetooth adapter in the central role.
#[derive(Debug, Clone)]
pub struct Central {
    adapter: Adapter,
    adapter_name: String,
    disconnections: Arc<Mutex<JoinSet<()>>>,
}

impl Central {
    /// Opens an adapter by its name, such as `hci1`; without a name, the first.
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
        let present = adapters.keys().cloned().collect::<Vec<_>>().join(", ");
        let chosen = match name {
            None => adapters.pop_first(),
            Some(wanted) if !adapters.is_empty() => {
                let adapter = adapters.remove(wanted);
                let adapter = adapter.ok_or_else(|| CentralError::AdapterNotFound {
                    wanted: wanted.to_owned(),
                    present,
                })?;
                Some((wanted.to_owned(), adapter))
            }
            Some(_) => None,
        };
        let (adapter_name, adapter) = chosen.ok_or(CentralError::NoAdapter)?;
        Ok(Self { adapter, adapter_name, disconnections: Arc::default() })
    }

    /// The adapter's name, such as `hci1`.
    pub fn adapter_name(&self) -> &str {
        &self.adapter_name
    }

    /// Scans for `scan_ms` milliseconds and returns the terminals in reach, strongest first. With a
    /// short code, it returns as soon as it has found a terminal of that code.
    ///
    /// # Errors
    /// [`CentralError`] if the adapter cannot scan.
    pub async fn scan(
        &self,
        scan_ms: u64,
        short_code: Option<&str>,
    ) -> Result<Vec<FoundTerminal>, CentralError> {
        // Some adapters cannot scan while a connection is ending.
        self.wait_for_disconnections().await;
        let events = self.adapter.events().await.map_err(|error| classify(&error))?;
        let known: HashSet<PeripheralId> =
            self.peripherals().await?.iter().map(Peripheral::id).collect();
        let filter = ScanFilter { services: vec![Uuid::from_u128(SERVICE_UUID)] };
        self.adapter.start_scan(filter).await.map_err(|error| classify(&error))?;
        let found = self.collect(events, &known, scan_ms, short_code).await;
        // A scan that continues disturbs connecting, but connecting may still succeed.
        if let Err(error) = self.adapter.stop_scan().await {
            tracing::debug!(%error, "the scan could not be stopped");
        }
        found
    }

    async fn collect(
        &self,
        mut events: Pin<Box<dyn Stream<Item = CentralEvent> + Send>>,
        known: &HashSet<PeripheralId>,
        scan_ms: u64,
        short_code: Option<&str>,
    ) -> Result<Vec<FoundTerminal>, CentralError> {
        let end = Instant::now() + Duration::from_millis(scan_ms);
        let mut poll = tokio::time::interval(Duration::from_millis(POLL_INTERVAL_MS));
        // Devices that advertised in this scan. BlueZ also lists devices from days ago.
        let mut fresh = HashSet::new();
        let mut found: Vec<FoundTerminal> = Vec::new();
        loop {
            let candidates = tokio::select! {
                () = tokio::time::sleep_until(end) => break,
                _ = poll.tick() => self.peripherals().await?,
                event = events.next() => match event {
                    Some(event) => {
                        let Some((id, is_fresh)) = device_of(event, known) else { continue };
                        if is_fresh {
                            fresh.insert(id.clone());
                        }
                        self.adapter.peripheral(&id).await.into_iter().collect()
                    }
                    // The connection to the bus has ended; the next poll returns the error.
                    None => {
                        tokio::time::sleep(Duration::from_millis(POLL_INTERVAL_MS)).await;
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
    /// [`CentralError::Connect`] after three attempts; [`CentralError::Service`] if the device is
    /// not a terminal.
    pub async fn connect(&self, terminal: &FoundTerminal) -> Result<CentralLink, CentralError> {
        self.wait_for_disconnections().await;
        let peripheral = &terminal.peripheral;
        let mut fault = String::new();
        for attempt in 0..CONNECT_ATTEMPTS_MAX {
            if attempt > 0 {
                tokio::time::sleep(Duration::from_millis(CONNECT_PAUSE_MS)).await;
            }
            match timeout(Duration::from_millis(CONNECT_TIMEOUT_MS), self.connect_once(peripheral))
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
                Err(_) => fault = "the connection took too long".to_owned(),
            }
            tracing::debug!(attempt, fault, "an attempt to connect failed");
            // A connection that is only half set up would prevent the next one.
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
            return Err(CentralError::Service("phones cannot write to its inbox".into()));
        };
        // This precedes the subscription, so that not even the first notification is lost.
        let notifications = peripheral.notifications().await.map_err(|error| classify(&error))?;
        let events = self.adapter.events().await.map_err(|error| classify(&error))?;
        let subscription = peripheral.subscribe(&outbox);
        timeout(Duration::from_millis(SUBSCRIBE_TIMEOUT_MS), subscription)
            .await
            .map_err(|_| CentralError::Connect("the subscription took too long".into()))?
            .map_err(|error| classify(&error))?;
        // A connection that was lost before the events were requested shows here.
        if !peripheral.is_connected().await.map_err(|error| classify(&error))? {
            return Err(CentralError::Connect("the connection was lost at once".into()));
        }
        // BlueZ has exchanged the MTU before it reports services. On a platform that does not tell
        // the MTU, btleplug reports 23.
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
            is_disconnected: false,
        })
    }

    async fn disconnect(&self, peripheral: &Peripheral) {
        let disconnection =
            timeout(Duration::from_millis(DISCONNECT_TIMEOUT_MS), peripheral.disconnect());
        if let Ok(Err(error)) = disconnection.await {
            tracing::debug!(%error, "disconnecting failed");
        }
    }

    /// Waits until every disconnection that was started is complete, at most some seconds. Call it
    /// before the process ends: BlueZ keeps a connection when the process that made it has ended.
    pub async fn wait_for_disconnections(&self) {
        let mut disconnections = self.disconnections.lock().await;
        while disconnections.join_next().await.is_some() {}
    }
}

/// The device of an event, and whether the event shows that the device is in reach now.
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

/// The device as a terminal; none if it is not a terminal or not in reach.
async fn terminal_of(peripheral: Peripheral, is_fresh: bool) -> Option<FoundTerminal> {
    let properties = peripheral.properties().await.ok()??;
    // BlueZ forgets the strength when a scan ends, so a device that has one was received in this
    // scan.
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

/// One connection to a terminal. Dropping it ends the connection.
pub struct CentralLink {
    central: Central,
    peripheral: Peripheral,
    inbox: Characteristic,
    outbox: Characteristic,
    write_type: WriteType,
    value_octets_max: usize,
    notifications: Pin<Box<dyn Stream<Item = ValueNotification> + Send>>,
    events: Pin<Box<dyn Stream<Item = CentralEvent> + Send>>,
    is_disconnected: bool,
}

impl CentralLink {
    /// Starts to disconnect in the background; [`Central::wait_for_disconnections`] waits for it.
    fn start_disconnection(&mut self) {
        if std::mem::replace(&mut self.is_disconnected, true) {
            return;
        }
        // Without a runtime, nothing can call BlueZ any more.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (central, peripheral) = (self.central.clone(), self.peripheral.clone());
        let disconnection = async move { central.disconnect(&peripheral).await };
        match self.central.disconnections.try_lock() {
            Ok(mut disconnections) => {
                disconnections.spawn(disconnection);
            }
            // Another task is waiting for disconnections at this moment; this one still runs.
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
        if self.is_disconnected {
            return Err(lost("disconnected"));
        }
        // BlueZ would turn it into a long write. That takes more exchanges than two values, and
        // some versions refuse it.
        if value.len() > self.value_octets_max {
            let detail = format!(
                "the value has {} octets; this link carries at most {}",
                value.len(),
                self.value_octets_max
            );
            return Err(PhoneLinkError::Unusable(detail));
        }
        self.peripheral
            .write(&self.inbox, &value, self.write_type)
            .await
            .map_err(|error| lost(&printable(&error)))
    }

    async fn next_value(&mut self) -> Result<Vec<u8>, PhoneLinkError> {
        if self.is_disconnected {
            return Err(lost("disconnected"));
        }
        loop {
            tokio::select! {
                // A notification from before the end of the connection still counts.
                biased;
                notification = self.notifications.next() => match notification {
                    Some(notification) if notification.uuid == self.outbox.uuid => {
                        return Ok(notification.value);
                    }
                    Some(_) => {}
                    None => return Err(lost("the connection to D-Bus ended")),
                },
                event = self.events.next() => match event {
                    Some(CentralEvent::DeviceDisconnected(id)) if id == self.peripheral.id() => {
                        return Err(lost("the machine ended it, or it is out of reach"));
                    }
                    Some(CentralEvent::StateUpdate(CentralState::PoweredOff)) => {
                        return Err(lost("the adapter was switched off"));
                    }
                    Some(_) => {}
                    None => return Err(lost("the connection to D-Bus ended")),
                },
            }
        }
    }

    async fn subscribe_again(&mut self) -> Result<(), PhoneLinkError> {
        let again = async {
            self.peripheral.unsubscribe(&self.outbox).await?;
            self.peripheral.subscribe(&self.outbox).await
        };
        timeout(Duration::from_millis(SUBSCRIBE_TIMEOUT_MS), again)
            .await
            .map_err(|_| lost("the subscription took too long"))?
            .map_err(|error| lost(&printable(&error)))
    }

    async fn disconnect(&mut self) {
        // This does not wait: BlueZ takes 2 s, and the person wants to see the result.
        self.start_disconnection();
    }
}

impl Drop for CentralLink {
    fn drop(&mut self) {
        self.start_disconnection();
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

fn lost(detail: &str) -> PhoneLinkError {
    PhoneLinkError::Lost(detail.to_owned())
}

/// What an error of btleplug means. btleplug passes BlueZ's errors on unchanged, and only their
/// debug form shows the D-Bus name.
fn classify(error: &btleplug::Error) -> CentralError {
    match error {
        btleplug::Error::PermissionDenied => CentralError::AccessDenied(printable(error)),
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
    // BlueZ's own NotPermitted and NotAuthorized are answers of the other side's attributes. They
    // do not mean that this user lacks a permission.
    if named(&["DBus.Error.AccessDenied"]) {
        CentralError::AccessDenied(detail)
    } else if named(&["DBus.Error.FileNotFound", "DBus.Error.NoServer", "DBus.Error.Disconnected"])
    {
        CentralError::BusUnreachable(detail)
    } else if named(&[
        "DBus.Error.ServiceUnknown",
        "DBus.Error.NameHasNoOwner",
        "DBus.Error.Spawn",
        "NoSuchUnit",
    ]) {
        CentralError::BlueZNotRunning(detail)
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

/// The stack's message, shortened and without control characters.
fn printable(error: &btleplug::Error) -> String {
    let text: String =
        error.to_string().chars().filter(|character| !character.is_control()).take(160).collect();
    text.trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_bus_become_advice() {
        for (message, name, hint) in [
            ("Rejected", "org.freedesktop.DBus.Error.AccessDenied", "group"),
            ("Failed", "org.freedesktop.DBus.Error.FileNotFound", "D-Bus"),
            ("No name", "org.freedesktop.DBus.Error.ServiceUnknown", "systemctl start"),
            ("Not Ready", "org.bluez.Error.NotReady", "rfkill"),
            ("le-connection-abort-by-local", "org.bluez.Error.Failed", "closer"),
            ("Write not permitted", "org.bluez.Error.NotPermitted", "closer"),
        ] {
            let debug = format!("Other(DbusError(D-Bus error: {message} ({name})))");
            let error = classify_bus_error(&debug, "detail".into());
            assert!(error.to_string().contains(hint), "{debug}: {error}");
        }
        let error = classify_bus_error("Other(something)", "detail".into());
        assert!(error.to_string().contains("failed"), "{error}");
    }

    #[tokio::test]
    async fn without_bluetooth_the_error_is_about_this_machine() {
        // Machines that run tests differ; in each case the fault is in the machine's own Bluetooth.
        if let Err(error) = Central::open(Some("no-such-adapter")).await {
            assert!(error.is_about_this_machine(), "{error:?}");
        } else {
            panic!("there is an adapter of that name");
        }
    }
}
