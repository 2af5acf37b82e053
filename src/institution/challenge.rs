//! Challenges: what a cardholder signs, so that an old question cannot be asked again.
//!
//! The server keeps none of them. A challenge says when it was made and carries a code under a key
//! of this process, so that only challenges of this process are good, and only for a minute.

use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::domain::Moment;

/// How long a challenge may be used, in seconds.
pub(super) const CHALLENGE_VALIDITY_S: u32 = 60;

const TIME_OCTETS: usize = 8;
const RANDOM_OCTETS: usize = 16;
const SAID_OCTETS: usize = TIME_OCTETS + RANDOM_OCTETS;

/// Makes challenges and recognises them.
pub(super) struct ChallengeKey([u8; 32]);

impl ChallengeKey {
    pub(super) fn new(key: [u8; 32]) -> Self {
        Self(key)
    }

    /// A challenge that is good from now on.
    pub(super) fn issue(&self, now: Moment, random: [u8; RANDOM_OCTETS]) -> Vec<u8> {
        let mut challenge = now.milliseconds.to_be_bytes().to_vec();
        challenge.extend_from_slice(&random);
        if let Some(code) = self.code(&challenge) {
            challenge.extend_from_slice(&code.finalize().into_bytes());
        }
        challenge
    }

    /// Whether this process made the challenge, not longer ago than it is good for.
    pub(super) fn admits(&self, challenge: &[u8], now: Moment) -> bool {
        let Some((said, code)) = challenge.split_at_checked(SAID_OCTETS) else { return false };
        let is_ours = self.code(said).is_some_and(|expected| expected.verify_slice(code).is_ok());
        let Some(Ok(time)) = said.get(..TIME_OCTETS).map(<[u8; TIME_OCTETS]>::try_from) else {
            return false;
        };
        let issued_at = Moment { milliseconds: u64::from_be_bytes(time) };
        is_ours && now.since_ms(issued_at) <= u64::from(CHALLENGE_VALIDITY_S) * 1_000
    }

    fn code(&self, said: &[u8]) -> Option<Hmac<Sha256>> {
        // HMAC takes a key of any length, so this always is one.
        let mut code = Hmac::<Sha256>::new_from_slice(&self.0).ok()?;
        code.update(said);
        Some(code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_is_good_for_a_minute_and_for_its_process_only() {
        let key = ChallengeKey::new([1; 32]);
        let now = Moment { milliseconds: 5_000 };
        let challenge = key.issue(now, [7; 16]);
        assert!(challenge.len() <= 64);
        let until = now.plus_ms(u64::from(CHALLENGE_VALIDITY_S) * 1_000);
        assert!(key.admits(&challenge, now) && key.admits(&challenge, until));
        assert!(!key.admits(&challenge, until.plus_ms(1)));
        assert!(!ChallengeKey::new([2; 32]).admits(&challenge, now));
        for place in 0..challenge.len() {
            let mut altered = challenge.clone();
            altered[place] ^= 1;
            assert!(!key.admits(&altered, now), "octet {place}");
        }
        for nonsense in [&[][..], &[0; 24], &challenge[..challenge.len() - 1]] {
            assert!(!key.admits(nonsense, now));
        }
    }
}
