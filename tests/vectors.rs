//! The golden vectors of the protocol: made from fixed keys, and equal to the committed files octet
//! for octet.
//!
//! `FLORIN_WRITE_VECTORS=1 cargo test --test vectors` writes them anew, for a change of the
//! protocol that is meant.

#![allow(clippy::unwrap_used)]

use florin::credential::{
    CardCommand, InstitutionKey, KeyPurpose, Keyring, PayloadType, SealedCommand, SealingKey,
    Signed, SigningKey, TerminalCertificate, card_enrolment_proof, low_order_keys, sign_exclusion,
    sign_receipt, verify_exclusion, verify_receipt,
};
use florin::domain::{
    CardId, CommandDigest, DeclineReason, Exclusion, HolderVerification, LineItem, Offer,
    OfferParts, Outcome, Receipt, ReceiptStatus, TransactionId, UnixTime,
};
use florin::protocol::{
    ChannelKey, EngagementLink, Fingerprint, FragmentTag, Fragmenter, FromPhone, FromTerminal,
    Hello, HelloAnswer, Info, Initiator, MatchingNonce, MessageKind, ProtocolError, Reassembler,
    WireError, accept, decode_offer, digest_offer, encode_offer, encode_plain_error, matching_code,
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

/// The octets of fragments that a receiver must refuse, each with the reason.
fn fragments_to_refuse() -> Value {
    let fragmenter = Fragmenter::new(FragmentTag::from_low_bits(0xa));
    let good = fragmenter.cut(MessageKind::Sealed, &[0x61; 60], 20).unwrap();
    let values = |values: &[Vec<u8>]| values.iter().map(hex).collect::<Vec<_>>();
    let without = |index: usize| {
        let mut values = good.clone();
        values.remove(index);
        values
    };
    let mut too_early = good[..2].to_vec();
    too_early[1][0] |= 0x40;
    let mut kind_3 = good[..1].to_vec();
    kind_3[0][0] |= 0x30;
    let cases = [
        ("a fragment in the middle is missing", without(1)),
        ("it begins with a fragment that is not the first", without(0)),
        ("the last fragment comes before the announced length", too_early),
        ("kind 3 does not exist", kind_3),
        ("a following fragment has no content", vec![good[0].clone(), good[1][..1].to_vec()]),
        ("a message is longer than 16,384 octets", vec![vec![0x9a, 0x40, 0x01, 0x61]]),
        ("a value has no octet", vec![Vec::new()]),
    ];
    for (why, values) in &cases {
        let mut reassembler = Reassembler::default();
        let results: Vec<_> = values.iter().map(|value| reassembler.put(value)).collect();
        assert!(results.iter().any(Result::is_err), "{why}");
    }
    cases.iter().map(|(why, octets)| json!({ "why": why, "values": values(octets) })).collect()
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

/// Keyrings that a reader must refuse though the root signed them, each with the reason.
fn keyrings_to_refuse(keyring: &Keyring, root: &SigningKey) -> Value {
    let with = |change: &dyn Fn(&mut Vec<InstitutionKey>)| {
        let mut changed = keyring.clone();
        change(&mut changed.keys);
        hex(changed.sign(root).encode())
    };
    json!([
        { "why": "no key for terminal certificates",
          "keyring": with(&|keys| drop(keys.remove(0))) },
        { "why": "no key for receipts", "keyring": with(&|keys| drop(keys.remove(1))) },
        { "why": "no key for sealing", "keyring": with(&|keys| drop(keys.remove(2))) },
        { "why": "a key is there twice",
          "keyring": with(&|keys| keys.push(keys[0].clone())) },
        { "why": "a key for receipts is no point of the curve",
          "keyring": with(&|keys| keys[1].public_key[64] ^= 1) },
        { "why": "a key for receipts has 33 octets",
          "keyring": with(&|keys| keys[1].public_key.truncate(33)) },
        { "why": "a key for sealing has 65 octets",
          "keyring": with(&|keys| keys[2].public_key = vec![4; 65]) },
        { "why": "a key for sealing is of low order",
          "keyring": with(&|keys| keys[2].public_key = vec![0; 32]) },
    ])
}

/// These octets with the one occurrence of some others replaced.
fn replaced(octets: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut places = octets.windows(from.len()).enumerate().filter(|(_, here)| *here == from);
    let (place, _) = places.next().unwrap();
    assert!(places.next().is_none(), "there are two");
    [&octets[..place], to, &octets[place + from.len()..]].concat()
}

/// The same signature with the other s: the order of P-256 less s (SEC 1, section 4.1.4).
fn with_other_s(signed: &Signed) -> Signed {
    const ORDER: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63,
        0x25, 0x51,
    ];
    let mut other = signed.clone();
    let mut borrow = 0_i16;
    for index in (0..32).rev() {
        let difference = i16::from(ORDER[index]) - i16::from(signed.signature[32 + index]) - borrow;
        borrow = i16::from(difference < 0);
        other.signature[32 + index] = u8::try_from(difference.rem_euclid(256)).unwrap();
    }
    other
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
    let other_command = Receipt { command_digest: CommandDigest([0x34; 32]), ..receipt.clone() };
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
        { "why": "for another command", "receipt": signed_by(receipt_key, &other_command) },
    ])
}

/// Exclusions that do not prove that the command was not used, each with the reason.
fn exclusions_to_refuse(
    exclusion: &Exclusion,
    mine: CommandDigest,
    receipt_key: &SigningKey,
    certificate_key: &SigningKey,
) -> Value {
    let signed_by =
        |key: &SigningKey, exclusion: &Exclusion| hex(sign_exclusion(exclusion, key).encode());
    let names_mine = Exclusion { command_digest: Some(mine), ..exclusion.clone() };
    let other_transaction =
        Exclusion { transaction_id: TransactionId::from_random([0x33; 16]), ..exclusion.clone() };
    let other_terminal =
        Exclusion { terminal_id: "7M3KQ0ZT4W".parse().unwrap(), ..exclusion.clone() };
    json!([
        { "why": "it names this very command", "exclusion": signed_by(receipt_key, &names_mine) },
        { "why": "for another transaction",
          "exclusion": signed_by(receipt_key, &other_transaction) },
        { "why": "for another terminal", "exclusion": signed_by(receipt_key, &other_terminal) },
        { "why": "signed with the institution's key for terminal certificates",
          "exclusion": signed_by(certificate_key, exclusion) },
    ])
}

/// Certificates that a phone must refuse, each with the reason. It reads them at 1,750,000,000 s.
fn certificates_to_refuse(
    certificate: &TerminalCertificate,
    certificate_key: &SigningKey,
    receipt_key: &SigningKey,
) -> Value {
    let signed_by =
        |key: &SigningKey, certificate: &TerminalCertificate| hex(certificate.sign(key).encode());
    let time = |seconds| UnixTime { seconds };
    let ended = TerminalCertificate { not_after: time(1_749_999_999), ..certificate.clone() };
    let not_yet = TerminalCertificate { not_before: time(1_750_000_001), ..certificate.clone() };
    let other_key = TerminalCertificate { channel_key: [9; 32], ..certificate.clone() };
    let low_order = TerminalCertificate { channel_key: [0; 32], ..certificate.clone() };
    let invisible = TerminalCertificate { merchant_name: "\u{3164}".into(), ..certificate.clone() };
    json!([
        { "why": "signed with the institution's key for receipts",
          "certificate": signed_by(receipt_key, certificate) },
        { "why": "its time is over", "certificate": signed_by(certificate_key, &ended) },
        { "why": "its time has not begun", "certificate": signed_by(certificate_key, &not_yet) },
        { "why": "for another channel key than the handshake proved",
          "certificate": signed_by(certificate_key, &other_key) },
        { "why": "the channel key is of low order",
          "certificate": signed_by(certificate_key, &low_order) },
        { "why": "the merchant's name cannot be seen, U+3164",
          "certificate": signed_by(certificate_key, &invisible) },
    ])
}

/// Offers that a phone must not show, each with the reason.
fn offers_to_refuse(offer: &Offer) -> Value {
    let with = |change: &dyn Fn(&mut OfferParts)| {
        let mut parts = OfferParts {
            transaction_id: offer.transaction_id(),
            terminal_id: offer.terminal_id(),
            merchant_name: offer.merchant_name().to_owned(),
            amount: offer.amount(),
            valid_for_s: offer.valid_for_s(),
            nonce: [0x32; 16],
            reference: offer.reference().to_owned(),
            items: offer.items().to_vec(),
            capture_after_dispense: offer.capture_after_dispense(),
        };
        change(&mut parts);
        hex(encode_offer(&Offer::new(parts).unwrap()))
    };
    let octets = encode_offer(offer);
    let replaced = |from: &[u8], to: &[u8]| hex(replaced(&octets, from, to));
    // Of as many octets as the offer's own reference, so that no length changes.
    let reference = |text: &str| replaced(offer.reference().as_bytes(), text.as_bytes());
    let mut version_1 = *offer.transaction_id().as_octets();
    version_1[6] = 0x10 | version_1[6] & 0x0f;
    json!([
        { "why": "valid_for_s is 2^32 + 120",
          "offer": replaced(&[0x30, 120], &[0x30, 0xf8, 0x80, 0x80, 0x80, 0x10]) },
        { "why": "the transaction id is a UUID of version 1",
          "offer": replaced(offer.transaction_id().as_octets(), &version_1) },
        { "why": "the reference turns the direction of writing, U+202E",
          "offer": reference("orde\u{202e}7") },
        { "why": "the reference has a space without width, U+200B",
          "offer": reference("orde\u{200b}7") },
        { "why": "the reference has a filler that is not seen, U+3164",
          "offer": reference("orde\u{3164}7") },
        { "why": "the reference has a space that is not U+0020, U+00A0",
          "offer": reference("orde\u{a0}17") },
        { "why": "the reference breaks the line, U+2028", "offer": reference("orde\u{2028}7") },
        { "why": "the reference has a joiner between Latin letters, U+200D",
          "offer": reference("ord\u{200d}er") },
        { "why": "the reference begins with a space", "offer": reference(" rder 17") },
        { "why": "the reference begins with a mark, U+0301",
          "offer": reference("\u{301}rder17") },
        { "why": "the reference has three marks on one letter",
          "offer": reference("o\u{301}\u{302}\u{303}7") },
        { "why": "the reference has a code point for private use, U+E000",
          "offer": reference("orde\u{e000}7") },
        { "why": "another terminal than the certificate's",
          "offer": with(&|parts| parts.terminal_id = "7M3KQ0ZT4W".parse().unwrap()) },
        { "why": "another merchant than the certificate's",
          "offer": with(&|parts| parts.merchant_name = "Bank".into()) },
        { "why": "over the card's limit of 50.00 EUR",
          "offer": with(&|parts| parts.amount = "50.01 EUR".parse().unwrap()) },
        { "why": "in another currency than the card's",
          "offer": with(&|parts| parts.amount = "2.50 USD".parse().unwrap()) },
        { "why": "no octets of an offer", "offer": "ff" },
    ])
}

/// What a terminal may say after the command, beside the approval, with its proof: how a payment
/// goes on.
fn other_results(
    receipt: &Receipt,
    receipt_key: &SigningKey,
    exclusions: &[(&str, Exclusion)],
) -> Value {
    let transaction_id = receipt.transaction_id;
    let approval_code = "A1B2C3".to_owned();
    let result = |outcome, status: Option<ReceiptStatus>| {
        let receipt = status.map(|status| {
            sign_receipt(&Receipt { status, ..receipt.clone() }, receipt_key).encode()
        });
        hex(FromTerminal::Result { transaction_id, outcome, receipt }.encode())
    };
    let declined = DeclineReason::InsufficientFunds;
    let captured = |refunded_minor| ReceiptStatus::Captured {
        approval_code: approval_code.clone(),
        refunded_minor,
    };
    let mut results = json!({
        "declined": result(Outcome::Declined(declined), Some(ReceiptStatus::Declined(declined))),
        "reversed": result(Outcome::Reversed, Some(ReceiptStatus::Reversed)),
        "captured": result(Outcome::Captured, Some(captured(0))),
        "captured_and_partly_refunded": result(Outcome::Captured, Some(captured(50))),
        "pending": result(Outcome::Pending, None),
        "reversed_without_proof": result(Outcome::Reversed, None),
        "taken": hex(FromTerminal::Taken(transaction_id).encode()),
        "withdrawn": hex(FromTerminal::Withdrawn(transaction_id).encode()),
        "expired": hex(FromTerminal::Expired(transaction_id).encode()),
    });
    for (name, exclusion) in exclusions {
        let exclusion = sign_exclusion(exclusion, receipt_key).encode();
        let message = FromTerminal::NotUsed { transaction_id, exclusion };
        results[*name] = json!(hex(message.encode()));
    }
    results
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
    let newer_keyring =
        Keyring { issued_at: UnixTime { seconds: 1_700_000_001 }, ..keyring.clone() };
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

    let matching_nonce = MatchingNonce([0x24; 16]);
    let hello = Hello {
        value_octets_max: Some(512),
        transaction_id: None,
        matching_commitment: matching_nonce.commitment(),
    }
    .encode();
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

    let opening = FromPhone::Opening { matching_nonce, keyring_issued_at: keyring.issued_at };
    let opening = opening.encode();
    let opening_message = phone.seal(&opening).unwrap();
    assert_eq!(terminal.open(&opening_message).unwrap(), opening);

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
        command_digest: SealedCommand::digest_of_encoded(&sealed.encode()),
    };
    // What two other phones got: one was second, one came when the offer had ended.
    let elsewhere = Exclusion {
        transaction_id,
        terminal_id: certificate.terminal_id,
        command_digest: Some(CommandDigest([0x35; 32])),
        decided_at: receipt.decided_at,
    };
    let none = Exclusion { command_digest: None, ..elsewhere.clone() };
    let signed_exclusion = sign_exclusion(&elsewhere, &receipt_key);
    assert_eq!(
        verify_exclusion(&signed_exclusion, &keyring, receipt.decided_at).unwrap(),
        elsewhere
    );
    let signed_receipt = sign_receipt(&receipt, &receipt_key);
    assert_eq!(verify_receipt(&signed_receipt, &keyring, receipt.decided_at).unwrap(), receipt);
    let result = FromTerminal::Result {
        transaction_id,
        outcome: Outcome::Approved,
        receipt: Some(signed_receipt.encode()),
    }
    .encode();
    let result_message = terminal.seal(&result).unwrap();
    assert_eq!(phone.open(&result_message).unwrap(), result);
    let acknowledgement = FromPhone::ReceiptAck.encode();
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
            "matching_nonce": hex(matching_nonce.0),
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
            "matching_code": matching_code(phone.handshake_hash(), &matching_nonce),
        },
        "opening": {
            "plaintext": hex(&opening),
            "fragments": fragments(MessageKind::Sealed, tag, &opening_message),
        },
        "card_command": signed(PayloadType::CardCommand, &signed_command),
        "sealed_command": {
            "suite": sealed.suite,
            "key_id": sealed.key_id.to_string(),
            "encapsulated_key": hex(sealed.encapsulated_key),
            "ciphertext": hex(&sealed.ciphertext),
            "encoded": hex(sealed.encode()),
            "digest": hex(receipt.command_digest.0),
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
        "receipt_with_other_s": hex(with_other_s(&signed_receipt).encode()),
        "low_order_keys": low_order_keys().iter().map(hex).collect::<Vec<_>>(),
        "keyrings_to_refuse": keyrings_to_refuse(&keyring, &root),
        "receipts_to_refuse": receipts_to_refuse(&receipt, &receipt_key, &certificate_key),
        "exclusion": signed(PayloadType::Exclusion, &signed_exclusion),
        "exclusions_to_refuse": exclusions_to_refuse(
            &elsewhere,
            receipt.command_digest,
            &receipt_key,
            &certificate_key,
        ),
        "other_results": other_results(
            &receipt,
            &receipt_key,
            &[("not_used_but_another", elsewhere), ("not_used_and_none", none)],
        ),
        "certificates_to_refuse":
            certificates_to_refuse(&certificate, &certificate_key, &receipt_key),
        "offers_to_refuse": offers_to_refuse(&offer),
        "fragments_to_refuse": fragments_to_refuse(),
        "newer_keyring": hex(FromTerminal::Keyring(newer_keyring.sign(&root).encode()).encode()),
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

/// The committed vectors, their keyring, and the phone's clock.
fn committed() -> (Value, Keyring, UnixTime) {
    let committed: Value = serde_json::from_str(&std::fs::read_to_string(FILE).unwrap()).unwrap();
    let root =
        florin::credential::VerifyingKey::from_sec1(&octets(&committed["keys"]["root_public"]))
            .unwrap();
    let keyring =
        Keyring::verify(&Signed::decode(&octets(&committed["keyring"]["encoded"])).unwrap(), &root)
            .unwrap();
    (committed, keyring, UnixTime { seconds: 1_750_000_000 })
}

fn octets(value: &Value) -> Vec<u8> {
    data_encoding::HEXLOWER.decode(value.as_str().unwrap().as_bytes()).unwrap()
}

#[test]
fn the_vectors_hold_no_receipt_to_refuse_that_verifies_for_the_offer() {
    let (committed, keyring, now) = committed();
    let read = |value: &Value| verify_receipt(&Signed::decode(&octets(value))?, &keyring, now);
    let good = read(&committed["receipt"]["encoded"]).unwrap();
    let to_refuse = committed["receipts_to_refuse"].as_array().unwrap();
    assert_eq!(to_refuse.len(), 7);
    for case in to_refuse {
        assert!(read(&case["receipt"]).as_ref() != Ok(&good), "{}", case["why"]);
    }
}

#[test]
fn both_forms_of_a_signature_are_good() {
    let (committed, keyring, now) = committed();
    let signed = |value: &Value| Signed::decode(&octets(value)).unwrap();
    let one = signed(&committed["receipt"]["encoded"]);
    let other = signed(&committed["receipt_with_other_s"]);
    assert_ne!(one.signature, other.signature);
    assert_eq!(verify_receipt(&one, &keyring, now), verify_receipt(&other, &keyring, now));
    verify_receipt(&other, &keyring, now).unwrap();
}

#[test]
fn the_vectors_hold_no_keyring_to_refuse_that_verifies() {
    let (committed, _, _) = committed();
    let root = octets(&committed["keys"]["root_public"]);
    let root = florin::credential::VerifyingKey::from_sec1(&root).unwrap();
    let to_refuse = committed["keyrings_to_refuse"].as_array().unwrap();
    assert_eq!(to_refuse.len(), 8);
    for case in to_refuse {
        let signed = Signed::decode(&octets(&case["keyring"])).unwrap();
        let refusal = Keyring::verify(&signed, &root).unwrap_err();
        let is_about_the_root =
            matches!(refusal, florin::credential::CredentialError::BadSignature(_));
        assert!(!is_about_the_root, "{}: {refusal}", case["why"]);
    }
}

#[test]
fn the_vectors_hold_no_offer_to_refuse_that_a_phone_shows() {
    let (committed, keyring, now) = committed();
    let signed = Signed::decode(&octets(&committed["terminal_certificate"]["encoded"])).unwrap();
    let certificate = TerminalCertificate::verify(&signed, &keyring, now).unwrap();
    let is_shown = |value: &Value| {
        decode_offer(&octets(value)).is_ok_and(|offer| {
            offer.terminal_id() == certificate.terminal_id
                && offer.merchant_name() == certificate.merchant_name
                && offer.amount().currency().code() == "EUR"
                && offer.amount().minor() <= 5000
        })
    };
    assert!(is_shown(&committed["offer"]["octets"]));
    for case in committed["offers_to_refuse"].as_array().unwrap() {
        assert!(!is_shown(&case["offer"]), "{}", case["why"]);
    }
}

#[test]
fn the_vectors_hold_no_exclusion_to_refuse_that_leaves_the_command_out() {
    let (committed, keyring, now) = committed();
    let receipt = Signed::decode(&octets(&committed["receipt"]["encoded"])).unwrap();
    let receipt = verify_receipt(&receipt, &keyring, now).unwrap();
    let excludes = |value: &Value| {
        let signed = Signed::decode(&octets(value)).unwrap();
        verify_exclusion(&signed, &keyring, now).is_ok_and(|exclusion| {
            exclusion.excludes(receipt.transaction_id, receipt.terminal_id, receipt.command_digest)
        })
    };
    assert!(excludes(&committed["exclusion"]["encoded"]));
    for case in committed["exclusions_to_refuse"].as_array().unwrap() {
        assert!(!excludes(&case["exclusion"]), "{}", case["why"]);
    }
}

#[test]
fn the_vectors_hold_no_certificate_to_refuse_that_is_good_for_the_channel_key() {
    let (committed, keyring, now) = committed();
    let channel_key = octets(&committed["keys"]["channel_public"]);
    let is_good = |value: &Value| {
        let signed = Signed::decode(&octets(value)).unwrap();
        TerminalCertificate::verify(&signed, &keyring, now)
            .is_ok_and(|certificate| certificate.channel_key == *channel_key)
    };
    assert!(is_good(&committed["terminal_certificate"]["encoded"]));
    for case in committed["certificates_to_refuse"].as_array().unwrap() {
        assert!(!is_good(&case["certificate"]), "{}", case["why"]);
    }
}
