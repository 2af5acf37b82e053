//! Hears what BlueZ says on the bus and bluer does not tell: that bluetoothd went away or was
//! started anew (bluer issue 18), that an adapter came, went, or was switched, and that somebody
//! has connected, before they write or subscribe: one that does neither holds a connection, too.
//!
//! It has a connection of its own to the system bus, and only listens. What to do about it is for
//! others.

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::Arc;

use bluer::Address;
use dbus::arg::{PropMap, prop_cast};
use dbus::message::{MatchRule, Message};
use dbus::nonblock::{MsgMatch, SyncConnection};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;

use super::bluez_session::OPENING;
use super::fault::RadioFault;

const BLUEZ: &str = "org.bluez";
const ADAPTER: &str = "org.bluez.Adapter1";
const DEVICE: &str = "org.bluez.Device1";
const OBJECT_MANAGER: &str = "org.freedesktop.DBus.ObjectManager";
/// How many arrivals may wait. One that finds this full is noticed when it writes.
const ARRIVALS_MAX: usize = 256;

/// What was heard on the bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum BusEvent {
    /// The owner of BlueZ's name has gone, or the bus.
    Loss,
    /// It is worth a look: BlueZ came, or an adapter came, went, or was switched on or off.
    Change,
    /// Somebody has connected.
    Arrival(Arrival),
}

/// Somebody has connected to an adapter. It need not be a phone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Arrival {
    /// `hci0`.
    pub(super) adapter: String,
    pub(super) address: Address,
}

impl Arrival {
    /// From a device's path: `/org/bluez/hci0/dev_00_AA_01_02_03_04`.
    fn at(path: &str) -> Option<Self> {
        let (adapter, device) = path.strip_prefix("/org/bluez/")?.split_once("/dev_")?;
        let address = Address::from_str(&device.replace('_', ":")).ok()?;
        Some(Self { adapter: adapter.to_owned(), address })
    }
}

/// Listens as long as the bus lasts.
pub(super) struct BusWatch {
    losses: mpsc::Receiver<()>,
    changed_event: Arc<Notify>,
    arrivals: mpsc::Receiver<Arrival>,
    connection: JoinHandle<()>,
    listening: Vec<MsgMatch>,
}

impl BusWatch {
    pub(super) async fn start() -> Result<Self, RadioFault> {
        let permit = OPENING.acquire().await.map_err(RadioFault::no_bus)?;
        let connecting = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            dbus_tokio::connection::new_system_sync()
        });
        let (resource, bus) =
            connecting.await.map_err(RadioFault::no_bus)?.map_err(RadioFault::no_bus)?;
        // One is enough: whatever is lost, everything is set up anew.
        let (lost, losses) = mpsc::channel(1);
        let (arrived, arrivals) = mpsc::channel(ARRIVALS_MAX);
        let changed_event = Arc::new(Notify::new());
        let ears = BusEventSender { lost, changed_event: Arc::clone(&changed_event), arrived };
        let bus_ended = ears.clone();
        let connection = tokio::spawn(async move {
            let error = resource.await;
            tracing::debug!(%error, "the connection to D-Bus ended");
            bus_ended.heard(BusEvent::Loss);
        });
        // From here on the connection ends with it, however this ends.
        let mut watch = Self { losses, changed_event, arrivals, connection, listening: Vec::new() };
        // All of BlueZ's signals about its objects pass here; a terminal never scans, so they are
        // few.
        let of_objects = |member| MatchRule::new_signal(OBJECT_MANAGER, member).with_sender(BLUEZ);
        let properties =
            MatchRule::new_signal("org.freedesktop.DBus.Properties", "PropertiesChanged");
        let classifiers: [(_, Classifier); 4] = [
            (MatchRule::new_signal("org.freedesktop.DBus", "NameOwnerChanged"), owner_changed),
            (of_objects("InterfacesAdded"), added),
            (of_objects("InterfacesRemoved"), removed),
            (properties.with_sender(BLUEZ), changed),
        ];
        for (rule, judge) in classifiers {
            watch.listening.push(ears.listen(&bus, rule, judge).await?);
        }
        Ok(watch)
    }

    /// Whether it still hears anything.
    pub(super) fn is_alive(&self) -> bool {
        !self.connection.is_finished()
    }

    /// What was lost and who came until now is known, or will be asked for.
    pub(super) fn forget(&mut self) {
        while self.losses.try_recv().is_ok() {}
        while self.arrivals.try_recv().is_ok() {}
    }

    /// What was heard next. Cancel-safe.
    pub(super) async fn next(&mut self) -> BusEvent {
        tokio::select! {
            biased;
            // The connection's end is told like any other loss.
            _ = self.losses.recv() => BusEvent::Loss,
            () = self.changed_event.notified() => BusEvent::Change,
            Some(arrival) = self.arrivals.recv() => BusEvent::Arrival(arrival),
        }
    }

    /// Until BlueZ, an adapter or the bus come or go. Who connects meanwhile is forgotten.
    /// Cancel-safe.
    pub(super) async fn changed_event(&mut self) {
        while let BusEvent::Arrival(_) = self.next().await {}
    }
}

impl Drop for BusWatch {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// What a signal means, if anything.
type Classifier = fn(&Message) -> Option<BusEvent>;

/// Where what was heard goes.
#[derive(Clone)]
struct BusEventSender {
    lost: mpsc::Sender<()>,
    changed_event: Arc<Notify>,
    arrived: mpsc::Sender<Arrival>,
}

impl BusEventSender {
    fn heard(&self, heard: BusEvent) {
        match heard {
            BusEvent::Loss => {
                let _ = self.lost.try_send(());
            }
            BusEvent::Change => self.changed_event.notify_one(),
            BusEvent::Arrival(arrival) => {
                let _ = self.arrived.try_send(arrival);
            }
        }
    }

    /// Listens to signals.
    async fn listen(
        &self,
        bus: &SyncConnection,
        rule: MatchRule<'static>,
        judge: Classifier,
    ) -> Result<MsgMatch, RadioFault> {
        let ears = self.clone();
        let listening = bus.add_match(rule).await.map_err(RadioFault::no_bus)?;
        Ok(listening.cb(move |message, (): ()| {
            if let Some(heard) = judge(&message) {
                ears.heard(heard);
            }
            true
        }))
    }
}

fn owner_changed(message: &Message) -> Option<BusEvent> {
    let (name, old_owner, _new_owner): (String, String, String) = message.read_all().ok()?;
    (name == BLUEZ).then_some(if old_owner.is_empty() { BusEvent::Change } else { BusEvent::Loss })
}

/// A device that BlueZ has not met, or has forgotten, comes as a new object.
fn added(message: &Message) -> Option<BusEvent> {
    let (path, interfaces): (dbus::Path<'_>, HashMap<String, PropMap>) = message.read_all().ok()?;
    if interfaces.contains_key(ADAPTER) {
        return Some(BusEvent::Change);
    }
    interfaces.get(DEVICE).filter(|properties| is_connected(properties))?;
    Arrival::at(&path).map(BusEvent::Arrival)
}

fn removed(message: &Message) -> Option<BusEvent> {
    let (_, interfaces): (dbus::Path<'_>, Vec<String>) = message.read_all().ok()?;
    interfaces.iter().any(|interface| interface == ADAPTER).then_some(BusEvent::Change)
}

/// A device that BlueZ still knows changes.
fn changed(message: &Message) -> Option<BusEvent> {
    let (interface, changed, _): (String, PropMap, Vec<String>) = message.read_all().ok()?;
    match interface.as_str() {
        ADAPTER => changed.contains_key("Powered").then_some(BusEvent::Change),
        DEVICE if is_connected(&changed) => Arrival::at(&message.path()?).map(BusEvent::Arrival),
        _ => None,
    }
}

fn is_connected(properties: &PropMap) -> bool {
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

    fn one(name: &str, value: bool) -> PropMap {
        PropMap::from([(name.to_owned(), Variant(Box::new(value) as Box<dyn dbus::arg::RefArg>))])
    }

    fn arrival() -> BusEvent {
        let address = Address::new([0x00, 0xaa, 0x01, 0x02, 0x03, 0x04]);
        BusEvent::Arrival(Arrival { adapter: "hci0".into(), address })
    }

    #[test]
    fn a_devices_path_tells_adapter_and_address_and_nothing_else_does() {
        assert_eq!(Arrival::at(PHONE).map(BusEvent::Arrival), Some(arrival()));
        for path in
            ["/org/bluez/hci0", &format!("{PHONE}/service0001"), "/org/bluez/dev_", "/dev_", ""]
        {
            assert_eq!(Arrival::at(path), None, "{path}");
        }
    }

    #[test]
    fn the_going_of_bluez_is_a_loss_and_its_coming_a_stir() {
        let owner = |name: &str, old: &str, new: &str| {
            let message =
                signal("/org/freedesktop/DBus", "org.freedesktop.DBus", "NameOwnerChanged");
            owner_changed(&message.append3(name, old, new))
        };
        assert_eq!(owner(BLUEZ, ":1.5", ""), Some(BusEvent::Loss));
        assert_eq!(owner(BLUEZ, ":1.5", ":1.6"), Some(BusEvent::Loss));
        assert_eq!(owner(BLUEZ, "", ":1.6"), Some(BusEvent::Change));
        assert_eq!(owner("org.example", ":1.5", ""), None);
    }

    #[test]
    fn who_connects_arrives_and_an_adapter_stirs() {
        let new = |path: &'static str, interface: &str, properties: PropMap| {
            let interfaces = HashMap::from([(interface.to_owned(), properties)]);
            added(
                &signal("/", OBJECT_MANAGER, "InterfacesAdded")
                    .append2(dbus::Path::from(path), interfaces),
            )
        };
        assert_eq!(new(PHONE, DEVICE, one("Connected", true)), Some(arrival()));
        assert_eq!(new(PHONE, DEVICE, one("Connected", false)), None);
        assert_eq!(new("/org/bluez/hci0", ADAPTER, PropMap::new()), Some(BusEvent::Change));

        let change = |path: &str, interface: &str, properties: PropMap| {
            let message = signal(path, "org.freedesktop.DBus.Properties", "PropertiesChanged");
            changed(&message.append3(interface, properties, Vec::<String>::new()))
        };
        assert_eq!(change(PHONE, DEVICE, one("Connected", true)), Some(arrival()));
        assert_eq!(change(PHONE, DEVICE, one("Connected", false)), None);
        assert_eq!(change(PHONE, DEVICE, one("Paired", true)), None);
        assert_eq!(
            change("/org/bluez/hci0", ADAPTER, one("Powered", false)),
            Some(BusEvent::Change)
        );
        assert_eq!(change("/org/bluez/hci0", ADAPTER, one("Pairable", false)), None);

        let gone = |interface: &str| {
            let message = signal("/", OBJECT_MANAGER, "InterfacesRemoved");
            removed(
                &message.append2(dbus::Path::from("/org/bluez/hci0"), vec![interface.to_owned()]),
            )
        };
        assert_eq!(gone(ADAPTER), Some(BusEvent::Change));
        assert_eq!(gone(DEVICE), None);
    }
}
