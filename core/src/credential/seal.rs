//! HPKE (RFC 9180): the terminal carries the command, and can neither read nor alter it.

use std::fmt;

use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable, Kem, OpModeR, OpModeS, Serializable};
use prost::Message;
use secrecy::{ExposeSecret, SecretBox};
use sha2::{Digest, Sha256};

use super::{CredentialError, KeyId, generated, malformed};
use crate::domain::{CommandDigest, OfferDigest};

/// The only suite of version 1: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20-Poly1305.
pub const SEAL_SUITE: u32 = 1;

/// HPKE's `info`: the protocol and the version that the sealing is for.
const SEAL_INFO: &[u8] = b"florin card-command v1";

const WHAT: &str = "sealed command";

/// The institution's private sealing key. Prints only its key id.
pub struct SealingKey(SecretBox<[u8; 32]>);

impl SealingKey {
    /// Makes the key from 32 random octets.
    pub fn from_octets(octets: [u8; 32]) -> Self {
        Self(SecretBox::new(Box::new(octets)))
    }

    /// Returns the private key, 32 octets, for the institution's own key file.
    pub fn expose_octets(&self) -> &[u8; 32] {
        self.0.expose_secret()
    }

    /// Returns the public key.
    pub fn public_key(&self) -> SealingPublicKey {
        let secret = x25519_dalek::StaticSecret::from(*self.0.expose_secret());
        SealingPublicKey(x25519_dalek::PublicKey::from(&secret).to_bytes())
    }

    /// Opens a command that was sealed for the offer with this digest.
    ///
    /// # Errors
    /// [`CredentialError::DoesNotOpen`] if it was sealed to another key, for another offer, or was
    /// altered; [`CredentialError::Malformed`] if its suite is not known.
    pub fn open(
        &self,
        sealed: &SealedCommand,
        offer: &OfferDigest,
    ) -> Result<Vec<u8>, CredentialError> {
        if sealed.suite != SEAL_SUITE {
            return Err(malformed(WHAT, format!("suite {}, expected {SEAL_SUITE}", sealed.suite)));
        }
        let private = <X25519HkdfSha256 as Kem>::PrivateKey::from_bytes(self.0.expose_secret())
            .map_err(|_| CredentialError::BadKey("X25519 private key"))?;
        let encapsulated =
            <X25519HkdfSha256 as Kem>::EncappedKey::from_bytes(&sealed.encapsulated_key)
                .map_err(|_| CredentialError::DoesNotOpen)?;
        hpke::single_shot_open::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
            &OpModeR::Base,
            &private,
            &encapsulated,
            SEAL_INFO,
            &sealed.ciphertext,
            &offer.0,
        )
        .map_err(|_| CredentialError::DoesNotOpen)
    }
}

impl fmt::Debug for SealingKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SealingKey({})", self.public_key().key_id())
    }
}

/// The institution's public sealing key: X25519, 32 octets.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SealingPublicKey(pub [u8; 32]);

impl SealingPublicKey {
    /// Returns the id of the key.
    pub fn key_id(&self) -> KeyId {
        KeyId::of(&self.0)
    }

    /// Seals octets for the institution, bound to the offer with this digest. `key_material` is 32
    /// fresh random octets: `ikmE` of RFC 9180, from which `DeriveKeyPair` makes the ephemeral
    /// key.
    ///
    /// # Errors
    /// [`CredentialError::BadKey`] if this is no usable X25519 key.
    pub fn seal(
        &self,
        plaintext: &[u8],
        offer: &OfferDigest,
        key_material: [u8; 32],
    ) -> Result<SealedCommand, CredentialError> {
        let bad_key = || CredentialError::BadKey("X25519 public key");
        let public =
            <X25519HkdfSha256 as Kem>::PublicKey::from_bytes(&self.0).map_err(|_| bad_key())?;
        let mut random = KeyMaterial(key_material);
        let (encapsulated, ciphertext) =
            hpke::single_shot_seal::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256, _>(
                &OpModeS::Base,
                &public,
                SEAL_INFO,
                plaintext,
                &offer.0,
                &mut random,
            )
            .map_err(|_| bad_key())?;
        let mut encapsulated_key = [0; 32];
        encapsulated_key.copy_from_slice(&encapsulated.to_bytes());
        Ok(SealedCommand { suite: SEAL_SUITE, key_id: self.key_id(), encapsulated_key, ciphertext })
    }
}

impl fmt::Debug for SealingPublicKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SealingPublicKey({})", self.key_id())
    }
}

/// Gives hpke the key material that the caller drew: randomness is an input here.
struct KeyMaterial([u8; 32]);

impl rand_core::RngCore for KeyMaterial {
    fn next_u32(&mut self) -> u32 {
        rand_core::impls::next_u32_via_fill(self)
    }

    fn next_u64(&mut self) -> u64 {
        rand_core::impls::next_u64_via_fill(self)
    }

    fn fill_bytes(&mut self, destination: &mut [u8]) {
        // hpke draws exactly once, 32 octets, for the ephemeral key.
        for (octet, material) in destination.iter_mut().zip(self.0.iter().cycle()) {
            *octet = *material;
        }
    }
}

impl rand_core::CryptoRng for KeyMaterial {}

/// A card command as the terminal carries it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedCommand {
    /// The algorithms: [`SEAL_SUITE`].
    pub suite: u32,
    /// The id of the institution's key that opens it.
    pub key_id: KeyId,
    pub encapsulated_key: [u8; 32],
    /// The sealed octets with the tag.
    pub ciphertext: Vec<u8>,
}

impl SealedCommand {
    /// Encodes the protobuf message `SealedCommand`.
    pub fn encode(&self) -> Vec<u8> {
        generated::SealedCommand {
            suite: self.suite.into(),
            key_id: self.key_id.0.to_vec(),
            encapsulated_key: self.encapsulated_key.to_vec(),
            ciphertext: self.ciphertext.clone(),
        }
        .encode_to_vec()
    }

    /// Reads an encoded `SealedCommand`.
    ///
    /// # Errors
    /// [`CredentialError::Malformed`] if the octets are not one. An unknown suite is not an error
    /// yet.
    pub fn decode(octets: &[u8]) -> Result<Self, CredentialError> {
        let message =
            generated::SealedCommand::decode(octets).map_err(|error| malformed(WHAT, error))?;
        let key_id = KeyId::from_octets(&message.key_id)
            .ok_or_else(|| malformed(WHAT, "a key id that has not 8 octets"))?;
        let encapsulated_key = message
            .encapsulated_key
            .as_slice()
            .try_into()
            .map_err(|_| malformed(WHAT, "an encapsulated key that has not 32 octets"))?;
        let suite = u32::try_from(message.suite)
            .map_err(|_| malformed(WHAT, "a suite out of its range"))?;
        Ok(Self { suite, key_id, encapsulated_key, ciphertext: message.ciphertext })
    }

    /// SHA-256 over the encoded form as it was sent: what a phone shows to ask for its result.
    pub fn digest_of_encoded(encoded: &[u8]) -> CommandDigest {
        CommandDigest(Sha256::digest(encoded).into())
    }
}

#[cfg(test)]
mod tests {
    use super::super::key_agreement::low_order_keys;
    use super::*;

    #[test]
    fn a_command_opens_for_its_key_and_its_offer_only() {
        let key = SealingKey::from_octets([3; 32]);
        let offer = OfferDigest([1; 32]);
        let sealed = key.public_key().seal(b"pay", &offer, [5; 32]).unwrap();
        let sealed = SealedCommand::decode(&sealed.encode()).unwrap();
        assert_eq!(key.open(&sealed, &offer).unwrap(), b"pay");
        assert_eq!(key.open(&sealed, &OfferDigest([2; 32])), Err(CredentialError::DoesNotOpen));
        assert_eq!(
            SealingKey::from_octets([4; 32]).open(&sealed, &offer),
            Err(CredentialError::DoesNotOpen)
        );
        let mut altered = sealed.clone();
        altered.ciphertext[0] ^= 1;
        assert_eq!(key.open(&altered, &offer), Err(CredentialError::DoesNotOpen));
        let unknown_suite = SealedCommand { suite: 2, ..sealed };
        assert!(matches!(key.open(&unknown_suite, &offer), Err(CredentialError::Malformed { .. })));
    }

    #[test]
    fn nothing_is_sealed_to_a_key_of_low_order_nor_opened_with_one() {
        let key = SealingKey::from_octets([3; 32]);
        let offer = OfferDigest([1; 32]);
        let good = key.public_key().seal(b"pay", &offer, [5; 32]).unwrap();
        for low in low_order_keys() {
            let refused = SealingPublicKey(low).seal(b"pay", &offer, [5; 32]).unwrap_err();
            assert!(matches!(refused, CredentialError::BadKey(_)), "{refused}");
            // Sealed by somebody who knows the secret of such a key without any private key.
            let sealed = SealedCommand { encapsulated_key: low, ..good.clone() };
            assert_eq!(key.open(&sealed, &offer), Err(CredentialError::DoesNotOpen));
        }
    }

    #[test]
    fn a_key_never_prints_itself() {
        assert!(!format!("{:?}", SealingKey::from_octets([3; 32])).contains("0303"));
    }
}
