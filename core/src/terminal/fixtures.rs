//! A terminal with a key that anybody knows, requests of its till and payments, for tests.

#![allow(clippy::unwrap_used)]

use super::{Identity, Payment, PaymentRequest, PaymentState};
use crate::credential::{SigningKey, TerminalCertificate};
use crate::domain::{Offer, OfferParts, TransactionId, UnixTime};
use crate::protocol::{ChannelKey, encode_offer};

/// The terminal `7M3KQ0ZT4V` of the merchant "Kiosk". Its certificate never expires.
pub fn identity() -> Identity {
    let channel_key = ChannelKey::from_octets([5; 32]);
    let certificate = TerminalCertificate {
        terminal_id: "7M3KQ0ZT4V".parse().unwrap(),
        merchant_id: "M-1".into(),
        merchant_name: "Kiosk".into(),
        channel_key: channel_key.public_key(),
        not_before: UnixTime { seconds: 0 },
        not_after: UnixTime { seconds: u64::MAX },
    };
    let signed = certificate.sign(&SigningKey::from_scalar(&[6; 32]).unwrap());
    Identity::new(signed.encode(), channel_key).unwrap()
}

/// A request for 2.50 EUR without an idempotency key.
pub fn request(capture_after_dispense: bool) -> PaymentRequest {
    PaymentRequest {
        amount: "2.50 EUR".parse().unwrap(),
        reference: "slot 7".into(),
        items: Vec::new(),
        capture_after_dispense,
        valid_for_s: Some(60),
        idempotency_key: None,
    }
}

/// The id of the payment with this number.
pub fn transaction_id(number: u32) -> TransactionId {
    let mut octets = [0; 16];
    octets[..4].copy_from_slice(&number.to_be_bytes());
    TransactionId::from_random(octets)
}

/// A payment of 2.50 EUR of [`identity`]'s terminal, which is captured after the dispense. It has
/// no sealed command, receipt or idempotency key.
pub fn payment(number: u32, state: PaymentState) -> Payment {
    let PaymentRequest { amount, reference, items, capture_after_dispense, .. } = request(true);
    let offer = Offer::new(OfferParts {
        transaction_id: transaction_id(number),
        terminal_id: "7M3KQ0ZT4V".parse().unwrap(),
        merchant_name: "Kiosk".into(),
        amount,
        valid_for_s: 60,
        nonce: [1; 16],
        reference: reference.clone(),
        items,
        capture_after_dispense,
    });
    Payment {
        transaction_id: transaction_id(number),
        sale_id: transaction_id(number),
        state,
        amount,
        reference,
        capture_after_dispense,
        offer: encode_offer(&offer.unwrap()),
        sealed_command: None,
        sequence: 0,
        receipt: None,
        released: state.is_paid(),
        idempotency: None,
        created_at: UnixTime { seconds: 10 },
        updated_at: UnixTime { seconds: 11 },
    }
}
