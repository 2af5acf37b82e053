//! The outputs of the engine.

use super::{
    AdvertisingPace, InstitutionRequest, Payment, PaymentView, PhoneId, PhoneQuestion,
    RecordNumber, StoreGeneration, TillCallId, TillRefusal,
};
use crate::domain::TransactionId;

/// An action that the engine wants done. The driver carries out the actions of a step in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Write this payment to the journal, durably, then give
    /// [`Input::Journalled`](super::Input::Journalled).
    Append { record: RecordNumber, payment: Box<Payment> },
    /// Send a value of at most 512 octets to a phone.
    Notify { phone: PhoneId, value: Vec<u8> },
    /// End a connection. The reason is for the log.
    Disconnect { phone: PhoneId, reason: &'static str },
    /// Find what the journal holds of a payment, then give
    /// [`Input::Loaded`](super::Input::Loaded).
    Load { phone: PhoneId, question: PhoneQuestion },
    /// Find final payments that this life of the institution's store has not confirmed, the newest
    /// first, then give [`Input::FoundUnconfirmed`](super::Input::FoundUnconfirmed).
    FindUnconfirmed {
        generation: StoreGeneration,
        /// Only payments that are older than this one.
        before: Option<TransactionId>,
        /// At most so many.
        limit: usize,
    },
    /// Send a request to the institution, then give
    /// [`Input::Institution`](super::Input::Institution).
    Request {
        request: InstitutionRequest,
        /// After how many milliseconds the request counts as unanswered.
        timeout_ms: u64,
    },
    /// Answer a call of the till.
    AnswerTill { call: TillCallId, answer: Result<PaymentView, TillRefusal> },
    /// Tell everybody who watches a payment that it has changed.
    Publish(PaymentView),
    /// Advertise at another pace.
    Advertise(AdvertisingPace),
}
