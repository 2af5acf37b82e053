//! Writes the journal anew after the disk failed to take a write or a sync.
//!
//! When a sync fails, Linux may count the pages as written and keep them in memory. Reads are then
//! right, the disk is wrong, and the next sync succeeds, so a later commit could be lost. So
//! nothing is trusted to be on the disk: the whole content goes into a new file, which is synced
//! and then takes the old one's place.
//!
//! The new file is complete from the moment it has its second name. Any process that finds it
//! under that name finishes the exchange, also after a power cut. The old write-ahead log is
//! removed before the new file takes its place: otherwise it would be applied to the new file.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use rusqlite::Connection;

use super::SqliteJournalError;
use super::side_file::side_file;
use crate::private_file::{self, PrivateFileError};

/// Writes the journal at `path` into a new file, and puts that in its place. Takes as much room as
/// the journal has.
///
/// # Errors
/// [`SqliteJournalError`]: the disk still fails. The journal is as it was.
pub(super) fn rewrite(path: &Path) -> Result<(), SqliteJournalError> {
    // If an exchange was begun, only the new file has everything: the old one has lost its log.
    finish(path)?;
    discard(path);
    let unfinished = side_file(path, ".rewriting");
    let written = write_copy(path, &unfinished);
    if written.is_err() {
        discard(path);
    }
    written?;
    finish(path)
}

/// Removes what was begun and not finished, also by a power cut. It takes as much room as the
/// journal, which may be what there is too little of.
pub(super) fn discard(path: &Path) {
    let unfinished = side_file(path, ".rewriting");
    if unfinished.exists()
        && let Err(error) = fs::remove_file(&unfinished)
    {
        tracing::warn!(
            file = %unfinished.display(), %error,
            "cannot remove an unfinished copy of the journal, which only takes up space"
        );
    }
}

/// Writes all that is in the journal into another file, and gives that its second name once it is
/// synced.
fn write_copy(path: &Path, unfinished: &Path) -> Result<(), SqliteJournalError> {
    let storage = |source| SqliteJournalError::storage(path, source);
    let file = |source| SqliteJournalError::file(unfinished, source);
    // Before SQLite makes it, for the permissions.
    private_file::ensure(unfinished).map_err(system_error).map_err(file)?;
    let connection = Connection::open(path).map_err(storage)?;
    connection.execute("VACUUM INTO ?1", [unfinished.to_string_lossy()]).map_err(storage)?;
    drop(connection);
    File::open(unfinished).and_then(|written| written.sync_all()).map_err(file)?;
    fs::rename(unfinished, side_file(path, ".rewritten"))
        .and_then(|()| sync_directory(path))
        .map_err(file)
}

/// Finishes an exchange that was begun, if one was.
///
/// # Errors
/// [`SqliteJournalError::File`].
pub(super) fn finish(path: &Path) -> Result<(), SqliteJournalError> {
    let complete = side_file(path, ".rewritten");
    if !complete.exists() {
        return Ok(());
    }
    let exchange = || {
        remove(&side_file(path, "-wal"))?;
        remove(&side_file(path, "-shm"))?;
        sync_directory(path)?;
        fs::rename(&complete, path)?;
        sync_directory(path)
    };
    exchange().map_err(|source| SqliteJournalError::file(&complete, source))
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn sync_directory(path: &Path) -> io::Result<()> {
    private_file::sync_parent(path).map_err(system_error)
}

/// What the system said, where it did.
fn system_error(error: PrivateFileError) -> io::Error {
    if let PrivateFileError::System { source, .. } = error {
        source
    } else {
        io::Error::other(error)
    }
}
