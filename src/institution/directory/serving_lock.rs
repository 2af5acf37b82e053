//! At most one server for each institution.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::error::DirectoryError;
use super::layout::LOCK_FILE;

/// The right to serve the institution of a directory. The operating system takes it back when the
/// process ends, however it ends.
#[derive(Debug)]
pub struct ServingLock {
    _file: File,
}

/// Takes the right to serve the institution in a directory. Commands beside the server need none.
///
/// # Errors
/// [`DirectoryError::Served`] if another server has it; [`DirectoryError::System`].
pub fn lock_for_serving(directory: &Path) -> Result<ServingLock, DirectoryError> {
    let path = directory.join(LOCK_FILE);
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(|error| DirectoryError::system("open", &path, &error))?;
    match file.try_lock() {
        Ok(()) => Ok(ServingLock { _file: file }),
        Err(TryLockError::WouldBlock) => Err(DirectoryError::Served(directory.to_path_buf())),
        Err(TryLockError::Error(error)) => Err(DirectoryError::system("lock", &path, &error)),
    }
}
