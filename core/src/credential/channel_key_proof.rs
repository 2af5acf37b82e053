//! A terminal proves at its enrolment that it holds the private half of its channel key (as RFC
//! 6955, section 4): a code over the key and the enrolment code, under a secret that only the
//! terminal and the institution can compute.

use hmac::{Hmac, Mac};
use sha2::Sha256;
use x25519_dalek::{PublicKey, StaticSecret};

use super::key_agreement::shared_secret;
use super::signature::enrolment_code_octets;
use super::{CredentialError, SealingKey, SealingPublicKey};

const PREFIX: &[u8] = b"florin channel key";
const PROOF: &str = "channel key's proof";

/// Proves that the terminal holds this private channel key. `code` is the enrolment code, with or
/// without its hyphens.
///
/// # Errors
/// [`CredentialError::BadKey`] if the institution's sealing key is of low order.
pub fn channel_key_proof(
    private_channel_key: &[u8; 32],
    sealing_key: &SealingPublicKey,
    code: &str,
) -> Result<[u8; 32], CredentialError> {
    let channel_key = PublicKey::from(&StaticSecret::from(*private_channel_key)).to_bytes();
    let proof = proof(private_channel_key, &sealing_key.0, &channel_key, code)?;
    Ok(proof.finalize().into_bytes().into())
}

/// Checks a proof made by [`channel_key_proof`].
///
/// # Errors
/// [`CredentialError::BadKey`] if the channel key is of low order, so that anybody knows the shared
/// secret; [`CredentialError::BadSignature`] if the proof is not this key's over this code.
pub fn verify_channel_key_proof(
    channel_key: &[u8; 32],
    sealing_key: &SealingKey,
    code: &str,
    claimed: &[u8],
) -> Result<(), CredentialError> {
    proof(sealing_key.expose_octets(), channel_key, channel_key, code)?
        .verify_slice(claimed)
        .map_err(|_| CredentialError::BadSignature(PROOF))
}

fn proof(
    private: &[u8; 32],
    public: &[u8; 32],
    channel_key: &[u8; 32],
    code: &str,
) -> Result<Hmac<Sha256>, CredentialError> {
    let secret = shared_secret(private, public)?;
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes())
        .map_err(|_| CredentialError::BadKey("secret of a channel key"))?;
    mac.update(PREFIX);
    mac.update(channel_key);
    mac.update(&enrolment_code_octets(code));
    Ok(mac)
}

#[cfg(test)]
mod tests {
    use super::super::key_agreement::low_order_keys;
    use super::*;

    const CODE: &str = "ABCD-EFGH-JKMN-PQRS";

    #[test]
    fn a_proof_is_good_for_its_key_and_its_code_only() {
        let sealing = SealingKey::from_octets([3; 32]);
        let private = [5; 32];
        let public = PublicKey::from(&StaticSecret::from(private)).to_bytes();
        let other = PublicKey::from(&StaticSecret::from([6; 32])).to_bytes();
        let proof = channel_key_proof(&private, &sealing.public_key(), CODE).unwrap();
        let verify = |key: &[u8; 32], code, proof: &[u8]| {
            verify_channel_key_proof(key, &sealing, code, proof)
        };
        verify(&public, CODE, &proof).unwrap();
        verify(&public, "ABCDEFGHJKMNPQRS", &proof).unwrap();
        let refused = Err(CredentialError::BadSignature(PROOF));
        assert_eq!(verify(&other, CODE, &proof), refused);
        assert_eq!(verify(&public, "ABCD-EFGH-JKMN-PQRT", &proof), refused);
        assert_eq!(verify(&public, CODE, &[0; 32]), refused);
        assert_eq!(verify(&public, CODE, &[]), refused);
    }

    #[test]
    fn a_key_of_low_order_proves_nothing() {
        let sealing = SealingKey::from_octets([3; 32]);
        for key in low_order_keys() {
            let refused = verify_channel_key_proof(&key, &sealing, CODE, &[0; 32]);
            assert!(matches!(refused, Err(CredentialError::BadKey(_))), "{refused:?}");
            let refused = channel_key_proof(&[5; 32], &SealingPublicKey(key), CODE);
            assert!(matches!(refused, Err(CredentialError::BadKey(_))), "{refused:?}");
        }
    }
}
