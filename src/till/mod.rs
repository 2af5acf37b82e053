//! The till API: what the till asks of the terminal, over HTTP and JSON on this machine.
//!
//! The engine decides about payments, and when the till may release the goods.

mod address;
mod client;
mod json;
mod port;
mod problem;
mod query;
mod request_body;
mod routes;
mod server;
mod view;
mod wait;
mod web_page_check;

#[cfg(test)]
mod tests;

pub use address::{TillAddress, TillAddressError};
pub use client::{ConnectFault, NewPayment, NewPaymentItem, TillClient, TillClientError};
pub use port::{
    Answer, CALLS_MAX, PaymentList, TillCall, TillDriverEnd, TillPort, TillPortError, TillStatus,
    UPDATES_MAX,
};
pub use problem::Problem;
pub use request_body::{read_cancel, read_complete, read_create, read_idempotency_key};
pub use routes::{
    BODY_OCTETS_MAX, CONNECTIONS_MAX, LIST_LIMIT_DEFAULT, LIST_LIMIT_MAX, WAITERS_MAX,
};
pub use server::{TillListenError, TillListener};
pub use view::{PaymentJson, PaymentsJson, StatusJson};
pub use wait::WAIT_S_MAX;
