//! Watches BlueZ's D-Bus signals for what bluer does not report: that bluetoothd stopped or was
//! restarted (bluer issue 18), that an adapter was added, removed or switched, and that a device
//! has connected. bluer itself only reports a phone that writes or subscribes, but a phone that
//! does neither holds a connection too.
//!
//! It has its own connection to the system bus and only listens; others act on what it reports.

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::Arc;

use bluer::Address;
use dbus::arg::{PropMap, prop_cast};
use dbus::message::{MatchRule, Message};
use dbus::nonblock::{MsgMatch, SyncConnection};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;

use super::bluez_session::CONNECTING;
use super::fault::RadioFault;

const BLUEZ: &str = "org.bluez";
const ADAPTER: &str = "org.bluez.Adapter1";
const DEVICE: &str = "org.bluez.Device1";
const DBUS: &str = "org.freedesktop.DBus";
const OBJECT_MANAGER: &str = "org.freedesktop.DBus.ObjectManager";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
/// How many connected devices may wait in the queue. If it is full, a phone is noticed when it
/// writes.
const CONNECTED_DEVICES_MAX: usize = 256;

/// What a signal reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum BusEvent {
    /// bluetoothd has left the bus, or the connection to the bus has ended.
    BlueZLost,
    /// bluetoothd has appeared, or an adapter was added, removed, or switched on or off.
    Changed,
    DeviceConnected(ConnectedDevice),
}

/// A device that has connected to an adapter. It need not be a phone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ConnectedDevice {
    /// The adapter's name, such as `hci0`.
    pub(super) adapter: String,
    pub(super) address: Address,
}

impl ConnectedDevice {
    /// From a device's object path, such as `/org/bluez/hci0/dev_00_AA_01_02_03_04`.
    fn from_path(path: &str) -> Option<Self> {
        let (adapter, device) = path.strip_prefix("/org/bluez/")?.split_once("/dev_")?;
        let address = Address::from_str(&device.replace('_', ":")).ok()?;
        Some(Self { adapter: adapter.to_owned(), address })
    }
}

/// Reports BlueZ's signals for as long as its connection to the bus lasts.
pub(super) struct BusWatch {
    lost: mpsc::Receiver<()>,
    changed: Arc<Notify>,
    connected: mpsc::Receiver<ConnectedDevice>,
    connection: JoinHandle<()>,
    matches: Vec<MsgMatch>,
}

impl BusWatch {
    pub(super) async fn start() -> Result<Self, RadioFault> {
        let permit = CONNECTING.acquire().await.map_err(RadioFault::bus_unreachable)?;
        let connecting = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            dbus_tokio::connection::new_system_sync()
        });
        let (resource, bus) = connecting
            .await
            .map_err(RadioFault::bus_unreachable)?
            .map_err(RadioFault::bus_unreachable)?;
        // One place is enough: after a loss everything is registered again, whatever else was lost.
        let (lost_sender, lost) = mpsc::channel(1);
        let (connected_sender, connected) = mpsc::channel(CONNECTED_DEVICES_MAX);
        let changed = Arc::new(Notify::new());
        let queues = EventQueues {
            lost: lost_sender,
            changed: Arc::clone(&changed),
            connected: connected_sender,
        };
        let queues_at_end = queues.clone();
        let connection = tokio::spawn(async move {
            let error = resource.await;
            tracing::debug!(%error, "the connection to D-Bus ended");
            queues_at_end.push(BusEvent::BlueZLost);
        });
        // From here on dropping the watch ends the connection, also if a match cannot be added.
        let mut watch = Self { lost, changed, connected, connection, matches: Vec::new() };
        // Every signal about BlueZ's objects arrives here. They are few, since a terminal never
        // scans.
        let of_bluez =
            |interface, member| MatchRule::new_signal(interface, member).with_sender(BLUEZ);
        let parsers: [(_, SignalParser); 4] = [
            (MatchRule::new_signal(DBUS, "NameOwnerChanged"), name_owner_changed),
            (of_bluez(OBJECT_MANAGER, "InterfacesAdded"), interfaces_added),
            (of_bluez(OBJECT_MANAGER, "InterfacesRemoved"), interfaces_removed),
            (of_bluez(PROPERTIES, "PropertiesChanged"), properties_changed),
        ];
        for (rule, parse) in parsers {
            watch.matches.push(queues.add_match(&bus, rule, parse).await?);
        }
        Ok(watch)
    }

    /// Whether it still has its connection to the bus.
    pub(super) fn is_connected(&self) -> bool {
        !self.connection.is_finished()
    }

    /// Discards reports of lost BlueZ and of connected devices that wait in the queues: the caller
    /// already knows them, or is about to ask BlueZ.
    pub(super) fn discard_pending(&mut self) {
        while self.lost.try_recv().is_ok() {}
        while self.connected.try_recv().is_ok() {}
    }

    /// The next event. Cancel-safe.
    pub(super) async fn next(&mut self) -> BusEvent {
        tokio::select! {
            biased;
            // The end of the connection is reported in the same way.
            _ = self.lost.recv() => BusEvent::BlueZLost,
            () = self.changed.notified() => BusEvent::Changed,
            Some(device) = self.connected.recv() => BusEvent::DeviceConnected(device),
        }
    }

    /// Waits for an event other than a connected device; reports of those are discarded.
    /// Cancel-safe.
    pub(super) async fn wait_for_change(&mut self) {
        while let BusEvent::DeviceConnected(_) = self.next().await {}
    }
}

impl Drop for BusWatch {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// Reads a signal's event from its message; none if the signal is of no interest.
type SignalParser = fn(&Message) -> Option<BusEvent>;

/// The queues from the connection's task to the watch.
#[derive(Clone)]
struct EventQueues {
    lost: mpsc::Sender<()>,
    changed: Arc<Notify>,
    connected: mpsc::Sender<ConnectedDevice>,
}

impl EventQueues {
    fn push(&self, event: BusEvent) {
        match event {
            BusEvent::BlueZLost => {
                let _ = self.lost.try_send(());
            }
            BusEvent::Changed => self.changed.notify_one(),
            BusEvent::DeviceConnected(device) => {
                let _ = self.connected.try_send(device);
            }
        }
    }

    /// Has the bus deliver the signals of this rule, and pushes what `parse` reads from them.
    async fn add_match(
        &self,
        bus: &SyncConnection,
        rule: MatchRule<'static>,
        parse: SignalParser,
    ) -> Result<MsgMatch, RadioFault> {
        let queues = self.clone();
        let added = bus.add_match(rule).await.map_err(RadioFault::bus_unreachable)?;
        Ok(added.cb(move |message, (): ()| {
            if let Some(event) = parse(&message) {
                queues.push(event);
            }
            true
        }))
    }
}

fn name_owner_changed(message: &Message) -> Option<BusEvent> {
    let (name, old_owner, _new_owner): (String, String, String) = message.read_all().ok()?;
    let event = if old_owner.is_empty() { BusEvent::Changed } else { BusEvent::BlueZLost };
    (name == BLUEZ).then_some(event)
}

/// A device that BlueZ does not know yet, or no longer, is added as a new object.
fn interfaces_added(message: &Message) -> Option<BusEvent> {
    let (path, interfaces): (dbus::Path<'_>, HashMap<String, PropMap>) = message.read_all().ok()?;
    if interfaces.contains_key(ADAPTER) {
        return Some(BusEvent::Changed);
    }
    interfaces.get(DEVICE).filter(|properties| has_connected(properties))?;
    ConnectedDevice::from_path(&path).map(BusEvent::DeviceConnected)
}

fn interfaces_removed(message: &Message) -> Option<BusEvent> {
    let (_, interfaces): (dbus::Path<'_>, Vec<String>) = message.read_all().ok()?;
    interfaces.iter().any(|interface| interface == ADAPTER).then_some(BusEvent::Changed)
}

/// A device that BlueZ still knows changes its properties.
fn properties_changed(message: &Message) -> Option<BusEvent> {
    let (interface, changed, _): (String, PropMap, Vec<String>) = message.read_all().ok()?;
    match interface.as_str() {
        ADAPTER => changed.contains_key("Powered").then_some(BusEvent::Changed),
        DEVICE if has_connected(&changed) => {
            ConnectedDevice::from_path(&message.path()?).map(BusEvent::DeviceConnected)
        }
        _ => None,
    }
}

fn has_connected(properties: &PropMap) -> bool {
    prop_cast::<bool>(properties, "Connected").copied().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use dbus::arg::Variant;

    use super::*;

    const PHONE: &str = "/org/bluez/hci0/dev_00_AA_01_02_03_04";

    fn signal(path: &str, interface: &str, member: &str) -> Message {
        Message::new_signal(path, interface, member).unwrap()
    }

    fn property(name: &str, value: bool) -> PropMap {
        PropMap::from([(name.to_owned(), Variant(Box::new(value) as Box<dyn dbus::arg::RefArg>))])
    }

    fn phone_connected() -> BusEvent {
        let address = Address::new([0x00, 0xaa, 0x01, 0x02, 0x03, 0x04]);
        BusEvent::DeviceConnected(ConnectedDevice { adapter: "hci0".into(), address })
    }

    #[test]
    fn only_a_devices_path_gives_adapter_and_address() {
        let device = ConnectedDevice::from_path(PHONE);
        assert_eq!(device.map(BusEvent::DeviceConnected), Some(phone_connected()));
        for path in
            ["/org/bluez/hci0", &format!("{PHONE}/service0001"), "/org/bluez/dev_", "/dev_", ""]
        {
            assert_eq!(ConnectedDevice::from_path(path), None, "{path}");
        }
    }

    #[test]
    fn bluez_is_lost_when_its_name_loses_its_owner() {
        let owner = |name: &str, old: &str, new: &str| {
            let message = signal("/org/freedesktop/DBus", DBUS, "NameOwnerChanged");
            name_owner_changed(&message.append3(name, old, new))
        };
        assert_eq!(owner(BLUEZ, ":1.5", ""), Some(BusEvent::BlueZLost));
        assert_eq!(owner(BLUEZ, ":1.5", ":1.6"), Some(BusEvent::BlueZLost));
        assert_eq!(owner(BLUEZ, "", ":1.6"), Some(BusEvent::Changed));
        assert_eq!(owner("org.example", ":1.5", ""), None);
    }

    #[test]
    fn connected_devices_and_changed_adapters_are_reported() {
        let added = |path: &'static str, interface: &str, properties: PropMap| {
            let interfaces = HashMap::from([(interface.to_owned(), properties)]);
            interfaces_added(
                &signal("/", OBJECT_MANAGER, "InterfacesAdded")
                    .append2(dbus::Path::from(path), interfaces),
            )
        };
        assert_eq!(added(PHONE, DEVICE, property("Connected", true)), Some(phone_connected()));
        assert_eq!(added(PHONE, DEVICE, property("Connected", false)), None);
        assert_eq!(added("/org/bluez/hci0", ADAPTER, PropMap::new()), Some(BusEvent::Changed));

        let changed = |path: &str, interface: &str, properties: PropMap| {
            let message = signal(path, PROPERTIES, "PropertiesChanged");
            properties_changed(&message.append3(interface, properties, Vec::<String>::new()))
        };
        assert_eq!(changed(PHONE, DEVICE, property("Connected", true)), Some(phone_connected()));
        assert_eq!(changed(PHONE, DEVICE, property("Connected", false)), None);
        assert_eq!(changed(PHONE, DEVICE, property("Paired", true)), None);
        assert_eq!(
            changed("/org/bluez/hci0", ADAPTER, property("Powered", false)),
            Some(BusEvent::Changed)
        );
        assert_eq!(changed("/org/bluez/hci0", ADAPTER, property("Pairable", false)), None);

        let removed = |interface: &str| {
            let message = signal("/", OBJECT_MANAGER, "InterfacesRemoved");
            interfaces_removed(
                &message.append2(dbus::Path::from("/org/bluez/hci0"), vec![interface.to_owned()]),
            )
        };
        assert_eq!(removed(ADAPTER), Some(BusEvent::Changed));
        assert_eq!(removed(DEVICE), None);
    }
}
