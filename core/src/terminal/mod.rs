//! The engine of the machine's side: what happens to a payment, and when.
//!
//! Pure: inputs (with time among them) go in, outputs come out. It opens no socket and no file and
//! asks no clock; a driver does that (`florin::service`). An output that has an effect outside
//! comes only after the journal has confirmed the record on which it rests.

mod engine;
mod identity;
mod institution;
mod open_payments;
mod payment;
mod phone_session;
mod reconciliation;
mod settings;
mod slots;
mod till;
mod token_bucket;
mod transition;

pub use engine::{Input, Now, Output, PhoneQuestion, RecordNumber, Terminal, TillCallId};
pub use identity::Identity;
pub use institution::{InstitutionAnswer, InstitutionRequest, TransactionState};
pub use open_payments::OpenPayments;
pub use payment::{Payment, PaymentState};
pub use reconciliation::{
    Difference, Finding, InstitutionTransaction, Reconciliation, Total, TotalKey,
};
pub use settings::{DispensePolicy, Settings};
pub use till::{PaymentRequest, PaymentView, TillRefusal, TillRequest};

/// One connection of one phone, as the link numbers them. Never reused, and not an address:
/// addresses rotate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PhoneId(pub u64);

/// How eagerly the terminal advertises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdvertisingPace {
    /// An offer waits: every 20 to 100 ms, so that a phone finds it at once.
    Fast,
    /// Nothing to pay: about every second, which spares the air.
    Slow,
    /// No payment can be taken: as slowly, under a name that says so.
    OutOfService,
}
