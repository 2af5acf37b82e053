//! What kind of trouble a journal's storage makes. It decides what the operator is told.

use std::fmt;
use std::io::{self, ErrorKind};

/// One kind of trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StorageFault {
    /// No space, or a quota is used up.
    Full,
    /// The file system takes no writes: it was mounted read-only, or became so after errors.
    ReadOnly,
    /// A read, a write or a sync failed. What was written since the last good sync may be on the
    /// disk or not.
    Device,
    /// The file is not a whole database.
    Damaged,
    /// Another program holds the database for too long.
    Locked,
    /// It cannot be opened: the file or its directory is missing, or permissions.
    Unopenable,
    Other,
}

impl StorageFault {
    /// The kind of an error that the operating system gives for a file.
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
            Self::Full => "the disk is full; free some space, and the terminal continues by itself",
            Self::ReadOnly => {
                "the file system is read-only; find the reason in the kernel's log (`dmesg`) and \
                 mount it writable, and the terminal continues by itself"
            }
            Self::Device => {
                "the disk does not read or write; see the kernel's log (`dmesg`), and have the \
                 card or disk replaced soon. The terminal tries again by itself"
            }
            Self::Damaged => {
                "it is damaged; stop the service, keep the file, put a copy back or start a new \
                 journal (docs/operations.md)"
            }
            Self::Locked => {
                "another program holds it; end that program, and the terminal continues by itself"
            }
            Self::Unopenable => {
                "it cannot be opened; check that its directory exists and that the service's user \
                 may read and write it, and the terminal continues by itself"
            }
            Self::Other => {
                "the database failed; see the kernel's log (`dmesg`). The terminal tries again by \
                 itself"
            }
        })
    }
}
