//! Why an institution's directory cannot be made or opened.

use std::io;
use std::path::{Path, PathBuf};

use crate::credential::CredentialError;
use crate::institution::certificate_authority::CertificateError;
use crate::institution::error::InstitutionError;
use crate::institution::randomness::RandomnessError;
use crate::institution::store::SqliteOpenError;
use crate::private_file::PrivateFileError;

/// Why a directory cannot be made or opened. Never holds key data.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// The directory holds an institution already.
    #[error(
        "{} holds an institution already; nothing was changed; name a new directory for another \
         institution", .0.display()
    )]
    Initialised(PathBuf),
    /// The directory holds something else.
    #[error("{} is not empty; name a new directory", .0.display())]
    NotEmpty(PathBuf),
    /// The path ends in no name, as `.` and `/` do.
    #[error(
        "`{}` does not end in a name for the new directory; name one, such as `--directory bank`",
        .0.display()
    )]
    NoName(PathBuf),
    /// The directory holds no institution.
    #[error(
        "{path} holds no institution; check the path, or make an institution with \
         `florin-acquirer init --directory '{path}' --name NAME --host-name HOST`",
        path = .0.display()
    )]
    NotInitialised(PathBuf),
    /// Another process serves the institution.
    #[error(
        "another `florin-acquirer serve` serves {}: one store has one server; stop the other one \
         first", .0.display()
    )]
    Served(PathBuf),
    /// The name of the institution, or its host names, cannot be used.
    #[error("the institution's {field}: {detail}")]
    Invalid {
        field: &'static str,
        /// What is wrong with it, and what was expected.
        detail: String,
    },
    /// A file is not as it was made, or missing.
    #[error(
        "{} is not as `florin-acquirer init` made it: {detail}; restore it from a backup",
        path.display()
    )]
    Damaged { path: PathBuf, detail: String },
    /// The keys do not belong together.
    #[error(
        "the keys in {} do not belong together ({source}); restore all of them from one backup",
        path.display()
    )]
    Keys {
        path: PathBuf,
        /// Which key does not.
        source: CredentialError,
    },
    /// The store is a copy, or older than what was served last.
    #[error(
        "{} is not the store that was served here last: {what}. Payments that were made since may \
         be missing in it. To go on with it all the same, run `florin-acquirer store adopt \
         --reason REASON`: terminals then present again what it has lost", path.display()
    )]
    Restored {
        path: PathBuf,
        /// By what it was noticed.
        what: &'static str,
    },
    /// The root key is needed, and is not in the directory.
    #[error(
        "{} is missing: the root key signs the new keyring; put it there for this command, and \
         keep it elsewhere again afterwards", .0.display()
    )]
    RootKeyElsewhere(PathBuf),
    /// The institution refuses what the operator wants.
    #[error(transparent)]
    Institution(#[from] InstitutionError),
    /// The operating system gives no random octets.
    #[error(transparent)]
    Randomness(#[from] RandomnessError),
    /// No key could be made of the random octets.
    #[error("no usable keys could be made this time ({0}); run the command again")]
    Unlucky(#[from] CredentialError),
    /// A certificate cannot be made or read.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The operating system does not let a file be read or written.
    #[error("cannot {action} {}: {detail}", path.display())]
    System {
        action: &'static str,
        path: PathBuf,
        /// Why not, and what to do.
        detail: String,
    },
    /// A file is open to other users, or not what belongs there.
    #[error(transparent)]
    File(PrivateFileError),
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] SqliteOpenError),
}

/// The most likely errors of the operating system, and what to do.
const SYSTEM_DETAILS: [(io::ErrorKind, &str); 5] = [
    (
        io::ErrorKind::PermissionDenied,
        "permission denied; run the command as the owner of the directory",
    ),
    (io::ErrorKind::NotFound, "there is no such file or directory; check the path"),
    (io::ErrorKind::StorageFull, "the disk is full; free some space on it"),
    (io::ErrorKind::ReadOnlyFilesystem, "its disk is mounted read-only; choose another directory"),
    (io::ErrorKind::NotADirectory, "a part of its path is a file, not a directory; check the path"),
];

impl DirectoryError {
    pub(super) fn damaged(path: &Path, detail: impl ToString) -> Self {
        Self::Damaged { path: path.to_path_buf(), detail: detail.to_string() }
    }

    pub(super) fn system(action: &'static str, path: &Path, error: &io::Error) -> Self {
        let known = SYSTEM_DETAILS.iter().find(|(kind, _)| *kind == error.kind());
        let detail = match known {
            Some((_, detail)) => (*detail).to_owned(),
            None => format!("{error}; check the path and the disk"),
        };
        Self::System { action, path: path.to_path_buf(), detail }
    }
}

impl From<PrivateFileError> for DirectoryError {
    fn from(error: PrivateFileError) -> Self {
        match error {
            PrivateFileError::System { action, path, source } => {
                Self::system(action, &path, &source)
            }
            other @ (PrivateFileError::OpenToOthers { .. }
            | PrivateFileError::Exists(_)
            | PrivateFileError::TooLong(_)
            | PrivateFileError::NotText(_)
            | PrivateFileError::NoFileName(_)) => Self::File(other),
        }
    }
}
