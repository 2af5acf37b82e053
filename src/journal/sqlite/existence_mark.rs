//! A mark beside the database that says that there is a journal, so that one that is missing is
//! never taken for a new one.
//!
//! It is written, durably, when the first journal was made. Only an operator removes it.

use std::path::{Path, PathBuf};

use super::SqliteJournalError;
use crate::private_file::{self, PrivateFileError};

/// The ending of the mark's name. It is not a file of the journal's, which are moved together.
const ENDING: &str = "exists";
const TEXT: &[u8] = b"This terminal has a journal. Remove this file only if the journal is lost \
for good: docs/operations.md, \"A lost journal\".\n";

fn mark_of(database: &Path) -> PathBuf {
    database.with_extension(ENDING)
}

/// Was there a journal?
pub(super) fn is_marked(database: &Path) -> bool {
    mark_of(database).exists()
}

/// There is a journal from now on.
pub(super) fn mark(database: &Path) -> Result<(), SqliteJournalError> {
    match private_file::create(&mark_of(database), TEXT) {
        Ok(()) | Err(PrivateFileError::Exists(_)) => Ok(()),
        Err(error) => {
            Err(SqliteJournalError::file(&mark_of(database), std::io::Error::other(error)))
        }
    }
}

/// The error for a journal that is missing where there was one.
pub(super) fn lost(database: &Path) -> SqliteJournalError {
    SqliteJournalError::Lost {
        path: database.display().to_string(),
        mark: mark_of(database).display().to_string(),
    }
}
