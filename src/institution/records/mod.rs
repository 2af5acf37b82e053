//! What the institution keeps records of: accounts, terminals, cards, enrolment codes, transactions
//! and the ledger. Values only; where they are kept is the store's business.

mod account;
mod card;
mod enrolment_code;
mod enrolment_state;
mod evidence;
mod ledger;
mod ledger_report;
mod maintenance;
mod operation;
mod operator;
mod terminal;
mod transaction;

pub use account::{Account, AccountId, NewAccount};
pub use card::{CardKey, IssuedCard, NewCard};
pub use enrolment_code::{
    CodeDigest, CodeSubject, EnrolmentCode, EnrolmentCodeError, NewEnrolmentCode,
};
pub use enrolment_state::EnrolmentState;
pub use evidence::Evidence;
pub use ledger::{EntryKind, LedgerAccount, Transfer};
pub use ledger_report::{LedgerBalance, LedgerEntry, LedgerFault, LedgerReport, StateTotal};
pub use maintenance::{MaintenanceAction, MaintenanceEntry};
pub use operation::{
    AuditEntry, NewOperationRequest, OperationRequest, OperatorAction, RefundId, RequestDecision,
    Standing,
};
pub use operator::{OperatorName, RegisteredOperator};
pub use terminal::{NewTerminal, NextClient, RegisteredTerminal, TerminalKeys};
pub use transaction::{PageEnd, TransactionDetail, TransactionKey, TransactionRecord};
