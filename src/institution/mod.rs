//! The reference institution: cards, decisions, ledger, and the gRPC service over them
//! (docs/institution.md).
//!
//! It is there to test against and to learn from. It moves no real money, speaks to no card scheme,
//! and keeps its keys in files.

mod attempt_limit;
mod certificate_authority;
mod connection;
mod decision;
mod directory;
mod institution_thread;
mod keys;
mod processing;
mod randomness;
mod server;
mod service;
mod store;

pub use certificate_authority::{
    AUTHORITY_VALIDITY_S, CertificateAuthority, CertificateError, ClientIdentity, ClientRequest,
    SERVER_VALIDITY_S, ServerIdentity,
};
pub use decision::OFFER_AGE_GRACE_MS;
pub use directory::{
    DirectoryError, OpenedInstitution, authority_certificate_path, create_institution,
    open_institution,
};
pub use keys::{InstitutionKeys, KEY_SEED_OCTETS, KEYRING_VALIDITY_S};
pub use processing::{
    APPROVAL_CODE_CHARACTERS, AuthorisationRequest, CARD_VALIDITY_S, CLOCK_TOLERANCE_S,
    CardEnrolment, CardTerms, Institution, InstitutionError, PAGE_TRANSACTIONS_MAX,
    TERMINAL_VALIDITY_S, TerminalEnrolment, Transaction,
};
pub use randomness::{RandomnessError, random};
pub use server::{Server, ServerError};
pub use store::{
    Account, AccountId, Card, CardState, EnrolmentCode, EnrolmentCodeError, LedgerBalance,
    LedgerEntry, LedgerFault, LedgerReport, PageEnd, StateTotal, Store, StoreError, Terminal,
    TerminalState, TransactionDetail, TransactionState,
};
