//! The reference institution's protocol: gRPC over TLS 1.3.

mod alternatives;
mod channel;
mod connection;
mod delivery;
mod enrolment;
mod examination;
mod handshake_fault;
mod progress;
mod relay;
mod renewal;
mod requests;
mod standing;
mod statement;
mod tls;
mod transaction;

#[cfg(test)]
mod tests;

pub use enrolment::{EnrolError, Enrolled, enrol_terminal};
pub use relay::GrpcRelay;
