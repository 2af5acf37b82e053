//! The inputs of the engine, and what identifies them.

use super::{InstitutionAnswer, Payment, PhoneAddress, PhoneId, TillRequest};
use crate::domain::{Moment, TransactionId, UnixTime};

/// The time of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// By the monotonic clock, for deadlines.
    pub moment: Moment,
    /// By the wall clock, for people.
    pub wall: UnixTime,
}

/// A call of the till that waits for its answer, as the driver numbers calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TillCallId(pub u64);

/// The place of a record in the order in which the engine appended records, from 1. The default, 0,
/// stands for what the journal held when the engine started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct RecordNumber(pub u64);

/// An event that the driver reports to the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    PhoneConnected {
        phone: PhoneId,
        /// None if the link has no addresses.
        address: Option<PhoneAddress>,
    },
    /// A phone wrote a value to the inbox.
    PhoneWrote {
        phone: PhoneId,
        /// The longest value that the connection carries now, in octets, 20 to 512.
        value_octets_max: usize,
        value: Vec<u8>,
    },
    PhoneDisconnected(PhoneId),
    /// The till requests something.
    Till {
        call: TillCallId,
        request: TillRequest,
        /// What the journal holds under the request's transaction id or idempotency key.
        stored: Option<Payment>,
    },
    /// The journal holds every record up to and including this one.
    Journalled(RecordNumber),
    /// The journal was searched for a payment about which a phone inquired.
    Loaded {
        phone: PhoneId,
        question: PhoneQuestion,
        payment: Option<Payment>,
    },
    /// The institution answered a request, or will not.
    Institution {
        transaction_id: TransactionId,
        answer: InstitutionAnswer,
    },
    /// The deadline of [`Terminal::next_deadline`](super::Terminal::next_deadline) has come.
    Tick,
}

/// A phone's inquiry about a payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PhoneQuestion {
    pub transaction_id: TransactionId,
    /// SHA-256 over the sealed command that the phone sent, or claims to have sent.
    pub command_digest: [u8; 32],
    /// The phone sent a command just now; otherwise it inquired about a result.
    pub is_command: bool,
}
