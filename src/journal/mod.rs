//! The durable record of what the terminal did: written before every effect, read at a restart.
//!
//! It keeps payments and the order in which they changed. It decides nothing and tells nobody.

mod distrust;
mod rewrite;
mod sqlite;
mod storage_fault;
mod writer;

pub use distrust::Distrust;
pub use sqlite::{Change, SqliteJournal};
pub use storage_fault::StorageFault;
pub use writer::{JournalAnswer, JournalRequest, JournalWriter, Search};

use std::path::{Path, PathBuf};

use crate::domain::TransactionId;
use crate::terminal::Payment;

/// Why the journal does not do what it is asked. A terminal that cannot write its journal takes no
/// payments.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The database, or the disk under it.
    #[error("the journal {path} cannot be used: {fault} ({source})")]
    Storage {
        /// The file.
        path: String,
        /// What kind of trouble it is.
        fault: StorageFault,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// Written by a newer version.
    #[error(
        "the journal {path} has schema version {found}, and this program knows {known} at most; install the newer version again"
    )]
    Newer {
        /// The file.
        path: String,
        /// The file's.
        found: u32,
        /// This program's.
        known: u32,
    },
    /// Written by an older version, and only to be read.
    #[error(
        "the journal {path} has schema version {found}, and this program reads {known}; start the service once, which brings it up to \
         date"
    )]
    Older {
        /// The file.
        path: String,
        /// The file's.
        found: u32,
        /// This program's.
        known: u32,
    },
    /// A file beside the database.
    #[error("the journal's file {path} cannot be used: {} ({source})", StorageFault::of_file(.source))]
    File {
        /// The file.
        path: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// The database is not whole.
    #[error(
        "the journal {path} is damaged: {detail}; stop the service, keep the file, put a copy back or start a new journal \
         (docs/operations.md)"
    )]
    Damaged {
        /// The file.
        path: String,
        /// What SQLite's check found first.
        detail: String,
    },
    /// A row that this program cannot have written.
    #[error(
        "the journal {path} holds a payment that cannot be read: {detail}; keep the file and ask for help"
    )]
    Corrupt {
        /// The file.
        path: String,
        /// Which, and what.
        detail: String,
    },
}

impl JournalError {
    /// SQLite went wrong over this file.
    fn storage(path: impl AsRef<Path>, source: rusqlite::Error) -> Self {
        let path = path.as_ref();
        Self::Storage {
            path: path.display().to_string(),
            fault: StorageFault::at(path, &source),
            source,
        }
    }

    /// Something outside SQLite went wrong with a file of the journal.
    fn file(path: &Path, source: std::io::Error) -> Self {
        Self::File { path: path.display().to_string(), source }
    }

    /// How the file has to be looked at before it is trusted again.
    pub fn distrust(&self) -> Distrust {
        match self {
            // By what SQLite says: where a file system has become read-only, something may have
            // gone wrong before.
            Self::Storage { source, .. } => match StorageFault::of(source) {
                StorageFault::Device => Distrust::Disk,
                StorageFault::Damaged => Distrust::Content,
                StorageFault::Full
                | StorageFault::ReadOnly
                | StorageFault::Locked
                | StorageFault::Unopenable
                | StorageFault::Other => Distrust::Nothing,
            },
            Self::File { .. } => Distrust::Disk,
            Self::Damaged { .. } | Self::Corrupt { .. } => Distrust::Content,
            Self::Newer { .. } | Self::Older { .. } => Distrust::Nothing,
        }
    }
}

/// A file beside the journal.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// The record of payments. Each call is done, durably, when it returns.
pub trait Journal: Send {
    /// Writes a payment as it is now, and that it became so.
    ///
    /// # Errors
    /// [`JournalError`]; nothing is written then.
    fn append(&mut self, payment: &Payment) -> Result<(), JournalError>;

    /// The payment with this id.
    ///
    /// # Errors
    /// [`JournalError`].
    fn payment(&mut self, transaction_id: TransactionId) -> Result<Option<Payment>, JournalError>;

    /// The payment that the till made under this idempotency key.
    ///
    /// # Errors
    /// [`JournalError`].
    fn payment_by_key(&mut self, idempotency_key: &str) -> Result<Option<Payment>, JournalError>;

    /// Payments, at most `limit`: the newest first, or the open ones, the oldest first.
    ///
    /// # Errors
    /// [`JournalError`].
    fn payments(&mut self, open_only: bool, limit: usize) -> Result<Vec<Payment>, JournalError>;
}
