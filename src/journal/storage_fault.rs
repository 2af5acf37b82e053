//! What kind of trouble the disk makes, from SQLite's error code: what a person is told goes by it.

use std::fmt;

use rusqlite::ErrorCode;

/// One kind of trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StorageFault {
    /// No space, or a quota is used up.
    Full,
    /// The file system takes no writes: mounted so, or since its errors.
    ReadOnly,
    /// A read, a write or a sync failed. What was written since the last good sync may be on the disk or not.
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
