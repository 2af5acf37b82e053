//! The card's order to pay one offer.

use prost::Message;

use super::{
    CredentialError, PayloadType, Signed, SigningKey, VerifyingKey, enumeration, generated,
    malformed, number_of,
};
use crate::domain::{CardId, HolderVerification, OfferDigest};

const WHAT: &str = "card command";

/// What the card signs: what the person saw, its own counter, and how the person was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CardCommand {
    pub card_id: CardId,
    /// SHA-256 over the offer's octets.
    pub offer_digest: OfferDigest,
    /// Grows with each command of this card, from 1 (as the EMV application transaction counter,
    /// EMV book 3).
    pub counter: u64,
    /// How the holder was verified.
    pub holder_verification: HolderVerification,
}

impl CardCommand {
    /// The highest counter: ledgers keep it in a signed integer.
    pub const COUNTER_MAX: u64 = i64::MAX as u64;

    /// Signs the command with the card's key.
    pub fn sign(&self, card_key: &SigningKey) -> Signed {
        let body = generated::CardCommand {
            card_id: self.card_id.as_octets().to_vec(),
            offer_digest: self.offer_digest.0.to_vec(),
            counter: self.counter,
            holder_verification: number_of(match self.holder_verification {
                HolderVerification::None => generated::HolderVerification::None,
                HolderVerification::Consent => generated::HolderVerification::Consent,
                HolderVerification::Passcode => generated::HolderVerification::Passcode,
                HolderVerification::Biometric => generated::HolderVerification::Biometric,
            }),
        }
        .encode_to_vec();
        // The card id names the key, so the key id would be 10 octets on the air for nothing.
        Signed { key_id: None, ..card_key.sign(PayloadType::CardCommand, body) }
    }

    /// Reads a signed command without trusting it: enough to find the card whose key verifies it.
    ///
    /// # Errors
    /// [`CredentialError::Malformed`] if the body is not a card command.
    pub fn read_unverified(signed: &Signed) -> Result<Self, CredentialError> {
        let message = generated::CardCommand::decode(signed.body.as_slice())
            .map_err(|error| malformed(WHAT, error))?;
        let holder_verification = match enumeration(message.holder_verification) {
            generated::HolderVerification::None => HolderVerification::None,
            generated::HolderVerification::Consent => HolderVerification::Consent,
            generated::HolderVerification::Passcode => HolderVerification::Passcode,
            generated::HolderVerification::Biometric => HolderVerification::Biometric,
            generated::HolderVerification::Unspecified => {
                return Err(malformed(WHAT, "no (or an unknown) holder verification"));
            }
        };
        if !(1..=Self::COUNTER_MAX).contains(&message.counter) {
            return Err(malformed(WHAT, "a counter out of its range, 1 to 2^63 - 1"));
        }
        Ok(Self {
            card_id: CardId::from_octets(&message.card_id)
                .map_err(|error| malformed(WHAT, error))?,
            offer_digest: OfferDigest(
                message
                    .offer_digest
                    .as_slice()
                    .try_into()
                    .map_err(|_| malformed(WHAT, "an offer digest that has not 32 octets"))?,
            ),
            counter: message.counter,
            holder_verification,
        })
    }

    /// Checks the card's signature.
    ///
    /// # Errors
    /// [`CredentialError::BadSignature`] if it is not this key's.
    pub fn verify(signed: &Signed, card_key: &VerifyingKey) -> Result<(), CredentialError> {
        card_key.verify(PayloadType::CardCommand, signed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_reads_back_and_verifies() {
        let key = SigningKey::from_scalar(&[7; 32]).unwrap();
        let command = CardCommand {
            card_id: CardId::from_octets(&[1; 16]).unwrap(),
            offer_digest: OfferDigest([2; 32]),
            counter: 3,
            holder_verification: HolderVerification::Consent,
        };
        let signed = Signed::decode(&command.sign(&key).encode()).unwrap();
        assert_eq!(CardCommand::read_unverified(&signed).unwrap(), command);
        CardCommand::verify(&signed, &key.verifying_key()).unwrap();
    }

    #[test]
    fn a_counter_out_of_its_range_is_refused() {
        for counter in [0, CardCommand::COUNTER_MAX + 1, u64::MAX] {
            let signed = with_counter(counter).sign(&SigningKey::from_scalar(&[7; 32]).unwrap());
            assert!(CardCommand::read_unverified(&signed).is_err(), "{counter}");
        }
    }

    #[test]
    fn the_length_of_a_command_tells_nothing_of_its_counter() {
        let key = SigningKey::from_scalar(&[7; 32]).unwrap();
        let lengths: Vec<usize> = [1, 128, 1 << 40, CardCommand::COUNTER_MAX]
            .map(|counter| with_counter(counter).sign(&key).encode().len())
            .to_vec();
        assert!(lengths.iter().all(|length| *length == lengths[0]), "{lengths:?}");
    }

    fn with_counter(counter: u64) -> CardCommand {
        CardCommand {
            card_id: CardId::from_octets(&[1; 16]).unwrap(),
            offer_digest: OfferDigest([2; 32]),
            counter,
            holder_verification: HolderVerification::Consent,
        }
    }
}
