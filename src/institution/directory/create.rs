//! How an institution's directory is made.

use std::fs;
use std::io;
use std::path::Path;

use super::description::Description;
use super::error::DirectoryError;
use super::key_files::{self, NewKeys};
use super::layout::{DESCRIPTION_FILE, STORE_FILE, authority_certificate_path};
use super::serving::note_store;
use crate::credential::INSTITUTION_NAME_OCTETS_MAX;
use crate::domain::{UnixTime, check_displayed_text};
use crate::institution::certificate_authority::CertificateAuthority;
use crate::institution::keys::{InstitutionKeys, KEY_SEED_OCTETS};
use crate::institution::randomness::random;
use crate::institution::store::{LifeStore, SqliteOpenError, SqliteStore};
use crate::private_file;

/// How many host names a server may have.
const HOST_NAMES_MAX: usize = 16;

/// Makes a new institution with new keys, in a directory of its own. Either all of it is there
/// afterwards, or nothing.
///
/// # Errors
/// [`DirectoryError`]; an existing institution is never touched.
pub fn create_institution(
    path: &Path,
    name: &str,
    host_names: &[String],
    now: UnixTime,
) -> Result<(), DirectoryError> {
    create_institution_of_two(path, name, host_names, None, now)
}

/// As [`create_institution`]; above `two_people_above_minor`, in minor units, what its operators do
/// takes two of them.
///
/// # Errors
/// As [`create_institution`].
pub fn create_institution_of_two(
    path: &Path,
    name: &str,
    host_names: &[String],
    two_people_above_minor: Option<u64>,
    now: UnixTime,
) -> Result<(), DirectoryError> {
    check_displayed_text(name, 1..=INSTITUTION_NAME_OCTETS_MAX)
        .map_err(|error| invalid("name", error.to_string()))?;
    check_host_names(host_names)?;
    refuse_occupied(path)?;
    let seed = random::<KEY_SEED_OCTETS>()?;
    let (keys, root) = InstitutionKeys::generate(name, &seed, now)?;
    let (authority, authority_key_pem) = CertificateAuthority::generate(name, now)?;
    // A wrong host name is better found now than at the first start of the server.
    authority.issue_server(host_names, now, [0; 16])?;
    let description = Description::of(name, host_names, two_people_above_minor, &keys)
        .to_json()
        .map_err(|error| invalid("name", error.to_string()))?;
    in_one_step(path, |beside| {
        let new = NewKeys { root: &root, keys: &keys, authority_key_pem: &authority_key_pem };
        key_files::write(beside, &new)?;
        private_file::create(&beside.join(DESCRIPTION_FILE), description.as_bytes())?;
        let authority_path = authority_certificate_path(beside);
        private_file::create(&authority_path, authority.certificate_pem().as_bytes())?;
        let store_path = beside.join(STORE_FILE);
        let life = SqliteStore::open(&store_path)?
            .life()
            .map_err(|source| SqliteOpenError::Store { path: store_path, source })?;
        note_store(beside, &life)
    })
}

fn invalid(field: &'static str, detail: String) -> DirectoryError {
    DirectoryError::Invalid { field, detail }
}

fn check_host_names(host_names: &[String]) -> Result<(), DirectoryError> {
    if (1..=HOST_NAMES_MAX).contains(&host_names.len()) {
        return Ok(());
    }
    let detail = format!("expected 1 to {HOST_NAMES_MAX}, got {}", host_names.len());
    Err(invalid("host names", detail))
}

fn refuse_occupied(path: &Path) -> Result<(), DirectoryError> {
    if path.join(DESCRIPTION_FILE).exists() {
        return Err(DirectoryError::Initialised(path.to_path_buf()));
    }
    match fs::read_dir(path) {
        Ok(mut entries) => match entries.next() {
            Some(_) => Err(DirectoryError::NotEmpty(path.to_path_buf())),
            None => Ok(()),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(DirectoryError::system("look into", path, &error)),
    }
}

/// Makes a directory beside `path`, has it filled, and moves it into place, so that no half
/// institution is left behind.
fn in_one_step(
    path: &Path,
    fill: impl FnOnce(&Path) -> Result<(), DirectoryError>,
) -> Result<(), DirectoryError> {
    let name = path.file_name().ok_or_else(|| DirectoryError::NoName(path.to_path_buf()))?;
    let beside = path.with_file_name(format!(".{}.{}.new", name.display(), std::process::id()));
    let _ = fs::remove_dir_all(&beside);
    let made = (|| {
        private_file::create_directory(&beside)?;
        fill(&beside)?;
        // This succeeds over an empty directory and fails over any other.
        fs::rename(&beside, path)
            .map_err(|error| DirectoryError::system("create", path, &error))?;
        Ok(private_file::sync_parent(path)?)
    })();
    if made.is_err() {
        let _ = fs::remove_dir_all(&beside);
    }
    made
}
