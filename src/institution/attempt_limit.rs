//! How often one address may fail to enrol. Codes have 80 bits and cannot be guessed, so this keeps
//! down noise.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::domain::Moment;

/// How many times an address may fail in a window.
const FAILURES_MAX: u32 = 10;
/// How long a window is, in milliseconds.
const WINDOW_MS: u64 = 60_000;
/// How many addresses are remembered. If there are more, those whose window is over are forgotten,
/// and if that is not enough, all.
const ADDRESSES_MAX: usize = 4_096;

/// The failures of each address.
#[derive(Debug, Default)]
pub(super) struct AttemptLimit {
    windows: HashMap<IpAddr, Window>,
}

#[derive(Debug, Clone, Copy)]
struct Window {
    began: Moment,
    failures: u32,
}

impl AttemptLimit {
    /// Whether the address may try now.
    pub(super) fn admits(&self, address: IpAddr, now: Moment) -> bool {
        self.windows.get(&address).is_none_or(|window| {
            now.since_ms(window.began) >= WINDOW_MS || window.failures < FAILURES_MAX
        })
    }

    /// Counts a failure of the address.
    pub(super) fn count_failure(&mut self, address: IpAddr, now: Moment) {
        if self.windows.len() >= ADDRESSES_MAX && !self.windows.contains_key(&address) {
            self.windows.retain(|_, window| now.since_ms(window.began) < WINDOW_MS);
            if self.windows.len() >= ADDRESSES_MAX {
                self.windows.clear();
            }
        }
        let window = self.windows.entry(address).or_insert(Window { began: now, failures: 0 });
        if now.since_ms(window.began) >= WINDOW_MS {
            *window = Window { began: now, failures: 0 };
        }
        window.failures = window.failures.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_fails_too_often_waits() {
        let mut limit = AttemptLimit::default();
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        let other: IpAddr = "192.0.2.2".parse().unwrap();
        let now = Moment { milliseconds: 5 };
        for _ in 0..FAILURES_MAX {
            assert!(limit.admits(address, now));
            limit.count_failure(address, now);
        }
        assert!(!limit.admits(address, now));
        assert!(limit.admits(other, now));
        assert!(limit.admits(address, now.plus_ms(WINDOW_MS)));
        limit.count_failure(address, now.plus_ms(WINDOW_MS));
        assert!(limit.admits(address, now.plus_ms(WINDOW_MS)));
    }

    #[test]
    fn memory_is_bounded() {
        let mut limit = AttemptLimit::default();
        for number in 0..3 * ADDRESSES_MAX as u32 {
            limit.count_failure(
                IpAddr::from(number.to_be_bytes()),
                Moment { milliseconds: u64::from(number) },
            );
            assert!(limit.windows.len() <= ADDRESSES_MAX);
        }
    }
}
