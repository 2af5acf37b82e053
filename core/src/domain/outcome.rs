//! How a payment ends, as phone and till are told.

use super::DeclineReason;

/// How an authorisation stands for those who wait for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The institution has reserved the money.
    Approved,
    /// The institution refuses.
    Declined(DeclineReason),
    /// The institution has not answered: nobody knows yet. Never shown as declined.
    Pending,
    /// Nothing is charged: what was reserved was given back, or the authorisation can no longer
    /// take effect.
    Reversed,
}

/// Why a transaction is reversed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReversalReason {
    /// No answer to the authorisation came in time.
    Unanswered,
    /// The machine did not release the goods.
    DispenseFailed,
    /// The till cancelled after the approval.
    Cancelled,
    /// The till never said whether the goods were released.
    DispenseUnknown,
}

impl ReversalReason {
    /// A stable name for programs: lower case, words joined by underscores.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unanswered => "unanswered",
            Self::DispenseFailed => "dispense_failed",
            Self::Cancelled => "cancelled",
            Self::DispenseUnknown => "dispense_unknown",
        }
    }

    /// The reason of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Unanswered, Self::DispenseFailed, Self::Cancelled, Self::DispenseUnknown]
            .into_iter()
            .find(|reason| reason.name() == name)
    }
}
