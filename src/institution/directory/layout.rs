//! The names of the files in an institution's directory.

use std::path::{Path, PathBuf};

pub(super) const DESCRIPTION_FILE: &str = "institution.json";
pub(super) const AUTHORITY_FILE: &str = "root.pem";
pub(super) const STORE_FILE: &str = "institution.sqlite";
pub(super) const SERVING_FILE: &str = "serving.json";
pub(super) const LOCK_FILE: &str = "serve.lock";
pub(super) const KEYS_DIRECTORY: &str = "keys";
pub(super) const ROOT_KEY_FILE: &str = "root-key.pem";
pub(super) const TERMINAL_CERTIFICATE_KEY_FILE: &str = "terminal-certificate-key.pem";
pub(super) const RECEIPT_KEY_FILE: &str = "receipt-key.pem";
pub(super) const SEALING_KEY_FILE: &str = "sealing-key.pem";
/// Sealing keys that came after the first: this, the key id, and `.pem`.
pub(super) const LATER_SEALING_KEY_PREFIX: &str = "sealing-key-";
pub(super) const AUTHORITY_KEY_FILE: &str = "tls-authority-key.pem";

/// The path of the certificate by which terminals and wallets recognise the institution's server.
pub fn authority_certificate_path(directory: &Path) -> PathBuf {
    directory.join(AUTHORITY_FILE)
}
