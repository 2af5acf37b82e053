//! The phone's side around the pure session of `florin_core::wallet`: files, attempts, enrolment,
//! and a driver that runs a session over any [`crate::link::PhoneLink`].
//!
//! This room knows no radio: `bluetooth::Central` and the binary choose the terminal.

mod attempts;
#[cfg(test)]
mod attempts_tests;
mod directory;
mod driver;
mod enrolment;
mod payment_store;

pub use florin_core::wallet::*;

pub use attempts::{ASK_ATTEMPTS_MAX, Connector, PAUSE_MS, PAY_ATTEMPTS_MAX, ask, pay};
pub use directory::{DirectoryError, DirectoryStore, WalletDirectory};
pub use driver::{Cardholder, DriverSettings, Reported, drive};
pub use enrolment::{EnrolmentError, EnrolmentRequest, enrol_card};
pub use payment_store::{PaymentStore, StoreError};
