//! What the till asks of the engine, and what it is told. How it is carried is the till room's
//! business.

use crate::domain::{Amount, LineItem, TransactionId, UnixTime};

use super::{Payment, PaymentState};

/// The transaction information (patent claim 1), from the till.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentRequest {
    /// How much.
    pub amount: Amount,
    /// Shown to the person; at most 64 octets; may be empty.
    pub reference: String,
    /// Shown to the person; at most 32.
    pub items: Vec<LineItem>,
    /// Reserve now and take when the till reports the release; else both at once.
    pub capture_after_dispense: bool,
    /// How long a phone has to pay, in seconds, 1 to 3600; the terminal's setting if none.
    pub valid_for_s: Option<u32>,
    /// The same key with the same content is the same payment; with other content it is refused.
    /// At most 64 octets.
    pub idempotency_key: Option<String>,
}

/// One request of the till.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TillRequest {
    /// Offer a payment.
    Create(PaymentRequest),
    /// The goods were released (`true`) or could not be (`false`).
    Complete {
        /// Which payment.
        transaction_id: TransactionId,
        /// Were they?
        dispensed: bool,
    },
    /// Take the offer back, or give back what was approved and not yet released.
    Cancel {
        /// Which payment.
        transaction_id: TransactionId,
    },
}

/// Why a till's request is not done. Nothing has changed then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TillRefusal {
    /// A field is out of its range.
    #[error("{0}")]
    Invalid(String),
    /// The terminal knows no such open payment.
    #[error("no open payment has the id {0}")]
    Unknown(TransactionId),
    /// Another offer is waiting for a phone.
    #[error("the offer {0} is waiting for a phone; cancel it first")]
    OfferWaiting(TransactionId),
    /// The key was used for other content.
    #[error("the idempotency key was used for another payment, {0}, with other content")]
    KeyReused(TransactionId),
    /// It does not fit where the payment stands.
    #[error("the payment is {state}: {explanation}")]
    WrongState {
        /// The state's name.
        state: &'static str,
        /// Whose turn it is.
        explanation: &'static str,
    },
    /// Too many payments are unresolved.
    #[error(
        "{0} payments are unresolved, which is the bound; the institution has to be reached first"
    )]
    TooManyOpen(usize),
    /// The terminal cannot take payments.
    #[error("the terminal is out of service: {0}")]
    OutOfService(String),
}

/// A payment as a till may see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentView {
    /// Which payment.
    pub transaction_id: TransactionId,
    /// Where it stands.
    pub state: PaymentState,
    /// Release the goods, if you have not yet. Once true it stays true until the payment is given
    /// back.
    pub release: bool,
    /// The till was told to release, and has not said what became of it: the terminal was
    /// restarted in between, or the time for it is over. Say it now.
    pub dispense_unknown: bool,
    /// How much.
    pub amount: Amount,
    /// The till's reference.
    pub reference: String,
    /// Is the till's word awaited after the approval?
    pub capture_after_dispense: bool,
    /// Six digits for each phone that sees the offer now, to compare by. At most 8 are told.
    pub matching_codes: Vec<String>,
    /// When it was made, by the terminal's clock.
    pub created_at: UnixTime,
    /// When it last changed.
    pub updated_at: UnixTime,
}

impl PaymentView {
    /// The view of a payment that no phone looks at.
    pub fn of(payment: &Payment) -> Self {
        Self {
            transaction_id: payment.transaction_id,
            state: payment.state,
            // What is being given back must not be handed out, also by a till that forgot what it
            // did.
            release: payment.released && payment.state.is_paid(),
            dispense_unknown: false,
            amount: payment.amount,
            reference: payment.reference.clone(),
            capture_after_dispense: payment.capture_after_dispense,
            matching_codes: Vec::new(),
            created_at: payment.created_at,
            updated_at: payment.updated_at,
        }
    }
}
