//! What the engine asks of the institution, and what can come back. How it is carried is the
//! relay's business.

use crate::domain::{ReversalReason, TransactionId};

pub use crate::domain::TransactionState;

/// One question to the institution. All are idempotent by transaction id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InstitutionRequest {
    /// Check the card's command and reserve the amount.
    Authorise {
        /// Which payment.
        transaction_id: TransactionId,
        /// The offer's octets.
        offer: Vec<u8>,
        /// How long ago the offer was made, in milliseconds of the monotonic clock.
        offer_age_ms: u64,
        /// The sealed command's octets.
        sealed_command: Vec<u8>,
    },
    /// What do you know of it?
    Inquire {
        /// Which payment.
        transaction_id: TransactionId,
    },
    /// Take what was reserved.
    Capture {
        /// Which payment.
        transaction_id: TransactionId,
    },
    /// Give back what was reserved.
    Reverse {
        /// Which payment.
        transaction_id: TransactionId,
        /// Why.
        reason: ReversalReason,
    },
}

impl InstitutionRequest {
    /// The payment it is about.
    pub fn transaction_id(&self) -> TransactionId {
        match self {
            Self::Authorise { transaction_id, .. }
            | Self::Inquire { transaction_id }
            | Self::Capture { transaction_id }
            | Self::Reverse { transaction_id, .. } => *transaction_id,
        }
    }

    /// For logs: lower case, one word.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Authorise { .. } => "authorise",
            Self::Inquire { .. } => "inquire",
            Self::Capture { .. } => "capture",
            Self::Reverse { .. } => "reverse",
        }
    }
}

/// What became of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InstitutionAnswer {
    /// The institution's word.
    Transaction {
        /// How it stands.
        state: TransactionState,
        /// An encoded signed receipt, the newest.
        receipt: Option<Vec<u8>>,
    },
    /// Not one octet of the request was sent. Safe to call off, safe to try again.
    NotSent {
        /// For the log.
        detail: String,
    },
    /// The institution answered that it does not serve this request, and did nothing: a terminal it
    /// does not know, a malformed request. Trying the same again is no use before somebody
    /// changes something.
    Refused {
        /// For the log.
        detail: String,
    },
    /// It may have arrived, and there is no answer: only the institution's word ends this.
    Unanswered {
        /// For the log.
        detail: String,
    },
}
