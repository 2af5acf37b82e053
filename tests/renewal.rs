//! Certificates that are renewed beside the real terminal: no phone, no payment and no sticker
//! notices.

#![cfg(all(
    feature = "terminal",
    feature = "wallet",
    feature = "institution",
    target_os = "linux"
))]
#![allow(clippy::unwrap_used)]

mod programs;

use std::fs;
use std::process::{Child, Stdio};

use programs::wall_clock::WallClock;
use programs::{Programs, done, wait_for};
use serde_json::Value;

/// So long after the enrolment less than a third of three years is left.
const DUE_S: i64 = 25 * 30 * 86_400;

fn status(programs: &Programs) -> Value {
    wait_for("the terminal to be in service", || {
        let output = programs.florin(&["status", "--json"]).output().unwrap();
        output.status.success().then(|| serde_json::from_slice::<Value>(&output.stdout).unwrap())
    })
}

fn payments(programs: &Programs, words: &[&str]) -> Vec<Value> {
    let output = done(&mut programs.florin(&[&["payments", "--json"], words].concat()));
    let listed: Value = serde_json::from_slice(&output.stdout).unwrap();
    listed["payments"].as_array().unwrap().clone()
}

fn offer(programs: &Programs) -> Child {
    let words = ["pay", "2.50", "EUR", "--json", "--after-dispense", "--until", "final"];
    programs.florin(&words).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Offers and has a phone pay. Returns the id of the approved payment, which the till has left.
fn approved(programs: &Programs, clock: &WallClock) -> String {
    let mut till = offer(programs);
    let air = programs.air_address().to_string();
    let mut paying =
        programs.wallet(&["pay", "--yes", "--nearest", "--wait-ms", "20000", "--air", &air]);
    clock.put_under(&mut paying);
    done(&mut paying);
    let transaction_id = wait_for("the approval", || {
        let open = payments(programs, &["--open"]);
        let payment = open.iter().find(|payment| payment["state"] == "approved")?;
        Some(payment["transaction_id"].as_str().unwrap().to_owned())
    });
    let _ = till.kill();
    let _ = till.wait();
    transaction_id
}

fn settle(programs: &Programs, transaction_id: &str) {
    done(&mut programs.florin(&["complete", transaction_id, "--dispensed", "true"]));
    wait_for("the capture", || payments(programs, &["--open"]).is_empty().then_some(()));
}

fn enrolment(programs: &Programs) -> String {
    fs::read_to_string(programs.state().join("enrolment.toml")).unwrap()
}

#[test]
fn the_running_service_renews_by_itself_and_its_stickers_stay_good() {
    let directory = tempfile::tempdir().unwrap();
    let programs = Programs::set_up(&directory.path().join("a"));
    let clock = WallClock::new(&directory.path().join("clock"));
    clock.set_off_s(DUE_S);
    let before = enrolment(&programs);
    let _institution = programs.start_institution_by(&clock);
    let terminal = programs.start_terminal_by(&clock);
    let sticker = status(&programs)["engagement_link"].clone();
    wait_for("the renewal", || (enrolment(&programs) != before).then_some(()));
    wait_for("the service to go on", || {
        terminal.log().contains("goes on with the renewed enrolment").then_some(())
    });
    // The new client certificate is used, and the old one is void from then on.
    let transaction_id = approved(&programs, &clock);
    settle(&programs, &transaction_id);
    assert_eq!(status(&programs)["engagement_link"], sticker);
    terminal.stop();
    let renewed = enrolment(&programs);
    fs::write(programs.state().join("enrolment.toml"), before).unwrap();
    let mut doctor = programs.florin_doctor();
    clock.put_under(&mut doctor);
    let refused = String::from_utf8(doctor.output().unwrap().stdout).unwrap();
    assert!(refused.contains("was replaced"), "{refused}");
    fs::write(programs.state().join("enrolment.toml"), renewed).unwrap();
}

#[test]
fn a_terminal_that_is_enrolled_anew_beside_its_service_goes_on_with_what_is_open() {
    let directory = tempfile::tempdir().unwrap();
    let programs = Programs::set_up(&directory.path().join("a"));
    let clock = WallClock::new(&directory.path().join("clock"));
    let _institution = programs.start_institution(None);
    let terminal = programs.start_terminal(None);
    let before = status(&programs);
    let transaction_id = approved(&programs, &clock);
    let terminal_id = before["terminal_id"].as_str().unwrap();
    let code = programs.institution(&["terminal", "code", terminal_id]);
    let code = code["code"].as_str().unwrap();
    let replacing = |code: &str| {
        let mut command = programs.enrol_terminal(&programs.state(), code);
        command.arg("--replace");
        command
    };
    done(&mut replacing(code));
    wait_for("the service to take it over", || {
        terminal.log().contains("goes on with the renewed enrolment").then_some(())
    });
    settle(&programs, &transaction_id);
    let second = approved(&programs, &clock);
    settle(&programs, &second);
    assert_eq!(status(&programs)["engagement_link"], before["engagement_link"]);

    // A new channel key is only for who asks for it, and is told what it costs.
    let code = programs.institution(&["terminal", "code", terminal_id]);
    let told = done(replacing(code["code"].as_str().unwrap()).arg("--new-channel-key"));
    let words = String::from_utf8(told.stderr).unwrap();
    assert!(words.contains("take every sticker of before off the machine"), "{words}");
    wait_for("the service to say that it goes on", || {
        terminal.log().contains("restart the service to take it over").then_some(())
    });
    terminal.stop();
    let terminal = programs.start_terminal(None);
    assert_ne!(status(&programs)["engagement_link"], before["engagement_link"]);
    terminal.stop();
}
