//! From the kiosk: what the till asks of the terminal, over HTTP and JSON on this machine.
//!
//! The payments themselves, and when the till may release, are the engine's business.

mod address;
mod client;
mod guard;
mod port;
mod problem;
mod request_body;
mod routes;
mod server;
mod view;

#[cfg(test)]
mod tests;

pub use address::{TillAddress, TillAddressError};
pub use client::{NewPayment, NewPaymentItem, TillClient, TillClientError};
pub use port::{
    Answer, CALLS_MAX, PaymentList, TillCall, TillDriverEnd, TillPort, TillPortError, TillStatus,
    UPDATES_MAX,
};
pub use problem::Problem;
pub use request_body::{read_cancel, read_complete, read_create, read_idempotency_key};
pub use routes::{BODY_OCTETS_MAX, WAIT_S_MAX, WAITERS_MAX};
pub use server::{CONNECTIONS_MAX, TillListenError, TillListener};
pub use view::{PaymentJson, PaymentsJson, StatusJson};
