//! When the terminal's certificates are valid.

use super::super::enrolment::{CertificatePeriod, EXPIRY_WARNING_S};
use super::super::{Enrolment, EnrolmentError, ServiceError, ServiceExit};
use super::Finding;
use crate::domain::UnixTime;
use crate::duration_text::duration_text;

const CHECK: &str = "certificates";

/// Whether they are valid, and for how long.
pub(super) fn examine(enrolment: &Result<Enrolment, ServiceError>, now: UnixTime) -> Finding {
    match enrolment {
        Ok(enrolment) => match enrolment.certificates() {
            Ok(periods) => periods_finding(&periods, now),
            Err(problem) => Finding::wrong(CHECK, problem, ServiceExit::NotEnrolled),
        },
        Err(error) if is_out_of_period(error) => Finding::fault(CHECK, error),
        Err(_) => Finding::not_examined(CHECK, "without an enrolment there are none"),
    }
}

/// Whether a certificate has expired or is not valid yet.
pub(super) fn is_out_of_period(error: &ServiceError) -> bool {
    matches!(
        error,
        ServiceError::Enrolment(
            EnrolmentError::Expired { .. } | EnrolmentError::NotYetValid { .. }
        )
    )
}

fn periods_finding(periods: &[CertificatePeriod], now: UnixTime) -> Finding {
    let lines: Vec<String> = periods
        .iter()
        .map(|period| {
            let CertificatePeriod { certificate, from, until } = period;
            format!("the {certificate} is valid from {from} until {until}")
        })
        .collect();
    let detail = lines.join("; ");
    let left_s =
        periods.iter().map(|period| period.until.seconds.saturating_sub(now.seconds)).min();
    let left_s = left_s.unwrap_or_default();
    if left_s < EXPIRY_WARNING_S {
        let left = duration_text(left_s);
        Finding::advice(
            CHECK,
            format!("{detail}. The first expires in {left}; enrol again: `florin enrol --replace`"),
        )
    } else {
        Finding::fine(CHECK, detail)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    const DAY_S: u64 = 86_400;

    fn found(from_s: u64, until_s: u64, now_s: u64) -> Finding {
        let period = |certificate, until_s| CertificatePeriod {
            certificate,
            from: UnixTime { seconds: from_s },
            until: UnixTime { seconds: until_s },
        };
        let periods = [
            period("terminal certificate", until_s + DAY_S),
            period("client certificate", until_s),
        ];
        periods_finding(&periods, UnixTime { seconds: now_s })
    }

    /// Institutions date a new certificate back by a day, for clocks that are behind: its first
    /// second is not its age.
    #[test]
    fn a_new_certificate_has_no_age_of_a_day() {
        let new = found(1_000_000, 1_000_000 + 1_000 * DAY_S, 1_000_000 + DAY_S + 5);
        assert_eq!(new.verdict, Verdict::Fine);
        assert!(!new.detail.contains("day"), "{}", new.detail);
        let from = UnixTime { seconds: 1_000_000 };
        let words = format!("the client certificate is valid from {from} until ");
        assert!(new.detail.contains(&words), "{}", new.detail);
    }

    #[test]
    fn the_time_that_is_left_agrees_with_its_noun() {
        for (left_s, words) in [
            (29 * DAY_S, "expires in 29 days;"),
            (DAY_S + 7, "expires in 1 day;"),
            (3_600, "expires in 1 hour;"),
            (40, "expires in 40 seconds;"),
        ] {
            let finding = found(0, 100 * DAY_S, 100 * DAY_S - left_s);
            assert_eq!(finding.verdict, Verdict::Advice);
            assert!(finding.detail.contains(words), "{}", finding.detail);
        }
    }
}
