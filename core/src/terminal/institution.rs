//! Requests to the institution, and their answers.
//!
//! How a request is carried is the relay's business.

use crate::domain::{ReversalReason, TransactionId};

pub use crate::domain::TransactionState;

/// One request to the institution. All are idempotent by transaction id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InstitutionRequest {
    /// Check the card's command and reserve the amount.
    Authorise {
        transaction_id: TransactionId,
        offer: Vec<u8>,
        /// How long ago the offer was made, in milliseconds of the monotonic clock.
        offer_age_ms: u64,
        /// The sealed command's octets.
        sealed_command: Vec<u8>,
        /// The number of the authorisation, the same in each repeat.
        sequence: u64,
    },
    /// Say how the transaction stands.
    Inquire { transaction_id: TransactionId },
    /// Take the reserved amount.
    Capture { transaction_id: TransactionId },
    /// Give the reserved amount back.
    Reverse { transaction_id: TransactionId, reason: ReversalReason },
}

impl InstitutionRequest {
    pub fn transaction_id(&self) -> TransactionId {
        match self {
            Self::Authorise { transaction_id, .. }
            | Self::Inquire { transaction_id }
            | Self::Capture { transaction_id }
            | Self::Reverse { transaction_id, .. } => *transaction_id,
        }
    }

    /// For logs: one word in lower case.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Authorise { .. } => "authorise",
            Self::Inquire { .. } => "inquire",
            Self::Capture { .. } => "capture",
            Self::Reverse { .. } => "reverse",
        }
    }
}

/// The result of a request. The details are for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InstitutionAnswer {
    /// The institution says how the transaction stands.
    Transaction {
        state: TransactionState,
        /// The newest signed receipt, encoded.
        receipt: Option<Vec<u8>>,
    },
    /// Not one octet of the request was sent, so it is safe to give up and safe to retry.
    NotSent { detail: String },
    /// The institution does not serve this request and did nothing: it does not know the terminal,
    /// or the request is malformed. A retry fails until somebody changes something.
    Refused { detail: String },
    /// The request may have arrived, and there is no answer. Only an answer of the institution
    /// settles the payment.
    Unanswered { detail: String },
}

impl InstitutionAnswer {
    /// The receipt that came with it.
    pub(super) fn into_receipt(self) -> Option<Vec<u8>> {
        if let Self::Transaction { receipt, .. } = self { receipt } else { None }
    }
}
