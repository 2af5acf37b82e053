//! What the institution needs of a store, and the stores there are.
//!
//! A decision takes two calls: the institution reads the facts, decides and signs outside of any
//! database transaction, and then hands over the decision together with the facts it rests on,
//! which the store writes only if they still hold. So decisions are pure functions, cryptography
//! never holds a lock of the database, and a write is plain data that a store can queue, commit
//! together with others, or send to a server.
//!
//! Every store guarantees:
//!
//! - **Atomic.** A method does all that its documentation says, or changes nothing. Facts are
//!   checked and the decision is written in one transaction of the database, and no other writer
//!   comes in between. A store whose transactions run beside each other has to lock what it reads
//!   the facts from, until it commits.
//! - **Durable.** What a method has written survives a crash and a power cut from the moment it
//!   returns. ([`MemoryStore`] keeps nothing beyond its own life.)
//! - **Idempotent by transaction.** There is at most one record for each [`TransactionKey`], and at
//!   most one hold, one capture, one reversal and one write-off for each record. Refunds are
//!   idempotent by their own ids, and together give back what was captured at most.
//! - **The audit log only grows.** What an operator does and its audit entry are written together.
//! - **The counter of a card only moves up**, and no two authorisations use the same one.
//! - **The ledger sums to zero.** Every entry does, balances are the sums of their postings, no
//!   ledger account but `funding` and `loss` goes below zero, and no posting is ever changed or
//!   deleted.
//!
//! A write that would break one of the last four is [`StoreError::RuleBroken`]: the institution
//! never asks for one. The tests in `conformance_tests.rs` hold every store to all of this.
//!
//! [`TransactionKey`]: super::records::TransactionKey

mod enrolment;
mod error;
mod ledger;
mod life;
mod memory;
mod operations;
mod payments;
mod registry;
mod sqlite;
mod written;

#[cfg(test)]
mod conformance_tests;

use std::fmt;

pub use enrolment::{
    CardEnrolmentRecord, EnrolmentFacts, EnrolmentStore, EnrolmentSubject, TerminalEnrolmentRecord,
};
pub use error::StoreError;
pub use ledger::LedgerStore;
pub use life::{LifeStore, StoreLife, StoreProgress};
pub use memory::MemoryStore;
pub use operations::{OperationStore, RefundRecord, WriteOffRecord};
pub use payments::{
    Approval, AuthorisationFacts, AuthorisationRecord, AuthorisationSubject, CaptureRecord,
    PageQuery, PaymentStore, ReversalRecord, SEQUENCE_GAP_MAX, TombstoneRecord,
};
pub use registry::RegistryStore;
pub use sqlite::{SqliteOpenError, SqliteStore};
pub use written::Written;

/// What the institution needs of a store, in six parts.
pub trait Store:
    PaymentStore
    + OperationStore
    + EnrolmentStore
    + RegistryStore
    + LedgerStore
    + LifeStore
    + Send
    + fmt::Debug
{
}

impl<S> Store for S where
    S: PaymentStore
        + OperationStore
        + EnrolmentStore
        + RegistryStore
        + LedgerStore
        + LifeStore
        + Send
        + fmt::Debug
{
}
