//! The real programs over a Unix socket in place of Bluetooth: `florin serve --air`, `florin-wallet
//! --air`, `florin pay`.

#![cfg(all(feature = "terminal", feature = "wallet", feature = "institution", unix))]
#![allow(clippy::unwrap_used)]

mod programs;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

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
        .stdout(std::process::Stdio::piped())
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
    let asked = last_json(&done(&mut programs.wallet(&[
        "result",
        transaction_id,
        "--json",
        "--air",
        &air,
    ])));
    assert_eq!(asked["outcome"], "approved", "{asked}");
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

/// A phone that connects, says nothing, and comes back at once whenever it is disconnected.
fn sit_there(air: PathBuf, is_over: Arc<AtomicBool>) {
    while !is_over.load(Ordering::Relaxed) {
        let Ok(mut stream) = UnixStream::connect(&air) else { break };
        let _ = stream.set_read_timeout(Some(std::time::Duration::from_millis(500)));
        // Its first frame: the MTU.
        let _ = stream.write_all(&[0, 2, 0, 23]);
        let mut octets = [0; 64];
        loop {
            match stream.read(&mut octets) {
                Ok(0) => break,
                Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => break,
                Ok(_) | Err(_) if is_over.load(Ordering::Relaxed) => break,
                Ok(_) | Err(_) => {}
            }
        }
    }
}

#[test]
fn six_wallets_pay_beside_seven_silent_phones_that_come_back() {
    let directory = tempfile::tempdir().unwrap();
    let programs = Programs::set_up(&directory.path().join("a"));
    let institution = programs.start_institution(None);
    let mut terminal = programs.start_terminal(None);
    let air = programs.air_address();
    wait_for("the terminal", || {
        programs.florin(&["status"]).output().unwrap().status.success().then_some(())
    });
    let is_over = Arc::new(AtomicBool::new(false));
    let silent: Vec<_> = (0..7)
        .map(|_| {
            let (path, is_over) = (air.path().to_owned(), Arc::clone(&is_over));
            thread::spawn(move || sit_there(path, is_over))
        })
        .collect();
    for _ in 0..6 {
        let till = programs
            .florin(&["pay", "2.50", "EUR", "--json", "--until", "final"])
            .stdout(std::process::Stdio::piped())
            .spawn();
        let wallet = ["pay", "--yes", "--nearest", "--json", "--air", &air.to_string()];
        let paid = last_json(&done(&mut programs.wallet(&wallet)));
        assert_eq!(paid["outcome"], "approved", "{paid}");
        let till = till.unwrap().wait_with_output().unwrap();
        assert_eq!(last_json(&till)["state"], "captured");
    }
    is_over.store(true, Ordering::Relaxed);
    for phone in silent {
        phone.join().unwrap();
    }
    terminal.ask_to_stop();
    assert!(terminal.wait().success());
    institution.stop();
}
