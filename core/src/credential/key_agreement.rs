//! What both keys of X25519 agree on (RFC 7748), and which public keys are none.
//!
//! A point of low order agrees on the same secret with every private key, so whoever listens knows
//! it. There are few such points, in several encodings each. A product with any private key finds
//! all of them, since every private key is a multiple of the cofactor (RFC 7748, section 5).

use x25519_dalek::{PublicKey, SharedSecret, StaticSecret};

use super::CredentialError;

/// The secret that a private and a public key agree on.
///
/// # Errors
/// [`CredentialError::BadKey`] if the public key is of low order, so that anybody knows the secret.
pub(super) fn shared_secret(
    private_key: &[u8; 32],
    public_key: &[u8; 32],
) -> Result<SharedSecret, CredentialError> {
    let secret = StaticSecret::from(*private_key).diffie_hellman(&PublicKey::from(*public_key));
    if secret.was_contributory() {
        Ok(secret)
    } else {
        Err(CredentialError::BadKey("X25519 public key: it is of low order"))
    }
}

/// Checks a public key before it is stored, believed or answered.
///
/// # Errors
/// [`CredentialError::BadKey`] if it is of low order, in whatever encoding.
pub fn check_public_key(public_key: &[u8; 32]) -> Result<(), CredentialError> {
    // Any private key serves.
    shared_secret(&[1; 32], public_key).map(drop)
}

/// Every encoding of every point of low order, for tests.
///
/// The seven of <https://cr.yp.to/ecdh.html#validate>, and the same with the highest bit set, which
/// readers ignore (RFC 7748, section 5).
#[cfg(any(test, feature = "test-support"))]
pub fn low_order_keys() -> Vec<[u8; 32]> {
    let ones = |first: u8| {
        let mut key = [0xff; 32];
        key[0] = first;
        key[31] = 0x7f;
        key
    };
    let mut one = [0; 32];
    one[0] = 1;
    let keys = [
        [0; 32],
        one,
        [
            0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f,
            0xc4, 0x6a, 0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16,
            0x5f, 0x49, 0xb8, 0x00,
        ],
        [
            0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83,
            0xef, 0x5b, 0x04, 0x44, 0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd,
            0xd0, 0x9f, 0x11, 0x57,
        ],
        // The prime less 1, the prime, and the prime and 1.
        ones(0xec),
        ones(0xed),
        ones(0xee),
    ];
    let with_high_bit = keys.map(|mut key| {
        key[31] |= 0x80;
        key
    });
    keys.into_iter().chain(with_high_bit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_of_low_order_is_refused_and_no_other() {
        let keys = low_order_keys();
        assert_eq!(keys.len(), 14);
        for key in keys {
            let refused = Err(CredentialError::BadKey("X25519 public key: it is of low order"));
            assert_eq!(check_public_key(&key), refused, "{key:02x?}");
        }
        for number in 1..=50 {
            let public = PublicKey::from(&StaticSecret::from([number; 32]));
            check_public_key(public.as_bytes()).unwrap();
        }
    }
}
