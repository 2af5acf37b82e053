//! How the enrolment's files are written: TOML, with octets in base64.

use serde::Serialize;
use zeroize::Zeroizing;

use super::EnrolmentError;

/// The file's text, erased from memory when dropped.
pub(super) fn written(value: &impl Serialize) -> Result<Zeroizing<Vec<u8>>, EnrolmentError> {
    const HEAD: &str =
        "# Written by `florin enrol`. It holds private keys: it stays on this machine.\n";
    let text = Zeroizing::new(
        toml::to_string(value).map_err(|error| EnrolmentError::Keys(error.to_string()))?,
    );
    let mut octets = Zeroizing::new(Vec::with_capacity(HEAD.len() + text.len()));
    octets.extend_from_slice(HEAD.as_bytes());
    octets.extend_from_slice(text.as_bytes());
    Ok(octets)
}

pub(super) fn base64(octets: &[u8]) -> String {
    data_encoding::BASE64.encode(octets)
}

pub(super) fn octets(field: &str, text: &str) -> Result<Vec<u8>, String> {
    data_encoding::BASE64.decode(text.as_bytes()).map_err(|_| format!("{field}: not base64"))
}
