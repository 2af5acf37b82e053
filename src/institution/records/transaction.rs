//! Transactions as the institution has recorded them.

use super::AccountId;
use crate::domain::{
    Amount, CardId, CommandDigest, OfferDigest, ReversalReason, TerminalId, TransactionId,
    TransactionState, UnixTime,
};

/// Which transaction. An id belongs to the terminal that sent it, so that no terminal can take
/// another's: the same id from two terminals is two transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransactionKey {
    pub terminal: TerminalId,
    pub id: TransactionId,
}

/// One recorded transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionRecord {
    pub key: TransactionKey,
    /// From 1, in the order in which the store recorded them.
    pub number: i64,
    /// Never [`TransactionState::Unknown`].
    pub state: TransactionState,
    /// SHA-256 of what was requested, to tell a repeat from other content under the same id; none
    /// for a tombstone.
    pub request_digest: Option<[u8; 32]>,
    pub offer_digest: Option<OfferDigest>,
    /// SHA-256 of the sealed command; none for a tombstone.
    pub command_digest: Option<CommandDigest>,
    pub amount: Option<Amount>,
    /// Who is paid; none for tombstones and unknown terminals.
    pub merchant_id: Option<String>,
    pub card: Option<CardId>,
    /// The account of the card.
    pub account: Option<AccountId>,
    pub card_hint: Option<String>,
    pub approval_code: Option<String>,
    /// Empty for a tombstone.
    pub authorisation_receipt: Vec<u8>,
    /// Empty before a capture.
    pub capture_receipt: Vec<u8>,
    /// Empty before a reversal, and for a tombstone.
    pub reversal_receipt: Vec<u8>,
    /// The receipt of the newest refund; empty before one.
    pub refund_receipt: Vec<u8>,
    /// What was given back of the captured amount, in minor units.
    pub refunded_minor: u64,
    /// Until when the terminal may capture or reverse even if it is blocked; none if nothing was
    /// reserved.
    pub hold_until: Option<UnixTime>,
    /// On which command the institution decided, or that it decides on none; signed.
    pub exclusion: Vec<u8>,
    pub reversal_reason: Option<ReversalReason>,
    pub created_at: UnixTime,
    pub captured_at: Option<UnixTime>,
    pub reversed_at: Option<UnixTime>,
    /// When the institution paid the merchant itself for what it gave back.
    pub written_off_at: Option<UnixTime>,
}

/// One transaction for the institution's own people. Of the card it shows the hint only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionDetail {
    pub id: TransactionId,
    pub terminal: TerminalId,
    /// Who is paid; none for tombstones and unknown terminals.
    pub merchant_id: Option<String>,
    pub state: TransactionState,
    pub amount: Option<Amount>,
    /// The last digits of the card's id; none if no card could be read.
    pub card_hint: Option<String>,
    /// What the holder quotes; none if it was not approved.
    pub approval_code: Option<String>,
    pub reversal_reason: Option<ReversalReason>,
    /// What was given back of the captured amount, in minor units.
    pub refunded_minor: u64,
    pub offer_digest: Option<OfferDigest>,
    /// By the institution's clock, as all times here.
    pub created_at: UnixTime,
    pub captured_at: Option<UnixTime>,
    pub reversed_at: Option<UnixTime>,
    /// When the institution paid the merchant itself for what it gave back.
    pub written_off_at: Option<UnixTime>,
    /// Until when a blocked terminal may end it; none if nothing was reserved.
    pub hold_until: Option<UnixTime>,
}

impl From<TransactionRecord> for TransactionDetail {
    fn from(record: TransactionRecord) -> Self {
        Self {
            id: record.key.id,
            terminal: record.key.terminal,
            merchant_id: record.merchant_id,
            state: record.state,
            amount: record.amount,
            card_hint: record.card_hint.filter(|hint| !hint.is_empty()),
            approval_code: record.approval_code,
            reversal_reason: record.reversal_reason,
            refunded_minor: record.refunded_minor,
            offer_digest: record.offer_digest,
            created_at: record.created_at,
            captured_at: record.captured_at,
            reversed_at: record.reversed_at,
            written_off_at: record.written_off_at,
            hold_until: record.hold_until,
        }
    }
}

/// Where a page of a reconciliation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PageEnd {
    pub created_at: UnixTime,
    /// The number of the last transaction.
    pub number: i64,
}

impl PageEnd {
    /// After this transaction.
    pub fn of(record: &TransactionRecord) -> Self {
        Self { created_at: record.created_at, number: record.number }
    }

    /// Before every transaction of that second: numbers start at 1.
    pub fn before(time: UnixTime) -> Self {
        Self { created_at: time, number: 0 }
    }
}
