//! Which action a fault calls for: the gentle before the rough, and the rough seldom.
//!
//! Pure: it is told the time. It takes no action itself.

use super::fault::RadioFault;
use crate::link::RecoveryAction;

/// So many attempts in a row fail, although adapter and BlueZ are there, before the adapter is
/// switched off and on.
const FAILURES_BEFORE_POWER_CYCLE: u32 = 2;
/// How long after one power cycle the next comes at the earliest, in milliseconds. It ends other
/// programs' connections, and what it has not mended it will hardly mend at once.
const POWER_CYCLE_PAUSE_MS: u64 = 60_000;
/// A service that was up for so long, in milliseconds, was well: what comes then is a new fault.
const WELL_AFTER_MS: u64 = 30_000;

/// How often it failed lately.
#[derive(Debug, Default)]
pub(super) struct RecoveryPolicy {
    failures: u32,
    power_cycled_at_ms: Option<u64>,
}

impl RecoveryPolicy {
    /// The action against a fault that ended an attempt or a service. `up_ms`: how long the
    /// service had been up, 0 if it had not. `now_ms`: any clock that does not go back. None
    /// where nothing is to be done but to look again.
    pub(super) fn next_action(
        &mut self,
        fault: &RadioFault,
        up_ms: u64,
        now_ms: u64,
    ) -> Option<RecoveryAction> {
        if up_ms >= WELL_AFTER_MS {
            self.failures = 0;
        }
        let may_help = match fault {
            RadioFault::Other { .. } | RadioFault::AdvertisementLost(_) => true,
            RadioFault::Blocked(_) => {
                self.failures = 0;
                return None;
            }
            // Somebody else's turn, or mended by setting up anew.
            RadioFault::NoBus(_)
            | RadioFault::BlueZNotRunning(_)
            | RadioFault::Silent(_)
            | RadioFault::Forbidden(_)
            | RadioFault::NoAdapter
            | RadioFault::AdapterNotFound { .. }
            | RadioFault::NoAdvertising(_)
            | RadioFault::BlueZRestarted
            | RadioFault::PoweredOff(_) => false,
        };
        if !may_help {
            self.failures = 0;
            return Some(RecoveryAction::Reregister);
        }
        self.failures = self.failures.saturating_add(1);
        let has_rested = self
            .power_cycled_at_ms
            .is_none_or(|at_ms| now_ms.saturating_sub(at_ms) >= POWER_CYCLE_PAUSE_MS);
        if self.failures >= FAILURES_BEFORE_POWER_CYCLE && has_rested {
            self.power_cycled_at_ms = Some(now_ms);
            return Some(RecoveryAction::PowerCycle);
        }
        Some(RecoveryAction::Reregister)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failing() -> RadioFault {
        RadioFault::Other { during: "advertising", detail: "Failed".into() }
    }

    #[test]
    fn what_keeps_failing_leads_to_a_power_cycle_once_a_minute() {
        let mut recovery = RecoveryPolicy::default();
        let mut now_ms = 1_000_000;
        let mut cycles = Vec::new();
        for _ in 0..100 {
            if recovery.next_action(&failing(), 0, now_ms) == Some(RecoveryAction::PowerCycle) {
                cycles.push(now_ms - 1_000_000);
            }
            now_ms += 2_000;
        }
        assert_eq!(cycles, [2_000, 62_000, 122_000, 182_000]);
    }

    #[test]
    fn what_mends_itself_or_is_another_s_turn_leads_to_none() {
        let mut recovery = RecoveryPolicy::default();
        for fault in [
            RadioFault::NoBus("x".into()),
            RadioFault::BlueZNotRunning("x".into()),
            RadioFault::Silent(5_000),
            RadioFault::NoAdapter,
            RadioFault::PoweredOff("hci0".into()),
            RadioFault::BlueZRestarted,
        ] {
            for now_ms in 0..10 {
                assert_eq!(
                    recovery.next_action(&fault, 0, now_ms),
                    Some(RecoveryAction::Reregister),
                    "{fault}"
                );
            }
        }
        assert_eq!(
            recovery.next_action(&RadioFault::Blocked("hci0".into()), 0, 0),
            None,
            "somebody wants that"
        );
    }

    #[test]
    fn a_service_that_was_well_starts_from_the_bottom() {
        let mut recovery = RecoveryPolicy::default();
        assert_eq!(recovery.next_action(&failing(), 0, 0), Some(RecoveryAction::Reregister));
        assert_eq!(
            recovery.next_action(&failing(), WELL_AFTER_MS, 40_000),
            Some(RecoveryAction::Reregister)
        );
        // One that is up for a moment only was not well.
        assert_eq!(
            recovery.next_action(&failing(), 4_000, 45_000),
            Some(RecoveryAction::PowerCycle)
        );
    }
}
