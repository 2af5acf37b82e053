//! What kind of trouble the disk makes, from what SQLite or the system says: what a person is told
//! goes by it.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, ErrorKind};
use std::path::Path;

use rusqlite::ErrorCode;
use rusqlite::ffi::SQLITE_IOERR_SHMSIZE;

/// One kind of trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StorageFault {
    /// No space, or a quota is used up.
    Full,
    /// The file system takes no writes: mounted so, or since its errors.
    ReadOnly,
    /// A read, a write or a sync failed. What was written since the last good sync may be on the
    /// disk or not.
    Device,
    /// What is in the file is no whole database.
    Damaged,
    /// Another program holds the database for too long.
    Locked,
    /// It cannot be opened: the file or its directory is missing, or permissions.
    Unopenable,
    /// All else.
    Other,
}

impl StorageFault {
    /// The kind of an error.
    pub fn of(error: &rusqlite::Error) -> Self {
        // No room for the memory that connections share, which SQLite keeps in a file and which
        // holds nothing that lasts.
        if error.sqlite_error().is_some_and(|error| error.extended_code == SQLITE_IOERR_SHMSIZE) {
            return Self::Full;
        }
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full,
            Some(ErrorCode::ReadOnly) => Self::ReadOnly,
            Some(ErrorCode::SystemIoFailure) => Self::Device,
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Damaged,
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Locked,
            Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => Self::Unopenable,
            Some(_) | None => Self::Other,
        }
    }

    /// The kind of an error of SQLite over the file at `path`. A file system that has become
    /// read-only since the file was opened looks to SQLite like a disk that takes no writes.
    pub(super) fn at(path: &Path, error: &rusqlite::Error) -> Self {
        let kind = Self::of(error);
        let is_read_only = || {
            let opened = OpenOptions::new().append(true).open(path);
            opened.is_err_and(|error| error.kind() == ErrorKind::ReadOnlyFilesystem)
        };
        if kind == Self::Device && is_read_only() { Self::ReadOnly } else { kind }
    }

    /// The kind of an error that the system gives for a file.
    pub fn of_file(error: &io::Error) -> Self {
        let is = |kinds: &[ErrorKind]| kinds.contains(&error.kind());
        if is(&[ErrorKind::StorageFull, ErrorKind::QuotaExceeded]) {
            Self::Full
        } else if is(&[ErrorKind::ReadOnlyFilesystem]) {
            Self::ReadOnly
        } else if is(&[ErrorKind::NotFound, ErrorKind::PermissionDenied]) {
            Self::Unopenable
        } else {
            Self::Device
        }
    }
}

impl fmt::Display for StorageFault {
    /// What it is, and whose turn it is.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Full => "the disk is full; free some space, and the terminal goes on by itself",
            Self::ReadOnly => {
                "the file system is read-only; see the kernel's log for the reason and mount it writable, and the terminal \
                 goes on by itself"
            }
            Self::Device => {
                "the disk does not read or write; see the kernel's log, and have the card or disk replaced soon. The \
                 terminal tries again by itself"
            }
            Self::Damaged => {
                "it is damaged; stop the service, keep the file, put a copy back or start a new journal \
                 (docs/operations.md)"
            }
            Self::Locked => "another program holds it; end that program, and the terminal goes on by itself",
            Self::Unopenable => {
                "it cannot be opened; see to its directory and the permissions, and the terminal goes on by itself"
            }
            Self::Other => "SQLite failed; see the kernel's log. The terminal tries again by itself",
        })
    }
}
