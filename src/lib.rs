//! Florin: pay an unattended machine with a phone, over Bluetooth Low Energy, when only the machine
//! is online.
//!
//! The rooms of the house, in the order in which a payment passes through them (ARCHITECTURE.md has
//! the reasons):
//!
//! - [`domain`]: money, identifiers, offer, outcome, receipt: values that cannot be wrong.
//! - [`protocol`]: what phone and terminal say: fragments, messages, channel, wire errors.
//! - [`credential`]: what is signed and sealed: terminal certificate, card command, receipt,
//!   keyring.
//! - [`terminal`]: the engine of the machine's side: payment states, phone sessions, timers. Pure.
//! - [`journal`]: the durable record of what the terminal did.
//! - [`bluetooth`]: the air: GATT service over BlueZ, GATT central over btleplug, and an emulated
//!   link.
//! - [`relay`]: from the terminal to the institution.
//! - [`till`]: from the kiosk: HTTP.
//! - [`wallet`]: the phone's side: card, session (pure), link.
//! - [`institution`]: the reference institution: cards, decisions, ledger.
//! - [`service`]: composition: configuration, the driver that runs engine and adapters, exit codes.
//!
//! Beside the rooms, `institution_api` holds the generated gRPC code, [`institution_address`] says
//! where an institution is, [`log`] starts the log,
//! `manual` writes the pages for packages, and [`private_file`] keeps the files of all three
//! parties from other users' eyes. [`command_line`] reads what people type. [`causes`], [`plural`],
//! [`duration_text`] and [`io_error_text`] are for messages to people.

#![cfg_attr(test, allow(clippy::unwrap_used))]

#[cfg(feature = "edge")]
pub mod bluetooth;
pub use florin_core::{credential, domain, protocol, terminal};

pub mod causes;
#[cfg(feature = "edge")]
pub mod command_line;
pub mod duration_text;
#[cfg(feature = "institution")]
pub mod institution;
#[cfg(feature = "edge")]
pub mod institution_address;
#[cfg(feature = "edge")]
mod institution_api;
pub mod io_error_text;
#[cfg(feature = "terminal")]
pub mod journal;
#[cfg(feature = "edge")]
pub mod link;
#[cfg(feature = "edge")]
pub mod log;
#[cfg(feature = "manual")]
pub mod manual;
pub mod plural;
#[cfg(feature = "edge")]
pub mod private_file;
#[cfg(feature = "terminal")]
pub mod relay;
#[cfg(feature = "terminal")]
pub mod service;
#[cfg(feature = "terminal")]
pub mod till;
#[cfg(feature = "wallet")]
pub mod wallet;
