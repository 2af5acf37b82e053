//! The phone's side: a card, what it paid, and the conversation with a terminal.
//!
//! [`Session`] is pure: what came in over the link, what the person decided and the time are
//! inputs; what to write, to ask, to store and how it ended are outputs. A phone app drives it with
//! its own radio and storage.

mod card;
#[cfg(any(test, feature = "test-support"))]
pub mod fixtures;
mod outcome;
mod payment_record;
mod proof;
mod session;

pub use card::{Card, CardError, CardName, CardParts};
pub use outcome::{
    LinkFault, NotPaid, PendingReason, ReceiptFault, Refusal, SessionEnd, TerminalWord,
};
pub use payment_record::{PaymentRecord, PaymentRecordError, PaymentStatus};
pub use proof::{check_exclusion, check_receipt, exclude, settle};
pub use session::{
    Decision, Input, InputRefusal, Notice, OfferView, Output, Reservation, Session, SessionSeed,
    SessionSettings,
};
