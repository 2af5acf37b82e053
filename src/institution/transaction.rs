//! A transaction as the terminal is told.

use super::records::TransactionRecord;
use crate::domain::{Amount, DeclineReason, TransactionId, TransactionState, UnixTime};

/// A transaction as the terminal is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    pub id: TransactionId,
    pub state: TransactionState,
    /// Whether this answers an authorisation that came after its own reversal.
    pub is_too_late: bool,
    /// None if the institution never saw the offer.
    pub amount: Option<Amount>,
    /// The newest signed receipt, encoded; empty for unknown ids and tombstones.
    pub receipt: Vec<u8>,
    /// On which command the institution decided, or that it decides on none: signed and encoded.
    /// Empty for unknown ids.
    pub exclusion: Vec<u8>,
    /// By the institution's clock; 0 for unknown ids.
    pub created_at: UnixTime,
}

impl Transaction {
    /// A transaction that the institution never saw.
    pub(super) fn unknown(id: TransactionId) -> Self {
        Self {
            id,
            state: TransactionState::Unknown,
            is_too_late: false,
            amount: None,
            receipt: Vec::new(),
            exclusion: Vec::new(),
            created_at: UnixTime::default(),
        }
    }

    /// Why the authorisation was declined, or is refused now: [`DeclineReason::AlreadyReversed`] if
    /// it came after its own reversal.
    pub fn decline_reason(&self) -> Option<DeclineReason> {
        if self.is_too_late {
            return Some(DeclineReason::AlreadyReversed);
        }
        self.state.decline_reason()
    }
}

impl From<&TransactionRecord> for Transaction {
    fn from(record: &TransactionRecord) -> Self {
        let receipt = match record.state {
            TransactionState::Reversed => &record.reversal_receipt,
            TransactionState::Captured if record.refunded_minor > 0 => &record.refund_receipt,
            TransactionState::Captured => &record.capture_receipt,
            TransactionState::Unknown
            | TransactionState::Declined(_)
            | TransactionState::Approved => &record.authorisation_receipt,
        };
        Self {
            id: record.key.id,
            state: record.state,
            is_too_late: false,
            amount: record.amount,
            receipt: receipt.clone(),
            exclusion: record.exclusion.clone(),
            created_at: record.created_at,
        }
    }
}
