//! Connections of phones: who is let in, who has to leave, and the pace of advertising.

use std::collections::{BTreeMap, BTreeSet};

use super::super::phone_session::PhoneSession;
use super::super::replies::error;
use super::super::slots::{Slot, longest_silent, phone_to_evict};
use super::super::timers::PhoneTimer;
use super::super::{AdvertisingPace, Output, PaymentState, PhoneAddress, PhoneId, Settings};
use super::Terminal;
use crate::domain::Moment;
use crate::protocol::{FromTerminal, WireError};

/// How many phones in [`Terminal::leaving`] are remembered: more than any link holds.
const LEAVING_MAX: usize = 1_024;

impl Terminal {
    pub(super) fn phone_connected(&mut self, phone: PhoneId, address: Option<PhoneAddress>) {
        if self.leaving.contains(&phone) {
            return;
        }
        let now = self.now.moment;
        let is_known = self.phones.contains_key(&phone);
        let session = self
            .phones
            .entry(phone)
            .or_insert_with(|| PhoneSession::new(address, now, &self.settings));
        // The address may come after the first value.
        session.address = session.address.or(address);
        if address.is_some_and(|address| self.addresses.is_held_off(address, now)) {
            let reason = "held off because of what it did before";
            return self.turn_away(phone, reason);
        }
        if !is_known {
            self.give_away_slots();
            self.seat(phone);
        }
    }

    /// Lets a newcomer wait for the slot of a phone that has not said hello, and sends it away if
    /// there is none, or if enough are waiting.
    fn seat(&mut self, newcomer: PhoneId) {
        let phones_max = self.settings.phones_max;
        let is_room_coming = self
            .phones
            .iter()
            .any(|(phone, session)| *phone != newcomer && !session.has_said_hello);
        let waits_max = if is_room_coming { self.settings.waiting_max } else { 0 };
        if self.phones.len() > phones_max.saturating_add(waits_max) {
            self.make_room(newcomer, "too many phones");
        }
    }

    /// Sends phones away while there are more than slots, if any may be.
    pub(super) fn give_away_slots(&mut self) {
        while self.phones.len() > self.settings.phones_max {
            let Some(evicted) = phone_to_evict(self.slots(), self.now.moment, &self.settings)
            else {
                return;
            };
            self.make_room(evicted, "a newcomer needs its slot");
        }
    }

    /// A phone has said its first hello: if there are more phones than slots, it takes the place of
    /// one that has not.
    pub(super) fn seat_after_hello(&mut self, phone: PhoneId) {
        if self.phones.len() > self.settings.phones_max {
            let leaves = longest_silent(self.slots()).unwrap_or(phone);
            self.make_room(leaves, "another phone has said hello");
        }
    }

    fn make_room(&mut self, phone: PhoneId, reason: &'static str) {
        self.send(phone, &error(WireError::Busy, reason));
        self.disconnect(phone, reason);
    }

    /// When the next phone may be sent away for one that waits.
    pub(super) fn next_slot(&self) -> Option<(Moment, PhoneId)> {
        if self.phones.len() <= self.settings.phones_max {
            return None;
        }
        let free = self.slots().filter(|slot| !slot.is_paying);
        free.map(|slot| (slot.held_until(&self.settings), slot.phone)).min()
    }

    fn slots(&self) -> impl Iterator<Item = Slot> {
        let payers: BTreeSet<PhoneId> = self
            .open
            .values()
            .filter(|open| open.payment.state == PaymentState::Authorising)
            .filter_map(|open| open.payer)
            .collect();
        self.phones.iter().map(move |(phone, session)| Slot {
            phone: *phone,
            held_since: session.held_since,
            has_said_hello: session.has_said_hello,
            is_paying: payers.contains(phone),
        })
    }

    pub(super) fn phone_disconnected(&mut self, phone: PhoneId) {
        if let Some(shown) = self.phones.remove(&phone).and_then(|session| session.shown) {
            self.publish(shown);
        }
        for open in self.open.values_mut().filter(|open| open.payer == Some(phone)) {
            open.payer = None;
        }
    }

    fn disconnect(&mut self, phone: PhoneId, reason: &'static str) {
        self.phone_disconnected(phone);
        self.leaving.insert(phone);
        if self.leaving.len() > LEAVING_MAX {
            self.leaving.pop_first();
        }
        self.outputs.push(Output::Disconnect { phone, reason });
    }

    /// Ends the connection of a phone that does too much of something, and holds its address off.
    pub(super) fn dismiss(&mut self, phone: PhoneId, reason: &'static str) {
        if let Some(address) = self.phones.get(&phone).and_then(|session| session.address) {
            self.hold_off(address);
        }
        self.turn_away(phone, reason);
    }

    /// Tells a phone that it has done too much, and ends its connection.
    pub(super) fn turn_away(&mut self, phone: PhoneId, reason: &'static str) {
        self.send(phone, &error(WireError::TooManyAttempts, reason));
        self.disconnect(phone, reason);
    }

    /// Takes no connection from this address for a while.
    pub(super) fn hold_off(&mut self, address: PhoneAddress) {
        let Settings { hold_off_min_ms, hold_off_max_ms, .. } = self.settings;
        self.addresses.hold_off(address, self.now.moment, hold_off_min_ms, hold_off_max_ms);
    }

    /// Ends the connections of phones that have said nothing in time.
    pub(super) fn dismiss_silent_phones(&mut self) {
        let silent: Vec<(PhoneId, PhoneTimer)> = self
            .phones
            .iter()
            .map(|(phone, session)| (*phone, session.deadline()))
            .filter(|(_, (moment, _))| *moment <= self.now.moment)
            .map(|(phone, (_, timer))| (phone, timer))
            .collect();
        for (phone, timer) in silent {
            let reason = match timer {
                PhoneTimer::Silence => "no message in time",
                PhoneTimer::UnfinishedMessage => "an unfinished message",
                // No limit of the phone's own.
                PhoneTimer::SlotHold => continue,
            };
            self.send(phone, &error(WireError::TooSlow, reason));
            self.disconnect(phone, reason);
        }
    }

    /// Sends a message to a phone, if it is still connected.
    pub(super) fn send(&mut self, phone: PhoneId, message: &FromTerminal) {
        let Some(session) = self.phones.get_mut(&phone) else { return };
        let values = session.encode(message);
        self.outputs.extend(values.into_iter().map(|value| Output::Notify { phone, value }));
    }

    /// Slows down only when no phone is connected: BlueZ takes about as long to change an
    /// advertisement as a payment's messages take.
    pub(super) fn update_pace(&mut self) {
        let pace = if self.waiting_offer().is_some() {
            AdvertisingPace::Fast
        } else if self.phones.is_empty() {
            AdvertisingPace::Slow
        } else {
            self.pace
        };
        if pace != self.pace {
            self.pace = pace;
            self.outputs.push(Output::Advertise(pace));
        }
    }
}

/// A phone of which the caller knows that it is connected.
pub(super) fn must_be_connected(
    phones: &mut BTreeMap<PhoneId, PhoneSession>,
    phone: PhoneId,
) -> Option<&mut PhoneSession> {
    let session = phones.get_mut(&phone);
    debug_assert!(session.is_some(), "{phone:?} is not connected");
    session
}
