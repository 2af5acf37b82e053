//! The real terminal by a wall clock that is years off, as a Raspberry Pi's may be until the
//! network has set it.

#![cfg(all(
    feature = "terminal",
    feature = "wallet",
    feature = "institution",
    target_os = "linux"
))]
#![allow(clippy::unwrap_used)]

mod programs;

use std::process::Stdio;

use programs::wall_clock::WallClock;
use programs::{Programs, done, wait_for};
use serde_json::Value;

const YEARS_S: i64 = 20 * 365 * 86_400;

fn status(programs: &Programs) -> Option<Value> {
    // Out of service is exit code 1, and said in words too.
    let output = programs.florin(&["status", "--json"]).output().unwrap();
    serde_json::from_slice(output.stdout.split(|octet| *octet == b'\n').next()?).ok()
}

fn wait_in_service(programs: &Programs) {
    wait_for("the terminal to be in service", || {
        status(programs).filter(|status| status["in_service"] == true)
    });
}

fn open_payments(programs: &Programs) -> Vec<Value> {
    let output = done(&mut programs.florin(&["payments", "--open", "--json"]));
    let listed: Value = serde_json::from_slice(&output.stdout).unwrap();
    listed["payments"].as_array().unwrap().clone()
}

/// Offers, and has a phone pay. The till is left alone with an approval.
fn approved(programs: &Programs) -> String {
    let words = ["pay", "2.50", "EUR", "--json", "--after-dispense", "--until", "final"];
    let mut till =
        programs.florin(&words).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let air = programs.air_address().to_string();
    let paying = ["--yes", "--nearest", "--stay-ms", "0", "--wait-ms", "20000", "--air", &air];
    done(&mut programs.wallet(&[&["pay"], &paying[..]].concat()));
    let transaction_id = wait_for("the approval", || {
        let payment = open_payments(programs).first()?.clone();
        (payment["state"] == "approved")
            .then(|| payment["transaction_id"].as_str().unwrap().to_owned())
    });
    let _ = till.kill();
    let _ = till.wait();
    transaction_id
}

#[test]
fn a_clock_that_is_years_off_takes_it_out_of_service_until_it_is_right_and_loses_nothing() {
    for (off_s, words) in [(-YEARS_S, "before this program was built"), (YEARS_S, "expired at")] {
        let directory = tempfile::tempdir().unwrap();
        let programs = Programs::set_up(&directory.path().join("a"));
        let _institution = programs.start_institution(None);
        let clock = WallClock::new(&directory.path().join("clock"));
        let terminal = programs.start_terminal_by(&clock);
        wait_in_service(&programs);
        let transaction_id = approved(&programs);
        terminal.stop();

        clock.set_off_s(off_s);
        let mut terminal = programs.start_terminal_by(&clock);
        let said = wait_for("the terminal to be out of service", || {
            let status = status(&programs)?;
            (status["in_service"] == false && status["reason"].as_str()?.contains(words))
                .then_some(status)
        });
        assert_eq!(said["open_payments"], 1, "{said}");
        let refused =
            programs.florin(&["pay", "2.50", "EUR", "--idempotency-key", "k"]).output().unwrap();
        assert_eq!(refused.status.code(), Some(9), "{refused:?}");
        // What is open goes on, as far as it comes: the institution's certificate cannot be good
        // either.
        let complete = ["complete", &transaction_id, "--dispensed", "true"];
        let completing = programs.florin(&complete).stderr(Stdio::null()).spawn().unwrap();
        wait_for("the capture to be tried", || {
            (open_payments(&programs).first()?["state"] == "capturing").then_some(())
        });
        assert!(terminal.ended().is_none(), "{}", terminal.log());

        clock.set_off_s(0);
        wait_in_service(&programs);
        wait_for("the capture", || open_payments(&programs).is_empty().then_some(()));
        assert!(completing.wait_with_output().unwrap().status.success());
        let another = approved(&programs);

        // And where it jumps while all is well.
        clock.set_off_s(off_s);
        wait_for("the terminal to be out of service", || {
            status(&programs).filter(|status| status["in_service"] == false)
        });
        clock.set_off_s(0);
        wait_in_service(&programs);
        done(&mut programs.florin(&["complete", &another, "--dispensed", "true"]));
        assert!(terminal.log().contains(words), "{}", terminal.log());
        terminal.stop();
    }
}
