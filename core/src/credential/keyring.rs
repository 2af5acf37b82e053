//! The institution's public keys, vouched for by its root.

use prost::Message;

use super::key_agreement::check_public_key;
use super::{
    CredentialError, KeyId, PayloadType, SealingPublicKey, Signed, SigningKey, VerifyingKey,
    enumeration, generated, malformed, number_of,
};
use crate::domain::{UnixTime, check_displayed_text};

/// The longest name of an institution, in octets of UTF-8.
pub const INSTITUTION_NAME_OCTETS_MAX: usize = 64;

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

impl KeyPurpose {
    const ALL: [Self; 3] = [Self::TerminalCertificate, Self::Receipt, Self::Sealing];

    fn name(self) -> &'static str {
        match self {
            Self::TerminalCertificate => "terminal certificates",
            Self::Receipt => "receipts",
            Self::Sealing => "sealing",
        }
    }
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
    /// 1 to [`INSTITUTION_NAME_OCTETS_MAX`] octets.
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
                    purpose: number_of(match key.purpose {
                        KeyPurpose::TerminalCertificate => {
                            generated::KeyPurpose::TerminalCertificate
                        }
                        KeyPurpose::Receipt => generated::KeyPurpose::Receipt,
                        KeyPurpose::Sealing => generated::KeyPurpose::Sealing,
                    }),
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
    /// [`CredentialError`]: a bad signature, a malformed body, a purpose without a key, or a key
    /// that is not of the kind that its purpose takes, that is there twice, or under another id.
    pub fn verify(signed: &Signed, root_key: &VerifyingKey) -> Result<Self, CredentialError> {
        root_key.verify(PayloadType::Keyring, signed)?;
        let message = generated::Keyring::decode(signed.body.as_slice())
            .map_err(|error| malformed(WHAT, error))?;
        check_displayed_text(&message.institution_name, 1..=INSTITUTION_NAME_OCTETS_MAX)
            .map_err(|error| malformed(WHAT, format!("institution_name: {error}")))?;
        let mut keys: Vec<InstitutionKey> = Vec::new();
        for key in message.keys {
            let Some(key) = read_key(key)? else { continue };
            if keys.iter().any(|other| other.key_id() == key.key_id()) {
                return Err(malformed(WHAT, format!("key {} is there twice", key.key_id())));
            }
            keys.push(key);
        }
        for purpose in KeyPurpose::ALL {
            if !keys.iter().any(|key| key.purpose == purpose) {
                return Err(malformed(WHAT, format!("no key for {}", purpose.name())));
            }
        }
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
        sealing_public_key(&key.public_key)
    }
}

/// The key, if it is for a purpose that this version knows.
fn read_key(message: generated::InstitutionKey) -> Result<Option<InstitutionKey>, CredentialError> {
    let purpose = match enumeration(message.purpose) {
        generated::KeyPurpose::TerminalCertificate => KeyPurpose::TerminalCertificate,
        generated::KeyPurpose::Receipt => KeyPurpose::Receipt,
        generated::KeyPurpose::Sealing => KeyPurpose::Sealing,
        generated::KeyPurpose::Unspecified => return Ok(None),
    };
    let not_after = UnixTime { seconds: message.not_after_unix_s };
    let key = InstitutionKey { purpose, public_key: message.public_key, not_after };
    match purpose {
        KeyPurpose::TerminalCertificate | KeyPurpose::Receipt => {
            VerifyingKey::from_sec1(&key.public_key)?;
        }
        KeyPurpose::Sealing => {
            sealing_public_key(&key.public_key)?;
        }
    }
    if key.key_id().0 != *message.key_id {
        return Err(malformed(WHAT, format!("key {} has another id there", key.key_id())));
    }
    Ok(Some(key))
}

fn sealing_public_key(octets: &[u8]) -> Result<SealingPublicKey, CredentialError> {
    let octets = octets
        .try_into()
        .map_err(|_| CredentialError::BadKey("X25519 public key: it has not 32 octets"))?;
    check_public_key(&octets)?;
    Ok(SealingPublicKey(octets))
}

#[cfg(test)]
mod tests {
    use super::super::{SealingKey, low_order_keys};
    use super::*;

    const END: UnixTime = UnixTime { seconds: 10 };

    fn root() -> SigningKey {
        SigningKey::from_scalar(&[7; 32]).unwrap()
    }

    fn signing(purpose: KeyPurpose, number: u8) -> InstitutionKey {
        let key = SigningKey::from_scalar(&[number; 32]).unwrap().verifying_key();
        InstitutionKey { purpose, public_key: key.to_sec1(), not_after: END }
    }

    fn sealing(public_key: Vec<u8>) -> InstitutionKey {
        InstitutionKey { purpose: KeyPurpose::Sealing, public_key, not_after: END }
    }

    fn good_sealing() -> InstitutionKey {
        sealing(SealingKey::from_octets([9; 32]).public_key().0.to_vec())
    }

    fn keyring(keys: Vec<InstitutionKey>) -> Keyring {
        let issued_at = UnixTime { seconds: 5 };
        Keyring { institution_name: "Bank".into(), keys, issued_at }
    }

    fn whole() -> Keyring {
        keyring(vec![
            signing(KeyPurpose::TerminalCertificate, 1),
            signing(KeyPurpose::Receipt, 2),
            good_sealing(),
        ])
    }

    fn refusal(keyring: &Keyring) -> String {
        Keyring::verify(&keyring.sign(&root()), &root().verifying_key()).unwrap_err().to_string()
    }

    #[test]
    fn a_keyring_is_good_only_under_its_root() {
        let other = SigningKey::from_scalar(&[8; 32]).unwrap().verifying_key();
        let keyring = whole();
        let signed = keyring.sign(&root());
        assert_eq!(Keyring::verify(&signed, &root().verifying_key()).unwrap(), keyring);
        assert!(Keyring::verify(&signed, &other).is_err());
        let sealing = SealingKey::from_octets([9; 32]).public_key();
        assert_eq!(keyring.sealing_key(END), Ok(sealing));
        assert!(keyring.sealing_key(UnixTime { seconds: 11 }).is_err());
    }

    #[test]
    fn a_keyring_without_a_key_for_each_purpose_is_refused() {
        for (purpose, words) in [(0, "terminal certificates"), (1, "receipts"), (2, "sealing")] {
            let mut keys = whole().keys;
            keys.remove(purpose);
            let refusal = refusal(&keyring(keys));
            assert!(refusal.contains(&format!("no key for {words}")), "{refusal}");
        }
    }

    #[test]
    fn a_key_that_is_not_of_its_kind_is_refused() {
        let receipt = |public_key| InstitutionKey {
            purpose: KeyPurpose::Receipt,
            public_key,
            not_after: END,
        };
        let mut off_the_curve = signing(KeyPurpose::Receipt, 3).public_key;
        off_the_curve[64] ^= 1;
        for key in [
            receipt(vec![4; 32]),
            receipt(off_the_curve),
            receipt(Vec::new()),
            sealing(signing(KeyPurpose::Receipt, 3).public_key),
            sealing(vec![9; 31]),
        ] {
            let mut keys = whole().keys;
            keys.push(key);
            let refusal = refusal(&keyring(keys));
            assert!(refusal.contains("not a usable"), "{refusal}");
        }
        for key in low_order_keys() {
            let mut keys = whole().keys;
            keys.push(sealing(key.to_vec()));
            assert!(refusal(&keyring(keys)).contains("low order"));
        }
    }

    #[test]
    fn a_key_is_there_once_and_under_its_own_id() {
        let mut keys = whole().keys;
        // One key for two purposes, too.
        keys.push(signing(KeyPurpose::Receipt, 1));
        assert!(refusal(&keyring(keys)).contains("twice"));

        let mut body = generated::Keyring::decode(&*whole().sign(&root()).body).unwrap();
        body.keys[0].key_id[0] ^= 1;
        let signed = root().sign(PayloadType::Keyring, body.encode_to_vec());
        let refusal = Keyring::verify(&signed, &root().verifying_key()).unwrap_err().to_string();
        assert!(refusal.contains("another id"), "{refusal}");
    }

    #[test]
    fn a_key_of_a_later_version_is_left_out_and_one_out_of_range_is_none() {
        let mut body = generated::Keyring::decode(&*whole().sign(&root()).body).unwrap();
        for purpose in [9, (1 << 32) + 1] {
            let key = generated::InstitutionKey { purpose, ..body.keys[0].clone() };
            body.keys.push(key);
        }
        let signed = root().sign(PayloadType::Keyring, body.encode_to_vec());
        assert_eq!(Keyring::verify(&signed, &root().verifying_key()), Ok(whole()));
    }

    #[test]
    fn a_name_that_nobody_can_see_is_refused() {
        for name in ["", "\u{200b}", "Bank\u{202e}"] {
            let keyring = Keyring { institution_name: name.into(), ..whole() };
            assert!(refusal(&keyring).contains("institution_name"), "{name:?}");
        }
    }
}
