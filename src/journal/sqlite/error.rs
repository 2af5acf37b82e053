//! What can be wrong with the journal's SQLite file, and what SQLite's errors mean for the
//! journal.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::path::Path;

use rusqlite::ErrorCode;
use rusqlite::ffi::SQLITE_IOERR_SHMSIZE;

use super::super::{JournalError, RecoveryLevel, StorageFault};
use crate::io_error_text::io_error_text;

/// Why the journal's file cannot be opened, checked or written anew.
#[derive(Debug, thiserror::Error)]
pub enum SqliteJournalError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// Written by a newer version.
    #[error(
        "the journal {path} has schema version {found}, and this program knows {known} at most; \
         install the newer version again"
    )]
    Newer {
        path: String,
        found: u32,
        /// The newest version that this program knows.
        known: u32,
    },
    /// Written by an older version, and only to be read.
    #[error(
        "the journal {path} has schema version {found}, and this program reads {known}; start the \
         service once, which brings it up to date"
    )]
    Older {
        path: String,
        found: u32,
        /// The version that this program reads.
        known: u32,
    },
    /// A file beside the database.
    #[error(
        "the journal's file {path} cannot be used: {} ({})",
        StorageFault::of_file(.source),
        io_error_text(.source)
    )]
    File { path: String, source: std::io::Error },
    /// There was a journal, and it is missing or empty.
    #[error(
        "the journal {path} is missing or empty, and this terminal has had one: put it back, or \
         mount the disk that holds it. If it is lost for good, remove the mark (`rm '{mark}'`): \
         the terminal then begins a new journal, and nobody settles the payments that were open in \
         the old one (docs/operations.md)"
    )]
    Lost {
        path: String,
        /// The file that says that there was a journal.
        mark: String,
    },
    /// SQLite's check found damage.
    #[error(
        "the journal {path} is damaged: {detail}; stop the service, keep the file, put a copy \
         back or start a new journal (docs/operations.md)"
    )]
    Damaged {
        path: String,
        /// What the check found first.
        detail: String,
    },
}

impl SqliteJournalError {
    /// Something outside SQLite went wrong with a file of the journal.
    pub(super) fn file(path: &Path, source: std::io::Error) -> Self {
        Self::File { path: path.display().to_string(), source }
    }

    /// SQLite went wrong over this file.
    pub(super) fn storage(path: impl AsRef<Path>, error: rusqlite::Error) -> Self {
        storage_error(path, error).into()
    }

    /// What the journal needs before it is trusted again.
    pub fn recovery_level(&self) -> RecoveryLevel {
        match self {
            Self::Journal(error) => error.recovery_level(),
            Self::File { .. } => RecoveryLevel::Rewrite,
            Self::Damaged { .. } => RecoveryLevel::Check,
            Self::Newer { .. } | Self::Older { .. } | Self::Lost { .. } => RecoveryLevel::Open,
        }
    }
}

/// What an error of SQLite over the file at `path` means for the journal.
pub(super) fn storage_error(path: impl AsRef<Path>, error: rusqlite::Error) -> JournalError {
    let path = path.as_ref();
    let reported = reported_fault(&error);
    JournalError::Storage {
        journal: path.display().to_string(),
        fault: actual_fault(path, reported),
        // By what SQLite reports: where a file system has become read-only, something may have
        // gone wrong before.
        recovery_level: match reported {
            StorageFault::Device => RecoveryLevel::Rewrite,
            StorageFault::Damaged => RecoveryLevel::Check,
            StorageFault::Full
            | StorageFault::ReadOnly
            | StorageFault::Locked
            | StorageFault::Unopenable
            | StorageFault::Other => RecoveryLevel::Open,
        },
        detail: error.to_string(),
    }
}

fn reported_fault(error: &rusqlite::Error) -> StorageFault {
    // There is no room for the file of the memory that connections share. It holds nothing that
    // lasts.
    if error.sqlite_error().is_some_and(|error| error.extended_code == SQLITE_IOERR_SHMSIZE) {
        return StorageFault::Full;
    }
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => StorageFault::Full,
        Some(ErrorCode::ReadOnly) => StorageFault::ReadOnly,
        Some(ErrorCode::SystemIoFailure) => StorageFault::Device,
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => StorageFault::Damaged,
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StorageFault::Locked,
        Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => StorageFault::Unopenable,
        Some(_) | None => StorageFault::Other,
    }
}

/// A file system that has become read-only since the file was opened looks to SQLite like a disk
/// that takes no writes.
fn actual_fault(path: &Path, reported: StorageFault) -> StorageFault {
    let is_read_only = || {
        let opened = OpenOptions::new().append(true).open(path);
        opened.is_err_and(|error| error.kind() == ErrorKind::ReadOnlyFilesystem)
    };
    if reported == StorageFault::Device && is_read_only() {
        StorageFault::ReadOnly
    } else {
        reported
    }
}
