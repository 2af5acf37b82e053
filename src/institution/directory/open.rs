//! How an institution is opened from its directory.

use std::fs;
use std::io;
use std::path::Path;

use super::description::Description;
use super::error::DirectoryError;
use super::key_files;
use super::layout::{DESCRIPTION_FILE, STORE_FILE, authority_certificate_path};
use super::serving::Serving;
use crate::institution::Institution;
use crate::institution::certificate_authority::CertificateAuthority;
use crate::institution::store::SqliteStore;

/// An institution from its directory, ready to work.
#[derive(Debug)]
pub struct OpenedInstitution {
    pub institution: Institution,
    pub authority: CertificateAuthority,
    pub name: String,
    /// The names and addresses of its server.
    pub host_names: Vec<String>,
    /// Held by the server that serves it.
    pub serving: Option<Serving>,
}

/// Opens the institution in a directory.
///
/// # Errors
/// [`DirectoryError`], which names the file and says what to do.
pub fn open_institution(path: &Path) -> Result<OpenedInstitution, DirectoryError> {
    let description = read_description(path)?;
    let keys = key_files::read(path, &description)?;
    let authority = CertificateAuthority::from_pem(
        &key_files::read_authority_key(path)?,
        &read_public(&authority_certificate_path(path))?,
    )?;
    let store_path = path.join(STORE_FILE);
    // A store that is missing is not replaced by an empty one: the money in it would be forgotten.
    if !store_path.exists() {
        return Err(DirectoryError::damaged(&store_path, "it is missing"));
    }
    let store = SqliteStore::open(&store_path)?;
    Ok(OpenedInstitution {
        institution: Institution::new(keys, store)
            .with_two_people_above(description.two_people_above_minor),
        authority,
        name: description.name,
        host_names: description.host_names,
        serving: None,
    })
}

pub(super) fn read_description(directory: &Path) -> Result<Description, DirectoryError> {
    let path = directory.join(DESCRIPTION_FILE);
    match fs::read_to_string(&path) {
        Ok(text) => Description::read(&path, &text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(DirectoryError::NotInitialised(directory.to_path_buf()))
        }
        Err(error) => Err(unreadable(&path, &error)),
    }
}

/// Reads a file that may be open to others, since nothing in it is secret.
fn read_public(path: &Path) -> Result<String, DirectoryError> {
    fs::read_to_string(path).map_err(|error| unreadable(path, &error))
}

fn unreadable(path: &Path, error: &io::Error) -> DirectoryError {
    if error.kind() == io::ErrorKind::NotFound {
        DirectoryError::damaged(path, "it is missing")
    } else if error.kind() == io::ErrorKind::InvalidData {
        DirectoryError::damaged(path, "it is not text")
    } else {
        DirectoryError::system("read", path, error)
    }
}
