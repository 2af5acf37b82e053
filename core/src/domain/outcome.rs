//! How a payment stands, as the terminal tells the phone, and why the institution is asked to
//! reverse one.

use super::DeclineReason;

/// How a payment stands for the phone that sent the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The institution has reserved the money.
    Approved,
    /// The institution declined the payment.
    Declined(DeclineReason),
    /// The institution has not answered, so nobody knows yet. Never shown as declined.
    Pending,
    /// The institution has given the reserved amount back.
    Reversed,
    /// The institution has taken the reserved amount.
    Captured,
}

/// Why the terminal reverses a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReversalReason {
    /// No answer to the authorisation came in time.
    Unanswered,
    /// The machine did not release the goods.
    DispenseFailed,
    /// The till cancelled the payment after the approval.
    Cancelled,
    /// The till did not say in time whether the goods were released.
    DispenseUnknown,
    /// A command came when its offer had ended, and was not relayed.
    NotUsed,
}

impl ReversalReason {
    /// A stable name for programs: lower case, words joined by underscores.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unanswered => "unanswered",
            Self::DispenseFailed => "dispense_failed",
            Self::Cancelled => "cancelled",
            Self::DispenseUnknown => "dispense_unknown",
            Self::NotUsed => "not_used",
        }
    }

    /// The reason with this name, if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        [
            Self::Unanswered,
            Self::DispenseFailed,
            Self::Cancelled,
            Self::DispenseUnknown,
            Self::NotUsed,
        ]
        .into_iter()
        .find(|reason| reason.name() == name)
    }
}
