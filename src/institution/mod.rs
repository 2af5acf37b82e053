//! The reference institution: cards, decisions, ledger, and the gRPC services over them
//! (docs/institution.md).
//!
//! It is there to test against and to learn from. It moves no real money, speaks to no card scheme,
//! and keeps its keys in files.
//!
//! [`Institution`] does what is asked, in a file for each concern: `authorisation`, `settlement`,
//! `inquiry`, `standing`, `enrolment`, `registry` and `books`. Time and randomness are inputs, and
//! it does not know how a request arrived, so a simulator drives the same logic as the gRPC server.
//! What it needs of a store is in [`store`], what it keeps there in [`records`], and [`Server`]
//! puts it on the network.

mod attempt_limit;
mod authorisation;
mod books;
mod certificate_authority;
mod connection;
mod decision;
mod directory;
mod enrolment;
mod enrolment_service;
mod error;
mod inquiry;
mod keys;
mod payments_service;
mod places;
mod presented_payment;
mod randomness;
pub mod records;
mod registry;
mod request_queue;
mod retry;
mod server;
mod settlement;
mod standing;
mod status;
pub mod store;
mod transaction;
mod validity;
mod wall_clock;

#[cfg(test)]
mod tests;

pub use authorisation::APPROVAL_CODE_CHARACTERS;
pub use certificate_authority::{
    CertificateAuthority, CertificateError, ClientIdentity, ClientRequest, ServerIdentity,
};
pub use decision::OFFER_AGE_GRACE_MS;
pub use directory::{
    DirectoryError, OpenedInstitution, authority_certificate_path, create_institution,
    open_institution,
};
pub use enrolment::{CardEnrolment, TerminalEnrolment};
pub use error::InstitutionError;
pub use inquiry::PAGE_TRANSACTIONS_MAX;
pub use keys::{InstitutionKeys, KEY_SEED_OCTETS};
pub use presented_payment::AuthorisationRequest;
pub use randomness::{RandomnessError, random};
pub use records::{
    Account, AccountId, EnrolmentCode, EnrolmentCodeError, EnrolmentState, IssuedCard,
    LedgerBalance, LedgerEntry, LedgerFault, LedgerReport, PageEnd, RegisteredTerminal, StateTotal,
    TransactionDetail,
};
pub use registry::CardTerms;
pub use server::{Server, ServerError};
pub use standing::StandingFault;
pub use store::{MemoryStore, SqliteOpenError, SqliteStore, Store, StoreError};
pub use transaction::Transaction;
pub use validity::{
    AUTHORITY_VALIDITY_S, CARD_VALIDITY_S, CLOCK_TOLERANCE_S, KEYRING_VALIDITY_S,
    SERVER_VALIDITY_S, TERMINAL_VALIDITY_S,
};

/// The reference institution: its keys, its store, and what it does with them.
///
/// It does not check who asks: the caller has to know which terminal sent a request.
#[derive(Debug)]
pub struct Institution {
    keys: InstitutionKeys,
    store: Box<dyn Store>,
}

impl Institution {
    /// The institution with these keys and this store.
    pub fn new(keys: InstitutionKeys, store: impl Store + 'static) -> Self {
        Self { keys, store: Box::new(store) }
    }

    /// From now on, what it is asked fails with [`StoreError::Busy`] where another process has been
    /// writing to its store for so long.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn wait_for_lock_at_most(&mut self, milliseconds: u64) -> Result<(), StoreError> {
        self.store.wait_for_lock_at_most(milliseconds)
    }

    /// The keys it works with.
    pub fn keys(&self) -> &InstitutionKeys {
        &self.keys
    }
}
