//! The phone's side around the pure session of `florin_core::wallet`: files, attempts, enrolment,
//! questions to the institution, and a driver that runs a session over any
//! [`crate::link::PhoneLink`].
//!
//! This room knows no radio: `bluetooth::Central` and the binary choose the terminal.

mod attempts;
#[cfg(test)]
mod attempts_tests;
mod directory;
mod driver;
mod enrolment;
mod institution_channel;
mod online;
mod payment_store;

pub use florin_core::wallet::*;

pub use attempts::{ASK_ATTEMPTS_MAX, Connector, PAUSE_MS, PAY_ATTEMPTS_MAX, ask, pay};
pub use directory::{DirectoryError, DirectoryStore, WalletDirectory};
pub use driver::{Cardholder, DriverSettings, Reported, drive};
pub use enrolment::{EnrolmentError, EnrolmentRequest, enrol_card};
pub use institution_channel::{ContactError, InstitutionContact};
pub use online::{CardStanding, ListedPayment, Online, OnlineError, ask_online};
pub use payment_store::{PaymentStore, StoreError};
