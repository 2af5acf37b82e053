//! Which phone has to leave when there is no slot for a newcomer.
//!
//! A controller supports few connections, and a phone that holds one without paying keeps others
//! out. This file chooses the phone; the engine tells and disconnects it.

use super::PhoneId;
use crate::domain::Moment;

/// The slot of a connected phone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) phone: PhoneId,
    /// Since when the phone has held its slot without a payment under way: since it connected, or
    /// since its last payment was decided.
    pub(super) held_since: Moment,
    /// The institution is deciding on the phone's command.
    pub(super) is_paying: bool,
}

/// The phone that has held its slot longest, among those that are not paying and have held theirs
/// for at least `slot_hold_min_ms`; of several, the one that connected first. None if all are
/// paying or new.
pub(super) fn phone_to_evict(
    slots: impl IntoIterator<Item = Slot>,
    now: Moment,
    slot_hold_min_ms: u64,
) -> Option<PhoneId> {
    slots
        .into_iter()
        .filter(|slot| !slot.is_paying && now.since_ms(slot.held_since) >= slot_hold_min_ms)
        .min_by_key(|slot| (slot.held_since, slot.phone))
        .map(|slot| slot.phone)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Moment = Moment { milliseconds: 100_000 };
    const SLOT_HOLD_MIN_MS: u64 = 20_000;

    fn slot(phone: u64, held_ms: u64, is_paying: bool) -> Slot {
        let held_since = Moment { milliseconds: NOW.milliseconds - held_ms };
        Slot { phone: PhoneId(phone), held_since, is_paying }
    }

    #[test]
    fn the_phone_that_held_its_slot_longest_leaves_but_never_one_that_is_paying_or_new() {
        let all = [
            slot(1, 30_000, false),
            slot(2, 90_000, true),
            slot(3, 40_000, false),
            slot(4, 40_000, false),
        ];
        assert_eq!(phone_to_evict(all, NOW, SLOT_HOLD_MIN_MS), Some(PhoneId(3)));
        let none = [slot(1, 19_999, false), slot(2, 90_000, true)];
        assert_eq!(phone_to_evict(none, NOW, SLOT_HOLD_MIN_MS), None);
        assert_eq!(
            phone_to_evict([slot(1, 20_000, false)], NOW, SLOT_HOLD_MIN_MS),
            Some(PhoneId(1))
        );
    }

    proptest! {
        #[test]
        fn the_phone_that_leaves_has_held_its_slot_longest_of_all_that_may_leave(
            phones in prop::collection::vec((0u64..100_000, any::<bool>()), 0..20)
        ) {
            let slots: Vec<Slot> = (1..)
                .zip(&phones)
                .map(|(phone, (held_ms, is_paying))| slot(phone, *held_ms, *is_paying))
                .collect();
            let may_leave: Vec<&Slot> = slots
                .iter()
                .filter(|slot| !slot.is_paying && NOW.since_ms(slot.held_since) >= SLOT_HOLD_MIN_MS)
                .collect();
            let leaves = phone_to_evict(slots.iter().copied(), NOW, SLOT_HOLD_MIN_MS);
            prop_assert_eq!(leaves.is_some(), !may_leave.is_empty());
            if let Some(phone) = leaves {
                let longest = may_leave.iter().map(|slot| slot.held_since).min();
                let chosen = may_leave
                    .iter()
                    .find(|slot| slot.phone == phone)
                    .map(|slot| slot.held_since);
                prop_assert_eq!(chosen, longest);
            }
        }
    }
}
