//! The institution's own keys: the root key, and the keys that it vouches for in the keyring.
//!
//! Values only: `directory` keeps them in files, and `certificate_authority` has the keys of TLS.

use super::validity::KEYRING_VALIDITY_S;
use crate::credential::{
    CredentialError, InstitutionKey, KeyPurpose, Keyring, SealingKey, Signed, SigningKey,
    VerifyingKey,
};
use crate::domain::UnixTime;

/// How many random octets [`InstitutionKeys::generate`] takes.
pub const KEY_SEED_OCTETS: usize = 128;

/// The keys that the institution works with every day. Their `Debug` form shows only key ids.
#[derive(Debug)]
pub struct InstitutionKeys {
    pub(super) terminal_certificate: SigningKey,
    pub(super) receipt: SigningKey,
    pub(super) sealing: SealingKey,
    pub(super) root_public_key: VerifyingKey,
    pub(super) keyring: Signed,
    /// Sealing keys of before the store was restored: they open what was paid, and nothing new.
    pub(super) former_sealing: Vec<SealingKey>,
}

impl InstitutionKeys {
    /// Makes the root key and the other keys of random octets, 32 for each: root, terminal
    /// certificates, receipts, sealing. Returns the root key beside them, since it is not needed
    /// again before the next keyring.
    ///
    /// # Errors
    /// [`CredentialError::BadKey`] if a scalar is out of range, which happens less than once in
    /// 2^30 times: draw again.
    pub fn generate(
        institution_name: &str,
        seed: &[u8; KEY_SEED_OCTETS],
        now: UnixTime,
    ) -> Result<(Self, SigningKey), CredentialError> {
        let scalar = |index: usize| {
            let mut scalar = [0; 32];
            scalar.copy_from_slice(&seed[32 * index..32 * (index + 1)]);
            scalar
        };
        let root = SigningKey::from_scalar(&scalar(0))?;
        let terminal_certificate = SigningKey::from_scalar(&scalar(1))?;
        let receipt = SigningKey::from_scalar(&scalar(2))?;
        let sealing = SealingKey::from_octets(scalar(3));
        let not_after = UnixTime { seconds: now.seconds.saturating_add(KEYRING_VALIDITY_S) };
        let key = |purpose, public_key| InstitutionKey { purpose, public_key, not_after };
        let keyring = Keyring {
            institution_name: institution_name.to_owned(),
            keys: vec![
                key(
                    KeyPurpose::TerminalCertificate,
                    terminal_certificate.verifying_key().to_sec1(),
                ),
                key(KeyPurpose::Receipt, receipt.verifying_key().to_sec1()),
                key(KeyPurpose::Sealing, sealing.public_key().0.to_vec()),
            ],
            issued_at: now,
        }
        .sign(&root);
        let root_public_key = root.verifying_key();
        let former_sealing = Vec::new();
        let keys = Self {
            terminal_certificate,
            receipt,
            sealing,
            root_public_key,
            keyring,
            former_sealing,
        };
        Ok((keys, root))
    }

    /// Puts the keys together, if the keyring vouches for each.
    ///
    /// # Errors
    /// [`CredentialError`]: the root key did not sign the keyring, or a key is not in it.
    pub fn assemble(
        terminal_certificate: SigningKey,
        receipt: SigningKey,
        sealing: SealingKey,
        root_public_key: VerifyingKey,
        keyring: Signed,
    ) -> Result<Self, CredentialError> {
        let keys = Keyring::verify(&keyring, &root_public_key)?.keys;
        let vouched_for = |purpose, public_key: &[u8], what| {
            let found =
                keys.iter().any(|key| key.purpose == purpose && key.public_key == public_key);
            found.then_some(()).ok_or(CredentialError::UnknownKey(what))
        };
        let terminal_public = terminal_certificate.verifying_key().to_sec1();
        vouched_for(KeyPurpose::TerminalCertificate, &terminal_public, "terminal certificate")?;
        vouched_for(KeyPurpose::Receipt, &receipt.verifying_key().to_sec1(), "receipt")?;
        vouched_for(KeyPurpose::Sealing, &sealing.public_key().0, "sealed command")?;
        Ok(Self {
            terminal_certificate,
            receipt,
            sealing,
            root_public_key,
            keyring,
            former_sealing: Vec::new(),
        })
    }

    /// With sealing keys of before the store was restored.
    #[must_use]
    pub fn with_former_sealing(self, former_sealing: Vec<SealingKey>) -> Self {
        Self { former_sealing, ..self }
    }

    /// The keyring with this sealing key in the place of all others, signed by the root.
    ///
    /// # Errors
    /// [`CredentialError`] if this is not the root key of the keyring.
    pub fn keyring_with_sealing_key(
        &self,
        sealing: &SealingKey,
        root: &SigningKey,
        now: UnixTime,
    ) -> Result<Signed, CredentialError> {
        let mut keyring = Keyring::verify(&self.keyring, &root.verifying_key())?;
        keyring.keys.retain(|key| key.purpose != KeyPurpose::Sealing);
        keyring.keys.push(InstitutionKey {
            purpose: KeyPurpose::Sealing,
            public_key: sealing.public_key().0.to_vec(),
            not_after: UnixTime { seconds: now.seconds.saturating_add(KEYRING_VALIDITY_S) },
        });
        // The newest keyring wins, also over one that was issued in this second.
        let after_the_last = keyring.issued_at.seconds.saturating_add(1);
        keyring.issued_at = UnixTime { seconds: now.seconds.max(after_the_last) };
        Ok(keyring.sign(root))
    }

    /// The institution's public keys, signed by its root.
    pub fn keyring(&self) -> &Signed {
        &self.keyring
    }

    /// The key that terminals and wallets pin at enrolment.
    pub fn root_public_key(&self) -> &VerifyingKey {
        &self.root_public_key
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_the_keyring_does_not_vouch_for_are_refused() {
        let now = UnixTime { seconds: 1 };
        let mut seed = [7; KEY_SEED_OCTETS];
        seed[32..64].fill(8);
        let (keys, _) = InstitutionKeys::generate("Bank", &seed, now).unwrap();
        let InstitutionKeys {
            terminal_certificate,
            receipt,
            sealing,
            root_public_key,
            keyring,
            ..
        } = keys;
        let again = |receipt: SigningKey| {
            let sealing = SealingKey::from_octets(*sealing.expose_octets());
            InstitutionKeys::assemble(
                terminal_certificate.clone(),
                receipt,
                sealing,
                root_public_key,
                keyring.clone(),
            )
        };
        again(receipt).unwrap();
        assert!(again(SigningKey::from_scalar(&[9; 32]).unwrap()).is_err());
    }
}
