//! The institution's word on one transaction.

use super::{Amount, DeclineReason, OfferDigest, TerminalId, TransactionId, UnixTime};

/// What a receipt says became of the transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReceiptStatus {
    /// Reserved, or taken. The code has six characters.
    Approved {
        /// For the person to quote when asking the institution.
        approval_code: String,
    },
    /// Refused.
    Declined(DeclineReason),
    /// Approved once, then given back in full.
    Reversed,
}

/// What the institution signs for the phone (patent claim 1: the processing result).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Which transaction.
    pub transaction_id: TransactionId,
    /// What the person saw.
    pub offer_digest: OfferDigest,
    /// What became of it.
    pub status: ReceiptStatus,
    /// How much.
    pub amount: Amount,
    /// At which machine.
    pub terminal_id: TerminalId,
    /// When, by the institution's clock.
    pub decided_at: UnixTime,
    /// Four hexadecimal digits by which the holder recognises the card.
    pub card_hint: String,
}
