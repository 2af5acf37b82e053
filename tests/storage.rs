//! The real terminal on a disk that fails: it goes out of service with its reason, loses nothing,
//! and is back by itself once the disk is well. And its journal against the institution's books.

#![cfg(all(
    feature = "terminal",
    feature = "wallet",
    feature = "institution",
    target_os = "linux"
))]
#![allow(clippy::unwrap_used)]

mod programs;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use florin::link::AirAddress;
use programs::storage_fault::{FaultKind, StorageFault};
use programs::{Programs, Running, done, wait_for};
use rusqlite::Connection;
use serde_json::Value;

struct Bench {
    _directory: tempfile::TempDir,
    programs: Programs,
    _institution: Running,
    /// While this file is there, the disk under the journal fails.
    switch: PathBuf,
}

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let programs = Programs::set_up(&directory.path().join("a"));
        let institution = programs.start_institution(None);
        let switch = directory.path().join("the-disk-fails");
        Self { programs, _institution: institution, switch, _directory: directory }
    }

    fn start_terminal(&self, kind: FaultKind, calls: Option<&'static str>) -> Running {
        let fault = StorageFault::new(&self.programs.state(), kind, 1).only_while(&self.switch);
        let fault = if let Some(calls) = calls { fault.calls(calls) } else { fault };
        let terminal = self.programs.start_terminal(Some(&fault));
        self.wait_in_service();
        terminal
    }

    fn status(&self) -> Option<Value> {
        // Out of service is exit code 1, and said in words too.
        let output = self.programs.florin(&["status", "--json"]).output().unwrap();
        serde_json::from_slice(output.stdout.split(|octet| *octet == b'\n').next()?).ok()
    }

    fn wait_in_service(&self) {
        wait_for("the terminal to be in service", || {
            self.status().filter(|status| status["in_service"] == true)
        });
    }

    /// A payment that is approved, and whose till is gone before it has said what became of the
    /// goods: its id.
    fn approved_and_left_alone(&self) -> String {
        let mut till = self.offer(&["--after-dispense"]);
        assert_eq!(self.phone_pays()["outcome"], "reserved");
        let transaction_id = wait_for("the approval", || {
            let listed = last_json(
                &self.programs.florin(&["payments", "--open", "--json"]).output().unwrap(),
            );
            let payment = listed["payments"].get(0)?.clone();
            (payment["state"] == "approved")
                .then(|| payment["transaction_id"].as_str().unwrap().to_owned())
        });
        let _ = till.kill();
        let _ = till.wait();
        transaction_id
    }

    fn wait_out_of_service(&self, reason: &str) -> Value {
        wait_for("the terminal to be out of service", || {
            let status = self.status()?;
            (status["in_service"] == false && status["reason"].as_str()?.contains(reason))
                .then_some(status)
        })
    }

    fn air(&self) -> AirAddress {
        self.programs.air_address()
    }

    fn offer(&self, words: &[&str]) -> std::process::Child {
        let pay = ["pay", "2.50", "EUR", "--json", "--until", "final"];
        self.programs
            .florin(&[&pay, words].concat())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    fn phone_pays(&self) -> Value {
        let air = self.air().to_string();
        let words = ["--yes", "--nearest", "--stay-ms", "0", "--wait-ms", "20000", "--air", &air];
        let words = [&["pay", "--json"], &words[..]].concat();
        last_json(&self.programs.wallet(&words).output().unwrap())
    }

    /// One whole payment.
    fn sell(&self) {
        let till = self.offer(&[]);
        assert_eq!(self.phone_pays()["outcome"], "approved");
        let ended = till.wait_with_output().unwrap();
        assert_eq!(last_json(&ended)["state"], "captured");
    }

    fn reconcile(&self) -> (Value, Option<i32>) {
        let output =
            self.programs.florin_with_configuration(&["reconcile", "--json"]).output().unwrap();
        (last_json(&output), output.status.code())
    }

    fn assert_reconciled(&self, captured: u64) {
        let (said, code) = self.reconcile();
        assert_eq!((code, &said["agrees"]), (Some(0), &true.into()), "{said}");
        let is_captured = |total: &&Value| total["state"] == "captured";
        let total = said["totals"].as_array().unwrap().iter().find(is_captured).unwrap().clone();
        for side in ["journal", "institution"] {
            assert_eq!(total[format!("{side}_count")], captured, "{said}");
            assert_eq!(total[format!("{side}_amount_minor")], 250 * captured, "{said}");
        }
    }
}

fn last_json(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(
        text.lines().last().unwrap_or_else(|| panic!("nothing was said: {output:?}")),
    )
    .unwrap()
}

/// The till is refused with the reason; phones are turned away; and all is well again when the disk
/// is.
fn goes_and_comes_back(kind: FaultKind, calls: Option<&'static str>, reason: &str) {
    let bench = Bench::new();
    let mut terminal = bench.start_terminal(kind, calls);
    bench.sell();
    fs::write(&bench.switch, "").unwrap();
    // The fault is noticed at the next record: this offer's.
    let refused = bench.offer(&[]).wait_with_output().unwrap();
    assert_ne!(refused.status.code(), Some(0));
    bench.wait_out_of_service(reason);
    let refused =
        bench.programs.florin(&["pay", "2.50", "EUR", "--idempotency-key", "k"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(9), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains(reason), "{refused:?}");
    let metrics = done(&mut bench.programs.florin(&["metrics"]));
    assert!(String::from_utf8_lossy(&metrics.stdout).contains("florin_journal_up 0\n"));
    let air = bench.air().to_string();
    let words = ["pay", "--yes", "--nearest", "--json", "--wait-ms", "1000", "--air", &air];
    let turned_away = bench.programs.wallet(&words).output().unwrap();
    assert!(!turned_away.status.success(), "{turned_away:?}");
    assert!(terminal.ended().is_none(), "the service goes on");
    fs::remove_file(&bench.switch).unwrap();
    bench.wait_in_service();
    bench.sell();
    let log = terminal.log();
    assert!(log.contains("out of service") && log.contains(reason), "{log}");
    bench.assert_reconciled(2);
    terminal.stop();
}

#[test]
fn a_full_disk_takes_it_out_of_service_until_there_is_room() {
    goes_and_comes_back(FaultKind::NoSpace, None, "the disk is full; free some space");
}

#[test]
fn a_read_only_disk_takes_it_out_of_service_until_it_is_writable() {
    goes_and_comes_back(FaultKind::ReadOnly, None, "the file system is read-only");
}

#[test]
fn writes_that_fail_take_it_out_of_service_until_the_journal_is_written_anew() {
    goes_and_comes_back(FaultKind::InputOutput, None, "the disk does not read or write");
}

#[test]
fn syncs_that_fail_take_it_out_of_service_until_the_journal_is_written_anew() {
    goes_and_comes_back(FaultKind::InputOutput, Some("fsync"), "the disk does not read or write");
}

/// A sync fails; then the disk is too full to write the journal anew; then it is well. The failed
/// sync is not forgotten over the full disk, nor over a restart of the process.
#[test]
fn a_failed_sync_is_remembered_until_the_journal_was_written_anew() {
    for is_restarted in [false, true] {
        let bench = Bench::new();
        let terminal = bench.start_terminal(FaultKind::InputOutput, None);
        bench.sell();
        let old = file_number(&bench.programs.journal());
        fs::write(&bench.switch, "eio fsync").unwrap();
        assert_ne!(bench.offer(&[]).wait_with_output().unwrap().status.code(), Some(0));
        bench.wait_out_of_service("the disk does not read or write");
        fs::write(&bench.switch, "enospc write").unwrap();
        bench.wait_out_of_service("the disk is full; free some space");
        assert!(!bench.programs.state().join("journal.sqlite.rewriting").exists(), "it takes room");
        let marker = bench.programs.state().join("journal.sqlite.recovery");
        assert_eq!(fs::read_to_string(&marker).unwrap(), "rewrite");
        let terminal = if is_restarted {
            drop(terminal);
            fs::remove_file(&bench.switch).unwrap();
            bench.start_terminal(FaultKind::None, None)
        } else {
            fs::remove_file(&bench.switch).unwrap();
            bench.wait_in_service();
            terminal
        };
        assert_ne!(file_number(&bench.programs.journal()), old, "it was written anew");
        assert!(!marker.exists());
        bench.sell();
        bench.assert_reconciled(2);
        terminal.stop();
    }
}

fn file_number(path: &Path) -> u64 {
    fs::metadata(path).unwrap().ino()
}

/// The disk fails between the approval and the till's word: the payment is settled when it is well
/// again.
#[test]
fn a_payment_that_was_under_way_when_the_disk_failed_is_settled_afterwards() {
    let bench = Bench::new();
    let terminal = bench.start_terminal(FaultKind::InputOutput, None);
    bench.sell();
    let transaction_id = bench.approved_and_left_alone();
    fs::write(&bench.switch, "").unwrap();
    let complete = ["complete", &transaction_id, "--dispensed", "true"];
    let lost = bench.programs.florin(&complete).output().unwrap();
    assert!(!lost.status.success(), "its record could not be written: {lost:?}");
    let status = bench.wait_out_of_service("the disk does not read or write");
    assert_eq!(status["open_payments"], 1, "it is still known: {status}");
    let age = |status: &Value| status["oldest_open_s"].as_u64().unwrap();
    wait_for("it to grow older", || (age(&bench.status()?) > age(&status)).then_some(()));
    let metrics = done(&mut bench.programs.florin(&["metrics"]));
    let metrics = String::from_utf8_lossy(&metrics.stdout).into_owned();
    assert!(metrics.contains("florin_payments_open{state=\"capturing\"} 1\n"), "{metrics}");
    fs::remove_file(&bench.switch).unwrap();
    bench.wait_in_service();
    let listed =
        last_json(&bench.programs.florin(&["payments", "--open", "--json"]).output().unwrap());
    if listed["payments"].get(0).is_some_and(|payment| payment["state"] == "approved") {
        assert_eq!(
            listed["payments"][0]["dispense_unknown"], true,
            "the till is asked again: {listed}"
        );
    }
    done(&mut bench.programs.florin(&complete));
    wait_for("the capture", || {
        let listed =
            last_json(&bench.programs.florin(&["payments", "--open", "--json"]).output().unwrap());
        listed["payments"].as_array().unwrap().is_empty().then_some(())
    });
    bench.assert_reconciled(2);
    terminal.stop();
}

/// A sync never returns. The terminal says so in time, goes on to answer, and loses nothing when it
/// does return.
#[test]
fn a_disk_that_hangs_takes_it_out_of_service_until_it_answers() {
    let bench = Bench::new();
    let terminal = bench.start_terminal(FaultKind::Hang, Some("fsync"));
    bench.sell();
    let transaction_id = bench.approved_and_left_alone();
    fs::write(&bench.switch, "").unwrap();
    let complete = ["complete", &transaction_id, "--dispensed", "true"];
    let mut completing = bench.programs.florin(&complete).stderr(Stdio::null()).spawn().unwrap();
    let words = "the disk has not answered for 10 s";
    let status = bench.wait_out_of_service(words);
    assert_eq!(status["open_payments"], 1, "{status}");
    let metrics = done(&mut bench.programs.florin(&["metrics"]));
    assert!(String::from_utf8_lossy(&metrics.stdout).contains("florin_journal_up 0\n"));
    for call in [&["pay", "2.50", "EUR", "--idempotency-key", "k"][..], &complete, &["payments"]] {
        let refused = bench.programs.florin(call).output().unwrap();
        assert!(String::from_utf8_lossy(&refused.stderr).contains(words), "{call:?}: {refused:?}");
    }
    let air = bench.air().to_string();
    let words = ["pay", "--yes", "--nearest", "--json", "--wait-ms", "1000", "--air", &air];
    assert!(!bench.programs.wallet(&words).output().unwrap().status.success());
    fs::remove_file(&bench.switch).unwrap();
    bench.wait_in_service();
    let _ = completing.wait();
    wait_for("the capture", || {
        let listed =
            last_json(&bench.programs.florin(&["payments", "--open", "--json"]).output().unwrap());
        listed["payments"].as_array().unwrap().is_empty().then_some(())
    });
    bench.sell();
    bench.assert_reconciled(3);
    terminal.stop();
}

#[test]
fn a_journal_of_a_newer_version_keeps_it_out_of_service_until_that_is_gone() {
    let bench = Bench::new();
    let terminal = bench.start_terminal(FaultKind::None, None);
    bench.sell();
    terminal.stop();
    let set_version = |version: u32| {
        let journal = Connection::open(bench.programs.journal()).unwrap();
        journal.busy_timeout(std::time::Duration::from_secs(5)).unwrap();
        journal.pragma_update(None, "user_version", version).unwrap();
    };
    let known: u32 = Connection::open(bench.programs.journal())
        .unwrap()
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .unwrap();
    set_version(known + 1);
    let terminal = bench.programs.start_terminal(None);
    bench.wait_out_of_service("install the newer version again");
    set_version(known);
    bench.wait_in_service();
    bench.sell();
    bench.assert_reconciled(2);
    terminal.stop();
}

#[test]
fn a_journal_that_is_gone_keeps_it_out_of_service_until_it_is_back() {
    let bench = Bench::new();
    let terminal = bench.start_terminal(FaultKind::None, None);
    bench.sell();
    terminal.stop();
    let journal = bench.programs.journal();
    let elsewhere = journal.with_extension("elsewhere");
    fs::rename(&journal, &elsewhere).unwrap();
    let terminal = bench.programs.start_terminal(None);
    bench.wait_out_of_service("is missing or empty, and this terminal has had one");
    fs::rename(&elsewhere, &journal).unwrap();
    bench.wait_in_service();
    bench.sell();
    bench.assert_reconciled(2);
    terminal.stop();
}

#[test]
fn a_damaged_journal_keeps_it_out_of_service_and_what_it_held_is_found_at_the_institution() {
    let bench = Bench::new();
    let terminal = bench.start_terminal(FaultKind::None, None);
    bench.sell();
    terminal.stop();
    let journal = bench.programs.journal();
    let octets = fs::read(&journal).unwrap();
    fs::write(&journal, vec![0x5a; octets.len()]).unwrap();
    let terminal = bench.programs.start_terminal(None);
    bench.wait_out_of_service("it is damaged; stop the service, keep the file");
    terminal.stop();
    fs::rename(&journal, journal.with_extension("damaged")).unwrap();
    fs::remove_file(journal.with_extension("exists")).unwrap();
    let terminal = bench.start_terminal(FaultKind::None, None);
    bench.sell();
    let (said, code) = bench.reconcile();
    assert_eq!((code, said["differences"].as_array().unwrap().len()), (Some(20), 1), "{said}");
    let difference = &said["differences"][0];
    assert_eq!(
        (&difference["difference"], &difference["institution_state"]),
        (&"unknown_here".into(), &"captured".into())
    );
    assert!(difference["journal_state"].is_null());
    terminal.stop();
}

/// One page is damaged that a start does not read: it is met at the next record. From then on it is
/// known, also to the next start.
#[test]
fn one_damaged_page_keeps_it_out_of_service_from_when_it_is_met_until_a_whole_journal_is_there() {
    let bench = Bench::new();
    let terminal = bench.start_terminal(FaultKind::None, None);
    bench.sell();
    terminal.stop();
    let journal = bench.programs.journal();
    let whole = fs::read(&journal).unwrap();
    let connection = Connection::open(&journal).unwrap();
    let number = |sql| connection.query_row(sql, [], |row| row.get::<_, usize>(0)).unwrap();
    let page_octets = number("PRAGMA page_size");
    let page = number("SELECT rootpage FROM sqlite_schema WHERE name = 'changes'") - 1;
    drop(connection);
    let mut damaged = whole.clone();
    damaged[page * page_octets..][..page_octets].fill(0xA5);
    fs::write(&journal, damaged).unwrap();

    let words = "it is damaged; stop the service, keep the file";
    let terminal = bench.start_terminal(FaultKind::None, None);
    assert_ne!(bench.offer(&[]).wait_with_output().unwrap().status.code(), Some(0));
    bench.wait_out_of_service(words);
    terminal.stop();
    let terminal = bench.programs.start_terminal(None);
    bench.wait_out_of_service("is damaged");
    assert!(!terminal.log().contains("payment offered"));
    // It looks again by itself.
    fs::write(&journal, whole).unwrap();
    bench.wait_in_service();
    bench.sell();
    bench.assert_reconciled(2);
    terminal.stop();
}

#[test]
fn what_was_altered_in_the_journal_is_named_by_reconciliation() {
    let bench = Bench::new();
    let terminal = bench.start_terminal(FaultKind::None, None);
    bench.sell();
    bench.sell();
    bench.assert_reconciled(2);
    terminal.stop();
    let connection = Connection::open(bench.programs.journal()).unwrap();
    let alter = |sql| assert_eq!(connection.execute(sql, []).unwrap(), 1);
    alter("UPDATE payments SET state = 'reversed', reason = 'cancelled' WHERE number = 1");
    alter("UPDATE payments SET amount_minor = 260 WHERE number = 2");
    // Changed years ago, by its clock: it is asked about all the same.
    connection
        .execute("UPDATE payments SET updated_at_unix_s = 1000, created_at_unix_s = 1000", [])
        .unwrap();
    drop(connection);
    let (said, code) = bench.reconcile();
    assert_eq!(code, Some(20));
    let mut differences: Vec<&str> = said["differences"]
        .as_array()
        .unwrap()
        .iter()
        .map(|difference| difference["difference"].as_str().unwrap())
        .collect();
    differences.sort_unstable();
    assert_eq!(differences, ["charged_there", "other_amount"], "{said}");
}

#[test]
fn finished_payments_are_exported_and_pruned_beside_the_running_service() {
    let bench = Bench::new();
    let terminal = bench.start_terminal(FaultKind::None, None);
    bench.sell();
    bench.sell();
    let mut open = bench.offer(&[]);
    wait_for("the offer", || {
        let listed =
            last_json(&bench.programs.florin(&["payments", "--open", "--json"]).output().unwrap());
        listed["payments"].get(0).cloned()
    });
    let file = bench.programs.state().join("old.jsonl");
    let export = |words: &[&str]| -> Command {
        let mut command = bench.programs.florin_with_configuration(&["journal", "export"]);
        command.args(words).arg(&file);
        command
    };
    done(&mut export(&["--until", "2999-01-01", "--prune"]));
    let mode = fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "others cannot read an export");
    let text = fs::read_to_string(&file).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    for line in &lines {
        assert_eq!(
            (&line["state"], &line["amount_minor"], &line["released"]),
            (&"captured".into(), &250.into(), &true.into())
        );
        assert!(line["receipt"].as_str().unwrap().len() > 100);
        let states: Vec<&str> = line["changes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|change| change["state"].as_str().unwrap())
            .collect();
        assert_eq!(states, ["offered", "authorising", "capturing", "captured"]);
    }
    let again = export(&["--until", "2999-01-01"]).output().unwrap();
    assert_eq!(again.status.code(), Some(14), "an old file is not written over: {again:?}");
    let listed = last_json(&bench.programs.florin(&["payments", "--json"]).output().unwrap());
    assert_eq!(listed["payments"].as_array().unwrap().len(), 1, "the open one stays: {listed}");
    done(&mut bench.programs.florin_with_configuration(&["journal", "check"]));
    assert_eq!(bench.phone_pays()["outcome"], "approved");
    assert!(open.wait().unwrap().success());
    terminal.stop();
}

#[test]
fn a_second_service_is_kept_from_the_same_journal() {
    let bench = Bench::new();
    let terminal = bench.start_terminal(FaultKind::None, None);
    let mut second = bench.programs.start_terminal(None);
    assert_eq!(second.wait().code(), Some(14), "{}", second.log());
    let log = second.log();
    assert!(log.contains("is in use") && log.contains("another florin service runs"), "{log}");
    assert!(log.contains("systemctl stop florin") && !log.contains("would block"), "{log}");
    bench.sell();
    terminal.stop();
}
