//! The durable record of what the terminal did: written before every effect, read at a restart.
//!
//! It keeps payments and the order in which they changed. It decides nothing and tells nobody.
//! `interface` says what the terminal needs of a journal; `sqlite` is the journal in a file.

mod interface;
mod recovery_level;
mod sqlite;
mod storage_fault;
mod writer;

pub use interface::{Journal, JournalError};
pub use recovery_level::RecoveryLevel;
pub use sqlite::{Change, SqliteJournal, SqliteJournalError};
pub use storage_fault::StorageFault;
pub use writer::{JournalAnswer, JournalRequest, JournalWriter, Search};
