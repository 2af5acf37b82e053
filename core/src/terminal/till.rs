//! Requests of the till, and their answers.
//!
//! How a request is carried is the till room's business.

use crate::domain::{Amount, IdempotencyKey, LineItem, OfferError, TransactionId, UnixTime};

use super::{Payment, PaymentState};

/// The transaction information (patent claim 1), from the till.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentRequest {
    pub amount: Amount,
    /// Shown to the person; at most 64 octets; may be empty.
    pub reference: String,
    /// Shown to the person; at most 32.
    pub items: Vec<LineItem>,
    /// Reserve the amount now and take it when the till reports the release; otherwise do both at
    /// once.
    pub capture_after_dispense: bool,
    /// How long a phone has to pay, in seconds, 1 to 3600. None for the terminal's setting.
    pub valid_for_s: Option<u32>,
    /// The same key with the same content is the same payment; with other content it is refused.
    pub idempotency_key: Option<IdempotencyKey>,
}

/// One request of the till.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TillRequest {
    Create(PaymentRequest),
    /// Take note of whether the goods were released.
    Complete {
        transaction_id: TransactionId,
        dispensed: bool,
    },
    /// Withdraw the offer, or give back what was approved and not yet released.
    Cancel {
        transaction_id: TransactionId,
    },
    /// End a payment over which the journal and the institution differ, as the institution holds
    /// it: an operator's word on whether the goods were released.
    Resolve {
        transaction_id: TransactionId,
        dispensed: bool,
    },
}

/// Why the engine refuses a request of the till. A refused request changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TillRefusal {
    /// A field of the request is out of its range.
    #[error("{0}")]
    Invalid(OfferError),
    /// The terminal has no such open payment.
    #[error("no open payment has the id {0}")]
    Unknown(TransactionId),
    /// Another offer is waiting for a phone.
    #[error("the offer {0} is waiting for a phone; cancel it first")]
    OfferWaiting(TransactionId),
    /// The idempotency key belongs to a payment with other content.
    #[error("the idempotency key was used for another payment, {0}, with other content")]
    KeyReused(TransactionId),
    /// The request does not fit the payment's state. The explanation says whose turn it is.
    #[error("the payment is {state}: {explanation}")]
    WrongState { state: &'static str, explanation: &'static str },
    /// As many payments are open as the terminal's settings allow.
    #[error(
        "{0} payments are open, which is the limit; wait until the institution is reachable and \
         has settled some"
    )]
    TooManyOpen(usize),
    /// The terminal cannot take payments.
    #[error("the terminal is out of service: {0}")]
    OutOfService(String),
}

/// A payment as a till may see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentView {
    /// The id by which the till knows it: that of the sale.
    pub transaction_id: TransactionId,
    /// The id of the sale's newest transaction, by which phone and institution know it. It differs
    /// if the offer had to be made again.
    pub current_transaction_id: TransactionId,
    pub state: PaymentState,
    /// Release the goods, if you have not yet. Once true it stays true until the payment is given
    /// back.
    pub release: bool,
    /// The till was told to release the goods and has not reported whether it did: the terminal was
    /// restarted meanwhile, or the time for the report is over. Report now.
    pub dispense_unknown: bool,
    /// The institution's answer contradicts the journal or proves nothing. An operator has to look
    /// into it.
    pub disputed: bool,
    /// Goods were released, and the money for them was given back or never taken.
    pub given_away: bool,
    pub amount: Amount,
    pub reference: String,
    /// The amount is taken only after the till's report.
    pub capture_after_dispense: bool,
    /// Six digits for each phone that shows the offer now, for people to compare. At most 8.
    pub matching_codes: Vec<String>,
    /// By the terminal's clock.
    pub created_at: UnixTime,
    /// When the state last changed, by the terminal's clock.
    pub updated_at: UnixTime,
}

impl PaymentView {
    /// The view of a payment that no phone shows.
    pub fn of(payment: &Payment) -> Self {
        Self {
            transaction_id: payment.sale_id,
            current_transaction_id: payment.transaction_id,
            state: payment.state,
            // Nobody may hand out goods whose payment is being given back, not even a till that
            // forgot what it did.
            release: payment.released && payment.state.is_paid(),
            dispense_unknown: false,
            disputed: false,
            given_away: payment.is_given_away(),
            amount: payment.amount,
            reference: payment.reference.clone(),
            capture_after_dispense: payment.capture_after_dispense,
            matching_codes: Vec::new(),
            created_at: payment.created_at,
            updated_at: payment.updated_at,
        }
    }
}
