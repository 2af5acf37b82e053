//! Which recovery action a fault calls for: the gentlest first, and a power cycle seldom.
//!
//! Pure: it is told the time, and takes no action itself.

use std::time::Duration;

use super::fault::RadioFault;
use crate::link::RecoveryAction;

/// How many attempts in a row fail, although adapter and BlueZ are present, before the adapter is
/// power-cycled.
const FAILURES_BEFORE_POWER_CYCLE: u32 = 2;
/// The shortest time from one power cycle to the next. A power cycle ends other programs'
/// connections too, and repeating it at once would hardly help.
const POWER_CYCLE_INTERVAL_MIN: Duration = Duration::from_secs(60);
/// A service that was up for this long was healthy: a fault after that is a new one.
const HEALTHY_AFTER: Duration = Duration::from_secs(30);

/// Chooses recovery actions by what failed recently.
#[derive(Debug, Default)]
pub(super) struct RecoveryPolicy {
    failures: u32,
    power_cycled_at: Option<Duration>,
}

impl RecoveryPolicy {
    /// The recovery action after a fault has ended an attempt or a service; none if there is
    /// nothing to do but to check again. `uptime` is how long the service had been up, if it was;
    /// `since_start` the time since any fixed instant.
    pub(super) fn next_action(
        &mut self,
        fault: &RadioFault,
        uptime: Option<Duration>,
        since_start: Duration,
    ) -> Option<RecoveryAction> {
        if uptime.is_some_and(|uptime| uptime >= HEALTHY_AFTER) {
            self.failures = 0;
        }
        let may_help = match fault {
            RadioFault::Other { .. } | RadioFault::AdvertisementLost(_) => true,
            RadioFault::Blocked(_) => {
                self.failures = 0;
                return None;
            }
            // Somebody else has to act, or registering everything again is enough.
            RadioFault::BusUnreachable(_)
            | RadioFault::BlueZNotRunning(_)
            | RadioFault::AnswerTimeout(_)
            | RadioFault::AccessDenied(_)
            | RadioFault::NoAdapter
            | RadioFault::AdapterNotFound { .. }
            | RadioFault::AdvertisingUnsupported(_)
            | RadioFault::BlueZRestarted
            | RadioFault::PoweredOff(_) => false,
        };
        if !may_help {
            self.failures = 0;
            return Some(RecoveryAction::Reregister);
        }
        self.failures = self.failures.saturating_add(1);
        let may_power_cycle = self
            .power_cycled_at
            .is_none_or(|at| since_start.saturating_sub(at) >= POWER_CYCLE_INTERVAL_MIN);
        if self.failures >= FAILURES_BEFORE_POWER_CYCLE && may_power_cycle {
            self.power_cycled_at = Some(since_start);
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
    fn repeated_failures_lead_to_a_power_cycle_once_a_minute() {
        let mut recovery = RecoveryPolicy::default();
        let begin = Duration::from_secs(1_000);
        let mut cycles = Vec::new();
        for elapsed in (0..100).map(|attempt| Duration::from_secs(2 * attempt)) {
            if recovery.next_action(&failing(), None, begin + elapsed)
                == Some(RecoveryAction::PowerCycle)
            {
                cycles.push(elapsed.as_secs());
            }
        }
        assert_eq!(cycles, [2, 62, 122, 182]);
    }

    #[test]
    fn faults_that_others_have_to_repair_lead_to_no_power_cycle() {
        let mut recovery = RecoveryPolicy::default();
        for fault in [
            RadioFault::BusUnreachable("x".into()),
            RadioFault::BlueZNotRunning("x".into()),
            RadioFault::AnswerTimeout(Duration::from_secs(5)),
            RadioFault::NoAdapter,
            RadioFault::PoweredOff("hci0".into()),
            RadioFault::BlueZRestarted,
        ] {
            for now_ms in 0..10 {
                assert_eq!(
                    recovery.next_action(&fault, None, Duration::from_millis(now_ms)),
                    Some(RecoveryAction::Reregister),
                    "{fault}"
                );
            }
        }
        assert_eq!(
            recovery.next_action(&RadioFault::Blocked("hci0".into()), None, Duration::ZERO),
            None,
            "somebody has blocked it on purpose"
        );
    }

    #[test]
    fn failures_before_a_healthy_service_do_not_count() {
        let mut recovery = RecoveryPolicy::default();
        assert_eq!(
            recovery.next_action(&failing(), None, Duration::ZERO),
            Some(RecoveryAction::Reregister)
        );
        assert_eq!(
            recovery.next_action(&failing(), Some(HEALTHY_AFTER), Duration::from_secs(40)),
            Some(RecoveryAction::Reregister)
        );
        // A service that is up for a moment only was not healthy.
        assert_eq!(
            recovery.next_action(&failing(), Some(Duration::from_secs(4)), Duration::from_secs(45)),
            Some(RecoveryAction::PowerCycle)
        );
    }
}
