//! What the institution certifies about one transaction.

use super::{Amount, DeclineReason, OfferDigest, TerminalId, TransactionId, UnixTime};

/// How the transaction ended, according to the institution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReceiptStatus {
    /// The amount is reserved or taken. The person quotes the code, which has six characters, when
    /// asking the institution about the payment.
    Approved {
        approval_code: String,
    },
    Declined(DeclineReason),
    /// The transaction was approved and then reversed in full.
    Reversed,
}

/// What the institution signs for the phone (patent claim 1: the processing result).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    pub transaction_id: TransactionId,
    /// The digest of the offer that the person saw.
    pub offer_digest: OfferDigest,
    pub status: ReceiptStatus,
    pub amount: Amount,
    pub terminal_id: TerminalId,
    /// By the institution's clock.
    pub decided_at: UnixTime,
    /// Four hexadecimal digits by which the holder recognises the card.
    pub card_hint: String,
}
