//! Florin's core: what a phone, a terminal and an institution say to each other, and how the first
//! two behave.
//!
//! Pure: bytes, time and randomness come in as values, and what is to be done goes out as values.
//! Nothing in here knows a clock, a socket, a file, a runtime or a source of randomness, so it runs
//! in a service, in a phone app and in a browser (`wasm32-unknown-unknown`) alike.
//!
//! - [`domain`]: money, identifiers, offer, outcome, receipt: values that cannot be wrong.
//! - [`protocol`]: fragments, messages, channel, wire errors.
//! - [`credential`]: what is signed and sealed: terminal certificate, card command, receipt,
//!   keyring.
//! - [`terminal`]: the engine of the machine's side: payment states, phone sessions, timers.
//! - [`wallet`]: the phone's side: card, session, outcome, payment record.
//!
//! The crate `florin` has the programs around it: journal, radio, network, configuration.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod credential;
pub mod domain;
pub mod protocol;
pub mod terminal;
pub mod wallet;
