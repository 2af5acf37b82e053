//! The seeds of the fuzz targets: made from the test vectors and the shipped files, and equal to
//! the committed ones.
//!
//! `FLORIN_WRITE_SEEDS=1 cargo test --test fuzz_seeds` writes them anew. Files whose name begins
//! with `found-` are inputs that a target failed on once; they are kept and not made here.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use florin::domain::{DeclineReason, Outcome, TerminalId, TransactionId};
use florin::protocol::{
    ChannelKey, FromPhone, FromTerminal, Initiator, ProtocolError, WireError, accept,
    advertised_name,
};
use serde_json::Value;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn octets(value: &Value) -> Vec<u8> {
    data_encoding::HEXLOWER.decode(value.as_str().unwrap().as_bytes()).unwrap()
}

/// As the targets cut their octets: two octets of length before each piece.
fn in_pieces(pieces: &[Vec<u8>]) -> Vec<u8> {
    let one =
        |piece: &Vec<u8>| [&u16::try_from(piece.len()).unwrap().to_be_bytes()[..], piece].concat();
    pieces.iter().flat_map(one).collect()
}

fn after(choice: u8, content: &[u8]) -> Vec<u8> {
    [&[choice], content].concat()
}

/// Seeds by target and name.
#[derive(Default)]
struct Seeds(BTreeMap<&'static str, BTreeMap<String, Vec<u8>>>);

impl Seeds {
    fn add(&mut self, target: &'static str, name: &str, content: Vec<u8>) {
        let before = self.0.entry(target).or_default().insert(name.to_owned(), content);
        assert_eq!(before, None, "{target}/{name} twice");
    }
}

/// The transaction of the test vectors.
fn transaction_id() -> TransactionId {
    TransactionId::from_random([0x31; 16])
}

fn seeds() -> Seeds {
    let text = std::fs::read_to_string(root().join("tests/vectors/payment.json")).unwrap();
    let vectors: Value = serde_json::from_str(&text).unwrap();
    let mut seeds = Seeds::default();
    add_fragments(&mut seeds, &vectors);
    add_messages(&mut seeds, &vectors);
    add_handshakes(&mut seeds, &vectors);
    add_channels(&mut seeds);
    add_certificates(&mut seeds, &vectors);
    add_links(&mut seeds, &vectors);
    add_till_requests(&mut seeds);
    add_configurations(&mut seeds);
    seeds
}

fn add_fragments(seeds: &mut Seeds, vectors: &Value) {
    for message in [
        "hello",
        "hello_answer",
        "opening",
        "payment_command",
        "result",
        "receipt_ack",
        "plain_error",
    ] {
        let fragments = &vectors[message]["fragments"];
        for mtu in ["mtu_23", "mtu_185", "mtu_517"] {
            let values = fragments[format!("values_at_{mtu}")].as_array().unwrap();
            let values: Vec<_> = values.iter().map(octets).collect();
            seeds.add("fragments", &format!("{message}-{mtu}"), in_pieces(&values));
        }
        let plain = &vectors[message]["plaintext"];
        let payload = &vectors[message]["payload"];
        let content =
            [plain, payload, &fragments["message"]].into_iter().find(|value| value.is_string());
        seeds.add("messages", message, octets(content.unwrap()));
    }
}

fn add_messages(seeds: &mut Seeds, vectors: &Value) {
    seeds.add("messages", "info", octets(&vectors["info"]));
    seeds.add("messages", "offer", octets(&vectors["offer"]["octets"]));
    seeds.add("messages", "result_query", octets(&vectors["result_query"]["plaintext"]));
    let transaction_id = transaction_id();
    seeds.add("messages", "cancel", FromPhone::Cancel.encode());
    let declined = Outcome::Declined(DeclineReason::InsufficientFunds);
    for (name, message) in vectors["other_results"].as_object().unwrap() {
        seeds.add("messages", &format!("proven-{name}"), octets(message));
    }
    seeds.add("messages", "keyring", octets(&vectors["newer_keyring"]));
    for (name, message) in [
        ("offered", FromTerminal::Offer(octets(&vectors["offer"]["octets"]))),
        (
            "approved",
            FromTerminal::Result { transaction_id, outcome: Outcome::Approved, receipt: None },
        ),
        ("declined", FromTerminal::Result { transaction_id, outcome: declined, receipt: None }),
        (
            "pending",
            FromTerminal::Result { transaction_id, outcome: Outcome::Pending, receipt: None },
        ),
        (
            "reversed",
            FromTerminal::Result { transaction_id, outcome: Outcome::Reversed, receipt: None },
        ),
        ("nothing_to_pay", FromTerminal::NothingToPay),
        ("working", FromTerminal::Working),
        ("taken", FromTerminal::Taken(transaction_id)),
        ("withdrawn", FromTerminal::Withdrawn(transaction_id)),
        ("expired", FromTerminal::Expired(transaction_id)),
        (
            "error",
            FromTerminal::Error(ProtocolError::new(WireError::OutOfService, "the adapter is gone")),
        ),
    ] {
        seeds.add("messages", name, message.encode());
    }
}

fn add_handshakes(seeds: &mut Seeds, vectors: &Value) {
    let hello = octets(&vectors["hello"]["fragments"]["message"]);
    let channel_key = ChannelKey::from_octets([0x15; 32]);
    let (_, answer) = accept(&hello, &channel_key, [0x22; 32], |_| Ok(b"answer".to_vec())).unwrap();
    let (_, bare) = Initiator::start(b"", [0x21; 32]).unwrap();
    seeds.add("handshake", "hello", after(0, &hello));
    seeds.add("handshake", "hello-without-payload", after(0, &bare));
    seeds.add("handshake", "answer", after(1, &answer));
    seeds.add("handshake", "hello-unaltered", after(2, &vec![0; hello.len()]));
    seeds.add(
        "handshake",
        "hello-altered",
        after(2, &[&vec![0; hello.len() - 1][..], &[1]].concat()),
    );
    seeds.add("handshake", "answer-unaltered", after(3, &vec![0; answer.len()]));
    seeds.add(
        "handshake",
        "answer-altered",
        after(3, &[&vec![0; answer.len() - 1][..], &[1]].concat()),
    );
}

fn add_channels(seeds: &mut Seeds) {
    let steps =
        |steps: &[&[u8]]| in_pieces(&steps.iter().map(|step| step.to_vec()).collect::<Vec<_>>());
    seeds.add(
        "channel",
        "in-order",
        steps(&[b"\x00one", b"\x02", b"\x80two", b"\x82", b"\x00three", b"\x02"]),
    );
    seeds.add(
        "channel",
        "repeated",
        steps(&[b"\x00one", b"\x02", b"\x03\x00", b"\x00two", b"\x02"]),
    );
    seeds.add(
        "channel",
        "swapped",
        steps(&[b"\x00one", b"\x00two", b"\x03\x01", b"\x02", b"\x02"]),
    );
    seeds.add(
        "channel",
        "altered",
        steps(&[b"\x00one", b"\x04\x01", b"\x02", b"\x80two", b"\x84\x00\x01", b"\x82"]),
    );
    seeds.add(
        "channel",
        "invented",
        steps(&[b"\x05nothing of yours", b"\x00one", b"\x05", b"\x02"]),
    );
    seeds.add(
        "channel",
        "reflected",
        steps(&[b"\x00one", b"\x86", b"\x80two", b"\x06", b"\x02", b"\x82"]),
    );
}

fn add_certificates(seeds: &mut Seeds, vectors: &Value) {
    for (choice, name) in
        ["terminal_certificate", "keyring", "receipt", "card_command", "exclusion"]
            .into_iter()
            .enumerate()
    {
        seeds.add("certificates", name, after(0, &octets(&vectors[name]["encoded"])));
        let choice = 0x80 | u8::try_from(choice).unwrap();
        seeds.add(
            "certificates",
            &format!("{name}-body"),
            after(choice, &octets(&vectors[name]["body"])),
        );
    }
    for (index, case) in vectors["receipts_to_refuse"].as_array().unwrap().iter().enumerate() {
        seeds.add(
            "certificates",
            &format!("receipt-to-refuse-{index}"),
            after(0, &octets(&case["receipt"])),
        );
    }
    for (index, case) in vectors["exclusions_to_refuse"].as_array().unwrap().iter().enumerate() {
        seeds.add(
            "certificates",
            &format!("exclusion-to-refuse-{index}"),
            after(0, &octets(&case["exclusion"])),
        );
    }
    seeds.add(
        "certificates",
        "card-enrolment-proof",
        after(0, &octets(&vectors["card_enrolment"]["proof"])),
    );
    seeds.add("sealed_command", "sealed", after(0, &octets(&vectors["sealed_command"]["encoded"])));
    seeds.add(
        "sealed_command",
        "to-seal",
        after(0x80, &octets(&vectors["card_command"]["encoded"])),
    );
}

fn add_links(seeds: &mut Seeds, vectors: &Value) {
    let link = vectors["engagement_link"].as_str().unwrap();
    let terminal_id: TerminalId = "7M3KQ0ZT4V".parse().unwrap();
    for (name, text) in [
        ("screen", link.to_owned()),
        ("sticker", link.rsplit_once('/').unwrap().0.to_owned()),
        ("lower-case", link.to_lowercase()),
        ("terminal-id", terminal_id.to_string()),
        ("transaction-id", transaction_id().to_string()),
        ("name-on-the-air", advertised_name(&terminal_id, false)),
        ("name-out-of-service", advertised_name(&terminal_id, true)),
        ("amount", "2.50 EUR".to_owned()),
        ("amount-without-minor-units", "250 JPY".to_owned()),
    ] {
        seeds.add("engagement_link", name, text.into_bytes());
    }
}

fn add_till_requests(seeds: &mut Seeds) {
    for (name, text) in [
        ("least", r#"{"amount_minor":1,"currency":"JPY"}"#),
        (
            "full",
            concat!(
                r#"{"amount_minor":250,"currency":"EUR","reference":"Order 7","#,
                r#""capture":"after_dispense","#,
                r#""items":[{"name":"Coffee","quantity":2,"amount_minor":250}],"valid_for_s":60}"#
            ),
        ),
        (
            "at-once",
            concat!(
                r#"{"amount_minor":999999999999,"currency":"EUR","#,
                r#""capture":"at_once","reference":null}"#
            ),
        ),
        ("unknown-field", r#"{"amount_minor":250,"currency":"EUR","amuont":1}"#),
        ("doubled-field", r#"{"amount_minor":250,"amount_minor":1,"currency":"EUR"}"#),
        (
            "quantity-0",
            concat!(
                r#"{"amount_minor":1,"currency":"EUR","#,
                r#""items":[{"name":"a","quantity":0,"amount_minor":1}]}"#
            ),
        ),
        (
            "quantity-10001",
            concat!(
                r#"{"amount_minor":1,"currency":"EUR","#,
                r#""items":[{"name":"a","quantity":10001,"amount_minor":1}]}"#
            ),
        ),
        ("amount-0", r#"{"amount_minor":0,"currency":"EUR"}"#),
        ("amount-too-high", r#"{"amount_minor":1000000000000,"currency":"EUR"}"#),
        ("valid-for-0", r#"{"amount_minor":1,"currency":"EUR","valid_for_s":0}"#),
        ("valid-for-3601", r#"{"amount_minor":1,"currency":"EUR","valid_for_s":3601}"#),
        ("dispensed", r#"{"dispensed":true}"#),
        ("not-dispensed", r#"{"dispensed":false}"#),
        ("cancel", "{}"),
        ("key", "sale-4711"),
    ] {
        seeds.add("till_json", name, text.as_bytes().to_vec());
    }
}

fn add_configurations(seeds: &mut Seeds) {
    let shipped = std::fs::read_to_string(root().join("deploy/florin.toml")).unwrap();
    let keys = |line: &str| {
        let key =
            line.strip_prefix("# ").filter(|rest| rest.contains(" = ") && !rest.contains(". "));
        key.or(line.starts_with('[').then_some(line)).map(|line| format!("{line}\n"))
    };
    seeds.add(
        "configuration",
        "every-key",
        shipped.lines().filter_map(keys).collect::<String>().into_bytes(),
    );
    for (name, text) in [
        ("loopback", "[till]\nlisten = \"[::1]:8411\"\n"),
        ("wrong-address", "[till]\nlisten = \"0.0.0.0:8411\"\n"),
        ("unknown-key", "[till]\nlissen = \"x\"\n"),
        ("wrong-range", "[payments]\nvalid_for_s = 0\n"),
        (
            "wrong-order",
            "[institution]\nretry_backoff_max_ms = 1000\nretry_backoff_min_ms = 2000\n",
        ),
        (
            "wrong-order-by-one",
            "[institution]\nretry_backoff_max_ms = 1999\nretry_backoff_min_ms = 2000\n",
        ),
        ("cut-off", "[till\n"),
    ] {
        seeds.add("configuration", name, text.as_bytes().to_vec());
    }
}

#[test]
fn the_committed_seeds_are_those_that_are_made() {
    let directory = root().join("fuzz/seeds");
    let seeds = seeds();
    if std::env::var_os("FLORIN_WRITE_SEEDS").is_some() {
        for (target, files) in &seeds.0 {
            std::fs::create_dir_all(directory.join(target)).unwrap();
            for (name, content) in files {
                std::fs::write(directory.join(target).join(name), content).unwrap();
            }
        }
    }
    for (target, files) in &seeds.0 {
        let committed = names(&directory.join(target));
        for (name, content) in files {
            let found = std::fs::read(directory.join(target).join(name)).unwrap_or_default();
            assert!(
                found == *content,
                "fuzz/seeds/{target}/{name} differs; the header says how to write it"
            );
        }
        for name in committed {
            assert!(
                files.contains_key(&name) || name.starts_with("found-"),
                "fuzz/seeds/{target}/{name}: whose?"
            );
        }
    }
}

#[test]
fn every_target_has_seeds_and_every_seed_a_target() {
    let targets: Vec<String> = names(&root().join("fuzz/fuzz_targets"))
        .into_iter()
        .map(|name| name.strip_suffix(".rs").unwrap().to_owned())
        .collect();
    assert_eq!(targets, names(&root().join("fuzz/seeds")));
    assert!(targets.iter().map(String::as_str).eq(seeds().0.into_keys()));
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
