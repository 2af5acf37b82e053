//! Notices phones that connect, before they write or subscribe: one that does neither holds a connection, too.
//!
//! It has a connection of its own to the system bus, and only listens. Who they are and how long they may stay is for
//! others to say.

use std::collections::HashMap;
use std::str::FromStr;

use bluer::{Adapter, Address};
use dbus::Path;
use dbus::arg::{PropMap, prop_cast};
use dbus::message::MatchRule;
use dbus::nonblock::MsgMatch;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::fault::RadioFault;

const BLUEZ: &str = "org.bluez";
const DEVICE: &str = "org.bluez.Device1";
/// How many arrivals may wait for the service's loop. One that finds this full is noticed when it writes.
const ARRIVALS_MAX: usize = 256;

/// Listens for connections to one adapter.
pub(super) struct Arrivals {
    addresses: mpsc::Receiver<Address>,
    connection: JoinHandle<()>,
    _listening: [MsgMatch; 2],
}

impl Arrivals {
    /// Whoever is connected already counts as arriving now.
    pub(super) async fn start(adapter: &Adapter) -> Result<Self, RadioFault> {
        let no_bus = |error: dbus::Error| RadioFault::NoBus(error.to_string());
        let (resource, bus) = tokio::task::spawn_blocking(dbus_tokio::connection::new_system_sync)
            .await
            .map_err(|error| RadioFault::NoBus(error.to_string()))?
            .map_err(no_bus)?;
        // Its end is the end of the bus, which the bus watch notices.
        let connection = tokio::spawn(async move {
            let error = resource.await;
            tracing::debug!(%error, "the connection to D-Bus ended");
        });
        let (arrived, addresses) = mpsc::channel(ARRIVALS_MAX);
        let root = format!("/org/bluez/{}", adapter.name());

        // A device that BlueZ has not met, or has forgotten, comes as a new object.
        let rule =
            MatchRule::new_signal("org.freedesktop.DBus.ObjectManager", "InterfacesAdded").with_sender(BLUEZ);
        let (sender, prefix) = (arrived.clone(), format!("{root}/"));
        let added = bus.add_match(rule).await.map_err(no_bus)?.cb(
            move |_, (path, interfaces): (Path<'static>, HashMap<String, PropMap>)| {
                if path.starts_with(&prefix) && interfaces.get(DEVICE).is_some_and(is_connected) {
                    report(&sender, &path);
                }
                true
            },
        );
        // One that it still knows changes.
        let rule = MatchRule::new_signal("org.freedesktop.DBus.Properties", "PropertiesChanged")
            .with_sender(BLUEZ)
            .with_namespaced_path(root);
        let sender = arrived.clone();
        let changed = bus.add_match(rule).await.map_err(no_bus)?.cb(
            move |message, (interface, properties): (String, PropMap)| {
                if interface == DEVICE
                    && is_connected(&properties)
                    && let Some(path) = message.path()
                {
                    report(&sender, &path);
                }
                true
            },
        );
        for address in connected(adapter)
            .await
            .map_err(|error| RadioFault::of(&error, adapter.name(), "asking who is connected"))?
        {
            let _ = arrived.try_send(address);
        }
        Ok(Self { addresses, connection, _listening: [added, changed] })
    }

    /// The next phone that has connected. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<Address> {
        self.addresses.recv().await
    }
}

impl Drop for Arrivals {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

fn is_connected(properties: &PropMap) -> bool {
    prop_cast::<bool>(properties, "Connected").copied().unwrap_or(false)
}

fn report(arrived: &mpsc::Sender<Address>, path: &Path<'_>) {
    if let Some(address) = address_of(path) {
        let _ = arrived.try_send(address);
    }
}

/// The address in a device's path: `/org/bluez/hci0/dev_00_AA_01_02_03_04`.
fn address_of(path: &str) -> Option<Address> {
    let (_, name) = path.rsplit_once("/dev_")?;
    Address::from_str(&name.replace('_', ":")).ok()
}

async fn connected(adapter: &Adapter) -> bluer::Result<Vec<Address>> {
    let mut connected = Vec::new();
    for address in adapter.device_addresses().await? {
        // One that goes in this moment has not arrived.
        if adapter.device(address)?.is_connected().await.unwrap_or(false) {
            connected.push(address);
        }
    }
    Ok(connected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_devices_path_tells_its_address_and_nothing_else_does() {
        let expected = Address::new([0x00, 0xaa, 0x01, 0x02, 0x03, 0x04]);
        assert_eq!(address_of("/org/bluez/hci0/dev_00_AA_01_02_03_04"), Some(expected));
        for path in ["/org/bluez/hci0", "/org/bluez/hci0/dev_00_AA_01_02_03_04/service0001", "/dev_", ""] {
            assert_eq!(address_of(path), None, "{path}");
        }
    }
}
