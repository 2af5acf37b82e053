//! The phone's side: a card, what it paid, and the conversation with a terminal.
//!
//! [`Session`] is pure: what came in over the link, what the person decided and the time are
//! inputs; what to write, to ask, to store and how it ended are outputs. A phone app drives it with
//! its own radio and storage; [`drive`] drives it over any [`crate::bluetooth::PhoneLink`]. This
//! room knows no radio: which terminal to connect to is the business
//! of [`crate::bluetooth::Central`] and of the binary.

mod attempts;
#[cfg(test)]
mod attempts_tests;
mod card;
mod directory;
mod driver;
mod enrolment;
#[cfg(test)]
mod fixtures;
mod outcome;
mod payment_record;
mod session;

pub use attempts::{ASK_ATTEMPTS_MAX, Connector, PAUSE_MS, PAY_ATTEMPTS_MAX, ask, pay};
pub use card::{Card, CardError, CardName, CardParts};
pub use directory::{DirectoryError, DirectoryStore, WalletDirectory};
pub use driver::{DriverSettings, PaymentStore, Person, Reported, StoreError, drive};
pub use enrolment::{EnrolmentError, EnrolmentRequest, enrol_card};
pub use outcome::{
    LinkFault, NotCharged, NotPaid, PendingReason, ReceiptFault, Refusal, SessionEnd,
};
pub use payment_record::{PaymentRecord, PaymentRecordError, PaymentStatus};
pub use session::{
    Decision, Input, InputRefusal, Notice, OfferView, Output, Reservation, Session, SessionSeed,
    SessionSettings,
};
