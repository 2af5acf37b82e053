//! Which phone has to leave when there is no slot for a newcomer.
//!
//! A controller supports few connections, and a phone that holds one without paying keeps others
//! out. This file chooses the phone; the engine tells and disconnects it.

use super::{PhoneId, Settings};
use crate::domain::Moment;

/// The slot of a connected phone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) phone: PhoneId,
    /// Since when the phone has held its slot without a payment under way: since it connected, or
    /// since its last payment was decided.
    pub(super) held_since: Moment,
    /// The phone has finished a hello.
    pub(super) has_said_hello: bool,
    /// The institution is deciding on the phone's command.
    pub(super) is_paying: bool,
}

impl Slot {
    /// Until when no newcomer may have this slot, if the phone is not paying.
    pub(super) fn held_until(&self, settings: &Settings) -> Moment {
        self.held_since.plus_ms(if self.has_said_hello {
            settings.slot_hold_min_ms
        } else {
            settings.silent_hold_min_ms
        })
    }
}

/// The phone that has been connected longest of those that have not finished a hello.
pub(super) fn longest_silent(slots: impl IntoIterator<Item = Slot>) -> Option<PhoneId> {
    let silent = slots.into_iter().filter(|slot| !slot.has_said_hello);
    silent.min_by_key(|slot| (slot.held_since, slot.phone)).map(|slot| slot.phone)
}

/// The phone that has proven least: one that has not finished a hello before any that has, and of
/// those the one that has held its slot longest, the one that connected first. None if all are
/// paying or new.
pub(super) fn phone_to_evict(
    slots: impl IntoIterator<Item = Slot>,
    now: Moment,
    settings: &Settings,
) -> Option<PhoneId> {
    slots
        .into_iter()
        .filter(|slot| !slot.is_paying && slot.held_until(settings) <= now)
        .min_by_key(|slot| (slot.has_said_hello, slot.held_since, slot.phone))
        .map(|slot| slot.phone)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Moment = Moment { milliseconds: 100_000 };

    fn slot(phone: u64, held_ms: u64, has_said_hello: bool, is_paying: bool) -> Slot {
        let held_since = Moment { milliseconds: NOW.milliseconds - held_ms };
        Slot { phone: PhoneId(phone), held_since, has_said_hello, is_paying }
    }

    fn evicted(slots: impl IntoIterator<Item = Slot>) -> Option<PhoneId> {
        phone_to_evict(slots, NOW, &Settings::default())
    }

    #[test]
    fn the_phone_that_held_its_slot_longest_leaves_but_never_one_that_is_paying_or_new() {
        let all = [
            slot(1, 30_000, true, false),
            slot(2, 90_000, true, true),
            slot(3, 40_000, true, false),
            slot(4, 40_000, true, false),
        ];
        assert_eq!(evicted(all), Some(PhoneId(3)));
        assert_eq!(evicted([slot(1, 19_999, true, false), slot(2, 90_000, true, true)]), None);
        assert_eq!(evicted([slot(1, 20_000, true, false)]), Some(PhoneId(1)));
    }

    #[test]
    fn a_phone_without_a_hello_leaves_before_any_other_and_sooner() {
        let all = [
            slot(1, 90_000, true, false),
            slot(2, 3_000, false, false),
            slot(3, 2_000, false, false),
        ];
        assert_eq!(evicted(all), Some(PhoneId(2)));
        assert_eq!(evicted([slot(3, 2_000, false, false)]), Some(PhoneId(3)));
        assert_eq!(evicted([slot(3, 1_999, false, false)]), None);
    }

    proptest! {
        #[test]
        fn the_phone_that_leaves_has_proven_least_and_held_its_slot_longest_of_all_that_may_leave(
            phones in prop::collection::vec((0u64..100_000, any::<bool>(), any::<bool>()), 0..20)
        ) {
            let slots: Vec<Slot> = (1..)
                .zip(&phones)
                .map(|(phone, (held_ms, hello, paying))| slot(phone, *held_ms, *hello, *paying))
                .collect();
            let may_leave = |slot: &&Slot| {
                let hold_min_ms = if slot.has_said_hello { 20_000 } else { 2_000 };
                !slot.is_paying && NOW.since_ms(slot.held_since) >= hold_min_ms
            };
            let leaves = evicted(slots.iter().copied());
            prop_assert_eq!(leaves.is_some(), slots.iter().any(|slot| may_leave(&slot)));
            let Some(leaves) = leaves else { return Ok(()) };
            let chosen = slots.iter().find(|slot| slot.phone == leaves).unwrap();
            prop_assert!(may_leave(&chosen));
            for other in slots.iter().filter(may_leave) {
                prop_assert!(chosen.has_said_hello <= other.has_said_hello);
                if chosen.has_said_hello == other.has_said_hello {
                    prop_assert!(chosen.held_since <= other.held_since);
                }
            }
        }
    }
}
