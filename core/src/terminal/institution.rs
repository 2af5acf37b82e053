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
    /// Take note of a payment again: the institution's store was restored from a copy and may have
    /// lost it. It believes its own signatures.
    Present {
        transaction_id: TransactionId,
        /// The octets of the offer; empty where only a tombstone is presented.
        offer: Vec<u8>,
        /// The sealed command's octets; empty where only a tombstone is presented.
        sealed_command: Vec<u8>,
        /// The newest signed receipt, encoded; empty where only a tombstone is presented.
        receipt: Vec<u8>,
        /// The signed exclusion, encoded; empty if there is none.
        exclusion: Vec<u8>,
        /// The number of its authorisation; 0 for a tombstone.
        sequence: u64,
    },
}

impl InstitutionRequest {
    pub fn transaction_id(&self) -> TransactionId {
        match self {
            Self::Authorise { transaction_id, .. }
            | Self::Inquire { transaction_id }
            | Self::Capture { transaction_id }
            | Self::Reverse { transaction_id, .. }
            | Self::Present { transaction_id, .. } => *transaction_id,
        }
    }

    /// For logs: one word in lower case.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Authorise { .. } => "authorise",
            Self::Inquire { .. } => "inquire",
            Self::Capture { .. } => "capture",
            Self::Reverse { .. } => "reverse",
            Self::Present { .. } => "present",
        }
    }
}

/// How a transaction stands, as an answer claims. The engine believes what is proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionClaim {
    pub state: TransactionState,
    /// The newest signed receipt, encoded.
    pub receipt: Option<Vec<u8>>,
    /// The signed exclusion, encoded.
    pub exclusion: Option<Vec<u8>>,
    /// Which life of the institution's store answered, if it says so.
    pub store_generation: Option<StoreGeneration>,
}

/// One life of the institution's store. A store that was restored from a copy has another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreGeneration(pub [u8; 16]);

impl TransactionClaim {
    /// A claim of a state without any proof.
    pub fn bare(state: TransactionState) -> Self {
        Self { state, receipt: None, exclusion: None, store_generation: None }
    }
}

/// The result of a request. The details are for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InstitutionAnswer {
    /// The institution says how the transaction stands.
    Transaction(TransactionClaim),
    /// Not one octet of the request was sent, so it is safe to give up and safe to retry.
    NotSent { detail: String },
    /// The institution does not serve this request and did nothing: it does not know the terminal,
    /// or the request is malformed. A retry fails until somebody changes something.
    Refused { detail: String },
    /// The request may have arrived, and there is no answer. Only an answer of the institution
    /// settles the payment.
    Unanswered { detail: String },
}
