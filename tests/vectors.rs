//! The golden vectors of the protocol: made from fixed keys, and equal to the committed files octet
//! for octet.
//!
//! `FLORIN_WRITE_VECTORS=1 cargo test --test vectors` writes them anew, for a change of the
//! protocol that is meant.

#![allow(clippy::unwrap_used)]

use florin::credential::{
    CardCommand, InstitutionKey, KeyPurpose, Keyring, PayloadType, SealedCommand, SealingKey,
    Signed, SigningKey, TerminalCertificate, card_enrolment_proof, sign_receipt, verify_receipt,
};
use florin::domain::{
    CardId, DeclineReason, HolderVerification, LineItem, Offer, OfferParts, Outcome, Receipt,
    ReceiptStatus, TransactionId, UnixTime,
};
use florin::protocol::{
    ChannelKey, EngagementLink, Fingerprint, FragmentTag, Fragmenter, FromPhone, FromTerminal,
    Hello, HelloAnswer, Info, Initiator, MessageKind, ProtocolError, WireError, accept,
    digest_offer, encode_offer, encode_plain_error, matching_code,
};
use serde_json::{Value, json};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/payment.json");

fn hex(octets: impl AsRef<[u8]>) -> String {
    data_encoding::HEXLOWER.encode(octets.as_ref())
}

fn pre_authentication_encoding(payload_type: PayloadType, body: &[u8]) -> String {
    let name = payload_type.name();
    hex([format!("DSSEv1 {} {name} {} ", name.len(), body.len()).as_bytes(), body].concat())
}

fn signed(payload_type: PayloadType, signed: &Signed) -> Value {
    json!({
        "payload_type": payload_type.name(),
        "body": hex(&signed.body),
        "pre_authentication_encoding": pre_authentication_encoding(payload_type, &signed.body),
        "signature": hex(signed.signature),
        "key_id": signed.key_id.map(|id| id.to_string()).unwrap_or_default(),
        "encoded": hex(signed.encode()),
    })
}

fn fragments(kind: MessageKind, tag: FragmentTag, message: &[u8]) -> Value {
    let cut = |octets| {
        let values = Fragmenter::new(tag).cut(kind, message, octets).unwrap();
        values.iter().map(hex).collect::<Vec<_>>()
    };
    json!({
        "message": hex(message),
        "values_at_mtu_23": cut(20),
        "values_at_mtu_185": cut(182),
        "values_at_mtu_517": cut(512),
    })
}

/// Until then everything with a time of validity is good.
const NOT_AFTER: UnixTime = UnixTime { seconds: 2_000_000_000 };

fn keyring(
    certificate_key: &SigningKey,
    receipt_key: &SigningKey,
    sealing_key: &SealingKey,
) -> Keyring {
    let key = |purpose, public_key| InstitutionKey { purpose, public_key, not_after: NOT_AFTER };
    Keyring {
        institution_name: "Example Bank".into(),
        keys: vec![
            key(KeyPurpose::TerminalCertificate, certificate_key.verifying_key().to_sec1()),
            key(KeyPurpose::Receipt, receipt_key.verifying_key().to_sec1()),
            key(KeyPurpose::Sealing, sealing_key.public_key().0.to_vec()),
        ],
        issued_at: UnixTime { seconds: 1_700_000_000 },
    }
}

/// Receipts that prove nothing of the payment, each with the reason.
fn receipts_to_refuse(
    receipt: &Receipt,
    receipt_key: &SigningKey,
    certificate_key: &SigningKey,
) -> Value {
    let signed_by = |key: &SigningKey, receipt: &Receipt| hex(sign_receipt(receipt, key).encode());
    let unknown_key = SigningKey::from_scalar(&[0x51; 32]).unwrap();
    let mut altered = sign_receipt(receipt, receipt_key);
    altered.body[0] ^= 1;
    let other_amount = Receipt { amount: "25.00 EUR".parse().unwrap(), ..receipt.clone() };
    let declined = Receipt {
        status: ReceiptStatus::Declined(DeclineReason::InsufficientFunds),
        ..receipt.clone()
    };
    let other_transaction =
        Receipt { transaction_id: TransactionId::from_random([0x33; 16]), ..receipt.clone() };
    json!([
        { "why": "signed with a key that is not in the keyring",
          "receipt": signed_by(&unknown_key, receipt) },
        { "why": "signed with the institution's key for terminal certificates",
          "receipt": signed_by(certificate_key, receipt) },
        { "why": "an octet of the body was altered", "receipt": hex(altered.encode()) },
        { "why": "for another amount", "receipt": signed_by(receipt_key, &other_amount) },
        { "why": "a decline, shown with outcome approved",
          "receipt": signed_by(receipt_key, &declined) },
        { "why": "for another transaction",
          "receipt": signed_by(receipt_key, &other_transaction) },
    ])
}

fn vectors() -> Value {
    let root = SigningKey::from_scalar(&[0x11; 32]).unwrap();
    let certificate_key = SigningKey::from_scalar(&[0x12; 32]).unwrap();
    let receipt_key = SigningKey::from_scalar(&[0x13; 32]).unwrap();
    let sealing_key = SealingKey::from_octets([0x14; 32]);
    let channel_key = ChannelKey::from_octets([0x15; 32]);
    let card_key = SigningKey::from_scalar(&[0x16; 32]).unwrap();
    let (phone_ephemeral, terminal_ephemeral, seal_material) = ([0x21; 32], [0x22; 32], [0x23; 32]);
    let tag = FragmentTag::from_low_bits(0xa);

    let not_after = NOT_AFTER;
    let keyring = keyring(&certificate_key, &receipt_key, &sealing_key);
    let certificate = TerminalCertificate {
        terminal_id: "7M3KQ0ZT4V".parse().unwrap(),
        merchant_id: "M-1001".into(),
        merchant_name: "Kiosk on the Corner".into(),
        channel_key: channel_key.public_key(),
        not_before: UnixTime { seconds: 1_700_000_000 },
        not_after,
    };
    let signed_certificate = certificate.sign(&certificate_key);

    let transaction_id = TransactionId::from_random([0x31; 16]);
    let offer = Offer::new(OfferParts {
        transaction_id,
        terminal_id: certificate.terminal_id,
        merchant_name: certificate.merchant_name.clone(),
        amount: "2.50 EUR".parse().unwrap(),
        valid_for_s: 120,
        nonce: [0x32; 16],
        reference: "order 17".into(),
        items: vec![LineItem { name: "Espresso".into(), quantity: 1, amount_minor: 250 }],
        capture_after_dispense: false,
    })
    .unwrap();
    let offer_octets = encode_offer(&offer);
    let offer_digest = digest_offer(&offer_octets);
    let link = EngagementLink {
        terminal_id: certificate.terminal_id,
        fingerprint: Fingerprint::of(&certificate.channel_key),
        transaction_id: Some(transaction_id),
    };
    let info = Info {
        versions: vec![1],
        terminal_id: certificate.terminal_id.to_string(),
        capabilities: 0,
    };

    let hello = Hello { value_octets_max: Some(512), transaction_id: None }.encode();
    let (initiator, first) = Initiator::start(&hello, phone_ephemeral).unwrap();
    let answer = HelloAnswer {
        certificate: signed_certificate.encode(),
        first: FromTerminal::Offer(offer_octets.clone()),
    };
    let (mut terminal, second) =
        accept(&first, &channel_key, terminal_ephemeral, |_| Ok(answer.encode())).unwrap();
    let (mut phone, proved_key, answer_read) = initiator.finish(&second).unwrap();
    assert_eq!(proved_key, certificate.channel_key);
    assert_eq!(HelloAnswer::decode(&answer_read).unwrap(), answer);

    let card_id = CardId::from_octets(&[0x41; 16]).unwrap();
    let command = CardCommand {
        card_id,
        offer_digest,
        counter: 7,
        holder_verification: HolderVerification::Biometric,
    };
    let signed_command = command.sign(&card_key);
    let sealed = sealing_key
        .public_key()
        .seal(&signed_command.encode(), &offer_digest, seal_material)
        .unwrap();
    assert_eq!(sealing_key.open(&sealed, &offer_digest).unwrap(), signed_command.encode());
    let payment_command =
        FromPhone::PaymentCommand { transaction_id, sealed_command: sealed.encode() }.encode();
    let command_message = phone.seal(&payment_command).unwrap();
    assert_eq!(terminal.open(&command_message).unwrap(), payment_command);

    let receipt = Receipt {
        transaction_id,
        offer_digest,
        status: ReceiptStatus::Approved { approval_code: "A1B2C3".into() },
        amount: offer.amount(),
        terminal_id: certificate.terminal_id,
        decided_at: UnixTime { seconds: 1_750_000_000 },
        card_hint: card_id.hint(),
    };
    let signed_receipt = sign_receipt(&receipt, &receipt_key);
    assert_eq!(verify_receipt(&signed_receipt, &keyring).unwrap(), receipt);
    let result = FromTerminal::Result {
        transaction_id,
        outcome: Outcome::Approved,
        receipt: Some(signed_receipt.encode()),
    }
    .encode();
    let result_message = terminal.seal(&result).unwrap();
    assert_eq!(phone.open(&result_message).unwrap(), result);
    let acknowledgement = FromPhone::ReceiptAck { transaction_id }.encode();
    let acknowledgement_message = phone.seal(&acknowledgement).unwrap();

    let query = FromPhone::ResultQuery {
        transaction_id,
        command_digest: SealedCommand::digest_of_encoded(&sealed.encode()),
    };

    json!({
        "about": concat!(
            "One payment of protocol version 1. Octets in hexadecimal. ",
            "docs/protocol.md explains each step."
        ),
        "keys": {
            "root_private": hex([0x11; 32]),
            "root_public": hex(root.verifying_key().to_sec1()),
            "terminal_certificate_private": hex([0x12; 32]),
            "terminal_certificate_public": hex(certificate_key.verifying_key().to_sec1()),
            "receipt_private": hex([0x13; 32]),
            "receipt_public": hex(receipt_key.verifying_key().to_sec1()),
            "sealing_private": hex(sealing_key.expose_octets()),
            "sealing_public": hex(sealing_key.public_key().0),
            "channel_private": hex(channel_key.expose_octets()),
            "channel_public": hex(channel_key.public_key()),
            "card_private": hex([0x16; 32]),
            "card_public": hex(card_key.verifying_key().to_sec1()),
        },
        "random": {
            "phone_ephemeral_private": hex(phone_ephemeral),
            "terminal_ephemeral_private": hex(terminal_ephemeral),
            "hpke_ikm_e": hex(seal_material),
            "tag": 0xa,
        },
        "keyring": signed(PayloadType::Keyring, &keyring.sign(&root)),
        "terminal_certificate": signed(PayloadType::TerminalCertificate, &signed_certificate),
        "engagement_link": link.to_string(),
        "info": hex(info.encode()),
        "offer": { "octets": hex(&offer_octets), "digest": hex(offer_digest.0) },
        "hello": {
            "payload": hex(&hello),
            "fragments": fragments(MessageKind::Handshake, tag, &first),
        },
        "hello_answer": {
            "payload": hex(answer.encode()),
            "fragments": fragments(MessageKind::Handshake, tag, &second),
            "handshake_hash": hex(phone.handshake_hash().0),
            "matching_code": matching_code(phone.handshake_hash()),
        },
        "card_command": signed(PayloadType::CardCommand, &signed_command),
        "sealed_command": {
            "suite": sealed.suite,
            "key_id": sealed.key_id.to_string(),
            "encapsulated_key": hex(sealed.encapsulated_key),
            "ciphertext": hex(&sealed.ciphertext),
            "encoded": hex(sealed.encode()),
            "digest": hex(SealedCommand::digest_of_encoded(&sealed.encode())),
        },
        "payment_command": {
            "plaintext": hex(&payment_command),
            "fragments": fragments(MessageKind::Sealed, tag, &command_message),
        },
        "receipt": signed(PayloadType::Receipt, &signed_receipt),
        "result": {
            "plaintext": hex(&result),
            "fragments": fragments(MessageKind::Sealed, tag, &result_message),
        },
        "receipt_ack": {
            "plaintext": hex(&acknowledgement),
            "fragments": fragments(MessageKind::Sealed, tag, &acknowledgement_message),
        },
        "receipts_to_refuse": receipts_to_refuse(&receipt, &receipt_key, &certificate_key),
        "result_query": { "plaintext": hex(query.encode()) },
        "plain_error": {
            "fragments": fragments(MessageKind::PlainError, tag,
                &encode_plain_error(&ProtocolError::new(WireError::Busy, "too many phones"))),
        },
        "card_enrolment": {
            "code": "ABCD-EFGH-JKMN-PQRS",
            "proof": hex(card_enrolment_proof(&card_key, "ABCD-EFGH-JKMN-PQRS")),
        },
    })
}

#[test]
fn the_committed_vectors_are_what_the_code_makes() {
    let made = format!("{:#}\n", vectors());
    if std::env::var_os("FLORIN_WRITE_VECTORS").is_some() {
        std::fs::write(FILE, &made).unwrap();
    }
    let committed = std::fs::read_to_string(FILE).unwrap();
    assert!(
        made == committed,
        "tests/vectors/payment.json differs; the protocol on the wire has changed"
    );
}

#[test]
fn the_vectors_hold_no_receipt_to_refuse_that_verifies_for_the_offer() {
    let committed: Value = serde_json::from_str(&std::fs::read_to_string(FILE).unwrap()).unwrap();
    let octets =
        |value: &Value| data_encoding::HEXLOWER.decode(value.as_str().unwrap().as_bytes()).unwrap();
    let root =
        florin::credential::VerifyingKey::from_sec1(&octets(&committed["keys"]["root_public"]))
            .unwrap();
    let keyring =
        Keyring::verify(&Signed::decode(&octets(&committed["keyring"]["encoded"])).unwrap(), &root)
            .unwrap();
    let good = verify_receipt(
        &Signed::decode(&octets(&committed["receipt"]["encoded"])).unwrap(),
        &keyring,
    )
    .unwrap();
    let to_refuse = committed["receipts_to_refuse"].as_array().unwrap();
    assert_eq!(to_refuse.len(), 6);
    for case in to_refuse {
        let verified =
            verify_receipt(&Signed::decode(&octets(&case["receipt"])).unwrap(), &keyring);
        assert!(verified.as_ref() != Ok(&good), "{}", case["why"]);
    }
}
