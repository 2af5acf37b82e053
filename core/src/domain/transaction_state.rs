//! How a transaction stands at the institution.

use super::DeclineReason;

/// How a transaction stands at the institution: what the institution says, and what the terminal
/// hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TransactionState {
    /// The institution never saw the transaction.
    Unknown,
    Declined(DeclineReason),
    /// The amount is reserved.
    Approved,
    /// The amount is taken.
    Captured,
    /// The amount was given back, or the institution holds a tombstone: the transaction can no
    /// longer be charged.
    Reversed,
}

impl TransactionState {
    /// A stable name for programs: one word in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Declined(_) => "declined",
            Self::Approved => "approved",
            Self::Captured => "captured",
            Self::Reversed => "reversed",
        }
    }

    /// Why the institution declined, if it did.
    pub fn decline_reason(self) -> Option<DeclineReason> {
        match self {
            Self::Declined(reason) => Some(reason),
            Self::Unknown | Self::Approved | Self::Captured | Self::Reversed => None,
        }
    }
}
