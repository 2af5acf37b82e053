//! Writes the journal anew after the disk failed to take a write or a sync.
//!
//! When a sync fails, Linux may count the pages as written and keep them in memory: what is read is right, what is on the
//! disk is not, and the next sync says all is well. A commit after that would rest on nothing. So nothing is trusted to be
//! on the disk: the whole content goes into a new file, which is synced and then takes the old one's place.
//!
//! The new file is complete from the moment it has its second name; who finds it then finishes the exchange, also after a
//! power cut. The old write-ahead log goes before the new file takes its place: it would be applied to it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::JournalError;

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// Writes the journal at `path` into a new file, and puts that in its place.
///
/// # Errors
/// [`JournalError`]: the disk still fails. The journal is as it was.
pub(super) fn rewrite(path: &Path) -> Result<(), JournalError> {
    let unfinished = beside(path, ".rewriting");
    let complete = beside(path, ".rewritten");
    let storage = |source| JournalError::Storage { path: path.display().to_string(), source };
    let file = |source| JournalError::file(&unfinished, source);
    remove(&unfinished).map_err(file)?;
    // Before SQLite makes it, for the permissions.
    crate::private_file::ensure(&unfinished).map_err(|error| file(io::Error::other(error)))?;
    let connection = Connection::open(path).map_err(storage)?;
    connection.execute("VACUUM INTO ?1", [unfinished.to_string_lossy()]).map_err(storage)?;
    drop(connection);
    File::open(&unfinished).and_then(|written| written.sync_all()).map_err(file)?;
    fs::rename(&unfinished, &complete).and_then(|()| sync_directory(path)).map_err(file)?;
    finish(path)
}

/// Finishes an exchange that was begun, if one was.
///
/// # Errors
/// [`JournalError::File`].
pub(super) fn finish(path: &Path) -> Result<(), JournalError> {
    let complete = beside(path, ".rewritten");
    if !complete.exists() {
        return Ok(());
    }
    let exchange = || {
        remove(&beside(path, "-wal"))?;
        remove(&beside(path, "-shm"))?;
        sync_directory(path)?;
        fs::rename(&complete, path)?;
        sync_directory(path)
    };
    exchange().map_err(|source| JournalError::file(&complete, source))
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")))?
        .sync_all()
}
