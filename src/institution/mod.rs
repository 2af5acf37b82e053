//! The reference institution: cards, decisions, ledger, and the gRPC services over them
//! (docs/institution.md).
//!
//! It is there to test against and to learn from. It moves no real money, speaks to no card scheme,
//! and keeps its keys in files.
//!
//! [`Institution`] does what is asked, in a file for each concern: `authorisation`, `settlement`,
//! `operations`, `inquiry`, `standing`, `cardholder`, `enrolment`, `registry` and `books`. Time and
//! randomness are inputs, and it does not know how a request arrived, so a simulator drives the
//! same logic as the gRPC server. What it needs of a store is in [`store`], what it keeps there in
//! [`records`], and [`Server`] puts it on the network.

mod administration_service;
mod attempt_limit;
mod authorisation;
mod books;
mod cardholder;
mod cardholder_service;
mod certificate_authority;
mod challenge;
mod connection;
mod copies;
mod decision;
mod directory;
mod enrolment;
mod enrolment_service;
mod error;
mod evidence;
mod inquiry;
mod keys;
mod operations;
mod operators;
mod payments_service;
mod presentation;
mod presented_payment;
mod randomness;
pub mod records;
mod registry;
mod renewal;
mod request_fields;
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
pub use cardholder::{
    CARD_PAYMENTS_MAX, CardPayment, CardStanding, CardholderAnswer, CardholderQuestion,
    PaymentStanding, QuestionSubject,
};
pub use certificate_authority::{
    CertificateAuthority, CertificateError, ClientIdentity, ClientRequest, OperatorCertificate,
    OperatorIdentity, ServerIdentity,
};
pub use decision::OFFER_AGE_GRACE_MS;
pub use directory::{
    DirectoryError, OpenedInstitution, Serving, adopt_store, authority_certificate_path,
    back_up_store, create_institution, create_institution_of_two, open_institution, open_to_serve,
};
pub use enrolment::{CardEnrolment, ChannelKeyClaim, PublishedKeyring, TerminalEnrolment};
pub use error::InstitutionError;
pub use evidence::{EvidenceCheck, EvidenceReport};
pub use inquiry::PAGE_TRANSACTIONS_MAX;
pub use keys::{InstitutionKeys, KEY_SEED_OCTETS};
pub use operations::{Operation, OperatorOrder, OrderOutcome};
pub use presentation::Presentation;
pub use presented_payment::AuthorisationRequest;
pub use randomness::{RandomnessError, random};
pub use records::{
    Account, AccountId, AuditEntry, EnrolmentCode, EnrolmentCodeError, EnrolmentState, IssuedCard,
    LedgerBalance, LedgerEntry, LedgerFault, LedgerReport, MaintenanceAction, MaintenanceEntry,
    NextClient, OperationRequest, OperatorAction, OperatorName, PageEnd, RefundId,
    RegisteredOperator, RegisteredTerminal, Standing, StateTotal, TransactionDetail,
    TransactionKey,
};
pub use registry::CardTerms;
pub use server::{Server, ServerError};
pub use settlement::{HOLD_S, TOMBSTONE_PERIOD_S, TOMBSTONES_MAX};
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
    /// How many tombstones a terminal may leave in a day.
    tombstones_max: u64,
    /// Above this amount, in minor units, an operator's action takes two people; none for never.
    two_people_above_minor: Option<u64>,
}

impl Institution {
    /// The institution with these keys and this store.
    pub fn new(keys: InstitutionKeys, store: impl Store + 'static) -> Self {
        let (store, tombstones_max) = (Box::new(store), TOMBSTONES_MAX);
        Self { keys, store, tombstones_max, two_people_above_minor: None }
    }

    /// Has two people decide on what operators do above an amount, in minor units.
    #[must_use]
    pub fn with_two_people_above(self, minor: Option<u64>) -> Self {
        Self { two_people_above_minor: minor, ..self }
    }

    /// The keys it works with.
    pub fn keys(&self) -> &InstitutionKeys {
        &self.keys
    }
}
