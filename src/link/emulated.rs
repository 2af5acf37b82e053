//! A link in memory that behaves like Bluetooth: connections, an MTU, writes, notifications.
//!
//! Like GATT, it loses and reorders nothing within a connection; only the connection may fail. It
//! is for the demo and the fast tests; the Bluetooth link is tested over BlueZ.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::{
    COMMANDS_MAX, EVENTS_MAX, LinkCommand, LinkEvent, PhoneLink, PhoneLinkError, TerminalLink,
    VALUES_WAITING_MAX, att,
};
use crate::terminal::{PhoneAddress, PhoneId};

/// What one connection has carried, counted as ATT PDUs.
#[derive(Debug, Default)]
pub struct Traffic {
    octets_to_terminal: AtomicU64,
    octets_to_phone: AtomicU64,
    values_to_terminal: AtomicU64,
    values_to_phone: AtomicU64,
}

impl Traffic {
    fn count(octets: &AtomicU64, values: &AtomicU64, value: &[u8]) {
        octets.fetch_add((value.len() + att::HEADER_OCTETS) as u64, Ordering::Relaxed);
        values.fetch_add(1, Ordering::Relaxed);
    }

    /// Octets of writes, with their ATT headers.
    pub fn octets_to_terminal(&self) -> u64 {
        self.octets_to_terminal.load(Ordering::Relaxed)
    }

    /// Octets of notifications, with their ATT headers.
    pub fn octets_to_phone(&self) -> u64 {
        self.octets_to_phone.load(Ordering::Relaxed)
    }

    /// Number of writes.
    pub fn values_to_terminal(&self) -> u64 {
        self.values_to_terminal.load(Ordering::Relaxed)
    }

    /// Number of notifications.
    pub fn values_to_phone(&self) -> u64 {
        self.values_to_phone.load(Ordering::Relaxed)
    }
}

/// A connected phone: the queue of its notifications, and what its connection has carried.
type Subscriber = (mpsc::Sender<Vec<u8>>, Arc<Traffic>);

#[derive(Debug)]
struct Shared {
    subscribers: Mutex<BTreeMap<PhoneId, Subscriber>>,
    events: mpsc::Sender<LinkEvent>,
    next_phone: AtomicU64,
}

impl Shared {
    fn subscribers(&self) -> std::sync::MutexGuard<'_, BTreeMap<PhoneId, Subscriber>> {
        // Nothing panics while it holds this lock; even after a panic, the map would be whole.
        self.subscribers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn disconnect(&self, phone: PhoneId) {
        // A statement of its own, so that the lock is released before the event waits for room.
        let was_connected = self.subscribers().remove(&phone).is_some();
        if was_connected {
            let _ = self.events.send(LinkEvent::Disconnected { phone }).await;
        }
    }
}

/// Emulated air between one terminal and any number of phones.
#[derive(Debug, Clone)]
pub struct EmulatedAir {
    shared: Arc<Shared>,
}

impl EmulatedAir {
    /// Makes new air, and the terminal's side of it. Must be called within a tokio runtime.
    pub fn new() -> (Self, TerminalLink) {
        let (events, event_receiver) = mpsc::channel(EVENTS_MAX);
        let (commands, mut command_receiver) = mpsc::channel(COMMANDS_MAX);
        let shared = Arc::new(Shared {
            subscribers: Mutex::default(),
            events,
            next_phone: AtomicU64::new(1),
        });
        let air = Self { shared: Arc::clone(&shared) };
        tokio::spawn(async move {
            let _ = shared.events.send(LinkEvent::Up).await;
            while let Some(command) = command_receiver.recv().await {
                match command {
                    LinkCommand::Notify { phone, value } => {
                        let is_full = match shared.subscribers().get(&phone) {
                            Some((sender, traffic)) => {
                                Traffic::count(
                                    &traffic.octets_to_phone,
                                    &traffic.values_to_phone,
                                    &value,
                                );
                                matches!(sender.try_send(value), Err(TrySendError::Full(_)))
                            }
                            None => false,
                        };
                        if is_full {
                            shared.disconnect(phone).await;
                        }
                    }
                    LinkCommand::Disconnect { phone } => shared.disconnect(phone).await,
                    LinkCommand::Advertise(_) => {}
                }
            }
        });
        (air, TerminalLink { events: event_receiver, commands })
    }

    /// Connects a phone over a connection with this ATT MTU, 23 to 517.
    ///
    /// # Errors
    /// [`PhoneLinkError::Lost`] if the terminal's side was dropped.
    pub async fn connect(&self, att_mtu: usize) -> Result<EmulatedPhoneLink, PhoneLinkError> {
        self.connect_from(None, att_mtu).await
    }

    /// Connects a phone that has this device address.
    ///
    /// # Errors
    /// As [`EmulatedAir::connect`].
    pub async fn connect_from(
        &self,
        address: Option<PhoneAddress>,
        att_mtu: usize,
    ) -> Result<EmulatedPhoneLink, PhoneLinkError> {
        let phone = PhoneId(self.shared.next_phone.fetch_add(1, Ordering::Relaxed));
        let (sender, values) = mpsc::channel(VALUES_WAITING_MAX);
        let traffic = Arc::new(Traffic::default());
        self.shared.subscribers().insert(phone, (sender, Arc::clone(&traffic)));
        let mut link = EmulatedPhoneLink {
            shared: Arc::clone(&self.shared),
            phone,
            values,
            traffic,
            value_octets_max: 0,
        };
        link.set_att_mtu(att_mtu);
        link.report(LinkEvent::Connected { phone, address }).await?;
        Ok(link)
    }
}

/// A phone's side of one connection through [`EmulatedAir`]. Dropping it ends the connection.
#[derive(Debug)]
pub struct EmulatedPhoneLink {
    shared: Arc<Shared>,
    phone: PhoneId,
    values: mpsc::Receiver<Vec<u8>>,
    traffic: Arc<Traffic>,
    value_octets_max: usize,
}

impl EmulatedPhoneLink {
    /// Its number among the connections of this air, from 1.
    pub fn number(&self) -> u64 {
        self.phone.0
    }

    /// What this connection has carried.
    pub fn traffic(&self) -> Arc<Traffic> {
        Arc::clone(&self.traffic)
    }

    /// Sets the MTU that the phone has exchanged, 23 to 517, from now on.
    pub fn set_att_mtu(&mut self, att_mtu: usize) {
        self.value_octets_max = att::value_octets_max(att_mtu);
    }

    async fn report(&self, event: LinkEvent) -> Result<(), PhoneLinkError> {
        let sent = self.shared.events.send(event).await;
        sent.map_err(|_| PhoneLinkError::Lost("the terminal has stopped".into()))
    }
}

impl PhoneLink for EmulatedPhoneLink {
    fn value_octets_max(&self) -> usize {
        self.value_octets_max
    }

    async fn write(&mut self, value: Vec<u8>) -> Result<(), PhoneLinkError> {
        let room = self.shared.events.reserve().await;
        let room = room.map_err(|_| PhoneLinkError::Lost("the terminal has stopped".into()))?;
        // The lock is held, so that no value of a phone follows the event of its disconnection.
        let subscribers = self.shared.subscribers();
        if !subscribers.contains_key(&self.phone) {
            return Err(PhoneLinkError::Lost("disconnected".into()));
        }
        Traffic::count(&self.traffic.octets_to_terminal, &self.traffic.values_to_terminal, &value);
        let value_octets_max = self.value_octets_max;
        room.send(LinkEvent::Wrote { phone: self.phone, value_octets_max, value });
        Ok(())
    }

    async fn next_value(&mut self) -> Result<Vec<u8>, PhoneLinkError> {
        self.values.recv().await.ok_or_else(|| PhoneLinkError::Lost("disconnected".into()))
    }

    async fn disconnect(&mut self) {
        self.shared.disconnect(self.phone).await;
    }
}

impl Drop for EmulatedPhoneLink {
    fn drop(&mut self) {
        if self.shared.subscribers().remove(&self.phone).is_some() {
            // A drop must not block. The queue is long, and the terminal may also notice a lost
            // connection late.
            let _ = self.shared.events.try_send(LinkEvent::Disconnected { phone: self.phone });
        }
    }
}
