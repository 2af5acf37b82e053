//! An institution, a terminal and a card with fixed keys, for tests.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use super::session::{SessionSeed, SessionSettings};
use super::{Card, CardParts};
use crate::credential::{
    InstitutionKey, KeyPurpose, Keyring, SealingKey, SigningKey, TerminalCertificate, sign_receipt,
};
use crate::domain::{
    CardId, CommandDigest, HolderVerification, Moment, Offer, OfferParts, Receipt, ReceiptStatus,
    TerminalId, TransactionId, UnixTime,
};
use crate::protocol::{
    ChannelKey, EngagementLink, Fingerprint, MatchingNonce, digest_offer, encode_offer,
};

pub const NOW: UnixTime = UnixTime { seconds: 1_800_000_000 };
pub const TAG: u8 = 5;

pub fn later(seconds: u64) -> UnixTime {
    UnixTime { seconds: NOW.seconds + seconds }
}

pub fn at(milliseconds: u64) -> Moment {
    Moment { milliseconds }
}

pub fn key(seed: u8) -> SigningKey {
    SigningKey::from_scalar(&[seed; 32]).unwrap()
}

pub fn root_key() -> SigningKey {
    key(1)
}

pub fn certificate_key() -> SigningKey {
    key(2)
}

pub fn receipt_key() -> SigningKey {
    key(3)
}

pub fn card_key() -> SigningKey {
    key(4)
}

pub fn sealing_key() -> SealingKey {
    SealingKey::from_octets([5; 32])
}

pub fn channel_key() -> ChannelKey {
    ChannelKey::from_octets([6; 32])
}

pub fn terminal_id() -> TerminalId {
    "0123456789".parse().unwrap()
}

pub fn transaction_id() -> TransactionId {
    TransactionId::from_random([7; 16])
}

pub fn card_id() -> CardId {
    CardId::from_octets(&[0xab; 16]).unwrap()
}

pub fn card() -> Arc<Card> {
    let institution_key =
        |purpose, public_key| InstitutionKey { purpose, public_key, not_after: later(1_000_000) };
    let keyring = Keyring {
        institution_name: "Bank".into(),
        keys: vec![
            institution_key(
                KeyPurpose::TerminalCertificate,
                certificate_key().verifying_key().to_sec1(),
            ),
            institution_key(KeyPurpose::Receipt, receipt_key().verifying_key().to_sec1()),
            institution_key(KeyPurpose::Sealing, sealing_key().public_key().0.to_vec()),
        ],
        issued_at: NOW,
    };
    let parts = CardParts {
        name: "everyday".parse().unwrap(),
        card_id: card_id(),
        key: card_key(),
        payment_limit: "50.00 EUR".parse().unwrap(),
        not_after: later(1000),
        root_key: root_key().verifying_key(),
        signed_keyring: keyring.sign(&root_key()),
    };
    Arc::new(Card::new(parts).unwrap())
}

pub fn certificate() -> TerminalCertificate {
    TerminalCertificate {
        terminal_id: terminal_id(),
        merchant_id: "m".into(),
        merchant_name: "Kiosk".into(),
        channel_key: channel_key().public_key(),
        not_before: NOW,
        not_after: later(10),
    }
}

pub fn offer() -> Offer {
    offer_with(|_| ())
}

/// The offer with other parts.
pub fn offer_with(change: impl FnOnce(&mut OfferParts)) -> Offer {
    let mut parts = OfferParts {
        transaction_id: transaction_id(),
        terminal_id: terminal_id(),
        merchant_name: "Kiosk".into(),
        amount: "2.50 EUR".parse().unwrap(),
        valid_for_s: 60,
        nonce: [8; 16],
        reference: "7".into(),
        items: Vec::new(),
        capture_after_dispense: false,
    };
    change(&mut parts);
    Offer::new(parts).unwrap()
}

/// An approval of the command with this digest.
pub fn receipt(command_digest: CommandDigest) -> Receipt {
    Receipt {
        transaction_id: transaction_id(),
        offer_digest: digest_offer(&encode_offer(&offer())),
        command_digest,
        status: ReceiptStatus::Approved { approval_code: "123456".into() },
        amount: offer().amount(),
        terminal_id: terminal_id(),
        decided_at: NOW,
    }
}

pub fn signed_receipt(receipt: &Receipt) -> Vec<u8> {
    sign_receipt(receipt, &receipt_key()).encode()
}

pub fn settings() -> SessionSettings {
    SessionSettings {
        value_octets_max: 200,
        link: None,
        short_code: None,
        limit: None,
        offer_wait_ms: 30_000,
        stay_ms: 0,
        holder_verification: HolderVerification::Consent,
        wall_clock: NOW,
    }
}

pub fn link(fingerprint: Fingerprint, transaction_id: Option<TransactionId>) -> EngagementLink {
    EngagementLink { terminal_id: terminal_id(), fingerprint, transaction_id }
}

pub fn seed(octet: u8) -> SessionSeed {
    SessionSeed {
        tag: TAG,
        ephemeral: [octet; 32],
        sealing: [octet.wrapping_add(1); 32],
        matching_nonce: MatchingNonce([octet.wrapping_add(2); 16]),
    }
}
