//! A terminal with a key that anybody knows, requests of its till and payments, for tests.

#![allow(clippy::unwrap_used)]

use super::{
    Identity, Payment, PaymentRequest, PaymentState, StoreGeneration, TransactionClaim,
    TransactionState,
};
use crate::credential::{
    InstitutionKey, KeyPurpose, Keyring, SealingKey, SigningKey, TerminalCertificate,
    sign_exclusion, sign_receipt,
};
use crate::domain::{
    CommandDigest, Exclusion, Offer, OfferParts, Receipt, ReceiptStatus, TransactionId, UnixTime,
};
use crate::protocol::{ChannelKey, digest_offer, encode_offer};

/// The institution's key for receipts and exclusions.
pub fn receipt_key() -> SigningKey {
    SigningKey::from_scalar(&[3; 32]).unwrap()
}

/// The institution's key for terminal certificates.
fn certificate_key() -> SigningKey {
    SigningKey::from_scalar(&[6; 32]).unwrap()
}

/// The institution's root key.
pub fn root_key() -> SigningKey {
    SigningKey::from_scalar(&[2; 32]).unwrap()
}

/// The institution's keyring, with [`receipt_key`] in it.
pub fn keyring() -> Keyring {
    let key = |purpose, public_key| InstitutionKey {
        purpose,
        public_key,
        not_after: UnixTime { seconds: u64::MAX },
    };
    let sealing_key = SealingKey::from_octets([5; 32]).public_key();
    Keyring {
        institution_name: "Bank".into(),
        keys: vec![
            key(KeyPurpose::TerminalCertificate, certificate_key().verifying_key().to_sec1()),
            key(KeyPurpose::Receipt, receipt_key().verifying_key().to_sec1()),
            key(KeyPurpose::Sealing, sealing_key.0.to_vec()),
        ],
        issued_at: UnixTime { seconds: 100 },
    }
}

/// What an honest institution that decided on the payment's command says of it. Where the payment
/// has no command, the institution decided on one that the terminal does not know.
pub fn claim(payment: &Payment, state: TransactionState) -> TransactionClaim {
    let command_digest = payment.command_digest().unwrap_or(CommandDigest([9; 32]));
    let approval_code = String::from("A1B2C3");
    let status = match state {
        TransactionState::Unknown => return TransactionClaim::bare(state),
        TransactionState::Approved => ReceiptStatus::Approved { approval_code },
        TransactionState::Captured => ReceiptStatus::Captured { approval_code, refunded_minor: 0 },
        TransactionState::Declined(reason) => ReceiptStatus::Declined(reason),
        TransactionState::Reversed => ReceiptStatus::Reversed,
    };
    let receipt = receipt(payment, command_digest, status);
    TransactionClaim {
        state,
        receipt: Some(sign_receipt(&receipt, &receipt_key()).encode()),
        exclusion: Some(exclusion(payment, Some(command_digest))),
        store_generation: Some(StoreGeneration([1; 16])),
    }
}

/// What an honest institution says of a payment of which it has seen a reversal and no command.
pub fn tombstone(payment: &Payment) -> TransactionClaim {
    TransactionClaim {
        state: TransactionState::Reversed,
        receipt: None,
        exclusion: Some(exclusion(payment, None)),
        store_generation: Some(StoreGeneration([1; 16])),
    }
}

/// A receipt for the payment.
pub fn receipt(payment: &Payment, command_digest: CommandDigest, status: ReceiptStatus) -> Receipt {
    Receipt {
        transaction_id: payment.transaction_id,
        offer_digest: digest_offer(&payment.offer),
        command_digest,
        status,
        amount: payment.amount,
        terminal_id: identity().terminal_id(),
        decided_at: UnixTime { seconds: 12 },
    }
}

/// A signed exclusion for the payment, encoded.
pub fn exclusion(payment: &Payment, command_digest: Option<CommandDigest>) -> Vec<u8> {
    let exclusion = Exclusion {
        transaction_id: payment.transaction_id,
        terminal_id: identity().terminal_id(),
        command_digest,
        decided_at: UnixTime { seconds: 12 },
    };
    sign_exclusion(&exclusion, &receipt_key()).encode()
}

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
    let signed = certificate.sign(&certificate_key());
    let keyring = keyring().sign(&root_key()).encode();
    Identity::new(signed.encode(), channel_key, keyring, &root_key().verifying_key()).unwrap()
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
        command: None,
        sequence: 0,
        receipt: None,
        exclusion: None,
        confirmed_generation: None,
        released: state.is_paid(),
        dispense_restarts: 0,
        idempotency: None,
        created_at: UnixTime { seconds: 10 },
        updated_at: UnixTime { seconds: 11 },
    }
}
