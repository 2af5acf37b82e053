//! The clock: set, synchronised, and in step with the institution's. Only certificates are checked
//! by it.

use std::path::Path;
use std::time::Duration;

use dbus::blocking::Connection;
use dbus::blocking::stdintf::org_freedesktop_dbus::Properties;

use super::super::{ServiceError, check_clock};
use super::Finding;
use crate::domain::UnixTime;

/// How far the two clocks may be apart, in seconds, before that is reported.
const APART_MAX_S: u64 = 30;
/// How long systemd's time service may take to answer, in milliseconds; D-Bus starts it for the
/// question.
const TIMEOUT_MS: u64 = 3_000;
/// systemd-timesyncd creates this file when it has set the clock.
const SYNCHRONISED_MARK: &str = "/run/systemd/timesync/synchronized";

/// Whether the clock can be right, and whether something keeps it synchronised.
pub(super) async fn clock(now: UnixTime) -> Finding {
    let synchronised = tokio::task::spawn_blocking(is_synchronised).await;
    clock_finding(now, synchronised.ok().flatten())
}

fn clock_finding(now: UnixTime, is_synchronised: Option<bool>) -> Finding {
    let check = "clock";
    if let Err(error) = check_clock(now) {
        return Finding::fault(check, &ServiceError::from(error));
    }
    match is_synchronised {
        Some(true) => Finding::fine(check, format!("it is {now}, synchronised")),
        Some(false) => Finding::advice(
            check,
            format!(
                "it is {now}, and nothing keeps the clock synchronised; `timedatectl` shows why, \
                 `timedatectl set-ntp true` switches it on"
            ),
        ),
        None => Finding::advice(
            check,
            format!(
                "it is {now}; whether the clock is kept synchronised is not known, since this \
                 system has no systemd-timedated"
            ),
        ),
    }
}

/// Whether the kernel's clock is synchronised, as systemd reports it; none if there is no systemd
/// to ask.
fn is_synchronised() -> Option<bool> {
    let asked = || -> Result<bool, dbus::Error> {
        let bus = Connection::new_system()?;
        let time_limit = Duration::from_millis(TIMEOUT_MS);
        bus.with_proxy("org.freedesktop.timedate1", "/org/freedesktop/timedate1", time_limit)
            .get("org.freedesktop.timedate1", "NTPSynchronized")
    };
    match asked() {
        Ok(is_synchronised) => Some(is_synchronised),
        Err(error) => {
            tracing::debug!(
                %error,
                "systemd-timedated does not say whether the clock is synchronised"
            );
            Path::new(SYNCHRONISED_MARK).exists().then_some(true)
        }
    }
}

/// Our clock against the institution's, which it read at some moment of the round trip.
pub(super) fn against_institution(
    now: UnixTime,
    institution: Option<UnixTime>,
    round_trip_ms: u64,
) -> Finding {
    let check = "clock_against_institution";
    let Some(institution) = institution else {
        return Finding::not_examined(check, "the institution does not tell what time it has");
    };
    let apart_s = now.seconds.abs_diff(institution.seconds);
    let direction = if now.seconds < institution.seconds { "behind" } else { "ahead of" };
    // One second more: both times are cut to whole seconds.
    if apart_s > APART_MAX_S + 1 + round_trip_ms / 1000 {
        Finding::advice(
            check,
            format!(
                "this clock is {apart_s} s {direction} the institution's ({institution}); one of \
                 them is wrong: `timedatectl` shows whether this one is synchronised"
            ),
        )
    } else {
        Finding::fine(check, "in step")
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::ServiceExit;
    use super::super::Verdict;
    use super::*;

    #[test]
    fn a_clock_that_was_never_set_is_wrong_and_one_that_nobody_keeps_is_not_yet() {
        let unset = clock_finding(UnixTime { seconds: 1_000 }, Some(true));
        assert_eq!((unset.verdict, unset.exit), (Verdict::Wrong, Some(ServiceExit::ClockUnset)));
        let later = UnixTime { seconds: 4_000_000_000 };
        assert_eq!(clock_finding(later, Some(true)).verdict, Verdict::Fine);
        assert_eq!(clock_finding(later, Some(false)).verdict, Verdict::Advice);
        assert_eq!(clock_finding(later, None).verdict, Verdict::Advice);
    }

    #[test]
    fn clocks_that_are_apart_are_named_with_the_direction() {
        let at = |seconds| UnixTime { seconds };
        assert_eq!(against_institution(at(1_000), Some(at(1_000)), 0).verdict, Verdict::Fine);
        assert_eq!(against_institution(at(1_000), Some(at(1_031)), 0).verdict, Verdict::Fine);
        assert_eq!(against_institution(at(1_000), None, 0).verdict, Verdict::NotExamined);
        let behind = against_institution(at(1_000), Some(at(1_095)), 200);
        assert!(
            behind.verdict == Verdict::Advice && behind.detail.contains("95 s behind"),
            "{}",
            behind.detail
        );
        assert!(
            against_institution(at(2_000), Some(at(1_000)), 0).detail.contains("1000 s ahead of")
        );
    }
}
