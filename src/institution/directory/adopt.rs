//! Copies of the store: how one is made, and how one is taken into service again.

use std::path::Path;

use super::description::Description;
use super::error::DirectoryError;
use super::key_files;
use super::layout::{DESCRIPTION_FILE, STORE_FILE};
use super::open::{open_institution, read_description};
use super::serving::note_store;
use super::serving_lock::lock_for_serving;
use crate::credential::SealingKey;
use crate::domain::UnixTime;
use crate::institution::randomness::random;
use crate::institution::store::{SqliteOpenError, SqliteStore};
use crate::private_file;

/// Copies the store of a directory into a new file that only its owner may read, also while a
/// server runs.
///
/// # Errors
/// [`DirectoryError`]; an existing file is left alone.
pub fn back_up_store(directory: &Path, copy: &Path) -> Result<(), DirectoryError> {
    // Whoever names another directory is told so.
    read_description(directory)?;
    let mut store = SqliteStore::open(&directory.join(STORE_FILE))?;
    let name = copy.file_name().ok_or_else(|| DirectoryError::NoName(copy.to_path_buf()))?;
    let beside = copy.with_file_name(format!(".{}.{}.new", name.display(), std::process::id()));
    let failed = |source| SqliteOpenError::Store { path: copy.to_path_buf(), source };
    private_file::create(&beside, &[])?;
    let made = store.copy_into(&beside).map_err(|source| failed(source).into()).and_then(|()| {
        // A hard link fails where the name is taken, which a rename does not.
        std::fs::hard_link(&beside, copy)
            .map_err(|error| DirectoryError::system("create", copy, &error))?;
        Ok(private_file::sync_parent(copy)?)
    });
    let _ = std::fs::remove_file(&beside);
    made
}

/// Takes a restored store into service: it gets another generation, and the institution another
/// sealing key, so that no command of before is authorised anew. The old key stays, to open what
/// terminals present.
///
/// # Errors
/// [`DirectoryError`]: a server runs; the root key is not there; the reason is none. What is not
/// done can be done by running it again.
pub fn adopt_store(
    directory: &Path,
    operator: &str,
    reason: &str,
    now: UnixTime,
) -> Result<(), DirectoryError> {
    let _lock = lock_for_serving(directory)?;
    let mut opened = open_institution(directory)?;
    opened.institution.check_adoption(operator, reason)?;
    let root = key_files::read_root_key(directory)?;
    let sealing = SealingKey::from_octets(*random()?);
    let keyring = opened
        .institution
        .keys()
        .keyring_with_sealing_key(&sealing, &root, now)
        .map_err(|source| DirectoryError::Keys { path: directory.to_path_buf(), source })?;
    key_files::add_sealing_key(directory, &sealing)?;
    let path = directory.join(DESCRIPTION_FILE);
    let description = Description { keyring, ..read_description(directory)? }
        .to_json()
        .map_err(|error| DirectoryError::damaged(&path, error))?;
    private_file::replace(&path, description.as_bytes())?;
    opened.institution.adopt_store(&*random()?, operator, reason, now)?;
    note_store(directory, &opened.institution.store_life()?)
}
