//! What is borne of BlueZ before the service is given up, which sends every phone away.
//!
//! Pure: it is told the time.

/// So many rounds of questions in a row stay without an answer before BlueZ is taken for hanging.
/// One that is busy, with a phone that floods it, say, answers one of them; and nothing is lost by
/// waiting, since only systemd can end one that hangs.
const UNANSWERED_ROUNDS_MAX: u32 = 3;
/// How long an advertisement may be refused while phones are connected, in milliseconds. Some
/// controllers cannot do both, and none can at its limit; but no phone stays for so long without
/// paying.
const REFUSED_MS_MAX: u64 = 300_000;

/// What has happened lately.
#[derive(Debug, Default)]
pub(super) struct FaultTolerance {
    unanswered_rounds: u32,
    has_advertised: bool,
    refused_since_ms: Option<u64>,
}

impl FaultTolerance {
    /// BlueZ has answered all questions of a round.
    pub(super) fn answered(&mut self) {
        self.unanswered_rounds = 0;
    }

    /// It left one without an answer, which ended the round. Whether that is borne.
    pub(super) fn tolerates_timeout(&mut self) -> bool {
        self.unanswered_rounds = self.unanswered_rounds.saturating_add(1);
        self.unanswered_rounds < UNANSWERED_ROUNDS_MAX
    }

    /// The advertisement is up.
    pub(super) fn advertised(&mut self) {
        self.has_advertised = true;
        self.refused_since_ms = None;
    }

    /// It was refused. Whether that is borne while phones are connected. A service whose
    /// advertisement has never been up is none. `now_ms`: any clock that does not go back.
    pub(super) fn tolerates_refusal(&mut self, now_ms: u64) -> bool {
        let since_ms = *self.refused_since_ms.get_or_insert(now_ms);
        self.has_advertised && now_ms.saturating_sub(since_ms) < REFUSED_MS_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_silences_in_a_row_are_borne_and_a_third_is_not() {
        let mut fault_tolerance = FaultTolerance::default();
        for _ in 0..3 {
            assert!(fault_tolerance.tolerates_timeout());
            assert!(fault_tolerance.tolerates_timeout());
            fault_tolerance.answered();
        }
        assert!(fault_tolerance.tolerates_timeout());
        assert!(fault_tolerance.tolerates_timeout());
        assert!(!fault_tolerance.tolerates_timeout());
    }

    #[test]
    fn refusals_are_borne_for_a_while_from_the_first_of_them() {
        let mut fault_tolerance = FaultTolerance::default();
        fault_tolerance.advertised();
        for begin_ms in [1_000, 9_000_000] {
            for after_ms in (0..REFUSED_MS_MAX).step_by(3_000) {
                assert!(fault_tolerance.tolerates_refusal(begin_ms + after_ms), "{after_ms}");
            }
            assert!(!fault_tolerance.tolerates_refusal(begin_ms + REFUSED_MS_MAX));
            fault_tolerance.advertised();
        }
    }

    #[test]
    fn a_service_begins_with_an_advertisement() {
        assert!(!FaultTolerance::default().tolerates_refusal(0));
    }
}
