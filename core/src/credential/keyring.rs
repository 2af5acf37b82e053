//! The institution's public keys, vouched for by its root.

use prost::Message;

use super::{
    CredentialError, KeyId, PayloadType, SealingPublicKey, Signed, SigningKey, VerifyingKey,
    generated, malformed,
};
use crate::domain::UnixTime;

const WHAT: &str = "keyring";

/// What a key of the institution is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyPurpose {
    TerminalCertificate,
    Receipt,
    Sealing,
}

/// One public key of the institution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstitutionKey {
    /// What the key is used for.
    pub purpose: KeyPurpose,
    /// P-256 in SEC1 uncompressed (65 octets), or X25519 (32 octets) for sealing.
    pub public_key: Vec<u8>,
    /// The last second in which the key may be used.
    pub not_after: UnixTime,
}

impl InstitutionKey {
    /// Returns the id of the key.
    pub fn key_id(&self) -> KeyId {
        KeyId::of(&self.public_key)
    }
}

/// The keys by which terminals and wallets verify what the institution signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keyring {
    pub institution_name: String,
    /// The keys that are in use, and those that were until lately.
    pub keys: Vec<InstitutionKey>,
    /// When the keyring was made, by the institution's clock. A reader keeps the newest.
    pub issued_at: UnixTime,
}

impl Keyring {
    /// Signs the keyring with the institution's root key.
    pub fn sign(&self, root_key: &SigningKey) -> Signed {
        let body = generated::Keyring {
            institution_name: self.institution_name.clone(),
            keys: self
                .keys
                .iter()
                .map(|key| generated::InstitutionKey {
                    purpose: match key.purpose {
                        KeyPurpose::TerminalCertificate => {
                            generated::KeyPurpose::TerminalCertificate
                        }
                        KeyPurpose::Receipt => generated::KeyPurpose::Receipt,
                        KeyPurpose::Sealing => generated::KeyPurpose::Sealing,
                    }
                    .into(),
                    key_id: key.key_id().0.to_vec(),
                    public_key: key.public_key.clone(),
                    not_after_unix_s: key.not_after.seconds,
                })
                .collect(),
            issued_at_unix_s: self.issued_at.seconds,
        }
        .encode_to_vec();
        root_key.sign(PayloadType::Keyring, body)
    }

    /// Verifies a keyring against the root key that was pinned at enrolment. Keys of purposes that
    /// this version does not know are left out.
    ///
    /// # Errors
    /// [`CredentialError`]: a bad signature or a malformed body.
    pub fn verify(signed: &Signed, root_key: &VerifyingKey) -> Result<Self, CredentialError> {
        root_key.verify(PayloadType::Keyring, signed)?;
        let message = generated::Keyring::decode(signed.body.as_slice())
            .map_err(|error| malformed(WHAT, error))?;
        let keys = message
            .keys
            .into_iter()
            .filter_map(|key| {
                let purpose = match key.purpose() {
                    generated::KeyPurpose::TerminalCertificate => KeyPurpose::TerminalCertificate,
                    generated::KeyPurpose::Receipt => KeyPurpose::Receipt,
                    generated::KeyPurpose::Sealing => KeyPurpose::Sealing,
                    generated::KeyPurpose::Unspecified => return None,
                };
                let not_after = UnixTime { seconds: key.not_after_unix_s };
                Some(InstitutionKey { purpose, public_key: key.public_key, not_after })
            })
            .collect();
        let issued_at = UnixTime { seconds: message.issued_at_unix_s };
        Ok(Self { institution_name: message.institution_name, keys, issued_at })
    }

    /// The key for `purpose` that `signed` claims to be signed with, if its time has not run out at
    /// `now`. Whether it really is, the caller verifies.
    pub(super) fn verifying_key(
        &self,
        purpose: KeyPurpose,
        signed: &Signed,
        what: &'static str,
        now: UnixTime,
    ) -> Result<VerifyingKey, CredentialError> {
        let key_id = signed.key_id.ok_or(CredentialError::UnknownKey(what))?;
        let key = self
            .keys
            .iter()
            .find(|key| key.purpose == purpose && key.key_id() == key_id && key.not_after >= now)
            .ok_or(CredentialError::UnknownKey(what))?;
        VerifyingKey::from_sec1(&key.public_key)
    }

    /// Finds the key to seal commands with: the one that is valid the longest.
    ///
    /// # Errors
    /// [`CredentialError::UnknownKey`] if there is none whose time has not run out at `now`;
    /// [`CredentialError::BadKey`] if it is no X25519 key.
    pub fn sealing_key(&self, now: UnixTime) -> Result<SealingPublicKey, CredentialError> {
        let key = self
            .keys
            .iter()
            .filter(|key| key.purpose == KeyPurpose::Sealing && key.not_after >= now)
            .max_by_key(|key| key.not_after)
            .ok_or(CredentialError::UnknownKey("sealing of commands"))?;
        let octets = key
            .public_key
            .as_slice()
            .try_into()
            .map_err(|_| CredentialError::BadKey("X25519 public key"))?;
        Ok(SealingPublicKey(octets))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keyring_is_good_only_under_its_root() {
        let root = SigningKey::from_scalar(&[7; 32]).unwrap();
        let other = SigningKey::from_scalar(&[8; 32]).unwrap().verifying_key();
        let keyring = Keyring {
            institution_name: "Bank".into(),
            keys: vec![InstitutionKey {
                purpose: KeyPurpose::Sealing,
                public_key: vec![9; 32],
                not_after: UnixTime { seconds: 10 },
            }],
            issued_at: UnixTime { seconds: 5 },
        };
        let signed = keyring.sign(&root);
        assert_eq!(Keyring::verify(&signed, &root.verifying_key()).unwrap(), keyring);
        assert!(Keyring::verify(&signed, &other).is_err());
        assert_eq!(keyring.sealing_key(UnixTime { seconds: 10 }).unwrap().0, [9; 32]);
        assert!(keyring.sealing_key(UnixTime { seconds: 11 }).is_err());
    }
}
