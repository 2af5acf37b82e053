//! The terminal's keys: made once, and kept before they are sent anywhere.

use std::path::Path;

use p256::pkcs8::{EncodePrivateKey, LineEnding};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use super::super::randomness::random_octets;
use super::EnrolmentError;
use super::encoding::{base64, octets, written};
use crate::private_file;
use crate::protocol::ChannelKey;

/// Keys that were sent with a code that may have been used: the same code takes the same keys
/// again.
pub(super) const PENDING_FILE: &str = "enrolment-pending.toml";

/// Keys before they have a certificate.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Keys {
    pub(super) channel_key: String,
    pub(super) client_key_pem: String,
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.channel_key.zeroize();
        self.client_key_pem.zeroize();
    }
}

/// Which channel key a terminal is to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChannelKeyChoice<'key> {
    /// This one, in base64, which stickers name.
    Keep(&'key str),
    /// Any other than this one.
    Replace(&'key str),
    /// There was none before.
    First,
}

impl ChannelKeyChoice<'_> {
    fn admits(self, channel_key: &str) -> bool {
        match self {
            Self::Keep(kept) => channel_key == kept,
            Self::Replace(old) => channel_key != old,
            Self::First => true,
        }
    }
}

/// The keys of an attempt whose answer was lost; new ones if there was none, or if it was to have
/// another channel key.
pub(super) fn pending_keys(
    path: &Path,
    choice: ChannelKeyChoice<'_>,
) -> Result<Keys, EnrolmentError> {
    match private_file::read_text(path) {
        Ok(text) => {
            if let Ok(keys) = toml::from_str::<Keys>(&text)
                && choice.admits(&keys.channel_key)
            {
                return Ok(keys);
            }
        }
        Err(error) if error.is_not_found() => {}
        Err(error) => return Err(error.into()),
    }
    let mut keys = new_keys()?;
    if let ChannelKeyChoice::Keep(kept) = choice {
        keys.channel_key = kept.to_owned();
    }
    private_file::replace(path, &written(&keys)?)?;
    Ok(keys)
}

fn new_keys() -> Result<Keys, EnrolmentError> {
    let channel_key = secret_octets()?;
    let client_key = loop {
        // Fails for a scalar that is no key, one in 2^32.
        if let Ok(key) = p256::SecretKey::from_slice(secret_octets()?.as_slice()) {
            break key;
        }
    };
    let client_key_pem = client_key
        .to_pkcs8_pem(LineEnding::LF)
        .map_err(|error| EnrolmentError::Keys(error.to_string()))?;
    Ok(Keys {
        channel_key: base64(channel_key.as_slice()),
        client_key_pem: client_key_pem.as_str().to_owned(),
    })
}

fn secret_octets() -> Result<Zeroizing<[u8; 32]>, EnrolmentError> {
    let octets = random_octets().map_err(|error| EnrolmentError::Keys(error.to_string()))?;
    Ok(Zeroizing::new(octets))
}

/// PKCS #10 in DER. The institution takes only the key from it, and names the terminal itself.
pub(super) fn signing_request(client_key_pem: &str) -> Result<Vec<u8>, EnrolmentError> {
    let fault = |error: rcgen::Error| EnrolmentError::Keys(error.to_string());
    let key = rcgen::KeyPair::from_pem(client_key_pem).map_err(fault)?;
    let params = rcgen::CertificateParams::new(Vec::new()).map_err(fault)?;
    let request = params.serialize_request(&key).map_err(fault)?;
    Ok(request.der().to_vec())
}

pub(super) fn read_channel_key(text: &str) -> Result<ChannelKey, String> {
    let octets = Zeroizing::new(octets("channel_key", text)?);
    let octets =
        octets.as_slice().try_into().map_err(|_| "channel_key: not 32 octets".to_owned())?;
    Ok(ChannelKey::from_octets(octets))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_whose_answer_was_lost_are_used_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(PENDING_FILE);
        let first = pending_keys(&path, ChannelKeyChoice::First).unwrap();
        let again = pending_keys(&path, ChannelKeyChoice::Replace("other")).unwrap();
        assert_eq!(first.channel_key, again.channel_key);
        assert_eq!(first.client_key_pem, again.client_key_pem);
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        signing_request(&first.client_key_pem).unwrap();
    }

    #[test]
    fn the_channel_key_is_kept_or_replaced_as_the_operator_says() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(PENDING_FILE);
        let first = pending_keys(&path, ChannelKeyChoice::First).unwrap();
        // Keys that were lost on the way and have another channel key are not used again.
        let kept = pending_keys(&path, ChannelKeyChoice::Keep("old")).unwrap();
        assert_eq!(kept.channel_key, "old");
        assert_ne!(kept.client_key_pem, first.client_key_pem);
        let again = pending_keys(&path, ChannelKeyChoice::Keep("old")).unwrap();
        assert_eq!(again.client_key_pem, kept.client_key_pem);
        let replaced = pending_keys(&path, ChannelKeyChoice::Replace("old")).unwrap();
        assert_ne!(replaced.channel_key, "old");
    }
}
