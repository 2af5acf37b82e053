//! `florin-acquirer` as an operator and a script see it: output, JSON, exit codes, and commands
//! beside a running server.

#![cfg(all(feature = "institution", unix))]
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Output, Stdio};

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
