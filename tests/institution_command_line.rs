//! `florin-acquirer` as an operator and a script see it: output, JSON, exit codes, and commands
//! beside a running server.

#![cfg(all(feature = "institution", unix))]
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use florin::credential::{
    CardCommand, Keyring, PayloadType, Signed, SigningKey, VerifyingKey, card_enrolment_proof,
    channel_key_proof,
};
use florin::domain::{
    Amount, CardId, HolderVerification, Offer, OfferParts, TerminalId, TransactionId,
    TransactionState, UnixTime,
};
use florin::institution::{
    AuthorisationRequest, CardTerms, ChannelKeyClaim, EnrolmentCode, open_institution,
    open_to_serve,
};
use florin::protocol::{ChannelKey, digest_offer, encode_offer};
use serde_json::Value;

fn institution(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_florin-acquirer"))
        .args(arguments)
        .env("FLORIN_ACQUIRER_DIRECTORY", directory)
        .env_remove("RUST_LOG")
        .output()
        .unwrap()
}

/// Runs a command that succeeds; returns its JSON lines.
fn json(directory: &Path, arguments: &[&str]) -> Vec<Value> {
    let output = institution(directory, &[arguments, &["--json"]].concat());
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Runs a command that fails; returns its words.
fn fails(directory: &Path, arguments: &[&str], exit_code: i32) -> String {
    let output = institution(directory, arguments);
    let words = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(exit_code), "{arguments:?}: {words}");
    assert!(output.stdout.is_empty(), "{arguments:?}");
    words
}

fn init(directory: &Path) {
    json(directory, &["init", "--name", "Example Bank", "--host-name", "localhost"]);
}

#[test]
fn an_institution_is_set_up_step_by_step() {
    let directory = tempfile::tempdir().unwrap();
    let bank = directory.path().join("bank");
    init(&bank);
    accounts(&bank);
    let (code, full) = cards(&bank);
    terminals(&bank);
    assert_eq!(json(&bank, &["transaction", "list"]), [] as [Value; 0]);
    let report = &json(&bank, &["ledger", "check"])[0];
    assert_eq!((&report["balanced"], &report["entries"]), (&true.into(), &1.into()));
    assert_eq!(json(&bank, &["ledger", "show"])[0]["kind"], "funding");
    // No code and no whole card id is in any list.
    for list in [["card", "list"], ["terminal", "list"], ["ledger", "show"]] {
        let text = String::from_utf8(institution(&bank, &list).stdout).unwrap();
        assert!(!text.contains(&code) && !text.contains(&full), "{text}");
    }
}

fn accounts(bank: &Path) {
    let alice = ["account", "create", "--name", "Alice", "--currency", "EUR"];
    let account = &json(bank, &[&alice[..], &["--balance", "100.00"]].concat())[0];
    assert_eq!((&account["account"], &account["available_minor"]), (&1.into(), &10_000.into()));
    json(bank, &["account", "create", "--name", "Bob", "--currency", "JPY"]);
    let accounts = json(bank, &["account", "list"]);
    assert_eq!(accounts.len(), 2);
    assert_eq!(accounts[1]["available_minor"], 0);
}

/// Returns the code and the whole id of a card.
fn cards(bank: &Path) -> (String, String) {
    let card = &json(bank, &["card", "add", "--account", "1", "--limit", "50.00"])[0];
    assert_eq!(card["payment_limit_minor"], 5_000);
    let code = card["code"].as_str().unwrap();
    assert_eq!(code.len(), 19);
    let hint = card["card_hint"].as_str().unwrap();
    json(bank, &["card", "block", hint]);
    let cards = json(bank, &["card", "list"]);
    assert_eq!(cards[0]["state"], "blocked");
    assert!(cards[0].get("card").is_none(), "the whole id is shown only when asked for");
    let full = json(bank, &["card", "list", "--full"])[0]["card"].as_str().unwrap().to_owned();
    json(bank, &["card", "unblock", &full]);
    assert_eq!(json(bank, &["card", "list"])[0]["state"], "pending");
    (code.to_owned(), full)
}

fn terminals(bank: &Path) {
    let add = ["terminal", "add", "--merchant-id", "kiosk-1", "--merchant-name", "Corner Kiosk"];
    let terminal = &json(bank, &add)[0];
    let id = terminal["terminal"].as_str().unwrap();
    assert!(id.ends_with(terminal["short_code"].as_str().unwrap()));
    let renewed = &json(bank, &["terminal", "code", id, "--valid-for-hours", "1"])[0];
    assert_ne!(renewed["code"], terminal["code"]);
    json(bank, &["terminal", "block", id]);
    assert_eq!(json(bank, &["terminal", "list"])[0]["state"], "blocked");
    json(bank, &["terminal", "unblock", id]);
}

#[test]
fn what_people_type_is_taken() {
    let directory = tempfile::tempdir().unwrap();
    let bank = directory.path().join("bank");
    init(&bank);
    for (balance, minor) in
        [("2,50", 250), ("2.5", 250), ("2.50 EUR", 250), ("€2.50", 250), ("0", 0)]
    {
        let create = ["account", "create", "--name", "Alice", "--currency", "eur", "--balance"];
        let account = &json(&bank, &[&create[..], &[balance]].concat())[0];
        assert_eq!(account["available_minor"], minor, "{balance}");
    }
    let add = ["terminal", "add", "--merchant-id", "kiosk-1", "--merchant-name", "Kiosk"];
    let terminal = &json(&bank, &add)[0];
    let id = terminal["terminal"].as_str().unwrap();
    let hyphenated = format!("{}-{}", &id[..4], &id[4..]).to_lowercase();
    for name in [&hyphenated, terminal["short_code"].as_str().unwrap()] {
        assert_eq!(json(&bank, &["terminal", "block", name])[0]["terminal"], id, "{name}");
    }
    let limit = ["card", "add", "--account", "1", "--limit", "50,00 eur"];
    let card = &json(&bank, &[&limit[..], &["--verification-limit", "€20"]].concat())[0];
    assert_eq!(card["payment_limit_minor"], 5_000);
    let hint = card["card_hint"].as_str().unwrap().to_uppercase();
    json(&bank, &["card", "block", &format!("…{hint}")]);
    assert_eq!(json(&bank, &["card", "list"])[0]["verification_limit_minor"], 2_000);
}

#[test]
fn what_is_wrong_is_told_what_to_change() {
    let directory = tempfile::tempdir().unwrap();
    let bank = directory.path().join("bank");
    init(&bank);
    json(&bank, &["account", "create", "--name", "Alice", "--currency", "EUR"]);
    for (arguments, exit_code, told) in [
        (&["card", "add", "--account", "1", "--limit", "5 USD"][..], 2, "an amount in EUR"),
        (&["card", "add", "--account", "1", "--limit", "-5"], 2, "minus sign"),
        (&["card", "add", "--account", "1", "--limit", "0"], 2, "--limit: an amount is more"),
        (&["card", "add", "--account", "Alice", "--limit", "5"], 2, "account list"),
        (&["account", "create", "--name", "", "--currency", "EUR"], 3, "--name: expected 1 to 64"),
        (&["account", "create", "--currency", "EUR"], 2, "--name <NAME>"),
        (&["terminal", "block", "zzzz"], 3, "terminal list"),
        (&["transaction", "show", "2f6e6cf0"], 2, "a whole UUID"),
        (&["serve", "--listen", "0.0.0.0"], 2, "0.0.0.0:7443"),
        (&["ledger", "check", "--log", "inof"], 2, "`inof` is not a log level"),
    ] {
        let message = fails(&bank, arguments, exit_code);
        assert!(message.contains(told), "{arguments:?}: {message}");
    }
    // It may be most of a card's id.
    let message = fails(&bank, &["card", "block", "0123456789abcdef"], 2);
    assert!(message.contains("card list") && !message.contains("0123"), "{message}");
}

#[test]
fn faults_have_their_words_and_their_exit_codes() {
    let directory = tempfile::tempdir().unwrap();
    let bank = directory.path().join("bank");
    assert!(fails(&bank, &["account", "list"], 4).contains("florin-acquirer init"));
    assert!(
        fails(&bank, &["init", "--name", "Bank", "--host-name", "a b"], 3).contains("host name")
    );
    init(&bank);
    let words = fails(&bank, &["init", "--name", "Bank", "--host-name", "localhost"], 4);
    assert!(words.contains("already"), "{words}");
    fails(&bank, &["nonsense"], 2);
    fails(&bank, &["account", "create", "--name", "A", "--currency", "EURO"], 2);
    let create = ["account", "create", "--name", "A", "--currency", "EUR", "--balance"];
    let words = fails(&bank, &[&create[..], &["1.001"]].concat(), 2);
    assert!(words.contains("--balance") && words.contains("2 decimals"), "{words}");
    assert!(
        fails(&bank, &["card", "add", "--account", "7", "--limit", "1.00"], 3)
            .contains("account 7")
    );
    assert!(fails(&bank, &["card", "block", "0000"], 3).contains("card list"));
    fails(&bank, &["terminal", "block", "0123456789"], 3);
    fails(&bank, &["transaction", "show", "00000000-0000-4000-8000-000000000000"], 3);
    let long = "x".repeat(41);
    let words =
        fails(&bank, &["terminal", "add", "--merchant-id", "a", "--merchant-name", &long], 3);
    assert!(words.contains("--merchant-name") && words.contains("40"), "{words}");
    assert!(fails(&bank, &["serve", "--listen", "192.0.2.1:1"], 6).contains("--listen"));
    let error: Value =
        serde_json::from_str(&fails(&bank, &["terminal", "block", "0123456789", "--json"], 3))
            .unwrap();
    assert_eq!(error["exit_code"], 3);

    let no_directory = Command::new(env!("CARGO_BIN_EXE_florin-acquirer"))
        .args(["account", "list"])
        .output()
        .unwrap();
    assert_eq!(no_directory.status.code(), Some(2));
}

#[test]
fn wrong_books_a_newer_store_and_a_damaged_one_have_their_exit_codes() {
    let directory = tempfile::tempdir().unwrap();
    let bank = directory.path().join("bank");
    init(&bank);
    let create = ["account", "create", "--name", "Alice", "--currency", "EUR", "--balance"];
    json(&bank, &[&create[..], &["1.00"]].concat());
    let text = String::from_utf8(institution(&bank, &["ledger", "check"]).stdout).unwrap();
    assert!(text.contains("1 entry, which sums to zero"), "{text}");
    let path = bank.join("institution.sqlite");
    let store = rusqlite::Connection::open(&path).unwrap();
    store.execute_batch("UPDATE ledger_account SET balance_minor = balance_minor + 1").unwrap();
    let output = institution(&bank, &["ledger", "check"]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("WRONG balance_is_sum_of_postings"), "{text}");
    store.pragma_update(None, "user_version", 99).unwrap();
    assert!(fails(&bank, &["ledger", "check"], 5).contains("newer"));
    drop(store);
    std::fs::write(&path, [7; 4096]).unwrap();
    let words = fails(&bank, &["ledger", "check"], 5);
    assert!(words.contains("institution.sqlite") && words.contains("from a backup"), "{words}");
}

#[test]
fn it_serves_until_it_is_told_to_end_and_commands_run_beside_it() {
    let directory = tempfile::tempdir().unwrap();
    let bank = directory.path().join("bank");
    init(&bank);
    for signal in ["-TERM", "-INT"] {
        let mut server = Command::new(env!("CARGO_BIN_EXE_florin-acquirer"))
            .args(["serve", "--listen", "127.0.0.1:0", "--json"])
            .env("FLORIN_ACQUIRER_DIRECTORY", &bank)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
        let ready: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        assert_eq!(ready["event"], "listening");
        let address = ready["address"].as_str().unwrap().to_owned();
        TcpStream::connect(&address).unwrap();
        let create = ["account", "create", "--name", "Alice", "--currency", "EUR", "--balance"];
        json(&bank, &[&create[..], &["1.00"]].concat());
        assert_eq!(json(&bank, &["ledger", "check"])[0]["balanced"], true);
        let told = Command::new("kill").args([signal, &server.id().to_string()]).status().unwrap();
        assert!(told.success());
        assert_eq!(server.wait().unwrap().code(), Some(0));
        TcpStream::connect(&address).unwrap_err();
    }
}

// ---- What operators do

/// A bank with a terminal and a card with 100.00 EUR behind it.
struct Payments {
    institution: florin::institution::Institution,
    terminal: TerminalId,
    card: CardId,
    card_key: SigningKey,
}

fn now() -> UnixTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    UnixTime { seconds: since.as_secs() }
}

fn euros(text: &str) -> Amount {
    Amount::parse_major(text, "EUR".parse().unwrap()).unwrap()
}

impl Payments {
    fn over(bank: &Path) -> Self {
        let mut institution = open_institution(bank).unwrap().institution;
        let later = UnixTime { seconds: now().seconds + 3_600 };
        let currency = "EUR".parse().unwrap();
        let account =
            institution.create_account("Alice", currency, Some(euros("100.00")), now()).unwrap();
        let card = CardId::from_octets(&[0xab; 16]).unwrap();
        let card_key = SigningKey::from_scalar(&[5; 32]).unwrap();
        let code = EnrolmentCode::from_random([1; 16]);
        let terms = CardTerms { account, payment_limit: euros("50.00"), verification_limit: None };
        institution.add_card(card, terms, &code, later, now()).unwrap();
        let proof = card_enrolment_proof(&card_key, &code.expose_text());
        let public_key = card_key.verifying_key().to_sec1();
        institution.enrol_card(&code.expose_text(), &public_key, &proof, now()).unwrap();
        let terminal = TerminalId::from_random([3; 10]);
        let code = EnrolmentCode::from_random([2; 16]);
        institution.add_terminal(terminal, "kiosk-1", "Corner Kiosk", &code, later, now()).unwrap();
        let keys = institution.keys();
        let keyring = Keyring::verify(keys.keyring(), keys.root_public_key()).unwrap();
        let (channel_key, code) = (ChannelKey::from_octets([4; 32]), code.expose_text());
        let sealing_key = keyring.sealing_key(now()).unwrap();
        let proof = channel_key_proof(channel_key.expose_octets(), &sealing_key, &code).unwrap();
        let claim =
            ChannelKeyClaim { channel_key: channel_key.public_key(), proof: proof.to_vec() };
        institution.enrol_terminal(&code, &claim, &[5; 32], now()).unwrap();
        Self { institution, terminal, card, card_key }
    }

    /// Has a payment approved. Returns its id.
    fn approve(&mut self, number: u8, amount: &str) -> String {
        let request = self.request(number, amount, number.into());
        let approved = self.institution.authorise(&request, now(), [1; 6]).unwrap();
        assert_eq!(approved.state, TransactionState::Approved);
        request.transaction_id.to_string()
    }

    fn request(&self, number: u8, amount: &str, sequence: u64) -> AuthorisationRequest {
        let transaction_id = TransactionId::from_random([number; 16]);
        let offer = Offer::new(OfferParts {
            transaction_id,
            terminal_id: self.terminal,
            merchant_name: "Corner Kiosk".to_owned(),
            amount: euros(amount),
            valid_for_s: 60,
            nonce: [number; 16],
            reference: String::new(),
            items: Vec::new(),
            capture_after_dispense: true,
        });
        let offer = encode_offer(&offer.unwrap());
        let command = CardCommand {
            card_id: self.card,
            offer_digest: digest_offer(&offer),
            counter: number.into(),
            holder_verification: HolderVerification::Consent,
        };
        let keys = self.institution.keys();
        let keyring = Keyring::verify(keys.keyring(), keys.root_public_key()).unwrap();
        let signed = command.sign(&self.card_key).encode();
        let sealing_key = keyring.sealing_key(now()).unwrap();
        let sealed = sealing_key.seal(&signed, &command.offer_digest, [6; 32]).unwrap();
        AuthorisationRequest {
            terminal_id: self.terminal,
            transaction_id,
            offer,
            offer_age_ms: 10,
            sealed_command: sealed.encode(),
            sequence,
        }
    }
}

const REASON: [&str; 4] = ["--reason", "the machine burnt down", "--by", "anna"];

#[test]
fn operators_end_what_a_dead_machine_left_and_it_is_logged() {
    let directory = tempfile::tempdir().unwrap();
    let bank = directory.path().join("bank");
    init(&bank);
    let mut payments = Payments::over(&bank);
    let ids: Vec<_> = (1..=3).map(|number| payments.approve(number, "2.50")).collect();
    let act = |action: &str, id: &str, more: &[&str]| {
        let command = ["transaction", action, id];
        json(&bank, &[&command[..], &REASON, more].concat()).remove(0)
    };
    assert_eq!(json(&bank, &["transaction", "list", "--held"]).len(), 3);
    assert_eq!(act("capture", &ids[0], &[])["state"], "captured");
    assert_eq!(act("reverse", &ids[1], &[])["state"], "reversed");
    let written_off = act("write-off", &ids[2], &[]);
    assert_eq!(written_off["state"], "reversed");
    assert!(written_off["written_off_at_unix_s"].is_u64());
    let refund = act("refund", &ids[0], &["--amount", "1,00"]);
    assert_eq!((&refund["refunded_minor"], &refund["state"]), (&100.into(), &"captured".into()));
    // The same refund again gives nothing back.
    let refund_id = refund["refund"].as_str().unwrap();
    let again = act("refund", &ids[0], &["--amount", "1.00", "--refund-id", refund_id]);
    assert_eq!(again["refunded_minor"], 100);
    let reason = ["--reason", "x", "--by", "anna"];
    let refund = ["transaction", "refund", &ids[0]];
    let words = fails(&bank, &[&refund[..], &reason, &["--amount", "1.51"]].concat(), 3);
    assert!(words.contains("1.50 EUR of it can be given back"), "{words}");
    let words = fails(&bank, &[&refund[..], &reason, &["--amount", "1 CHF"]].concat(), 2);
    assert!(words.contains("--amount"), "{words}");
    let capture = ["transaction", "capture", &ids[1]];
    let words = fails(&bank, &[&capture[..], &reason].concat(), 3);
    assert!(words.contains("is reversed, so it cannot be captured"), "{words}");
    let words = fails(&bank, &[&capture[..], &["--reason", "", "--by", "anna"]].concat(), 3);
    assert!(words.contains("--reason"), "{words}");

    assert_eq!(json(&bank, &["transaction", "list", "--held"]), [] as [Value; 0]);

    let log = json(&bank, &["audit", "list"]);
    let actions: Vec<_> = log.iter().map(|entry| entry["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["capture", "reverse", "write_off", "refund"]);
    assert_eq!((&log[0]["operator"], &log[0]["reason"]), (&"anna".into(), &REASON[1].into()));
    assert_eq!(
        (&log[0]["state_before"], &log[0]["state_after"]),
        (&"approved".into(), &"captured".into())
    );
    assert_eq!(log[3]["refunded_minor_after"], 100);
    assert_eq!(json(&bank, &["audit", "show", &ids[0]]).len(), 2);
    assert_eq!(json(&bank, &["audit", "list", "--limit", "1"]), log[3..]);
    let text = String::from_utf8(institution(&bank, &["audit", "list"]).stdout).unwrap();
    assert!(text.contains("anna") && text.contains("the machine burnt down"), "{text}");
    let report = &json(&bank, &["ledger", "check"])[0];
    assert_eq!(report["balanced"], true, "{report}");
}

#[test]
fn above_the_bound_a_second_person_confirms() {
    let directory = tempfile::tempdir().unwrap();
    let bank = directory.path().join("bank");
    let made = &json(
        &bank,
        &["init", "--name", "Bank", "--host-name", "localhost", "--two-people-above", "1000"],
    )[0];
    assert_eq!(made["two_people_above_minor"], 1_000);
    let mut payments = Payments::over(&bank);
    let (small, large) = (payments.approve(1, "10.00"), payments.approve(2, "10.01"));
    let capture =
        |id: &str| json(&bank, &[&["transaction", "capture", id][..], &REASON].concat()).remove(0);
    assert_eq!(capture(&small)["state"], "captured");
    let pending = capture(&large);
    assert_eq!((&pending["approval"], pending.get("state")), (&1.into(), None));
    assert_eq!(json(&bank, &["transaction", "show", &large])[0]["state"], "approved");
    let waiting = json(&bank, &["approval", "list"]);
    assert_eq!(
        (&waiting[0]["requested_by"], &waiting[0]["state"]),
        (&"anna".into(), &"waiting".into())
    );
    let words = fails(&bank, &["approval", "confirm", "1", "--by", "anna"], 3);
    assert!(words.contains("another person"), "{words}");
    let words = fails(&bank, &["approval", "confirm", "2", "--by", "berta"], 3);
    assert!(words.contains("approval list"), "{words}");
    let confirmed = &json(&bank, &["approval", "confirm", "1", "--by", "berta"])[0];
    assert_eq!(confirmed["state"], "captured");
    assert_eq!(json(&bank, &["approval", "list"]), [] as [Value; 0]);
    assert_eq!(json(&bank, &["approval", "list", "--all"])[0]["state"], "confirmed");
    let log = json(&bank, &["audit", "show", &large]);
    assert_eq!((&log[0]["operator"], &log[0]["approved_by"]), (&"anna".into(), &"berta".into()));
    let refund = [&["transaction", "refund", large.as_str()][..], &REASON].concat();
    assert_eq!(json(&bank, &refund)[0]["approval"], 2);
    json(&bank, &["approval", "refuse", "2", "--by", "berta"]);
    let words = fails(&bank, &["approval", "confirm", "2", "--by", "berta"], 3);
    assert!(words.contains("decided already"), "{words}");
    assert_eq!(json(&bank, &["ledger", "check"])[0]["balanced"], true);
}

/// The octets of a field in hexadecimal.
fn octets(value: &Value) -> Vec<u8> {
    data_encoding::HEXLOWER.decode(value.as_str().unwrap().as_bytes()).unwrap()
}

#[test]
fn evidence_is_printed_for_a_third_party() {
    let directory = tempfile::tempdir().unwrap();
    let bank = directory.path().join("bank");
    init(&bank);
    let mut payments = Payments::over(&bank);
    let id = payments.approve(1, "2.50");
    let evidence = &json(&bank, &["transaction", "evidence", &id])[0];
    assert_eq!(evidence["is_right"], true, "{evidence}");
    // With what is printed alone: the card has signed this offer.
    let command = &evidence["command"];
    let card_key = VerifyingKey::from_sec1(&octets(&evidence["card_public_key_hex"])).unwrap();
    let signature = octets(&command["signature_hex"]).try_into().unwrap();
    let signed = Signed { body: octets(&command["body_hex"]), signature, key_id: None };
    card_key.verify(PayloadType::CardCommand, &signed).unwrap();
    let read = CardCommand::read_unverified(&signed).unwrap();
    assert_eq!(read.offer_digest, digest_offer(&octets(&evidence["offer_hex"])));
    let root = VerifyingKey::from_sec1(&octets(&evidence["root_public_key_hex"])).unwrap();
    let keyring = Signed::decode(&octets(&evidence["keyring_hex"])).unwrap();
    let keyring = Keyring::verify(&keyring, &root).unwrap();
    let receipt = Signed::decode(&octets(&evidence["receipts_hex"][0])).unwrap();
    assert!(keyring.keys.iter().any(|key| Some(key.key_id()) == receipt.key_id));
    // Only the hint of the card is spelt out.
    let text = String::from_utf8(institution(&bank, &["transaction", "evidence", &id]).stdout);
    let text = text.unwrap();
    assert!(text.contains("command is signed by the card"), "{text}");
    assert!(!text.contains(&"ab".repeat(16)), "{text}");
    // Somebody has altered what is kept: first a receipt is another payment's.
    let other = payments.approve(2, "2.50");
    let store = rusqlite::Connection::open(bank.join("institution.sqlite")).unwrap();
    store
        .execute_batch(
            "UPDATE payment_transaction SET authorisation_receipt = \
             (SELECT authorisation_receipt FROM payment_transaction WHERE number = 1) \
             WHERE number = 2",
        )
        .unwrap();
    let output = institution(&bank, &["transaction", "evidence", &other, "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let evidence: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(evidence["checks"]["receipts_name_the_transaction"], false);
    assert_eq!(evidence["checks"]["receipts_are_signed_by_the_institution"], true);
    store.execute_batch("UPDATE payment_transaction SET offer = x'00'").unwrap();
    let output = institution(&bank, &["transaction", "evidence", &id]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("offer is the recorded one") && text.contains("WRONG"), "{text}");
}

#[test]
fn one_store_has_one_server() {
    let directory = tempfile::tempdir().unwrap();
    let bank = directory.path().join("bank");
    init(&bank);
    let serve = || {
        let mut server = Command::new(env!("CARGO_BIN_EXE_florin-acquirer"))
            .args(["serve", "--listen", "127.0.0.1:0", "--json"])
            .env("FLORIN_ACQUIRER_DIRECTORY", &bank)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains("listening"), "{line}");
        server
    };
    let mut first = serve();
    let words = fails(&bank, &["serve", "--listen", "127.0.0.1:0"], 6);
    assert!(words.contains("one store has one server"), "{words}");
    // Other commands run beside it.
    json(&bank, &["account", "list"]);
    // A server that was killed leaves nothing behind that keeps the next from starting.
    first.kill().unwrap();
    first.wait().unwrap();
    let mut second = serve();
    second.kill().unwrap();
    second.wait().unwrap();
}

#[test]
fn an_operator_takes_a_terminal_back_into_service_that_ran_on_two_machines() {
    let directory = tempfile::tempdir().unwrap();
    let bank = directory.path().join("bank");
    init(&bank);
    let mut payments = Payments::over(&bank);
    payments.approve(1, "2.50");
    let copied_at = || json(&bank, &["terminal", "list"])[0]["copied_at_unix_s"].clone();
    let terminal = payments.terminal.to_string();
    let clear = [&["terminal", "clear-copy", &terminal][..], &REASON].concat();
    assert!(fails(&bank, &clear, 3).contains("not known to run on two machines"));
    let copy = payments.request(2, "2.50", 1);
    let refused = payments.institution.authorise(&copy, now(), [1; 6]).unwrap_err();
    assert!(refused.to_string().contains("two machines"), "{refused}");
    assert!(copied_at().is_u64());
    json(&bank, &clear);
    assert_eq!(copied_at(), Value::Null);
    payments.institution.authorise(&copy, now(), [1; 6]).unwrap();
}

#[test]
fn operators_get_private_files_and_can_be_shut_out() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let bank = directory.path().join("bank");
    init(&bank);
    let made = &json(&bank, &["operator", "add", "anna"])[0];
    for (field, end) in [("key", "operators/anna-key.pem"), ("certificate", "operators/anna.pem")] {
        let path = Path::new(made[field].as_str().unwrap());
        assert!(path.ends_with(end), "{}", path.display());
        let mode = path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", path.display());
    }
    let key = std::fs::read(made["key"].as_str().unwrap()).unwrap();
    // A second one is new.
    json(&bank, &["operator", "add", "anna", "--valid-for-days", "1"]);
    assert_ne!(std::fs::read(made["key"].as_str().unwrap()).unwrap(), key);
    assert_eq!(json(&bank, &["operator", "list"]).len(), 1);
    json(&bank, &["operator", "remove", "anna"]);
    assert_eq!(json(&bank, &["operator", "list"])[0]["state"], "removed");
    let words = fails(&bank, &["operator", "remove", "berta"], 3);
    assert!(words.contains("operator list"), "{words}");
    let words = fails(&bank, &["operator", "add", "../anna"], 2);
    assert!(words.contains("lower-case letters"), "{words}");
}

#[test]
fn a_copy_that_is_put_back_is_served_only_after_it_was_adopted() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let (bank, copy) = (directory.path().join("bank"), directory.path().join("copy.sqlite"));
    init(&bank);
    json(&bank, &["store", "backup", copy.to_str().unwrap()]);
    assert_eq!(copy.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let taken = fails(&bank, &["store", "backup", copy.to_str().unwrap()], 4);
    assert!(taken.contains("copy.sqlite"), "{taken}");
    std::fs::remove_file(bank.join("institution.sqlite")).unwrap();
    std::fs::copy(&copy, bank.join("institution.sqlite")).unwrap();
    let serve = ["serve", "--listen", "127.0.0.1:0"];
    let refused = fails(&bank, &serve, 4);
    assert!(refused.contains("`florin-acquirer store adopt --reason REASON`"), "{refused}");

    let adopt = [&["store", "adopt"][..], &REASON].concat();
    let root_key = bank.join("keys/root-key.pem");
    let elsewhere = directory.path().join("root-key.pem");
    std::fs::rename(&root_key, &elsewhere).unwrap();
    let missing = fails(&bank, &adopt, 4);
    assert!(missing.contains("root-key.pem is missing"), "{missing}");
    std::fs::rename(&elsewhere, &root_key).unwrap();
    assert!(
        fails(&bank, &["store", "adopt", "--reason", "", "--by", "anna"], 3).contains("reason")
    );
    json(&bank, &adopt);
    let keys = open_institution(&bank).unwrap().institution;
    let keyring = Keyring::verify(keys.keys().keyring(), keys.keys().root_public_key()).unwrap();
    let sealing: Vec<_> = std::fs::read_dir(bank.join("keys"))
        .unwrap()
        .filter(|file| {
            file.as_ref().unwrap().file_name().to_str().unwrap().starts_with("sealing-key")
        })
        .collect();
    assert_eq!((sealing.len(), keyring.keys.len()), (2, 3), "the old one is in no keyring");
    open_to_serve(&bank).unwrap();
    open_to_serve(&bank).unwrap();
}
