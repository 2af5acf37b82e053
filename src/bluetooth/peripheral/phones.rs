//! Who is connected: which address is which phone, and which socket leads to it.
//!
//! An address is known only as long as the connection lasts; the next connection from it is another
//! phone.

use std::collections::BTreeMap;

use bluer::Address;
use tokio::task::JoinHandle;

use super::outbox::Outbox;
use crate::terminal::PhoneId;

/// How many values wait for a phone that has written before BlueZ has handed over its notification
/// socket: two answers to a hello at a common MTU.
const UNSENT_VALUES_MAX: usize = 64;

/// One phone's connection.
struct Phone {
    id: PhoneId,
    /// It is being disconnected: what it still writes is not read.
    is_leaving: bool,
    /// It has written or subscribed, so it is no device of this machine's.
    has_spoken: bool,
    unsent: Vec<Vec<u8>>,
    /// Its values in the queue towards the driver, at most: since that was last empty.
    waiting: u32,
    watch: JoinHandle<()>,
    /// Disconnects it. It knows the phone by its address alone, which the next connection has,
    /// too.
    disconnecting: Option<JoinHandle<()>>,
}

impl Drop for Phone {
    fn drop(&mut self) {
        self.watch.abort();
        if let Some(task) = &self.disconnecting {
            task.abort();
        }
    }
}

/// All phones that are connected, as far as is known.
pub(super) struct Phones {
    phones: BTreeMap<Address, Phone>,
    outboxes: BTreeMap<Address, (u64, Outbox)>,
    next_outbox: u64,
    /// Whether BlueZ gives every phone its own socket (5.76 and later), as far as is known.
    has_own_outboxes: bool,
    next_phone: u64,
}

/// What became of a value for a phone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    /// Under way, or waiting for the socket.
    Yes,
    /// The phone is not (or no longer) here.
    Gone,
    /// Too many wait: the phone does not take them.
    Stuck,
}

impl Phones {
    /// `has_own_outboxes`: BlueZ is known to give every phone its own socket.
    pub(super) fn new(next_phone: u64, has_own_outboxes: bool) -> Self {
        Self {
            phones: BTreeMap::new(),
            outboxes: BTreeMap::new(),
            next_outbox: 0,
            has_own_outboxes,
            next_phone,
        }
    }

    pub(super) fn next_phone(&self) -> u64 {
        self.next_phone
    }

    /// The phone at this address; none if it is leaving. `true` if it was not known before: then
    /// `watch` is asked for a task that watches its connection.
    pub(super) fn at(
        &mut self,
        address: Address,
        watch: impl FnOnce(PhoneId) -> JoinHandle<()>,
    ) -> Option<(PhoneId, bool)> {
        if let Some(phone) = self.phones.get(&address) {
            return (!phone.is_leaving).then_some((phone.id, false));
        }
        let id = PhoneId(self.next_phone);
        self.next_phone += 1;
        let phone = Phone {
            id,
            is_leaving: false,
            has_spoken: false,
            unsent: Vec::new(),
            waiting: 0,
            watch: watch(id),
            disconnecting: None,
        };
        self.phones.insert(address, phone);
        Some((id, true))
    }

    /// This phone has written or subscribed.
    pub(super) fn has_spoken(&mut self, id: PhoneId) {
        if let Some(phone) = self.phones.values_mut().find(|phone| phone.id == id) {
            phone.has_spoken = true;
        }
    }

    /// A value of this phone was put into the queue towards the driver.
    pub(super) fn one_more_waits(&mut self, id: PhoneId) {
        if let Some(phone) = self.phones.values_mut().find(|phone| phone.id == id) {
            phone.waiting = phone.waiting.saturating_add(1);
        }
    }

    /// That queue is empty.
    pub(super) fn none_waits(&mut self) {
        for phone in self.phones.values_mut() {
            phone.waiting = 0;
        }
    }

    /// Who has most values in that queue, of those that have more than `fair` and are not leaving.
    pub(super) fn has_most_waiting(&self, fair: u32) -> Option<PhoneId> {
        let greedy = self.phones.values().filter(|phone| !phone.is_leaving && phone.waiting > fair);
        greedy.max_by_key(|phone| phone.waiting).map(|phone| phone.id)
    }

    /// Whether it is being disconnected.
    pub(super) fn is_leaving(&self, id: PhoneId) -> bool {
        self.phones.values().any(|phone| phone.id == id && phone.is_leaving)
    }

    /// The phone's connection has ended. False if that was known.
    pub(super) fn remove(&mut self, address: Address, id: PhoneId) -> bool {
        let is_known = self.phones.get(&address).is_some_and(|phone| phone.id == id);
        if is_known {
            self.phones.remove(&address);
        }
        is_known
    }

    /// Marks a phone that is to be disconnected: `disconnect` is told whether it has ever written
    /// or subscribed, and asked for a task that does it, which is given up when the phone is
    /// gone before.
    pub(super) fn leave(
        &mut self,
        id: PhoneId,
        disconnect: impl FnOnce(Address, bool) -> JoinHandle<()>,
    ) {
        let known = self.phones.iter_mut().find(|(_, phone)| phone.id == id);
        if let Some((address, phone)) = known
            && !std::mem::replace(&mut phone.is_leaving, true)
        {
            phone.disconnecting = Some(disconnect(*address, phone.has_spoken));
        }
    }

    /// The number that the next outbox gets, by which its end is reported.
    pub(super) fn next_outbox(&mut self) -> u64 {
        self.next_outbox += 1;
        self.next_outbox
    }

    /// BlueZ has handed over a socket for this address. What waited for it goes out.
    pub(super) fn add_outbox(&mut self, address: Address, number: u64, outbox: Outbox) {
        if let Some(phone) = self.phones.get_mut(&address) {
            for value in std::mem::take(&mut phone.unsent) {
                outbox.send(value);
            }
        }
        self.outboxes.insert(address, (number, outbox));
    }

    /// BlueZ has closed a socket.
    pub(super) fn remove_outbox(&mut self, address: Address, number: u64) {
        if self.outboxes.get(&address).is_some_and(|(known, _)| *known == number) {
            self.outboxes.remove(&address);
        }
    }

    /// Sends a value to one phone.
    pub(super) fn send(&mut self, id: PhoneId, value: Vec<u8>) -> Sent {
        let Some((address, phone)) = self.phones.iter_mut().find(|(_, phone)| phone.id == id)
        else {
            return Sent::Gone;
        };
        if phone.is_leaving {
            return Sent::Gone;
        }
        // One that BlueZ has closed may still be here: that news waits among the phones' values.
        let open = |(_, outbox): &&(u64, Outbox)| outbox.is_open();
        let shared = || self.outboxes.values().find(open).filter(|_| !self.has_own_outboxes);
        let taken = match self.outboxes.get(address).filter(open).or_else(shared) {
            Some((_, outbox)) => outbox.send(value),
            None if phone.unsent.len() < UNSENT_VALUES_MAX => {
                phone.unsent.push(value);
                true
            }
            None => false,
        };
        if taken { Sent::Yes } else { Sent::Stuck }
    }

    /// Every phone that is still taken for connected.
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
        assert_eq!(phones.at(ONE, watch), Some((PhoneId(5), true)));
        assert_eq!(phones.at(ONE, watch), Some((PhoneId(5), false)));
        assert_eq!(phones.at(TWO, watch), Some((PhoneId(6), true)));
        assert!(phones.remove(ONE, PhoneId(5)));
        assert!(!phones.remove(ONE, PhoneId(5)));
        assert_eq!(phones.at(ONE, watch), Some((PhoneId(7), true)));
        // A late word about the connection before does not end this one.
        assert!(!phones.remove(ONE, PhoneId(5)));
        assert_eq!(phones.ids(), [PhoneId(7), PhoneId(6)]);
        assert_eq!(phones.next_phone(), 8);
    }

    #[tokio::test]
    async fn a_leaving_phone_is_neither_heard_nor_told() {
        let mut phones = Phones::new(1, true);
        phones.at(ONE, watch);
        let (asked, mut count) = (std::cell::Cell::new(None), 0);
        for _ in 0..2 {
            phones.leave(PhoneId(1), |address, has_spoken| {
                asked.set(Some((address, has_spoken)));
                count += 1;
                watch(PhoneId(1))
            });
        }
        assert_eq!((asked.get(), count), (Some((ONE, false)), 1), "once is enough");
        assert_eq!(phones.at(ONE, watch), None);
        assert_eq!(phones.send(PhoneId(1), vec![1]), Sent::Gone);
        assert_eq!(phones.send(PhoneId(9), vec![1]), Sent::Gone);
    }

    #[tokio::test]
    async fn who_has_most_waiting_is_the_one_that_floods() {
        let mut phones = Phones::new(1, true);
        phones.at(ONE, watch);
        phones.at(TWO, watch);
        for _ in 0..3 {
            phones.one_more_waits(PhoneId(2));
        }
        phones.one_more_waits(PhoneId(1));
        assert_eq!(phones.has_most_waiting(3), None);
        assert_eq!(phones.has_most_waiting(2), Some(PhoneId(2)));
        phones.leave(PhoneId(2), |_, _| watch(PhoneId(2)));
        assert!(phones.is_leaving(PhoneId(2)) && !phones.is_leaving(PhoneId(1)));
        assert_eq!(
            phones.has_most_waiting(0),
            Some(PhoneId(1)),
            "who is leaving already is no help"
        );
        phones.none_waits();
        assert_eq!(phones.has_most_waiting(0), None);
    }

    #[tokio::test]
    async fn a_phone_that_is_gone_before_it_was_disconnected_may_come_back_undisturbed() {
        let mut phones = Phones::new(1, true);
        phones.at(ONE, watch);
        let (held, given_up) = tokio::sync::oneshot::channel::<()>();
        phones.leave(PhoneId(1), |_, _| {
            tokio::spawn(async move {
                let _held = held;
                std::future::pending().await
            })
        });
        assert!(phones.remove(ONE, PhoneId(1)));
        assert!(given_up.await.is_err(), "the task is gone, and what it held");
    }

    #[tokio::test]
    async fn values_without_a_socket_wait_up_to_a_bound() {
        let mut phones = Phones::new(1, true);
        phones.at(ONE, watch);
        for _ in 0..UNSENT_VALUES_MAX {
            assert_eq!(phones.send(PhoneId(1), vec![1]), Sent::Yes);
        }
        assert_eq!(phones.send(PhoneId(1), vec![1]), Sent::Stuck);
    }

    #[tokio::test]
    async fn whether_it_has_ever_spoken_is_known_when_it_is_sent_away() {
        let mut phones = Phones::new(1, true);
        phones.at(ONE, watch);
        phones.at(TWO, watch);
        phones.has_spoken(PhoneId(2));
        for (phone, expected) in [(PhoneId(1), false), (PhoneId(2), true)] {
            phones.leave(phone, |_, has_spoken| {
                assert_eq!(has_spoken, expected, "{phone:?}");
                watch(phone)
            });
        }
    }

    /// An outbox, and BlueZ's end of its socket.
    fn outbox() -> (Outbox, UnixDatagram) {
        let (ours, bluez) = UnixDatagram::pair().unwrap();
        (Outbox::over(ours, std::future::ready(())), bluez)
    }

    async fn close(phones: &Phones, address: Address, bluez: UnixDatagram) {
        drop(bluez);
        let (_, outbox) = &phones.outboxes[&address];
        outbox.send(vec![0]);
        while outbox.is_open() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_socket_that_bluez_has_closed_is_passed_over() {
        let mut phones = Phones::new(1, false);
        let three = Address::new([3; 6]);
        for address in [ONE, TWO, three] {
            phones.at(address, watch);
        }
        let (first, first_bluez) = outbox();
        let (second, second_bluez) = outbox();
        phones.add_outbox(ONE, 1, first);
        phones.add_outbox(TWO, 2, second);
        close(&phones, ONE, first_bluez).await;
        // Neither the phone whose socket it was nor one without a socket is served over it.
        let mut buffer = [0; 8];
        for phone in [PhoneId(1), PhoneId(3)] {
            assert_eq!(phones.send(phone, vec![7; 3]), Sent::Yes);
            assert_eq!(second_bluez.recv(&mut buffer).await.unwrap(), 3);
        }
        // Without any, values wait for the next.
        close(&phones, TWO, second_bluez).await;
        assert_eq!(phones.send(PhoneId(3), vec![8; 4]), Sent::Yes);
        let (third, third_bluez) = outbox();
        phones.add_outbox(three, 3, third);
        assert_eq!(third_bluez.recv(&mut buffer).await.unwrap(), 4);
    }
}
