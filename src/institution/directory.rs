//! What an institution keeps on disk: one directory that only its owner may enter.
//!
//! | file | what |
//! |---|---|
//! | `institution.json` | name, host names, root public key, signed keyring: nothing secret |
//! | `root.pem` | certificate of the TLS authority, for terminals and wallets: nothing secret |
//! | `keys/root-key.pem` | signs keyrings; not needed to serve, so it may be kept elsewhere |
//! | `keys/terminal-certificate-key.pem` | signs terminal certificates |
//! | `keys/receipt-key.pem` | signs receipts |
//! | `keys/sealing-key.pem` | opens sealed commands (X25519, RFC 8410) |
//! | `keys/tls-authority-key.pem` | signs the TLS certificates of server and terminals |
//! | `institution.sqlite` | terminals, cards, accounts, transactions, ledger |
//!
//! Nothing here serves or decides.

use std::fs;
use std::path::{Path, PathBuf};

use data_encoding::{BASE64, HEXLOWER};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::certificate_authority::{CertificateAuthority, CertificateError};
use super::keys::{InstitutionKeys, KEY_SEED_OCTETS};
use super::processing::Institution;
use super::randomness::{RandomnessError, random};
use super::store::{Store, StoreError};
use crate::credential::{CredentialError, SealingKey, Signed, SigningKey, VerifyingKey};
use crate::domain::UnixTime;
use crate::private_file::{self, PrivateFileError};

const DESCRIPTION_FILE: &str = "institution.json";
const AUTHORITY_FILE: &str = "root.pem";
const STORE_FILE: &str = "institution.sqlite";
const KEYS_DIRECTORY: &str = "keys";
const ROOT_KEY_FILE: &str = "root-key.pem";
const TERMINAL_CERTIFICATE_KEY_FILE: &str = "terminal-certificate-key.pem";
const RECEIPT_KEY_FILE: &str = "receipt-key.pem";
const SEALING_KEY_FILE: &str = "sealing-key.pem";
const AUTHORITY_KEY_FILE: &str = "tls-authority-key.pem";

/// How long an institution's name may be, in octets.
const NAME_OCTETS_MAX: usize = 64;
/// How many host names a server may have.
const HOST_NAMES_MAX: usize = 16;

/// What stands before the 32 octets of an X25519 key in PKCS #8 (RFC 8410, section 7).
const X25519_PKCS8_PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x6e, 0x04, 0x22, 0x04, 0x20,
];

/// Why a directory cannot be made or opened. Never holds key data.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// There is an institution already.
    #[error("{} holds an institution already; nothing was changed", .0.display())]
    Initialised(PathBuf),
    /// There is something else.
    #[error("{} is not empty; name a new directory", .0.display())]
    NotEmpty(PathBuf),
    /// There is no institution.
    #[error("{path} holds no institution; make one with `florin-acquirer init --directory '{path}' --name NAME --host-name HOST`", path = .0.display())]
    NotInitialised(PathBuf),
    /// A name that is none.
    #[error("{field}: {detail}")]
    Invalid {
        /// Which argument.
        field: &'static str,
        /// What is wrong with it.
        detail: String,
    },
    /// A file that is not what belongs there.
    #[error("{} is not what `florin-acquirer init` made: {detail}; restore it from a backup", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// The keys do not belong together.
    #[error("the keys in {} do not belong together: {source}; restore them from one backup", path.display())]
    Keys {
        /// The institution's directory.
        path: PathBuf,
        /// Which does not.
        source: CredentialError,
    },
    /// The system has no randomness.
    #[error(transparent)]
    Randomness(#[from] RandomnessError),
    /// A key could not be made of it.
    #[error("no usable keys could be made this time ({0}); run the command again")]
    Unlucky(#[from] CredentialError),
    /// TLS.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// A file.
    #[error(transparent)]
    File(#[from] PrivateFileError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What is not secret about the institution.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    format: u32,
    name: String,
    host_names: Vec<String>,
    root_public_key_hex: String,
    keyring_base64: String,
}

/// The only format of [`DESCRIPTION_FILE`] so far.
const DESCRIPTION_FORMAT: u32 = 1;

/// An institution taken from its directory, ready to work.
#[derive(Debug)]
pub struct OpenedInstitution {
    /// Its keys and its store.
    pub institution: Institution,
    /// Its TLS authority.
    pub authority: CertificateAuthority,
    /// For people.
    pub name: String,
    /// What its server is called: names and addresses.
    pub host_names: Vec<String>,
}

/// Makes a new institution with new keys in a directory of its own. It is there whole or not at
/// all.
///
/// # Errors
/// [`DirectoryError`]; an existing institution is never touched.
pub fn create_institution(
    path: &Path,
    name: &str,
    host_names: &[String],
    now: UnixTime,
) -> Result<(), DirectoryError> {
    if name.trim().is_empty() || name.len() > NAME_OCTETS_MAX || name.chars().any(char::is_control)
    {
        let detail = format!("expected 1 to {NAME_OCTETS_MAX} octets on one line");
        return Err(DirectoryError::Invalid { field: "name", detail });
    }
    if host_names.is_empty() || host_names.len() > HOST_NAMES_MAX {
        let detail = format!("expected 1 to {HOST_NAMES_MAX} names");
        return Err(DirectoryError::Invalid { field: "host-name", detail });
    }
    refuse_occupied(path)?;

    let seed = random::<KEY_SEED_OCTETS>()?;
    let (keys, root_key) = InstitutionKeys::generate(name, &seed, now)?;
    let (authority, authority_key_pem) = CertificateAuthority::generate(name, now)?;
    // Tells a wrong host name now rather than at the first start.
    authority.issue_server(host_names, now, [0; 16])?;
    let description = Description {
        format: DESCRIPTION_FORMAT,
        name: name.to_owned(),
        host_names: host_names.to_vec(),
        root_public_key_hex: HEXLOWER.encode(&keys.root_public_key.to_sec1()),
        keyring_base64: BASE64.encode(&keys.keyring.encode()),
    };
    let description = serde_json::to_string_pretty(&description)
        .map_err(|error| DirectoryError::Invalid { field: "name", detail: error.to_string() })?;

    // Everything is made beside and moved in place at once, so that no half institution is left
    // behind.
    let file_name =
        path.file_name().ok_or_else(|| PrivateFileError::NoFileName(path.to_path_buf()))?;
    let beside =
        path.with_file_name(format!(".{}.{}.new", file_name.display(), std::process::id()));
    let _ = fs::remove_dir_all(&beside);
    let made = (|| {
        let key_files = beside.join(KEYS_DIRECTORY);
        private_file::create_directory(&beside)?;
        private_file::create_directory(&key_files)?;
        private_file::create(&key_files.join(ROOT_KEY_FILE), root_key.to_pem()?.as_bytes())?;
        private_file::create(
            &key_files.join(TERMINAL_CERTIFICATE_KEY_FILE),
            keys.terminal_certificate.to_pem()?.as_bytes(),
        )?;
        private_file::create(&key_files.join(RECEIPT_KEY_FILE), keys.receipt.to_pem()?.as_bytes())?;
        private_file::create(
            &key_files.join(SEALING_KEY_FILE),
            sealing_key_to_pem(&keys.sealing).as_bytes(),
        )?;
        private_file::create(&key_files.join(AUTHORITY_KEY_FILE), authority_key_pem.as_bytes())?;
        private_file::create(&beside.join(DESCRIPTION_FILE), description.as_bytes())?;
        private_file::create(&beside.join(AUTHORITY_FILE), authority.certificate_pem().as_bytes())?;
        drop(Store::open(&beside.join(STORE_FILE))?);
        // Over an empty directory this succeeds; over any other it fails.
        fs::rename(&beside, path).map_err(|source| PrivateFileError::System {
            action: "create",
            path: path.to_path_buf(),
            source,
        })?;
        private_file::sync_parent(path)?;
        Ok(())
    })();
    if made.is_err() {
        let _ = fs::remove_dir_all(&beside);
    }
    made
}

/// Opens the institution in a directory.
///
/// # Errors
/// [`DirectoryError`], naming the file and what to do.
pub fn open_institution(path: &Path) -> Result<OpenedInstitution, DirectoryError> {
    let description_path = path.join(DESCRIPTION_FILE);
    let description = match read_public(&description_path) {
        Ok(text) => text,
        Err(error) if error.is_not_found() => {
            return Err(DirectoryError::NotInitialised(path.to_path_buf()));
        }
        Err(error) => return Err(error.into()),
    };
    let damaged =
        |path: &Path, detail: String| DirectoryError::Damaged { path: path.to_path_buf(), detail };
    let description: Description = serde_json::from_str(&description)
        .map_err(|error| damaged(&description_path, error.to_string()))?;
    if description.format != DESCRIPTION_FORMAT {
        let detail =
            format!("format {}, this program knows {DESCRIPTION_FORMAT}", description.format);
        return Err(damaged(&description_path, detail));
    }
    let root_public_key = HEXLOWER
        .decode(description.root_public_key_hex.as_bytes())
        .ok()
        .and_then(|octets| VerifyingKey::from_sec1(&octets).ok())
        .ok_or_else(|| damaged(&description_path, "its root public key is none".to_owned()))?;
    let keyring = BASE64
        .decode(description.keyring_base64.as_bytes())
        .ok()
        .and_then(|octets| Signed::decode(&octets).ok())
        .ok_or_else(|| damaged(&description_path, "its keyring is none".to_owned()))?;

    let key_files = path.join(KEYS_DIRECTORY);
    let signing_key = |name: &str| {
        let path = key_files.join(name);
        SigningKey::from_pem(&private_file::read_text(&path)?)
            .map_err(|error| damaged(&path, error.to_string()))
    };
    let sealing_path = key_files.join(SEALING_KEY_FILE);
    let sealing =
        sealing_key_from_pem(&private_file::read_text(&sealing_path)?).ok_or_else(|| {
            damaged(&sealing_path, "not an X25519 private key in PEM (PKCS #8)".to_owned())
        })?;
    let keys = InstitutionKeys::assemble(
        signing_key(TERMINAL_CERTIFICATE_KEY_FILE)?,
        signing_key(RECEIPT_KEY_FILE)?,
        sealing,
        root_public_key,
        keyring,
    )
    .map_err(|source| DirectoryError::Keys { path: path.to_path_buf(), source })?;
    let authority = CertificateAuthority::from_pem(
        &private_file::read_text(&key_files.join(AUTHORITY_KEY_FILE))?,
        &read_public(&path.join(AUTHORITY_FILE))?,
    )?;
    let store_path = path.join(STORE_FILE);
    // A store that is gone is not replaced by an empty one: the money in it would be forgotten.
    if !store_path.exists() {
        return Err(damaged(&store_path, "it is missing".to_owned()));
    }
    let store = Store::open(&store_path)?;
    Ok(OpenedInstitution {
        institution: Institution::new(keys, store),
        authority,
        name: description.name,
        host_names: description.host_names,
    })
}

/// Where the certificate is that terminals and wallets are given to know the server by.
pub fn authority_certificate_path(path: &Path) -> PathBuf {
    path.join(AUTHORITY_FILE)
}

/// Reads a file that may be open to others, since nothing in it is secret.
fn read_public(path: &Path) -> Result<String, PrivateFileError> {
    fs::read_to_string(path).map_err(|source| PrivateFileError::System {
        action: "read",
        path: path.to_path_buf(),
        source,
    })
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
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(source) => {
            Err(PrivateFileError::System { action: "look into", path: path.to_path_buf(), source }
                .into())
        }
    }
}

fn sealing_key_to_pem(key: &SealingKey) -> Zeroizing<String> {
    let mut der = Zeroizing::new(X25519_PKCS8_PREFIX.to_vec());
    der.extend_from_slice(key.expose_octets());
    let base64 = Zeroizing::new(BASE64.encode(&der));
    Zeroizing::new(format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
        base64.as_str()
    ))
}

fn sealing_key_from_pem(pem: &str) -> Option<SealingKey> {
    let base64 = pem
        .trim()
        .strip_prefix("-----BEGIN PRIVATE KEY-----")?
        .strip_suffix("-----END PRIVATE KEY-----")?;
    let der = Zeroizing::new(BASE64.decode(base64.trim().as_bytes()).ok()?);
    let octets = der.strip_prefix(&X25519_PKCS8_PREFIX)?;
    octets.try_into().ok().map(SealingKey::from_octets)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const NOW: UnixTime = UnixTime { seconds: 1_800_000_000 };

    fn hosts() -> Vec<String> {
        vec!["localhost".to_owned()]
    }

    #[test]
    fn an_institution_opens_again_with_the_same_keys() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("bank");
        create_institution(&path, "Example Bank", &hosts(), NOW).unwrap();
        let first = open_institution(&path).unwrap();
        let second = open_institution(&path).unwrap();
        assert_eq!(first.institution.keys().keyring(), second.institution.keys().keyring());
        assert_eq!((first.name.as_str(), first.host_names), ("Example Bank", hosts()));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing is left beside");
    }

    #[test]
    fn everything_is_the_owners_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("bank");
        create_institution(&path, "Example Bank", &hosts(), NOW).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o700);
        assert_eq!(mode(&path.join(KEYS_DIRECTORY)), 0o700);
        let mut keys = 0;
        for file in fs::read_dir(path.join(KEYS_DIRECTORY)).unwrap() {
            assert_eq!(mode(&file.unwrap().path()), 0o600);
            keys += 1;
        }
        assert_eq!(keys, 5);
        assert_eq!(mode(&path.join(STORE_FILE)), 0o600);
        let receipt_key = path.join(KEYS_DIRECTORY).join(RECEIPT_KEY_FILE);
        fs::set_permissions(&receipt_key, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(open_institution(&path).unwrap_err().to_string().contains("chmod 600"));
    }

    #[test]
    fn nothing_is_made_twice_and_nothing_is_made_over_something_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("bank");
        create_institution(&path, "Example Bank", &hosts(), NOW).unwrap();
        let again = create_institution(&path, "Other", &hosts(), NOW);
        assert!(matches!(again, Err(DirectoryError::Initialised(_))));
        let other = directory.path().join("other");
        fs::create_dir(&other).unwrap();
        create_institution(&other, "Example Bank", &hosts(), NOW).unwrap();
        let full = directory.path().join("full");
        fs::create_dir(&full).unwrap();
        fs::write(full.join("file"), "").unwrap();
        assert!(matches!(
            create_institution(&full, "Bank", &hosts(), NOW),
            Err(DirectoryError::NotEmpty(_))
        ));
        assert!(create_institution(&directory.path().join("a"), "", &hosts(), NOW).is_err());
        assert!(
            create_institution(&directory.path().join("b"), "Bank", &["a b".to_owned()], NOW)
                .is_err()
        );
        assert!(!directory.path().join("b").exists());
    }

    #[test]
    fn what_is_missing_or_damaged_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("bank");
        let error = open_institution(&path).unwrap_err().to_string();
        assert!(error.contains("florin-acquirer init"), "{error}");
        create_institution(&path, "Example Bank", &hosts(), NOW).unwrap();
        let sealing = path.join(KEYS_DIRECTORY).join(SEALING_KEY_FILE);
        let good = private_file::read(&sealing).unwrap();
        private_file::replace(&sealing, b"x").unwrap();
        assert!(open_institution(&path).unwrap_err().to_string().contains("sealing-key.pem"));
        let other = SealingKey::from_octets([1; 32]);
        private_file::replace(&sealing, sealing_key_to_pem(&other).as_bytes()).unwrap();
        assert!(matches!(open_institution(&path), Err(DirectoryError::Keys { .. })));
        private_file::replace(&sealing, &good).unwrap();
        fs::set_permissions(path.join(AUTHORITY_FILE), fs::Permissions::from_mode(0o644)).unwrap();
        // The root key may be elsewhere; the store may not.
        fs::remove_file(path.join(KEYS_DIRECTORY).join(ROOT_KEY_FILE)).unwrap();
        open_institution(&path).unwrap();
        fs::remove_file(path.join(STORE_FILE)).unwrap();
        assert!(matches!(open_institution(&path), Err(DirectoryError::Damaged { .. })));
    }
}
