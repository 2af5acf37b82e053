//! Hears that bluetoothd went away or was started anew, which bluer does not (bluer issue 18), and that an adapter came,
//! went, or was switched.
//!
//! It has a connection of its own to the system bus, and only listens. What to do about it is for others.

use std::collections::HashMap;
use std::sync::Arc;

use dbus::arg::PropMap;
use dbus::message::{MatchRule, Message};
use dbus::nonblock::{MsgMatch, SyncConnection};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;

use super::fault::RadioFault;

const BLUEZ: &str = "org.bluez";
const ADAPTER: &str = "org.bluez.Adapter1";
const OBJECT_MANAGER: &str = "org.freedesktop.DBus.ObjectManager";

/// What was heard on the bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// The owner of BlueZ's name has gone, or the bus.
    Loss,
    /// It is worth a look: BlueZ came, or an adapter came, went, or was switched on or off.
    Stir,
}

/// Listens as long as the bus lasts.
pub(super) struct BusWatch {
    losses: mpsc::Receiver<()>,
    stirred: Arc<Notify>,
    connection: JoinHandle<()>,
    _listening: (MsgMatch, MsgMatch, MsgMatch, MsgMatch),
}

impl BusWatch {
    pub(super) async fn start() -> Result<Self, RadioFault> {
        let (resource, bus) = tokio::task::spawn_blocking(dbus_tokio::connection::new_system_sync)
            .await
            .map_err(|error| RadioFault::NoBus(error.to_string()))?
            .map_err(no_bus)?;
        // One is enough: whatever is lost, everything is set up anew.
        let (lost, losses) = mpsc::channel(1);
        let stirred = Arc::new(Notify::new());
        let (bus_ended, bus_stirred) = (lost.clone(), Arc::clone(&stirred));
        let connection = tokio::spawn(async move {
            let error = resource.await;
            tracing::debug!(%error, "the connection to D-Bus ended");
            let _ = bus_ended.try_send(());
            bus_stirred.notify_one();
        });
        // All of BlueZ's signals about its objects pass here; a terminal never scans, so they are few.
        let listening = tokio::try_join!(
            hear(
                &bus,
                MatchRule::new_signal("org.freedesktop.DBus", "NameOwnerChanged"),
                &stirred,
                move |message| {
                    let (name, old_owner, _new_owner): (String, String, String) = message.read_all().ok()?;
                    if name == BLUEZ && !old_owner.is_empty() {
                        let _ = lost.try_send(());
                    }
                    (name == BLUEZ).then_some(())
                }
            ),
            hear(
                &bus,
                MatchRule::new_signal(OBJECT_MANAGER, "InterfacesAdded").with_sender(BLUEZ),
                &stirred,
                |message| {
                    let (_, interfaces): (dbus::Path<'_>, HashMap<String, PropMap>) =
                        message.read_all().ok()?;
                    interfaces.contains_key(ADAPTER).then_some(())
                }
            ),
            hear(
                &bus,
                MatchRule::new_signal(OBJECT_MANAGER, "InterfacesRemoved").with_sender(BLUEZ),
                &stirred,
                |message| {
                    let (_, interfaces): (dbus::Path<'_>, Vec<String>) = message.read_all().ok()?;
                    interfaces.iter().any(|interface| interface == ADAPTER).then_some(())
                }
            ),
            hear(
                &bus,
                MatchRule::new_signal("org.freedesktop.DBus.Properties", "PropertiesChanged")
                    .with_sender(BLUEZ),
                &stirred,
                |message| {
                    let (interface, changed): (String, PropMap) = message.read_all().ok()?;
                    (interface == ADAPTER && changed.contains_key("Powered")).then_some(())
                }
            ),
        )?;
        Ok(Self { losses, stirred, connection, _listening: listening })
    }

    /// Whether it still hears anything.
    pub(super) fn is_alive(&self) -> bool {
        !self.connection.is_finished()
    }

    /// What was lost until now is known.
    pub(super) fn forget_losses(&mut self) {
        while self.losses.try_recv().is_ok() {}
    }

    /// What was heard next. Cancel-safe.
    pub(super) async fn next(&mut self) -> Heard {
        tokio::select! {
            biased;
            // Its senders live with the connection and its matches; after that, the bus is lost.
            _ = self.losses.recv() => Heard::Loss,
            () = self.stirred.notified() => Heard::Stir,
        }
    }
}

impl Drop for BusWatch {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

fn no_bus(error: dbus::Error) -> RadioFault {
    RadioFault::NoBus(error.to_string())
}

/// Listens to signals; `judge` says `Some` for one that is worth a look.
async fn hear(
    bus: &SyncConnection,
    rule: MatchRule<'static>,
    stirred: &Arc<Notify>,
    judge: impl Fn(&Message) -> Option<()> + Send + Sync + 'static,
) -> Result<MsgMatch, RadioFault> {
    let stirred = Arc::clone(stirred);
    let listening = bus.add_match(rule).await.map_err(no_bus)?;
    Ok(listening.cb(move |message, (): ()| {
        if judge(&message).is_some() {
            stirred.notify_one();
        }
        true
    }))
}
