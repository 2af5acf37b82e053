//! Offers as octets. The octets are made once, kept and sent as they are: they are what is digested
//! and signed.

use prost::Message;
use sha2::{Digest, Sha256};

use super::{ProtocolError, WireError, generated};
use crate::domain::{Amount, LineItem, Offer, OfferDigest, OfferParts, TransactionId};

/// Encodes an offer.
pub fn encode_offer(offer: &Offer) -> Vec<u8> {
    generated::Offer {
        transaction_id: offer.transaction_id().as_octets().to_vec(),
        terminal_id: offer.terminal_id().to_string(),
        merchant_name: offer.merchant_name().to_owned(),
        amount_minor: offer.amount().minor(),
        currency: offer.amount().currency().to_string(),
        valid_for_s: offer.valid_for_s().into(),
        nonce: offer.nonce().to_vec(),
        reference: offer.reference().to_owned(),
        items: offer
            .items()
            .iter()
            .map(|item| generated::LineItem {
                name: item.name.clone(),
                quantity: item.quantity.into(),
                amount_minor: item.amount_minor,
            })
            .collect(),
        capture_after_dispense: offer.capture_after_dispense(),
    }
    .encode_to_vec()
}

/// Decodes an offer.
///
/// # Errors
/// [`WireError::MalformedMessage`], naming the field that is malformed or out of its range.
pub fn decode_offer(octets: &[u8]) -> Result<Offer, ProtocolError> {
    fn malformed(detail: impl ToString) -> ProtocolError {
        ProtocolError::new(WireError::MalformedMessage, format!("offer: {}", detail.to_string()))
    }
    let message = generated::Offer::decode(octets).map_err(malformed)?;
    let currency = message.currency.parse().map_err(malformed)?;
    let parts = OfferParts {
        transaction_id: TransactionId::from_octets(&message.transaction_id).map_err(malformed)?,
        terminal_id: message.terminal_id.parse().map_err(malformed)?,
        merchant_name: message.merchant_name,
        amount: Amount::new(message.amount_minor, currency).map_err(malformed)?,
        valid_for_s: clamped(message.valid_for_s),
        nonce: message
            .nonce
            .as_slice()
            .try_into()
            .map_err(|_| malformed("nonce: expected 16 octets"))?,
        reference: message.reference,
        items: message
            .items
            .into_iter()
            .map(|item| LineItem {
                name: item.name,
                quantity: clamped(item.quantity),
                amount_minor: item.amount_minor,
            })
            .collect(),
        capture_after_dispense: message.capture_after_dispense,
    };
    Offer::new(parts).map_err(malformed)
}

/// Computes SHA-256 over an offer's octets.
pub fn digest_offer(octets: &[u8]) -> OfferDigest {
    OfferDigest(Sha256::digest(octets).into())
}

/// A number that does not fit is out of every range, too.
fn clamped(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn offer() -> Offer {
        Offer::new(OfferParts {
            transaction_id: TransactionId::from_random([1; 16]),
            terminal_id: "0123456789".parse().unwrap(),
            merchant_name: "Kiosk".into(),
            amount: "2.50 EUR".parse().unwrap(),
            valid_for_s: 60,
            nonce: [2; 16],
            reference: "7".into(),
            items: vec![LineItem { name: "Coffee".into(), quantity: 1, amount_minor: 250 }],
            capture_after_dispense: true,
        })
        .unwrap()
    }

    #[test]
    fn an_offer_reads_back() {
        assert_eq!(decode_offer(&encode_offer(&offer())), Ok(offer()));
    }

    #[test]
    fn what_is_out_of_range_is_named() {
        let message = || generated::Offer::decode(encode_offer(&offer()).as_slice()).unwrap();
        let no_coffee = generated::LineItem { name: "x".into(), quantity: 0, amount_minor: 1 };
        for (broken, field) in [
            (generated::Offer { valid_for_s: 0, ..message() }, "valid_for_s"),
            (generated::Offer { merchant_name: "a\u{7}b".into(), ..message() }, "merchant_name"),
            (
                generated::Offer { merchant_name: "2.50 \u{202e}50".into(), ..message() },
                "merchant_name",
            ),
            (generated::Offer { reference: "x".repeat(65), ..message() }, "reference"),
            (generated::Offer { items: vec![no_coffee], ..message() }, "items[0].quantity"),
            (generated::Offer { nonce: vec![2; 15], ..message() }, "nonce"),
            (generated::Offer { amount_minor: 0, ..message() }, "amount"),
        ] {
            let error = decode_offer(&broken.encode_to_vec()).unwrap_err();
            assert!(error.detail.contains(field), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_octets_are_a_named_error_at_worst(octets: Vec<u8>) {
            let _ = decode_offer(&octets);
        }
    }
}
