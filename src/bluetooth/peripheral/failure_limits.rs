//! How long BlueZ may fail before the GATT service is restarted. A restart disconnects every phone.
//!
//! Pure: it is told the time.

use std::time::Duration;

/// How many rounds of calls in a row may end without an answer before BlueZ counts as hanging. A
/// bluetoothd that is only busy, for example with a phone that floods it, answers one of them.
/// Waiting costs nothing, since only systemd can end a bluetoothd that hangs.
const UNANSWERED_ROUNDS_MAX: u32 = 3;
/// How long BlueZ may refuse the advertisement while phones are connected. Some controllers cannot
/// advertise beside a connection, and none can at its limit; but no phone stays for so long without
/// paying.
const REFUSAL_DURATION_MAX: Duration = Duration::from_secs(300);

/// The recent failures of BlueZ towards one service.
#[derive(Debug, Default)]
pub(super) struct FailureLimits {
    unanswered_rounds: u32,
    has_advertised: bool,
    refused_since: Option<Duration>,
}

impl FailureLimits {
    /// BlueZ has answered all calls of a round.
    pub(super) fn record_answer(&mut self) {
        self.unanswered_rounds = 0;
    }

    /// BlueZ has left a call unanswered, which ended the round. True if the service may continue.
    pub(super) fn accept_timeout(&mut self) -> bool {
        self.unanswered_rounds = self.unanswered_rounds.saturating_add(1);
        self.unanswered_rounds < UNANSWERED_ROUNDS_MAX
    }

    /// The advertisement is registered.
    pub(super) fn record_advertising(&mut self) {
        self.has_advertised = true;
        self.refused_since = None;
    }

    /// BlueZ has refused the advertisement. True if the service may continue while phones are
    /// connected; never before the first advertisement. `since_start` is the time since any fixed
    /// instant.
    pub(super) fn accept_refusal(&mut self, since_start: Duration) -> bool {
        let refused_since = *self.refused_since.get_or_insert(since_start);
        self.has_advertised && since_start.saturating_sub(refused_since) < REFUSAL_DURATION_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_timeouts_in_a_row_are_accepted_and_a_third_is_not() {
        let mut limits = FailureLimits::default();
        for _ in 0..3 {
            assert!(limits.accept_timeout());
            assert!(limits.accept_timeout());
            limits.record_answer();
        }
        assert!(limits.accept_timeout());
        assert!(limits.accept_timeout());
        assert!(!limits.accept_timeout());
    }

    #[test]
    fn refusals_are_accepted_for_five_minutes_from_the_first() {
        let mut limits = FailureLimits::default();
        limits.record_advertising();
        for begin in [Duration::from_secs(1), Duration::from_secs(9_000)] {
            for after in (0..300).step_by(3).map(Duration::from_secs) {
                assert!(limits.accept_refusal(begin + after), "{after:?}");
            }
            assert!(!limits.accept_refusal(begin + REFUSAL_DURATION_MAX));
            limits.record_advertising();
        }
    }

    #[test]
    fn no_refusal_is_accepted_before_the_first_advertisement() {
        assert!(!FailureLimits::default().accept_refusal(Duration::ZERO));
    }
}
