//! Notices that bluetoothd went away or was started anew, which bluer does not (bluer issue 18).
//!
//! It has a connection of its own to the system bus, and only listens.

use dbus::message::MatchRule;
use dbus::nonblock::MsgMatch;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::fault::RadioFault;

const BLUEZ: &str = "org.bluez";

/// Listens for the end of BlueZ's ownership of its name, and for the end of the bus.
pub(super) struct BusWatch {
    losses: mpsc::Receiver<()>,
    connection: JoinHandle<()>,
    _listening: MsgMatch,
}

impl BusWatch {
    pub(super) async fn start() -> Result<Self, RadioFault> {
        let no_bus = |error: dbus::Error| RadioFault::NoBus(error.to_string());
        let (resource, bus) = tokio::task::spawn_blocking(dbus_tokio::connection::new_system_sync)
            .await
            .map_err(|error| RadioFault::NoBus(error.to_string()))?
            .map_err(no_bus)?;
        // One is enough: whatever is lost, everything is set up anew.
        let (lost, losses) = mpsc::channel(1);
        let bus_ended = lost.clone();
        let connection = tokio::spawn(async move {
            let error = resource.await;
            tracing::debug!(%error, "the connection to D-Bus ended");
            let _ = bus_ended.try_send(());
        });
        let rule = MatchRule::new_signal("org.freedesktop.DBus", "NameOwnerChanged");
        let listening = bus.add_match(rule).await.map_err(no_bus)?.cb(
            move |_, (name, old_owner, _new_owner): (String, String, String)| {
                // That it appears is what the service has been waiting for; only its going ends something.
                if name == BLUEZ && !old_owner.is_empty() {
                    let _ = lost.try_send(());
                }
                true
            },
        );
        Ok(Self { losses, connection, _listening: listening })
    }

    /// When the owner of BlueZ's name has gone, or the bus. Cancel-safe.
    pub(super) async fn lost(&mut self) {
        let _ = self.losses.recv().await;
    }
}

impl Drop for BusWatch {
    fn drop(&mut self) {
        self.connection.abort();
    }
}
