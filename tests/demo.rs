//! `florin demo`, as a newcomer runs it: every scenario, its summary, and what its output must not
//! hold.

#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn demo(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_florin"))
        .arg("demo")
        .args(arguments)
        .env("RUST_LOG", "trace")
        .output()
        .unwrap()
}

fn summary(output: &Output) -> Value {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    lines.last().unwrap().clone()
}

fn plays(scenario: &str, outcome: &str, wallet_outcome: &str, captured: bool, reversed: bool) {
    let output = demo(&["--scenario", scenario, "--json"]);
    let summary = summary(&output);
    assert!(output.status.success(), "{scenario}: {summary}");
    assert_eq!(summary["event"], "summary");
    assert_eq!(summary["outcome"], outcome, "{summary}");
    assert_eq!(summary["wallet_outcome"], wallet_outcome, "{summary}");
    assert_eq!(summary["captured"], captured, "{summary}");
    assert_eq!(summary["reversed"], reversed, "{summary}");
    assert_eq!(summary["ledger_balanced"], true, "{summary}");
    // The acceptance of the protocol: two round trips, and 1,000 octets both ways together. What is
    // reversed takes a second result.
    assert_eq!(summary["round_trips"], 2, "{summary}");
    let octets = summary["octets_to_phone"].as_u64().unwrap()
        + summary["octets_to_terminal"].as_u64().unwrap();
    let octets_max = if reversed { 1_536 } else { 1_000 };
    assert!((500..=octets_max).contains(&octets), "{summary}");
}

#[test]
fn approved_is_captured() {
    plays("approved", "approved", "reserved", true, false);
}

#[test]
fn declined_takes_nothing() {
    plays("declined", "declined", "declined", false, false);
}

#[test]
fn an_offer_altered_by_the_terminal_is_declined() {
    plays("tampered-offer", "declined", "declined", false, false);
}

#[test]
fn a_counter_that_was_used_is_declined() {
    plays("stolen-counter", "declined", "declined", false, false);
}

#[test]
fn goods_that_are_not_released_are_given_back() {
    plays("dispense-failed", "reversed", "reversed", false, true);
}

#[test]
fn an_answer_that_never_arrives_is_reversed() {
    plays("institution-silent", "reversed", "reversed", false, true);
}

#[test]
fn other_amounts_and_currencies_can_be_paid_and_wrong_ones_are_refused() {
    let output = demo(&["--amount", "250", "--currency", "JPY", "--json"]);
    assert_eq!(summary(&output)["outcome"], "approved");
    for arguments in
        [["--amount", "2.505"], ["--amount", "-1"], ["--currency", "XXX"], ["--scenario", "x"]]
    {
        let output = demo(&arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(!output.stderr.is_empty());
    }
}

fn files_below(directory: &Path) -> Vec<std::path::PathBuf> {
    std::fs::read_dir(directory)
        .unwrap()
        .flat_map(|entry| {
            let path = entry.unwrap().path();
            if path.is_dir() { files_below(&path) } else { vec![path] }
        })
        .collect()
}

#[test]
fn it_says_that_files_are_kept_where_they_are_and_only_there() {
    let directory = tempfile::tempdir().unwrap();
    let temporary = directory.path().join("tmp");
    std::fs::create_dir(&temporary).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_florin"))
        .arg("demo")
        .env("TMPDIR", &temporary)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    assert!(!text.contains("kept") && !text.contains("florin-demo-"), "{text}");
    assert_eq!(files_below(&temporary), Vec::<std::path::PathBuf>::new());

    let place = directory.path().join("demo");
    let output = demo(&["--directory", place.to_str().unwrap()]);
    let text = String::from_utf8(output.stdout).unwrap();
    let words = format!("all files are kept in {}", place.display());
    assert!(text.lines().next().unwrap().ends_with(&words), "{text}");
    assert!(place.join("journal.sqlite").exists());
}

#[test]
fn a_demo_that_is_interrupted_leaves_no_files_either() {
    let temporary = tempfile::tempdir().unwrap();
    let mut demo = Command::new(env!("CARGO_BIN_EXE_florin"))
        .args(["demo", "--scenario", "institution-silent"])
        .env("TMPDIR", temporary.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Its first line comes when the parties are set up; the silence lasts for more than a second.
    let mut output = BufReader::new(demo.stdout.take().unwrap());
    output.read_line(&mut String::new()).unwrap();
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 1);
    let id = demo.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    let ended = demo.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&ended.stderr).contains("interrupted"), "{ended:?}");
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0);
}

#[test]
fn no_key_and_no_card_identifier_is_in_any_output_or_log() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("demo");
    let output = demo(&["--directory", place.to_str().unwrap()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let output = [output.stdout, output.stderr].concat();
    let printed = String::from_utf8_lossy(&output);
    assert!(
        printed.contains("TRACE") || printed.contains("DEBUG"),
        "the log is searched at its most talkative"
    );

    let mut secrets = Vec::new();
    for path in files_below(&place) {
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        if text.contains("PRIVATE KEY") {
            secrets
                .extend(text.lines().filter(|line| !line.starts_with("-----")).map(str::to_owned));
        }
        if let Ok(Value::Object(fields)) = serde_json::from_str(&text) {
            secrets.extend(fields.get("card_id").and_then(Value::as_str).map(str::to_owned));
        }
    }
    assert!(secrets.len() >= 10, "only {} secrets were found to search for", secrets.len());
    for secret in &secrets {
        assert!(secret.len() >= 16, "too short to search for: {} characters", secret.len());
        assert!(
            !printed.contains(secret.as_str()),
            "a secret of {} characters was printed",
            secret.len()
        );
    }
}
