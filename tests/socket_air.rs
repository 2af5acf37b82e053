//! The real programs over a Unix socket in place of Bluetooth: `florin serve --air`, `florin-wallet
//! --air`, `florin pay`.

#![cfg(all(feature = "terminal", feature = "wallet", feature = "institution", unix))]
#![allow(clippy::unwrap_used)]

mod programs;

use std::process::{Output, Stdio};

use programs::{Programs, done, wait_for};
use serde_json::Value;

fn last_json(output: &Output) -> Value {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    serde_json::from_str(
        text.lines().last().unwrap_or_else(|| panic!("nothing was said: {output:?}")),
    )
    .unwrap()
}

#[test]
fn a_payment_passes_between_the_programs() {
    let directory = tempfile::tempdir().unwrap();
    let programs = Programs::set_up(&directory.path().join("a"));
    let institution = programs.start_institution(None);
    let mut terminal = programs.start_terminal(None);
    let air = programs.air_address().to_string();
    let status = wait_for("the terminal", || {
        let output = programs.florin(&["status", "--json"]).output().unwrap();
        output.status.success().then(|| last_json(&output))
    });
    assert!(terminal.log().contains("no Bluetooth"), "{}", terminal.log());

    let found = last_json(&done(&mut programs.wallet(&["terminals", "--json", "--air", &air])));
    assert_eq!(found["short_code"], status["short_code"], "{found}");

    let till = programs
        .florin(&["pay", "2.50", "EUR", "--json", "--until", "final"])
        .stdout(Stdio::piped())
        .spawn();
    let wallet =
        ["pay", "--yes", "--json", "--air", &air, "--code", status["short_code"].as_str().unwrap()];
    let paid = last_json(&done(&mut programs.wallet(&wallet)));
    assert_eq!(
        (&paid["outcome"], &paid["amount_minor"]),
        (&"approved".into(), &250.into()),
        "{paid}"
    );
    let till = till.unwrap().wait_with_output().unwrap();
    assert!(till.status.success());
    assert_eq!(last_json(&till)["state"], "captured");

    let transaction_id = paid["transaction_id"].as_str().unwrap();
    let ask = |more: &[&str]| {
        let words = [&["result", transaction_id, "--json"], more].concat();
        last_json(&done(&mut programs.wallet(&words)))
    };
    assert_eq!(ask(&["--at-machine", "--air", &air])["receipt_verified"], true);
    assert_eq!(ask(&["--online"])["outcome"], "captured");
    let refreshed = last_json(&done(&mut programs.wallet(&["refresh", "--json"])));
    assert_eq!((&refreshed["counter"], &refreshed["counter_before"]), (&1.into(), &Value::Null));
    let listed = last_json(&done(&mut programs.wallet(&["receipts", "--online", "--json"])));
    assert_eq!((&listed["standing"], &listed["merchant"]), (&"paid".into(), &paid["merchant"]));
    let shown = last_json(&done(&mut programs.wallet(&["receipts", "--json"])));
    assert_eq!((&shown["standing"], &shown["receipt_verified"]), (&"paid".into(), &true.into()));
    // The institution is gone: the machine is asked.
    institution.stop();
    let asked = ask(&["--air", &air]);
    assert_eq!(
        (&asked["transaction_id"], &asked["exit_code"]),
        (&transaction_id.into(), &0.into())
    );
    let institution = programs.start_institution(None);
    let at_bank = programs.institution(&["transaction", "show", transaction_id]);
    assert_eq!((&at_bank["state"], &at_bank["amount_minor"]), (&"captured".into(), &250.into()));

    // A machine with another code is not there.
    let other = ["terminals", "--scan-ms", "300", "--json", "--air", "unix:/nowhere/air.sock"];
    assert!(done(&mut programs.wallet(&other)).stdout.is_empty());
    let other = ["pay", "--yes", "--wait-ms", "300", "--json", "--air", &air, "--code", "0000"];
    let missing = programs.wallet(&other).output().unwrap();
    assert_eq!(missing.status.code(), Some(7), "{missing:?}");
    terminal.ask_to_stop();
    assert!(terminal.wait().success());
    assert!(!programs.air_address().path().exists(), "the socket is left behind");
    institution.stop();
}

#[test]
fn to_be_near_a_machine_is_no_consent_to_pay_it() {
    let directory = tempfile::tempdir().unwrap();
    let programs = Programs::set_up(&directory.path().join("a"));
    let unasked = programs.wallet(&["pay", "--yes", "--nearest", "--json"]).output().unwrap();
    assert_eq!(unasked.status.code(), Some(2), "{unasked:?}");
    assert!(last_json(&unasked)["error"].as_str().unwrap().contains("no consent"), "{unasked:?}");
}

#[test]
fn the_phone_that_stays_is_told_what_became_of_a_reserved_amount() {
    let directory = tempfile::tempdir().unwrap();
    let programs = Programs::set_up(&directory.path().join("a"));
    let institution = programs.start_institution(None);
    let terminal = programs.start_terminal(None);
    let air = programs.air_address().to_string();
    wait_for("the terminal", || {
        programs.florin(&["status"]).output().unwrap().status.success().then_some(())
    });
    for (dispensed, outcome, exit_code, standing) in
        [("true", "captured", 0, "paid"), ("false", "reversed", 6, "given_back")]
    {
        let words = ["pay", "2.50", "EUR", "--after-dispense", "--dispensed", dispensed];
        let mut till = programs.florin(&words);
        let till = till.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let words = ["pay", "--yes", "--nearest", "--json", "--air", &air];
        let paid = programs.wallet(&words).output().unwrap();
        assert_eq!(paid.status.code(), Some(exit_code), "{paid:?}");
        let text = String::from_utf8_lossy(&paid.stdout);
        assert!(text.contains(r#""event":"reserved""#), "{text}");
        let end = last_json(&paid);
        assert_eq!((&end["outcome"], &end["receipt_verified"]), (&outcome.into(), &true.into()));
        till.unwrap().wait().unwrap();
        let shown = last_json(&done(&mut programs.wallet(&["receipts", "--json"])));
        assert_eq!(shown["standing"], standing, "{shown}");
    }
    terminal.stop();
    institution.stop();
}
