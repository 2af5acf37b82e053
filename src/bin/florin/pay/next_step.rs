//! What `florin pay` does next, by the payment's state: wait, complete, or end with an exit code.

use florin::till::PaymentJson;

pub const PAID: u8 = 0;
pub const DECLINED: u8 = 3;
pub const EXPIRED: u8 = 4;
pub const CANCELLED: u8 = 5;
pub const PENDING: u8 = 6;
pub const NOT_CHARGED: u8 = 7;

/// What to do after a change of the payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextStep {
    /// Wait for the next change.
    Wait,
    /// Say whether the goods were released.
    Complete,
    /// It is decided, with this exit code; the rest happens without anybody.
    Decided(u8),
    /// It is final, with this exit code.
    Final(u8),
}

impl NextStep {
    /// After this state of the payment.
    pub fn after(payment: &PaymentJson) -> Self {
        let reason = payment.reason.as_deref();
        match payment.state.as_str() {
            "captured" => Self::Final(PAID),
            "declined" => Self::Final(DECLINED),
            "expired" => Self::Final(EXPIRED),
            "cancelled" => Self::Final(CANCELLED),
            "reversed" => Self::Final(NOT_CHARGED),
            "approved" if payment.release && payment.capture == "after_dispense" => Self::Complete,
            "capturing" if payment.release => Self::Decided(PAID),
            "unresolved" => Self::Decided(PENDING),
            "reversing" if reason == Some("unanswered") => Self::Decided(PENDING),
            "reversing" => Self::Decided(NOT_CHARGED),
            // A state of a newer service: its `final` and `release` still say what matters.
            _ if payment.is_final && payment.release => Self::Final(PAID),
            _ if payment.is_final => Self::Final(NOT_CHARGED),
            _ => Self::Wait,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payment(state: &str, reason: Option<&str>, release: bool, capture: &str) -> PaymentJson {
        PaymentJson {
            transaction_id: "2f6e6cf0-31c1-4d4c-9c3c-2f1f0d9a7f11".into(),
            current_transaction_id: "2f6e6cf0-31c1-4d4c-9c3c-2f1f0d9a7f11".into(),
            state: state.into(),
            reason: reason.map(str::to_owned),
            release,
            dispense_unknown: false,
            disputed: false,
            given_away: false,
            is_final: false,
            amount_minor: 250,
            currency: "EUR".into(),
            amount: "2.50 EUR".into(),
            reference: String::new(),
            capture: capture.into(),
            matching_codes: Vec::new(),
            engagement_link: String::new(),
            created_at: String::new(),
            updated_at: String::new(),
        }
    }

    #[test]
    fn every_state_has_its_next_step() {
        for (state, reason, release, capture, expected) in [
            ("offered", None, false, "at_once", NextStep::Wait),
            ("authorising", None, false, "at_once", NextStep::Wait),
            ("unresolved", None, false, "at_once", NextStep::Decided(PENDING)),
            ("approved", None, false, "after_dispense", NextStep::Wait),
            ("approved", None, true, "after_dispense", NextStep::Complete),
            ("capturing", None, false, "at_once", NextStep::Wait),
            ("capturing", None, true, "at_once", NextStep::Decided(PAID)),
            ("capturing", None, true, "after_dispense", NextStep::Decided(PAID)),
            ("captured", None, true, "at_once", NextStep::Final(PAID)),
            ("reversing", Some("unanswered"), false, "at_once", NextStep::Decided(PENDING)),
            (
                "reversing",
                Some("dispense_failed"),
                true,
                "after_dispense",
                NextStep::Decided(NOT_CHARGED),
            ),
            ("reversed", Some("unanswered"), false, "at_once", NextStep::Final(NOT_CHARGED)),
            ("declined", Some("over_limit"), false, "at_once", NextStep::Final(DECLINED)),
            ("cancelled", None, false, "at_once", NextStep::Final(CANCELLED)),
            ("expired", None, false, "at_once", NextStep::Final(EXPIRED)),
            ("something_new", None, false, "at_once", NextStep::Wait),
        ] {
            assert_eq!(
                NextStep::after(&payment(state, reason, release, capture)),
                expected,
                "{state} {reason:?}"
            );
        }
    }
}
