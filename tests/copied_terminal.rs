//! Two real terminals with one identity, as from a copied memory card: the institution notices, and
//! stops both until its operator decides.

#![cfg(all(
    feature = "terminal",
    feature = "wallet",
    feature = "institution",
    target_os = "linux"
))]
#![allow(clippy::unwrap_used)]

mod programs;

use std::process::Stdio;

use programs::{Programs, done, wait_for};
use serde_json::Value;

fn wait_in_service(programs: &Programs) -> Value {
    wait_for("the terminal to be in service", || {
        let output = programs.florin(&["status", "--json"]).output().unwrap();
        output.status.success().then(|| serde_json::from_slice::<Value>(&output.stdout).unwrap())
    })
}

fn newest_payment(programs: &Programs) -> Option<Value> {
    let output = done(&mut programs.florin(&["payments", "--json"]));
    let listed: Value = serde_json::from_slice(&output.stdout).unwrap();
    listed["payments"].as_array().unwrap().first().cloned()
}

/// Offers, and has the phone of `wallet` pay. Returns the state in which the payment ends.
fn sell(programs: &Programs, wallet: &Programs) -> String {
    let words = ["pay", "2.50", "EUR", "--json", "--until", "final"];
    let mut till =
        programs.florin(&words).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let air = programs.air_address().to_string();
    let paying = ["pay", "--yes", "--nearest", "--wait-ms", "20000", "--air", &air];
    // Refused or not, the till's side says how it ended.
    let _ = wallet.wallet(&paying).output().unwrap();
    let state = wait_for("the payment to end", || {
        let state = newest_payment(programs)?["state"].as_str()?.to_owned();
        ["captured", "reversed", "declined", "not_charged"]
            .contains(&state.as_str())
            .then_some(state)
    });
    let _ = till.kill();
    let _ = till.wait();
    state
}

#[test]
fn a_copied_terminal_is_noticed_and_both_stop_selling_until_the_operator_decides() {
    let directory = tempfile::tempdir().unwrap();
    let programs = Programs::set_up(&directory.path().join("a"));
    let institution = programs.start_institution(None);
    let original = programs.start_terminal(None);
    wait_in_service(&programs);
    assert_eq!(sell(&programs, &programs), "captured");
    original.stop();
    // The card is copied with all that is on it, the journal too.
    let copy = programs.beside(&directory.path().join("b"));
    let original = programs.start_terminal(None);
    let copied = copy.start_terminal(None);
    let terminal_id = wait_in_service(&programs)["terminal_id"].as_str().unwrap().to_owned();
    wait_in_service(&copy);
    let copied_at = || programs.institution(&["terminal", "list"])["copied_at_unix_s"].clone();
    assert_eq!(sell(&programs, &programs), "captured");
    assert_eq!(copied_at(), Value::Null);
    assert_eq!(sell(&copy, &programs), "reversed", "the copy gives the same number");
    assert!(copied_at().is_u64());
    assert!(institution.log().contains("runs on two machines"), "{}", institution.log());
    assert_eq!(sell(&programs, &programs), "reversed", "both are stopped");
    copied.stop();
    programs.institution(&[
        "terminal",
        "clear-copy",
        &terminal_id,
        "--reason",
        "the copy was destroyed",
        "--by",
        "anna",
    ]);
    assert_eq!(sell(&programs, &programs), "captured");
    original.stop();
    institution.stop();
}
