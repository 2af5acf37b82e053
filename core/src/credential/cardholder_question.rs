//! A cardholder's question to the institution: the card signs it, the institution verifies it.
//!
//! What is asked is octets here: the question belongs to the institution's API.

use super::{CredentialError, PayloadType, Signed, SigningKey, VerifyingKey};

/// Signs an encoded question with the card's key. The question names the card, so the envelope
/// names no key.
pub fn sign_cardholder_question(question: Vec<u8>, card_key: &SigningKey) -> Signed {
    Signed { key_id: None, ..card_key.sign(PayloadType::CardholderQuestion, question) }
}

/// Checks that the card with this key signed the question.
///
/// # Errors
/// [`CredentialError::BadSignature`] if it did not.
pub fn verify_cardholder_question(
    signed: &Signed,
    card_key: &VerifyingKey,
) -> Result<(), CredentialError> {
    card_key.verify(PayloadType::CardholderQuestion, signed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_good_under_the_card_s_key_and_as_a_question_only() {
        let card = SigningKey::from_scalar(&[7; 32]).unwrap();
        let other = SigningKey::from_scalar(&[8; 32]).unwrap();
        let signed = sign_cardholder_question(b"question".to_vec(), &card);
        assert_eq!(signed.key_id, None);
        verify_cardholder_question(&signed, &card.verifying_key()).unwrap();
        assert!(verify_cardholder_question(&signed, &other.verifying_key()).is_err());
        let command = card.sign(PayloadType::CardCommand, b"question".to_vec());
        assert!(verify_cardholder_question(&command, &card.verifying_key()).is_err());
    }
}
