//! The engine of the machine's side: what happens to a payment, and when.
//!
//! It is pure: inputs, time among them, go in, and outputs come out. It opens no socket and no file
//! and reads no clock; the driver does that (`florin::service`). An output with an effect outside
//! comes only after the journal has confirmed the record on which it rests.
//!
//! Also here, and pure as well: the payment as the journal keeps it, what the till and the
//! institution are told and tell, and the reconciliation of the journal with the institution.

mod addresses;
mod engine;
mod figures;
#[cfg(any(test, feature = "test-support"))]
pub mod fixtures;
mod gate;
mod identity;
mod input;
mod institution;
mod open_payment;
mod output;
mod payment;
mod phone_session;
mod reconciliation;
mod replies;
mod settings;
mod slots;
mod till;
mod timers;
mod token_bucket;
mod transition;

pub use engine::Terminal;
pub use figures::OpenPayments;
pub use identity::Identity;
pub use input::{Input, Now, PhoneQuestion, RecordNumber, TillCallId};
pub use institution::{InstitutionAnswer, InstitutionRequest, TransactionState};
pub use output::Output;
pub use payment::{NotChargedReason, Payment, PaymentState};
pub use reconciliation::{
    Difference, Finding, InstitutionTransaction, Reconciliation, Total, TotalKey,
};
pub use settings::{DispensePolicy, Settings};
pub use till::{PaymentRequest, PaymentView, TillRefusal, TillRequest};
pub use timers::{Deadline, DeadlinePurpose, PhoneTimer, Timer};

/// One connection of one phone, as the link numbers connections. A number is never reused, and it
/// is not an address: addresses rotate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PhoneId(pub u64);

/// The device address of a phone, as its link reports it. Phones change theirs every few minutes,
/// and anybody can forge one: it helps against a nuisance, and identifies nobody.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PhoneAddress(pub [u8; 6]);

impl std::fmt::Debug for PhoneAddress {
    /// Leaves out the octets: a log is no place for people's devices.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("PhoneAddress").finish_non_exhaustive()
    }
}

/// How often the terminal advertises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdvertisingPace {
    /// An offer waits: every 20 to 100 ms, so that a phone finds the terminal at once.
    Fast,
    /// No offer waits: about every second, which leaves the radio channels free.
    Slow,
    /// No payment can be taken: at the slow pace, under a name that says so.
    OutOfService,
}

#[cfg(test)]
mod tests;
