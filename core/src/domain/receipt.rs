//! What the institution certifies about one transaction.

use std::fmt;

use super::{Amount, DeclineReason, OfferDigest, TerminalId, TransactionId, UnixTime};

/// How the transaction ended, according to the institution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReceiptStatus {
    /// The amount is reserved. The person quotes the code, which has six characters, when asking
    /// the institution about the payment.
    Approved {
        approval_code: String,
    },
    Declined(DeclineReason),
    /// The reserved amount was given back in full.
    Reversed,
    /// The amount was taken.
    Captured {
        approval_code: String,
        /// What the institution has given back since, at most the amount.
        refunded_minor: u64,
    },
}

/// What the institution signs for the phone (patent claim 1: the processing result).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    pub transaction_id: TransactionId,
    /// The digest of the offer that the person saw.
    pub offer_digest: OfferDigest,
    /// The digest of the command that the institution decided on.
    pub command_digest: CommandDigest,
    pub status: ReceiptStatus,
    pub amount: Amount,
    pub terminal_id: TerminalId,
    /// By the institution's clock.
    pub decided_at: UnixTime,
}

/// The payment that a receipt or an exclusion has to fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiptSubject {
    pub transaction_id: TransactionId,
    pub terminal_id: TerminalId,
    /// The digest of the offer that the terminal made.
    pub offer_digest: OfferDigest,
    pub amount: Amount,
    /// The digest of the command that was sent; none if the reader does not know of one.
    pub command_digest: Option<CommandDigest>,
}

/// What a receipt says of another payment than the one it has to fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptMismatch {
    #[error("it names another transaction")]
    Transaction,
    #[error("it names another terminal")]
    Terminal,
    #[error("it names another offer")]
    Offer,
    #[error("it names another amount or currency")]
    Amount,
    #[error("it names another command")]
    Command,
}

impl Receipt {
    /// What does not fit the payment, if anything. The status is for the reader to compare.
    ///
    /// Where somebody showed the institution another offer than the person, the institution
    /// declines, and its receipt names the other offer. That is proof enough: the transaction is
    /// declined whatever was offered.
    pub fn mismatch(&self, subject: &ReceiptSubject) -> Option<ReceiptMismatch> {
        let may_differ = matches!(
            self.status,
            ReceiptStatus::Declined(DeclineReason::OfferMismatch | DeclineReason::MalformedCommand)
        );
        if self.transaction_id != subject.transaction_id {
            Some(ReceiptMismatch::Transaction)
        } else if self.terminal_id != subject.terminal_id {
            Some(ReceiptMismatch::Terminal)
        } else if self.offer_digest != subject.offer_digest && !may_differ {
            Some(ReceiptMismatch::Offer)
        } else if self.amount != subject.amount && !may_differ {
            Some(ReceiptMismatch::Amount)
        } else if subject.command_digest.is_some_and(|digest| digest != self.command_digest) {
            Some(ReceiptMismatch::Command)
        } else {
            None
        }
    }
}

/// The institution's statement that it uses no other command for a transaction than the one named,
/// or none at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exclusion {
    pub transaction_id: TransactionId,
    pub terminal_id: TerminalId,
    /// The command that the institution decided on; none if it will decide on none.
    pub command_digest: Option<CommandDigest>,
    /// By the institution's clock.
    pub decided_at: UnixTime,
}

impl Exclusion {
    /// Does it say that this command was not used and never will be?
    pub fn excludes(
        &self,
        transaction_id: TransactionId,
        terminal_id: TerminalId,
        command_digest: CommandDigest,
    ) -> bool {
        self.transaction_id == transaction_id
            && self.terminal_id == terminal_id
            && self.command_digest != Some(command_digest)
    }
}

/// SHA-256 over the octets of an encoded sealed command, as the phone sent them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandDigest(pub [u8; 32]);

impl fmt::Debug for CommandDigest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}
