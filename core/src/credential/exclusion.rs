//! Exclusions: the institution states on which command it decided, so that whoever sent another
//! command knows that it was not used.

use prost::Message;

use super::{
    CredentialError, KeyPurpose, Keyring, PayloadType, Signed, SigningKey, generated, malformed,
};
use crate::domain::{CommandDigest, Exclusion, TransactionId, UnixTime};

const WHAT: &str = "exclusion";

/// Signs an exclusion with the institution's receipt key.
pub fn sign_exclusion(exclusion: &Exclusion, institution_key: &SigningKey) -> Signed {
    let body = generated::Exclusion {
        transaction_id: exclusion.transaction_id.as_octets().to_vec(),
        terminal_id: exclusion.terminal_id.to_string(),
        command_digest: exclusion
            .command_digest
            .map(|digest| digest.0.to_vec())
            .unwrap_or_default(),
        decided_at_unix_s: exclusion.decided_at.seconds,
    }
    .encode_to_vec();
    institution_key.sign(PayloadType::Exclusion, body)
}

/// Verifies an exclusion against the institution's keyring, with a key whose time has not run out
/// at `now`, and reads it.
///
/// The caller still has to ask it whether it excludes the command in question.
///
/// # Errors
/// [`CredentialError`]: an unknown or ended key, a bad signature, or a malformed body.
pub fn verify_exclusion(
    signed: &Signed,
    keyring: &Keyring,
    now: UnixTime,
) -> Result<Exclusion, CredentialError> {
    keyring
        .verifying_key(KeyPurpose::Receipt, signed, WHAT, now)?
        .verify(PayloadType::Exclusion, signed)?;
    let message = generated::Exclusion::decode(signed.body.as_slice())
        .map_err(|error| malformed(WHAT, error))?;
    let command_digest = match message.command_digest.as_slice() {
        [] => None,
        octets => Some(CommandDigest(
            octets
                .try_into()
                .map_err(|_| malformed(WHAT, "a command digest that has not 32 octets"))?,
        )),
    };
    Ok(Exclusion {
        transaction_id: TransactionId::from_octets(&message.transaction_id)
            .map_err(|error| malformed(WHAT, error))?,
        terminal_id: message.terminal_id.parse().map_err(|error| malformed(WHAT, error))?,
        command_digest,
        decided_at: UnixTime { seconds: message.decided_at_unix_s },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::InstitutionKey;

    const NOW: UnixTime = UnixTime { seconds: 10 };

    fn signed(command_digest: Option<CommandDigest>) -> (Exclusion, Signed, Keyring) {
        let key = SigningKey::from_scalar(&[7; 32]).unwrap();
        let exclusion = Exclusion {
            transaction_id: TransactionId::from_random([1; 16]),
            terminal_id: "0123456789".parse().unwrap(),
            command_digest,
            decided_at: UnixTime { seconds: 9 },
        };
        let keyring = Keyring {
            institution_name: "Bank".into(),
            keys: vec![InstitutionKey {
                purpose: KeyPurpose::Receipt,
                public_key: key.verifying_key().to_sec1(),
                not_after: UnixTime { seconds: 10 },
            }],
            issued_at: UnixTime { seconds: 5 },
        };
        let signed = sign_exclusion(&exclusion, &key);
        (exclusion, signed, keyring)
    }

    #[test]
    fn an_exclusion_reads_back() {
        for command_digest in [None, Some(CommandDigest([3; 32]))] {
            let (exclusion, signed, keyring) = signed(command_digest);
            assert_eq!(verify_exclusion(&signed, &keyring, NOW).unwrap(), exclusion);
        }
    }

    #[test]
    fn an_exclusion_excludes_every_command_but_the_one_that_it_names() {
        let (mine, other) = (CommandDigest([3; 32]), CommandDigest([4; 32]));
        let (named, _, _) = signed(Some(mine));
        let (id, terminal) = (named.transaction_id, named.terminal_id);
        assert!(!named.excludes(id, terminal, mine));
        assert!(named.excludes(id, terminal, other));
        let (none, _, _) = signed(None);
        assert!(none.excludes(id, terminal, mine));
        assert!(!none.excludes(TransactionId::from_random([2; 16]), terminal, mine));
        assert!(!none.excludes(id, "9876543210".parse().unwrap(), mine));
    }

    #[test]
    fn a_key_that_has_ended_verifies_nothing() {
        let (_, signed, keyring) = signed(None);
        let later = UnixTime { seconds: NOW.seconds + 1 };
        assert!(matches!(
            verify_exclusion(&signed, &keyring, later),
            Err(CredentialError::UnknownKey(_))
        ));
    }

    #[test]
    fn a_receipt_is_no_exclusion() {
        let (_, mut signed, keyring) = signed(None);
        signed.signature[0] ^= 1;
        assert!(verify_exclusion(&signed, &keyring, NOW).is_err());
    }
}
