//! The real terminal that is to become another one while payments are open: it does not, for only
//! who began them can settle them.

#![cfg(all(
    feature = "terminal",
    feature = "wallet",
    feature = "institution",
    target_os = "linux"
))]
#![allow(clippy::unwrap_used)]

mod programs;

use std::fs;
use std::process::Stdio;

use programs::{Programs, done, wait_for};
use serde_json::Value;

fn payments(programs: &Programs, words: &[&str]) -> Vec<Value> {
    // Out of service and not yet listening are waited for.
    let output = wait_for("the payments", || {
        Some(programs.florin(&[&["payments", "--json"], words].concat()).output().unwrap())
            .filter(|output| output.status.success())
    });
    let listed: Value = serde_json::from_slice(&output.stdout).unwrap();
    listed["payments"].as_array().unwrap().clone()
}

/// The till never says what became of the goods, so the wallet need not wait for it.
fn pay_and_leave(programs: &Programs, air: &str) {
    let words = ["--yes", "--nearest", "--stay-ms", "0", "--wait-ms", "20000", "--air", air];
    done(&mut programs.wallet(&[&["pay"], &words[..]].concat()));
}

#[test]
fn open_payments_stay_with_the_terminal_that_began_them() {
    let directory = tempfile::tempdir().unwrap();
    let programs = Programs::set_up(&directory.path().join("a"));
    let _institution = programs.start_institution(None);
    let terminal = programs.start_terminal(None);
    let status = wait_for("the terminal to be in service", || {
        let output = programs.florin(&["status", "--json"]).output().unwrap();
        output.status.success().then(|| serde_json::from_slice::<Value>(&output.stdout).unwrap())
    });
    let terminal_id = status["terminal_id"].as_str().unwrap();
    let words = ["pay", "2.50", "EUR", "--json", "--after-dispense", "--until", "final"];
    let mut till =
        programs.florin(&words).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let air = programs.air_address().to_string();
    pay_and_leave(&programs, &air);
    let payment = wait_for("the approval", || {
        payments(&programs, &["--open"]).into_iter().find(|payment| payment["state"] == "approved")
    });
    let transaction_id = payment["transaction_id"].as_str().unwrap().to_owned();
    let _ = till.kill();
    let _ = till.wait();
    terminal.stop();

    // As another terminal: refused, and nothing is replaced.
    let machine = ["--merchant-id", "kiosk-2", "--merchant-name", "Other Kiosk"];
    let other = programs.institution(&[&["terminal", "add"], &machine[..]].concat());
    let code = other["code"].as_str().unwrap();
    let enrolment = programs.state().join("enrolment.toml");
    let ours = fs::read(&enrolment).unwrap();
    let refused =
        programs.enrol_terminal(&programs.state(), code).arg("--replace").output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(21) && said.contains("1 payment is open"), "{refused:?}");
    assert_eq!(fs::read(&enrolment).unwrap(), ours);

    // Where somebody put its enrolment there by hand, the service does not start over it.
    let elsewhere = directory.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::set_permissions(&elsewhere, fs::metadata(programs.state()).unwrap().permissions()).unwrap();
    let pending = programs.state().join("enrolment-pending.toml");
    fs::copy(&pending, elsewhere.join("enrolment-pending.toml")).unwrap();
    done(&mut programs.enrol_terminal(&elsewhere, code));
    fs::copy(elsewhere.join("enrolment.toml"), &enrolment).unwrap();
    let mut terminal = programs.start_terminal(None);
    assert_eq!(terminal.wait().code(), Some(21), "{}", terminal.log());
    assert!(terminal.log().contains("cannot settle them"), "{}", terminal.log());
    fs::write(&enrolment, ours).unwrap();

    // As the same terminal, with new keys: taken, and it settles what it began.
    fs::remove_file(&pending).unwrap();
    let again = programs.institution(&["terminal", "code", terminal_id]);
    done(
        programs
            .enrol_terminal(&programs.state(), again["code"].as_str().unwrap())
            .arg("--replace"),
    );
    let terminal = programs.start_terminal(None);
    payments(&programs, &[]);
    done(&mut programs.florin(&["complete", &transaction_id, "--dispensed", "true"]));
    wait_for("the capture", || payments(&programs, &["--open"]).is_empty().then_some(()));
    terminal.stop();

    // With nothing open it may become whoever it likes.
    let other = programs.institution(&[&["terminal", "add"], &machine[..]].concat());
    done(
        programs
            .enrol_terminal(&programs.state(), other["code"].as_str().unwrap())
            .arg("--replace"),
    );
}

#[test]
fn a_root_certificate_that_cannot_be_read_is_named_with_what_was_expected() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("root.pem");
    let refused = std::process::Command::new(env!("CARGO_BIN_EXE_florin"))
        .args(["enrol", "--institution", "https://localhost", "ABCD-EFGH", "--root"])
        .arg(&root)
        .arg("--state-directory")
        .arg(directory.path().join("state"))
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    let said = String::from_utf8_lossy(&refused.stderr);
    let words = format!("cannot read the root certificate {}", root.display());
    assert!(said.contains(&words) && said.contains("expected the institution's"), "{said}");
    assert!(!said.contains("os error"), "{said}");
}
