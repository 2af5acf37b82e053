//! ECDSA P-256 over the DSSE pre-authentication encoding.
//!
//! `p256` signs, since its signatures are deterministic, and verifies. With the feature `ring`,
//! `ring` verifies instead, several times as fast; where TLS is, `ring` is there in any case.

use std::fmt;

use p256::ecdsa::signature::Signer;
#[cfg(any(test, not(feature = "ring")))]
use p256::ecdsa::signature::Verifier;
use p256::pkcs8::{DecodePrivateKey, EncodePrivateKey, LineEnding};
use prost::Message;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::{CredentialError, generated, malformed};

/// What kind of body is signed. The kind is part of what is signed, so no signature serves for
/// another kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PayloadType {
    /// A terminal certificate, by the institution.
    TerminalCertificate,
    /// A card command, by the card.
    CardCommand,
    /// A receipt, by the institution.
    Receipt,
    /// An exclusion, by the institution.
    Exclusion,
    /// A keyring, by the institution's root.
    Keyring,
    /// An enrolment code, by the card that is enrolled.
    CardEnrolment,
    /// A question of the cardholder to the institution, by the card.
    CardholderQuestion,
}

impl PayloadType {
    /// Returns the type's name, which is part of what is signed.
    pub fn name(self) -> &'static str {
        match self {
            Self::TerminalCertificate => "application/vnd.florin.terminal-certificate.v1",
            Self::CardCommand => "application/vnd.florin.card-command.v1",
            Self::Receipt => "application/vnd.florin.receipt.v1",
            Self::Exclusion => "application/vnd.florin.exclusion.v1",
            Self::Keyring => "application/vnd.florin.keyring.v1",
            Self::CardEnrolment => "application/vnd.florin.card-enrolment.v1",
            Self::CardholderQuestion => "application/vnd.florin.cardholder-question.v1",
        }
    }

    /// Returns the type's name for messages to people.
    pub(super) fn noun(self) -> &'static str {
        match self {
            Self::TerminalCertificate => "terminal certificate",
            Self::CardCommand => "card command",
            Self::Receipt => "receipt",
            Self::Exclusion => "exclusion",
            Self::Keyring => "keyring",
            Self::CardEnrolment => "card enrolment",
            Self::CardholderQuestion => "cardholder's question",
        }
    }

    /// `DSSEv1 SP LEN(type) SP type SP LEN(body) SP body`, lengths in ASCII decimal (DSSE protocol,
    /// version 1.0).
    pub fn pre_authentication_encoding(self, body: &[u8]) -> Vec<u8> {
        let name = self.name();
        let mut encoding = format!("DSSEv1 {} {name} {} ", name.len(), body.len()).into_bytes();
        encoding.extend_from_slice(body);
        encoding
    }
}

/// The first 8 octets of SHA-256 over a public key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub [u8; 8]);

impl KeyId {
    /// Computes the id of the key with these octets.
    pub fn of(public_key: &[u8]) -> Self {
        let digest = Sha256::digest(public_key);
        let mut id = [0; 8];
        id.copy_from_slice(&digest[..8]);
        Self(id)
    }

    /// Makes an id of 8 octets; none for another number.
    pub fn from_octets(octets: &[u8]) -> Option<Self> {
        octets.try_into().ok().map(Self)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// A P-256 private key. Prints only its key id.
#[derive(Clone)]
pub struct SigningKey(p256::ecdsa::SigningKey);

impl SigningKey {
    /// The key with this secret scalar: 32 octets from a good source of randomness, or from a test
    /// vector.
    ///
    /// # Errors
    /// [`CredentialError::BadKey`] if the scalar is 0 or not below the group's order; draw again
    /// then (the chance is below 2^-32).
    pub fn from_scalar(scalar: &[u8; 32]) -> Result<Self, CredentialError> {
        p256::ecdsa::SigningKey::from_slice(scalar)
            .map(Self)
            .map_err(|_| CredentialError::BadKey("P-256 private key"))
    }

    /// Reads PKCS #8 in PEM.
    ///
    /// # Errors
    /// [`CredentialError::BadKey`] if the text is not one.
    pub fn from_pem(pem: &str) -> Result<Self, CredentialError> {
        p256::ecdsa::SigningKey::from_pkcs8_pem(pem)
            .map(Self)
            .map_err(|_| CredentialError::BadKey("P-256 private key in PEM (PKCS #8)"))
    }

    /// Writes PKCS #8 in PEM, erased from memory when dropped.
    ///
    /// # Errors
    /// [`CredentialError::BadKey`] if the key cannot be encoded.
    pub fn to_pem(&self) -> Result<Zeroizing<String>, CredentialError> {
        self.0
            .to_pkcs8_pem(LineEnding::LF)
            .map_err(|_| CredentialError::BadKey("P-256 private key"))
    }

    /// Returns the public key.
    pub fn verifying_key(&self) -> VerifyingKey {
        VerifyingKey(*self.0.verifying_key())
    }

    /// Signs a body. Deterministic (RFC 6979), so it needs no randomness and test vectors hold.
    pub fn sign(&self, payload_type: PayloadType, body: Vec<u8>) -> Signed {
        let signature: p256::ecdsa::Signature =
            self.0.sign(&payload_type.pre_authentication_encoding(&body));
        Signed {
            body,
            signature: signature.to_bytes().into(),
            key_id: Some(self.verifying_key().key_id()),
        }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SigningKey({})", self.verifying_key().key_id())
    }
}

/// A P-256 public key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct VerifyingKey(p256::ecdsa::VerifyingKey);

impl VerifyingKey {
    /// Reads a key: SEC1, uncompressed (65 octets).
    ///
    /// # Errors
    /// [`CredentialError::BadKey`] if they are not a point of the curve in that form.
    pub fn from_sec1(octets: &[u8]) -> Result<Self, CredentialError> {
        let bad = || CredentialError::BadKey("P-256 public key (SEC1, uncompressed, 65 octets)");
        if octets.len() != 65 {
            return Err(bad());
        }
        p256::ecdsa::VerifyingKey::from_sec1_bytes(octets).map(Self).map_err(|_| bad())
    }

    /// Writes the key: SEC1, uncompressed, 65 octets.
    pub fn to_sec1(&self) -> Vec<u8> {
        self.0.to_encoded_point(false).as_bytes().to_vec()
    }

    /// Returns the id of the key.
    pub fn key_id(&self) -> KeyId {
        KeyId::of(&self.to_sec1())
    }

    /// Checks that this key signed this body as this kind.
    ///
    /// # Errors
    /// [`CredentialError::BadSignature`] if it did not.
    pub fn verify(
        &self,
        payload_type: PayloadType,
        signed: &Signed,
    ) -> Result<(), CredentialError> {
        let message = payload_type.pre_authentication_encoding(&signed.body);
        #[cfg(feature = "ring")]
        let is_valid = self.verifies_by_ring(&message, &signed.signature);
        #[cfg(not(feature = "ring"))]
        let is_valid = self.verifies_in_rust(&message, &signed.signature);
        if is_valid { Ok(()) } else { Err(CredentialError::BadSignature(payload_type.noun())) }
    }

    #[cfg(feature = "ring")]
    fn verifies_by_ring(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

        let point = self.0.to_encoded_point(false);
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point.as_bytes())
            .verify(message, signature)
            .is_ok()
    }

    #[cfg(any(test, not(feature = "ring")))]
    fn verifies_in_rust(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        p256::ecdsa::Signature::from_slice(signature)
            .is_ok_and(|signature| self.0.verify(message, &signature).is_ok())
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "VerifyingKey({})", self.key_id())
    }
}

/// A body with its signature, not yet verified: [`VerifyingKey::verify`] does that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// The exact octets that were signed.
    pub body: Vec<u8>,
    /// The numbers r and s, 32 octets each.
    pub signature: [u8; 64],
    /// The id of the key that is said to have signed; none if the body names the signer.
    pub key_id: Option<KeyId>,
}

impl Signed {
    /// Encodes the protobuf message `Signed`.
    pub fn encode(&self) -> Vec<u8> {
        generated::Signed {
            body: self.body.clone(),
            signature: self.signature.to_vec(),
            key_id: self.key_id.map(|id| id.0.to_vec()).unwrap_or_default(),
        }
        .encode_to_vec()
    }

    /// Reads an encoded `Signed`.
    ///
    /// # Errors
    /// [`CredentialError::Malformed`] if the octets are not one.
    pub fn decode(octets: &[u8]) -> Result<Self, CredentialError> {
        let what = "signed body";
        let message = generated::Signed::decode(octets).map_err(|error| malformed(what, error))?;
        let signature = message.signature.as_slice().try_into().map_err(|_| {
            malformed(
                what,
                format!("a signature of {} octets, expected 64", message.signature.len()),
            )
        })?;
        let key_id = match message.key_id.as_slice() {
            [] => None,
            octets => Some(KeyId::from_octets(octets).ok_or_else(|| {
                malformed(what, format!("a key id of {} octets, expected 8 or none", octets.len()))
            })?),
        };
        Ok(Self { body: message.body, signature, key_id })
    }
}

/// Proves that the holder of an enrolment code has the card's private key: a signature over the
/// code in its plain form.
pub fn card_enrolment_proof(card_key: &SigningKey, code: &str) -> [u8; 64] {
    card_key.sign(PayloadType::CardEnrolment, enrolment_code_octets(code)).signature
}

/// Checks a proof made by [`card_enrolment_proof`].
///
/// # Errors
/// [`CredentialError::BadSignature`] if it is not this key's over this code.
pub fn verify_card_enrolment_proof(
    card_key: &VerifyingKey,
    code: &str,
    proof: &[u8],
) -> Result<(), CredentialError> {
    let signature =
        proof.try_into().map_err(|_| CredentialError::BadSignature("card enrolment"))?;
    let signed = Signed { body: enrolment_code_octets(code), signature, key_id: None };
    card_key.verify(PayloadType::CardEnrolment, &signed)
}

/// An enrolment code in its plain form, which proofs cover: upper case, without hyphens, other
/// dashes and spaces, with 0 for O and 1 for I and L. People type codes in many forms.
pub fn plain_enrolment_code(code: &str) -> String {
    let is_dash = |letter: char| {
        matches!(
            letter,
            '-' | '\u{ad}' | '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{fe63}' | '\u{ff0d}'
        )
    };
    code.chars()
        .filter(|letter| !is_dash(*letter) && !letter.is_whitespace())
        .map(|letter| match letter.to_ascii_uppercase() {
            'O' => '0',
            'I' | 'L' => '1',
            other => other,
        })
        .collect()
}

pub(super) fn enrolment_code_octets(code: &str) -> Vec<u8> {
    plain_enrolment_code(code).into_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_pre_authentication_encoding_is_the_one_of_dsse() {
        // The DSSE protocol's own example, with our type.
        assert_eq!(
            PayloadType::Receipt.pre_authentication_encoding(b"hello world"),
            b"DSSEv1 33 application/vnd.florin.receipt.v1 11 hello world"
        );
    }

    #[test]
    fn a_signature_is_good_for_its_kind_its_body_and_its_key_only() {
        let key = SigningKey::from_scalar(&[7; 32]).unwrap();
        let other = SigningKey::from_scalar(&[8; 32]).unwrap().verifying_key();
        let signed = key.sign(PayloadType::Receipt, b"body".to_vec());
        let verifying = key.verifying_key();
        verifying.verify(PayloadType::Receipt, &signed).unwrap();
        assert!(verifying.verify(PayloadType::CardCommand, &signed).is_err());
        assert!(other.verify(PayloadType::Receipt, &signed).is_err());
        let mut altered = signed.clone();
        altered.body[0] ^= 1;
        assert!(verifying.verify(PayloadType::Receipt, &altered).is_err());
    }

    #[test]
    fn a_key_survives_pem_and_never_prints_itself() {
        let key = SigningKey::from_scalar(&[7; 32]).unwrap();
        let again = SigningKey::from_pem(&key.to_pem().unwrap()).unwrap();
        assert_eq!(again.verifying_key(), key.verifying_key());
        assert!(!format!("{key:?}").contains("0707"));
    }

    #[test]
    fn an_enrolment_proof_ignores_hyphens_and_binds_the_code() {
        let key = SigningKey::from_scalar(&[9; 32]).unwrap();
        let proof = card_enrolment_proof(&key, "ABCD-EFGH");
        verify_card_enrolment_proof(&key.verifying_key(), "ABCDEFGH", &proof).unwrap();
        assert!(verify_card_enrolment_proof(&key.verifying_key(), "ABCDEFGX", &proof).is_err());
    }

    #[test]
    fn a_code_has_one_plain_form_however_it_is_typed() {
        for typed in ["VY1A-YWJD", "vy1a ywjd", "VYIA–YWJD", "vyla\u{2011}ywjd\n", "VY1AYWJD"] {
            assert_eq!(plain_enrolment_code(typed), "VY1AYWJD", "{typed:?}");
        }
    }

    #[cfg(feature = "ring")]
    proptest! {
        #[test]
        fn both_verifiers_agree_on_every_signature(
            body: Vec<u8>, octet in 0usize..64, flip: u8, is_high: bool
        ) {
            let key = SigningKey::from_scalar(&[7; 32]).unwrap();
            let mut signature = key.sign(PayloadType::Receipt, body.clone()).signature;
            if is_high {
                // The other s of the same signature, which is as valid (SEC 1, section 4.1.4).
                let parsed = p256::ecdsa::Signature::from_slice(&signature).unwrap();
                let (r, s) = parsed.split_scalars();
                let other = p256::ecdsa::Signature::from_scalars(r, -s).unwrap();
                signature = other.to_bytes().into();
            }
            signature[octet] ^= flip;
            let message = PayloadType::Receipt.pre_authentication_encoding(&body);
            let verifying = key.verifying_key();
            let in_rust = verifying.verifies_in_rust(&message, &signature);
            prop_assert_eq!(verifying.verifies_by_ring(&message, &signature), in_rust);
            prop_assert_eq!(in_rust, flip == 0);
        }
    }

    proptest! {
        #[test]
        fn signed_bodies_encode_and_decode(body: Vec<u8>) {
            let key = SigningKey::from_scalar(&[7; 32]).unwrap();
            let signed = key.sign(PayloadType::Keyring, body);
            prop_assert_eq!(Signed::decode(&signed.encode()), Ok(signed));
        }

        #[test]
        fn no_octets_are_more_than_refused(octets: Vec<u8>) {
            let _ = Signed::decode(&octets);
            let _ = VerifyingKey::from_sec1(&octets);
        }
    }
}
