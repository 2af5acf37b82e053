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
    let account = &json(
        &bank,
        &["account", "create", "--name", "Alice", "--currency", "EUR", "--balance", "100.00"],
    )[0];
    assert_eq!((&account["account"], &account["available_minor"]), (&1.into(), &10_000.into()));
    json(&bank, &["account", "create", "--name", "Bob", "--currency", "JPY"]);
    let accounts = json(&bank, &["account", "list"]);
    assert_eq!(accounts.len(), 2);
    assert_eq!(accounts[1]["available_minor"], 0);

    let card = &json(&bank, &["card", "add", "--account", "1", "--limit", "50.00"])[0];
    assert_eq!(card["payment_limit_minor"], 5_000);
    let code = card["code"].as_str().unwrap();
    assert_eq!(code.len(), 19);
    let hint = card["card_hint"].as_str().unwrap();
    json(&bank, &["card", "block", hint]);
    let cards = json(&bank, &["card", "list"]);
    assert_eq!(cards[0]["state"], "blocked");
    assert!(cards[0].get("card").is_none(), "the whole id is shown only when asked for");
    let full = json(&bank, &["card", "list", "--full"])[0]["card"].as_str().unwrap().to_owned();
    json(&bank, &["card", "unblock", &full]);
    assert_eq!(json(&bank, &["card", "list"])[0]["state"], "pending");

    let terminal = &json(
        &bank,
        &["terminal", "add", "--merchant-id", "kiosk-1", "--merchant-name", "Corner Kiosk"],
    )[0];
    let id = terminal["terminal"].as_str().unwrap();
    assert!(id.ends_with(terminal["short_code"].as_str().unwrap()));
    let renewed = &json(&bank, &["terminal", "code", id, "--valid-for-hours", "1"])[0];
    assert_ne!(renewed["code"], terminal["code"]);
    json(&bank, &["terminal", "block", id]);
    assert_eq!(json(&bank, &["terminal", "list"])[0]["state"], "blocked");
    json(&bank, &["terminal", "unblock", id]);

    assert_eq!(json(&bank, &["transaction", "list"]), [] as [Value; 0]);
    let report = &json(&bank, &["ledger", "check"])[0];
    assert_eq!((&report["balanced"], &report["entries"]), (&true.into(), &1.into()));
    assert_eq!(json(&bank, &["ledger", "show"])[0]["kind"], "funding");
    // No code and no whole card id is in any list.
    for list in [["card", "list"], ["terminal", "list"], ["ledger", "show"]] {
        let text = String::from_utf8(institution(&bank, &list).stdout).unwrap();
        assert!(!text.contains(code) && !text.contains(&full), "{text}");
    }
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
    let words = fails(
        &bank,
        &["account", "create", "--name", "A", "--currency", "EUR", "--balance", "1.001"],
        2,
    );
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
    assert!(words.contains("merchant_name") && words.contains("40"), "{words}");
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

    // Wrong books, and a store of a newer version.
    json(
        &bank,
        &["account", "create", "--name", "Alice", "--currency", "EUR", "--balance", "1.00"],
    );
    let store = rusqlite::Connection::open(bank.join("institution.sqlite")).unwrap();
    store.execute_batch("UPDATE ledger_account SET balance_minor = balance_minor + 1").unwrap();
    let output = institution(&bank, &["ledger", "check"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stdout).unwrap().contains("WRONG balance_is_sum_of_postings"));
    store.pragma_update(None, "user_version", 99).unwrap();
    assert!(fails(&bank, &["ledger", "check"], 5).contains("newer"));
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
        json(
            &bank,
            &["account", "create", "--name", "Alice", "--currency", "EUR", "--balance", "1.00"],
        );
        assert_eq!(json(&bank, &["ledger", "check"])[0]["balanced"], true);
        let told = Command::new("kill").args([signal, &server.id().to_string()]).status().unwrap();
        assert!(told.success());
        assert_eq!(server.wait().unwrap().code(), Some(0));
        TcpStream::connect(&address).unwrap_err();
    }
}
