//! Who has to leave when there is no room for a newcomer.
//!
//! A controller carries few connections, and whoever holds one without paying keeps others out. It
//! chooses; telling and disconnecting is the engine's.

use super::PhoneId;
use crate::domain::Moment;

/// A connected phone, as far as its place is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) phone: PhoneId,
    /// Since when it has held its place without a payment under way: since it connected, or since
    /// its last payment was decided.
    pub(super) held_since: Moment,
    /// The institution is deciding on its command.
    pub(super) is_paying: bool,
}

/// The phone that has held its place longest, among those that are not paying and have been here
/// for `stay_min_ms`; of several the one that came first. None if all are paying or new.
pub(super) fn phone_to_evict(
    slots: impl IntoIterator<Item = Slot>,
    now: Moment,
    stay_min_ms: u64,
) -> Option<PhoneId> {
    slots
        .into_iter()
        .filter(|slot| !slot.is_paying && now.since_ms(slot.held_since) >= stay_min_ms)
        .min_by_key(|slot| (slot.held_since, slot.phone))
        .map(|slot| slot.phone)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Moment = Moment { milliseconds: 100_000 };
    const STAY_MIN_MS: u64 = 20_000;

    fn slot(phone: u64, held_ms: u64, is_paying: bool) -> Slot {
        let held_since = Moment { milliseconds: NOW.milliseconds - held_ms };
        Slot { phone: PhoneId(phone), held_since, is_paying }
    }

    #[test]
    fn the_longest_guest_leaves_but_never_one_who_is_paying_or_new() {
        let all = [
            slot(1, 30_000, false),
            slot(2, 90_000, true),
            slot(3, 40_000, false),
            slot(4, 40_000, false),
        ];
        assert_eq!(phone_to_evict(all, NOW, STAY_MIN_MS), Some(PhoneId(3)));
        let none = [slot(1, 19_999, false), slot(2, 90_000, true)];
        assert_eq!(phone_to_evict(none, NOW, STAY_MIN_MS), None);
        assert_eq!(phone_to_evict([slot(1, 20_000, false)], NOW, STAY_MIN_MS), Some(PhoneId(1)));
    }

    proptest! {
        #[test]
        fn whoever_leaves_has_stayed_longest_of_all_who_may(
            guests in prop::collection::vec((0u64..100_000, any::<bool>()), 0..20)
        ) {
            let slots: Vec<Slot> =
                (1..).zip(&guests).map(|(phone, (held_ms, is_paying))| slot(phone, *held_ms, *is_paying)).collect();
            let may_leave: Vec<&Slot> = slots
                .iter()
                .filter(|slot| !slot.is_paying && NOW.since_ms(slot.held_since) >= STAY_MIN_MS)
                .collect();
            let leaves = phone_to_evict(slots.iter().copied(), NOW, STAY_MIN_MS);
            prop_assert_eq!(leaves.is_some(), !may_leave.is_empty());
            if let Some(phone) = leaves {
                let longest = may_leave.iter().map(|slot| slot.held_since).min();
                let chosen = may_leave.iter().find(|slot| slot.phone == phone).map(|slot| slot.held_since);
                prop_assert_eq!(chosen, longest);
            }
        }
    }
}
