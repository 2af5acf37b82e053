//! The private keys in files: each in PEM (PKCS #8), and only its owner may read it.

use std::path::Path;

use data_encoding::BASE64;
use zeroize::Zeroizing;

use super::description::Description;
use super::error::DirectoryError;
use super::layout::{
    AUTHORITY_KEY_FILE, KEYS_DIRECTORY, LATER_SEALING_KEY_PREFIX, RECEIPT_KEY_FILE, ROOT_KEY_FILE,
    SEALING_KEY_FILE, TERMINAL_CERTIFICATE_KEY_FILE,
};
use crate::credential::{KeyPurpose, Keyring, SealingKey, SigningKey};
use crate::institution::keys::InstitutionKeys;
use crate::private_file;

/// What stands before the 32 octets of an X25519 key in PKCS #8 (RFC 8410, section 7).
const X25519_PKCS8_PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x6e, 0x04, 0x22, 0x04, 0x20,
];

/// The private keys of a new institution.
pub(super) struct NewKeys<'a> {
    pub root: &'a SigningKey,
    pub keys: &'a InstitutionKeys,
    /// In PEM (PKCS #8).
    pub authority_key_pem: &'a str,
}

/// Writes every private key into the keys directory of a new institution.
pub(super) fn write(directory: &Path, new: &NewKeys<'_>) -> Result<(), DirectoryError> {
    let key_files = directory.join(KEYS_DIRECTORY);
    private_file::create_directory(&key_files)?;
    let create =
        |name: &str, pem: &str| private_file::create(&key_files.join(name), pem.as_bytes());
    create(ROOT_KEY_FILE, &new.root.to_pem()?)?;
    create(TERMINAL_CERTIFICATE_KEY_FILE, &new.keys.terminal_certificate.to_pem()?)?;
    create(RECEIPT_KEY_FILE, &new.keys.receipt.to_pem()?)?;
    create(SEALING_KEY_FILE, &sealing_key_to_pem(&new.keys.sealing))?;
    create(AUTHORITY_KEY_FILE, new.authority_key_pem)?;
    Ok(())
}

/// Reads the keys that the institution works with, if the keyring of the description vouches for
/// each.
pub(super) fn read(
    directory: &Path,
    description: &Description,
) -> Result<InstitutionKeys, DirectoryError> {
    let key_files = directory.join(KEYS_DIRECTORY);
    let signing_key = |name: &str| {
        let path = key_files.join(name);
        SigningKey::from_pem(&read_text(&path)?)
            .map_err(|error| DirectoryError::damaged(&path, error))
    };
    let (sealing, former) = sealing_keys(&key_files, description)?;
    InstitutionKeys::assemble(
        signing_key(TERMINAL_CERTIFICATE_KEY_FILE)?,
        signing_key(RECEIPT_KEY_FILE)?,
        sealing,
        description.root_public_key,
        description.keyring.clone(),
    )
    .map(|keys| keys.with_former_sealing(former))
    .map_err(|source| DirectoryError::Keys { path: directory.to_path_buf(), source })
}

/// The sealing key that the keyring names, and the others. If it names none of them, the first one,
/// which is then refused with the other keys.
fn sealing_keys(
    key_files: &Path,
    description: &Description,
) -> Result<(SealingKey, Vec<SealingKey>), DirectoryError> {
    let mut keys = vec![read_sealing_key(&key_files.join(SEALING_KEY_FILE))?];
    let entries = std::fs::read_dir(key_files)
        .map_err(|error| DirectoryError::system("look into", key_files, &error))?;
    for entry in entries.flatten() {
        let is_later = entry.file_name().to_str().is_some_and(|name| {
            name.starts_with(LATER_SEALING_KEY_PREFIX) && name.ends_with(".pem")
        });
        if is_later {
            keys.push(read_sealing_key(&entry.path())?);
        }
    }
    let named = Keyring::verify(&description.keyring, &description.root_public_key)
        .map(|keyring| keyring.keys)
        .unwrap_or_default();
    let is_named = |key: &SealingKey| {
        let public_key = key.public_key().0;
        named
            .iter()
            .any(|named| named.purpose == KeyPurpose::Sealing && named.public_key == public_key)
    };
    let place = keys.iter().position(is_named).unwrap_or(0);
    let current = keys.swap_remove(place);
    Ok((current, keys))
}

fn read_sealing_key(path: &Path) -> Result<SealingKey, DirectoryError> {
    sealing_key_from_pem(&read_text(path)?)
        .ok_or_else(|| DirectoryError::damaged(path, "not an X25519 private key in PEM (PKCS #8)"))
}

/// Writes another sealing key beside those that are there. The keyring decides which is used.
pub(super) fn add_sealing_key(directory: &Path, key: &SealingKey) -> Result<(), DirectoryError> {
    let name = format!("{LATER_SEALING_KEY_PREFIX}{}.pem", key.public_key().key_id());
    let path = directory.join(KEYS_DIRECTORY).join(name);
    Ok(private_file::create(&path, sealing_key_to_pem(key).as_bytes())?)
}

/// Reads the root key, which may be kept elsewhere while it is not needed.
pub(super) fn read_root_key(directory: &Path) -> Result<SigningKey, DirectoryError> {
    let path = directory.join(KEYS_DIRECTORY).join(ROOT_KEY_FILE);
    let text = private_file::read_text(&path).map_err(|error| {
        if error.is_not_found() {
            DirectoryError::RootKeyElsewhere(path.clone())
        } else {
            error.into()
        }
    })?;
    SigningKey::from_pem(&text).map_err(|error| DirectoryError::damaged(&path, error))
}

/// Reads the private key of the TLS authority, in PEM (PKCS #8).
pub(super) fn read_authority_key(directory: &Path) -> Result<Zeroizing<String>, DirectoryError> {
    read_text(&directory.join(KEYS_DIRECTORY).join(AUTHORITY_KEY_FILE))
}

fn read_text(path: &Path) -> Result<Zeroizing<String>, DirectoryError> {
    private_file::read_text(path).map_err(|error| {
        if error.is_not_found() {
            DirectoryError::damaged(path, "it is missing")
        } else {
            error.into()
        }
    })
}

pub(super) fn sealing_key_to_pem(key: &SealingKey) -> Zeroizing<String> {
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
