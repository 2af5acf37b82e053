//! The connected phones: which address is which phone, and which socket notifies it.
//!
//! An address identifies a phone only as long as the connection lasts; the next connection from it
//! is another phone.

use std::collections::BTreeMap;

use bluer::Address;
use tokio::task::JoinHandle;

use super::notification_socket::NotificationSocket;
use crate::terminal::PhoneId;

/// How many values are kept for a phone that has written before BlueZ has handed over its
/// notification socket: two answers to a hello at a common MTU.
const UNSENT_VALUES_MAX: usize = 64;

/// One phone's connection.
struct Phone {
    id: PhoneId,
    /// What it still writes is ignored.
    is_disconnecting: bool,
    /// It has written or subscribed, so it is not one of this machine's own devices.
    has_used_service: bool,
    unsent: Vec<Vec<u8>>,
    /// How many of its values are in the queue towards the driver, at most: counted since that
    /// queue was last empty.
    queued: u32,
    connection_watch: JoinHandle<()>,
    /// Ends when the phone is removed: it knows the phone by its address alone, and the next
    /// connection may have the same address.
    disconnection: Option<JoinHandle<()>>,
}

impl Drop for Phone {
    fn drop(&mut self) {
        self.connection_watch.abort();
        if let Some(task) = &self.disconnection {
            task.abort();
        }
    }
}

/// A notification socket, and the number by which its end is reported.
struct NumberedSocket {
    number: u64,
    socket: NotificationSocket,
}

/// All phones that are connected, as far as is known.
pub(super) struct Phones {
    phones: BTreeMap<Address, Phone>,
    sockets: BTreeMap<Address, NumberedSocket>,
    last_socket_number: u64,
    /// Whether BlueZ is known to give every phone its own socket (5.76 and later).
    has_socket_per_phone: bool,
    next_phone: u64,
}

/// What became of a value for a phone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SendOutcome {
    /// The value is in the socket's queue, or kept until there is a socket.
    Queued,
    /// The phone is not connected, or is being disconnected.
    NotConnected,
    /// Too many values wait: the phone does not take them.
    QueueFull,
}

impl Phones {
    /// Phones get numbers from `next_phone` on. `has_socket_per_phone`: BlueZ is known to give
    /// every phone its own notification socket.
    pub(super) fn new(next_phone: u64, has_socket_per_phone: bool) -> Self {
        Self {
            phones: BTreeMap::new(),
            sockets: BTreeMap::new(),
            last_socket_number: 0,
            has_socket_per_phone,
            next_phone,
        }
    }

    pub(super) fn next_phone(&self) -> u64 {
        self.next_phone
    }

    /// The phone at this address, and whether it was added now; none if it is being disconnected.
    /// A phone that is added gets its connection watched by the task that `watch` starts.
    pub(super) fn get_or_add(
        &mut self,
        address: Address,
        watch: impl FnOnce(PhoneId) -> JoinHandle<()>,
    ) -> Option<(PhoneId, bool)> {
        if let Some(phone) = self.phones.get(&address) {
            return (!phone.is_disconnecting).then_some((phone.id, false));
        }
        let id = PhoneId(self.next_phone);
        self.next_phone += 1;
        let phone = Phone {
            id,
            is_disconnecting: false,
            has_used_service: false,
            unsent: Vec::new(),
            queued: 0,
            connection_watch: watch(id),
            disconnection: None,
        };
        self.phones.insert(address, phone);
        Some((id, true))
    }

    /// This phone has written or subscribed.
    pub(super) fn record_use(&mut self, id: PhoneId) {
        if let Some(phone) = self.phones.values_mut().find(|phone| phone.id == id) {
            phone.has_used_service = true;
        }
    }

    /// A value of this phone goes into the queue towards the driver.
    pub(super) fn count_queued(&mut self, id: PhoneId) {
        if let Some(phone) = self.phones.values_mut().find(|phone| phone.id == id) {
            phone.queued = phone.queued.saturating_add(1);
        }
    }

    /// The queue towards the driver is empty.
    pub(super) fn reset_queued(&mut self) {
        for phone in self.phones.values_mut() {
            phone.queued = 0;
        }
    }

    /// The phone with the most values in the queue towards the driver, among those with more than
    /// `fair_share` that are not being disconnected.
    pub(super) fn most_queued(&self, fair_share: u32) -> Option<PhoneId> {
        let over_share = self
            .phones
            .values()
            .filter(|phone| !phone.is_disconnecting && phone.queued > fair_share);
        over_share.max_by_key(|phone| phone.queued).map(|phone| phone.id)
    }

    pub(super) fn is_disconnecting(&self, id: PhoneId) -> bool {
        self.phones.values().any(|phone| phone.id == id && phone.is_disconnecting)
    }

    /// Removes a phone whose connection has ended. False if it was removed before.
    pub(super) fn remove(&mut self, address: Address, id: PhoneId) -> bool {
        let is_known = self.phones.get(&address).is_some_and(|phone| phone.id == id);
        if is_known {
            self.phones.remove(&address);
        }
        is_known
    }

    /// Marks a phone as being disconnected. `disconnect` gets its address and whether it has
    /// written or subscribed, and starts the task that disconnects it. The task is aborted if the
    /// phone is removed first.
    pub(super) fn begin_disconnection(
        &mut self,
        id: PhoneId,
        disconnect: impl FnOnce(Address, bool) -> JoinHandle<()>,
    ) {
        let known = self.phones.iter_mut().find(|(_, phone)| phone.id == id);
        if let Some((address, phone)) = known
            && !std::mem::replace(&mut phone.is_disconnecting, true)
        {
            phone.disconnection = Some(disconnect(*address, phone.has_used_service));
        }
    }

    /// The number for the next notification socket.
    pub(super) fn next_socket_number(&mut self) -> u64 {
        self.last_socket_number += 1;
        self.last_socket_number
    }

    /// BlueZ has handed over a socket for this address. Values that were kept for it are sent.
    pub(super) fn add_socket(&mut self, address: Address, number: u64, socket: NotificationSocket) {
        if let Some(phone) = self.phones.get_mut(&address) {
            for value in std::mem::take(&mut phone.unsent) {
                socket.send(value);
            }
        }
        self.sockets.insert(address, NumberedSocket { number, socket });
    }

    /// BlueZ has closed a socket.
    pub(super) fn remove_socket(&mut self, address: Address, number: u64) {
        if self.sockets.get(&address).is_some_and(|known| known.number == number) {
            self.sockets.remove(&address);
        }
    }

    /// Sends a value to one phone.
    pub(super) fn send(&mut self, id: PhoneId, value: Vec<u8>) -> SendOutcome {
        let Some((address, phone)) = self.phones.iter_mut().find(|(_, phone)| phone.id == id)
        else {
            return SendOutcome::NotConnected;
        };
        if phone.is_disconnecting {
            return SendOutcome::NotConnected;
        }
        // A socket that BlueZ has closed may still be here: that report waits among the phones'
        // values.
        let open = |known: &&NumberedSocket| known.socket.is_open();
        let shared = || self.sockets.values().find(open).filter(|_| !self.has_socket_per_phone);
        let is_queued = match self.sockets.get(address).filter(open).or_else(shared) {
            Some(NumberedSocket { socket, .. }) => socket.send(value),
            None if phone.unsent.len() < UNSENT_VALUES_MAX => {
                phone.unsent.push(value);
                true
            }
            None => false,
        };
        if is_queued { SendOutcome::Queued } else { SendOutcome::QueueFull }
    }

    /// Every phone that counts as connected.
    pub(super) fn ids(&self) -> Vec<PhoneId> {
        self.phones.values().map(|phone| phone.id).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use tokio::net::UnixDatagram;

    use super::*;

    const ONE: Address = Address::new([1; 6]);
    const TWO: Address = Address::new([2; 6]);

    fn watch(_: PhoneId) -> JoinHandle<()> {
        tokio::spawn(std::future::pending())
    }

    #[tokio::test]
    async fn a_connection_is_one_phone_and_the_next_is_another() {
        let mut phones = Phones::new(5, true);
        assert_eq!(phones.get_or_add(ONE, watch), Some((PhoneId(5), true)));
        assert_eq!(phones.get_or_add(ONE, watch), Some((PhoneId(5), false)));
        assert_eq!(phones.get_or_add(TWO, watch), Some((PhoneId(6), true)));
        assert!(phones.remove(ONE, PhoneId(5)));
        assert!(!phones.remove(ONE, PhoneId(5)));
        assert_eq!(phones.get_or_add(ONE, watch), Some((PhoneId(7), true)));
        // A late report about the previous connection does not end this one.
        assert!(!phones.remove(ONE, PhoneId(5)));
        assert_eq!(phones.ids(), [PhoneId(7), PhoneId(6)]);
        assert_eq!(phones.next_phone(), 8);
    }

    #[tokio::test]
    async fn a_phone_that_is_being_disconnected_sends_and_receives_nothing() {
        let mut phones = Phones::new(1, true);
        phones.get_or_add(ONE, watch);
        let (started, mut count) = (std::cell::Cell::new(None), 0);
        for _ in 0..2 {
            phones.begin_disconnection(PhoneId(1), |address, has_used_service| {
                started.set(Some((address, has_used_service)));
                count += 1;
                watch(PhoneId(1))
            });
        }
        assert_eq!((started.get(), count), (Some((ONE, false)), 1), "started once");
        assert_eq!(phones.get_or_add(ONE, watch), None);
        assert_eq!(phones.send(PhoneId(1), vec![1]), SendOutcome::NotConnected);
        assert_eq!(phones.send(PhoneId(9), vec![1]), SendOutcome::NotConnected);
    }

    #[tokio::test]
    async fn the_phone_with_most_queued_values_is_the_one_that_floods() {
        let mut phones = Phones::new(1, true);
        phones.get_or_add(ONE, watch);
        phones.get_or_add(TWO, watch);
        for _ in 0..3 {
            phones.count_queued(PhoneId(2));
        }
        phones.count_queued(PhoneId(1));
        assert_eq!(phones.most_queued(3), None);
        assert_eq!(phones.most_queued(2), Some(PhoneId(2)));
        phones.begin_disconnection(PhoneId(2), |_, _| watch(PhoneId(2)));
        assert!(phones.is_disconnecting(PhoneId(2)) && !phones.is_disconnecting(PhoneId(1)));
        assert_eq!(
            phones.most_queued(0),
            Some(PhoneId(1)),
            "one that is being disconnected does not count"
        );
        phones.reset_queued();
        assert_eq!(phones.most_queued(0), None);
    }

    #[tokio::test]
    async fn removing_a_phone_aborts_its_disconnection() {
        let mut phones = Phones::new(1, true);
        phones.get_or_add(ONE, watch);
        let (held, dropped) = tokio::sync::oneshot::channel::<()>();
        phones.begin_disconnection(PhoneId(1), |_, _| {
            tokio::spawn(async move {
                let _held = held;
                std::future::pending().await
            })
        });
        assert!(phones.remove(ONE, PhoneId(1)));
        assert!(dropped.await.is_err(), "the task was aborted");
    }

    #[tokio::test]
    async fn values_without_a_socket_are_kept_up_to_a_limit() {
        let mut phones = Phones::new(1, true);
        phones.get_or_add(ONE, watch);
        for _ in 0..UNSENT_VALUES_MAX {
            assert_eq!(phones.send(PhoneId(1), vec![1]), SendOutcome::Queued);
        }
        assert_eq!(phones.send(PhoneId(1), vec![1]), SendOutcome::QueueFull);
    }

    #[tokio::test]
    async fn a_disconnection_knows_whether_the_phone_has_used_the_service() {
        let mut phones = Phones::new(1, true);
        phones.get_or_add(ONE, watch);
        phones.get_or_add(TWO, watch);
        phones.record_use(PhoneId(2));
        for (phone, expected) in [(PhoneId(1), false), (PhoneId(2), true)] {
            phones.begin_disconnection(phone, |_, has_used_service| {
                assert_eq!(has_used_service, expected, "{phone:?}");
                watch(phone)
            });
        }
    }

    /// A notification socket, and BlueZ's end of it.
    fn socket() -> (NotificationSocket, UnixDatagram) {
        let (ours, bluez) = UnixDatagram::pair().unwrap();
        (NotificationSocket::over(ours, std::future::ready(())), bluez)
    }

    async fn close(phones: &Phones, address: Address, bluez: UnixDatagram) {
        drop(bluez);
        let socket = &phones.sockets[&address].socket;
        socket.send(vec![0]);
        while socket.is_open() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_closed_socket_is_not_used() {
        let mut phones = Phones::new(1, false);
        let three = Address::new([3; 6]);
        for address in [ONE, TWO, three] {
            phones.get_or_add(address, watch);
        }
        let (first, first_bluez) = socket();
        let (second, second_bluez) = socket();
        phones.add_socket(ONE, 1, first);
        phones.add_socket(TWO, 2, second);
        close(&phones, ONE, first_bluez).await;
        // Neither the phone that had this socket nor one without a socket is served over it.
        let mut buffer = [0; 8];
        for phone in [PhoneId(1), PhoneId(3)] {
            assert_eq!(phones.send(phone, vec![7; 3]), SendOutcome::Queued);
            assert_eq!(second_bluez.recv(&mut buffer).await.unwrap(), 3);
        }
        // Without an open socket, values are kept for the next.
        close(&phones, TWO, second_bluez).await;
        assert_eq!(phones.send(PhoneId(3), vec![8; 4]), SendOutcome::Queued);
        let (third, third_bluez) = socket();
        phones.add_socket(three, 3, third);
        assert_eq!(third_bluez.recv(&mut buffer).await.unwrap(), 4);
    }
}
