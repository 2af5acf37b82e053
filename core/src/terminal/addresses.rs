//! The device addresses that are held off, and how often they were.
//!
//! It decides nothing about connections. It remembers few addresses, and each for minutes only,
//! since a phone changes its own all the time and anybody can forge one.

use std::collections::BTreeMap;

use super::PhoneAddress;
use crate::domain::Moment;

/// The most addresses that are remembered: many times what is in a radio's range.
const ADDRESSES_MAX: usize = 256;
/// How long an address is remembered after it was held off, in milliseconds, so that the next time
/// is longer. A phone with a private address changes it every 15 minutes.
const REMEMBERED_MS: u64 = 900_000;

/// What is remembered of one address.
#[derive(Debug, Clone, Copy, Default)]
struct Conduct {
    /// How often it was held off.
    offences: u32,
    held_off_until: Moment,
}

impl Conduct {
    fn forgotten_at(&self) -> Moment {
        self.held_off_until.plus_ms(REMEMBERED_MS)
    }
}

/// The addresses that are remembered.
#[derive(Debug, Default)]
pub(super) struct Addresses(BTreeMap<PhoneAddress, Conduct>);

impl Addresses {
    /// Holds an address off: for `min_ms` at first, and for twice as long each further time, up to
    /// `max_ms`.
    pub(super) fn hold_off(
        &mut self,
        address: PhoneAddress,
        now: Moment,
        min_ms: u64,
        max_ms: u64,
    ) {
        self.0.retain(|_, conduct| conduct.forgotten_at() > now);
        let conduct = self.0.entry(address).or_default();
        let hold_off_ms = min_ms.saturating_mul(1 << conduct.offences.min(20)).min(max_ms);
        conduct.offences = conduct.offences.saturating_add(1);
        conduct.held_off_until = now.plus_ms(hold_off_ms);
        self.bound();
    }

    pub(super) fn is_held_off(&self, address: PhoneAddress, now: Moment) -> bool {
        self.0.get(&address).is_some_and(|conduct| conduct.held_off_until > now)
    }

    /// Forgets the address that would be forgotten next, if there are too many.
    fn bound(&mut self) {
        if self.0.len() > ADDRESSES_MAX
            && let Some((address, _)) =
                self.0.iter().min_by_key(|(_, conduct)| conduct.forgotten_at())
        {
            let address = *address;
            self.0.remove(&address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Moment {
        Moment { milliseconds }
    }

    fn address(number: u16) -> PhoneAddress {
        let [high, low] = number.to_be_bytes();
        PhoneAddress([0, 0, 0, 0, high, low])
    }

    #[test]
    fn an_address_is_held_off_twice_as_long_each_time_up_to_a_limit() {
        let mut addresses = Addresses::default();
        let mut now_ms = 0;
        for expected_ms in [10_000, 20_000, 40_000, 80_000, 160_000, 300_000, 300_000] {
            addresses.hold_off(address(1), at(now_ms), 10_000, 300_000);
            now_ms += expected_ms;
            assert!(addresses.is_held_off(address(1), at(now_ms - 1)), "{expected_ms} ms");
            assert!(!addresses.is_held_off(address(1), at(now_ms)), "{expected_ms} ms");
        }
        assert!(!addresses.is_held_off(address(2), at(0)));
        now_ms += REMEMBERED_MS;
        addresses.hold_off(address(1), at(now_ms), 10_000, 300_000);
        assert!(!addresses.is_held_off(address(1), at(now_ms + 10_000)), "it was forgotten");
    }

    #[test]
    fn ever_new_addresses_take_no_more_memory_than_a_few() {
        let mut addresses = Addresses::default();
        for number in 0..2_000 {
            addresses.hold_off(address(number), at(u64::from(number)), 10_000, 300_000);
        }
        assert_eq!(addresses.0.len(), ADDRESSES_MAX);
        assert!(addresses.is_held_off(address(1_999), at(2_000)), "the newest stay");
    }
}
