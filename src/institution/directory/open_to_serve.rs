//! How an institution is opened to be served: by one server, with the store that was served last.

use std::path::Path;

use super::error::DirectoryError;
use super::open::{OpenedInstitution, open_institution};
use super::serving::Serving;
use super::serving_lock::lock_for_serving;

/// Opens the institution in a directory to serve it.
///
/// # Errors
/// [`DirectoryError`]: as [`open_institution`]; another server runs; or
/// [`DirectoryError::Restored`] for a store that is not the one that was served last.
pub fn open_to_serve(directory: &Path) -> Result<OpenedInstitution, DirectoryError> {
    let mut opened = open_institution(directory)?;
    let lock = lock_for_serving(directory)?;
    opened.serving = Some(Serving::begin(directory, &mut opened.institution, lock)?);
    Ok(opened)
}
