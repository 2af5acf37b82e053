//! Connections of phones: who is let in, who has to leave, and the pace of advertising.

use std::collections::{BTreeMap, BTreeSet};

use super::super::phone_session::PhoneSession;
use super::super::replies::error;
use super::super::slots::{Slot, phone_to_evict};
use super::super::timers::PhoneTimer;
use super::super::{AdvertisingPace, Output, PaymentState, PhoneId};
use super::Terminal;
use crate::protocol::{FromTerminal, WireError};

/// How many phones in [`Terminal::leaving`] are remembered: more than any link holds.
const LEAVING_MAX: usize = 1_024;

impl Terminal {
    pub(super) fn phone_connected(&mut self, phone: PhoneId) {
        if self.phones.contains_key(&phone) || self.leaving.contains(&phone) {
            return;
        }
        let now = self.now.moment;
        self.phones.insert(phone, PhoneSession::new(now, &self.settings));
        if self.phones.len() <= self.settings.phones_max {
            return;
        }
        let evicted = phone_to_evict(self.slots(), now, self.settings.slot_hold_min_ms);
        // The newcomer itself leaves if no other phone may be evicted.
        let leaves = evicted.unwrap_or(phone);
        self.send(leaves, &error(WireError::Busy, "too many phones"));
        self.disconnect(
            leaves,
            if leaves == phone { "too many phones" } else { "a newcomer needs its slot" },
        );
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
            is_paying: payers.contains(phone),
        })
    }

    pub(super) fn phone_disconnected(&mut self, phone: PhoneId) {
        if let Some(shown) = self.phones.remove(&phone).and_then(|session| session.shown) {
            self.publish(shown);
        }
        for open in self.open.values_mut() {
            open.payer = open.payer.filter(|payer| *payer != phone);
            open.claimants.remove(&phone);
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

    /// Ends the connection of a phone that does too much of something.
    pub(super) fn dismiss(&mut self, phone: PhoneId, reason: &'static str) {
        self.send(phone, &error(WireError::TooManyAttempts, reason));
        self.disconnect(phone, reason);
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
