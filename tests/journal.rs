//! The journal's file: older schemas, damage, and being written anew after the disk failed.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use florin::domain::{ReversalReason, UnixTime};
use florin::journal::{Journal, JournalError, RecoveryLevel, SqliteJournal, SqliteJournalError};
use florin::terminal::{JournalledCommand, Payment, PaymentState, fixtures};
use rusqlite::Connection;

fn payment(number: u32, state: PaymentState) -> Payment {
    Payment {
        command: Some(JournalledCommand::Full(vec![2; 300])),
        receipt: Some(vec![3; 200]),
        released: true,
        idempotency: Some((format!("sale-{number}"), [number as u8; 32])),
        updated_at: UnixTime { seconds: 10 + u64::from(number) },
        ..fixtures::payment(number, state)
    }
}

struct Bench {
    _directory: tempfile::TempDir,
    path: PathBuf,
}

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal.sqlite");
        Self { _directory: directory, path }
    }

    fn filled(payments: u32) -> Self {
        let bench = Self::new();
        let mut journal = SqliteJournal::open(&bench.path).unwrap();
        for number in 0..payments {
            journal.append(&payment(number, PaymentState::Capturing)).unwrap();
        }
        bench
    }

    fn beside(&self, ending: &str) -> PathBuf {
        PathBuf::from(format!("{}{ending}", self.path.display()))
    }
}

/// Every schema that was ever released, as a file of that version had it.
#[test]
fn journals_of_every_earlier_version_are_brought_up_to_date() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/journal");
    let mut versions = 0;
    while let Ok(text) = fs::read_to_string(here.join(format!("version-{}.sql", versions + 1))) {
        versions += 1;
        let bench = Bench::new();
        Connection::open(&bench.path).unwrap().execute_batch(&text).unwrap();
        let mut journal = SqliteJournal::open(&bench.path).unwrap();
        let payments = journal.payments(false, 9).unwrap();
        assert_eq!(payments.len(), 2, "version {versions}");
        assert_eq!(payments[0].state, PaymentState::Captured);
        assert_eq!(payments[0].amount.to_string(), "130 JPY");
        assert_eq!(payments[1].state, PaymentState::Reversing(ReversalReason::DispenseFailed));
        assert_eq!(payments[1].idempotency, Some(("sale-1".into(), [7; 32])));
        assert_eq!(journal.payments(true, 9).unwrap(), [payments[1].clone()]);
        assert_eq!(journal.changes(payments[1].transaction_id).unwrap().len(), 2);
        let finished = journal
            .finished_between(UnixTime { seconds: 0 }, UnixTime { seconds: u64::MAX })
            .unwrap();
        assert_eq!(finished, [payments[0].transaction_id]);
        journal.append(&payment(3, PaymentState::Offered)).unwrap();
        journal.check_content().unwrap();
    }
    let bench = Bench::filled(0);
    let newest = Connection::open(&bench.path).unwrap();
    let known: u32 = newest.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
    assert_eq!(versions, known - 1, "each version before the newest has its file in tests/journal");
}

#[test]
fn a_journal_that_is_missing_or_empty_where_there_was_one_is_never_silently_new() {
    let bench = Bench::filled(1);
    let kept = bench.path.with_extension("kept");
    for (number, lose) in [
        (|path: &Path| fs::remove_file(path).unwrap()) as fn(&Path),
        |path| fs::write(path, []).unwrap(),
        |path| {
            fs::remove_file(path).unwrap();
            let empty = Connection::open(path).unwrap();
            empty.execute_batch("CREATE TABLE other (a); DROP TABLE other").unwrap();
        },
    ]
    .into_iter()
    .enumerate()
    {
        fs::copy(&bench.path, &kept).unwrap();
        lose(&bench.path);
        for _ in 0..2 {
            let error = SqliteJournal::recover(&bench.path, RecoveryLevel::Open).unwrap_err();
            assert!(matches!(error, SqliteJournalError::Lost { .. }), "{number}: {error}");
            assert!(error.to_string().contains("put it back"), "{error}");
        }
        fs::copy(&kept, &bench.path).unwrap();
        let mut journal = SqliteJournal::open(&bench.path).unwrap();
        assert_eq!(journal.payments(true, 9).unwrap().len(), 1, "{number}: it is back");
    }
    fs::remove_file(&bench.path).unwrap();
    fs::remove_file(bench.path.with_extension("exists")).unwrap();
    let mut journal = SqliteJournal::open(&bench.path).unwrap();
    assert!(journal.payments(false, 9).unwrap().is_empty(), "the operator said so");
}

/// Nothing was sent to the institution: nobody was charged.
#[test]
fn what_an_older_journal_calls_not_charged_is_reversed() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/journal/version-2.sql");
    let bench = Bench::new();
    let older = Connection::open(&bench.path).unwrap();
    older.execute_batch(&fs::read_to_string(here).unwrap()).unwrap();
    let change = "UPDATE payments SET state = 'not_charged', reason = 'institution_unreachable'
         WHERE state = 'captured'";
    older.execute(change, []).unwrap();
    drop(older);
    let mut journal = SqliteJournal::open(&bench.path).unwrap();
    let payments = journal.payments(false, 9).unwrap();
    assert_eq!(payments[0].state, PaymentState::Reversed(ReversalReason::Unanswered));
}

#[test]
fn a_damaged_journal_is_not_trusted_again() {
    let bench = Bench::filled(600);
    let mut octets = fs::read(&bench.path).unwrap();
    let middle = octets.len() / 2 / 4096 * 4096;
    octets[middle..middle + 3 * 4096].fill(0xA5);
    fs::write(&bench.path, octets).unwrap();
    let error = SqliteJournal::recover(&bench.path, RecoveryLevel::Check).unwrap_err();
    assert!(
        matches!(
            error,
            SqliteJournalError::Damaged { .. }
                | SqliteJournalError::Journal(JournalError::Storage { .. })
        ),
        "{error}"
    );
    assert_eq!(
        error.recovery_level(),
        RecoveryLevel::Check,
        "and it is looked at again the next time"
    );
    assert!(
        error.to_string().contains("damaged") && error.to_string().contains("keep the file"),
        "{error}"
    );
}

#[test]
fn a_torn_journal_is_not_trusted() {
    let bench = Bench::filled(600);
    let octets = fs::read(&bench.path).unwrap();
    fs::write(&bench.path, &octets[..octets.len() / 2]).unwrap();
    let error = SqliteJournal::recover(&bench.path, RecoveryLevel::Check).unwrap_err().to_string();
    assert!(error.contains("damaged"), "{error}");
}

#[test]
fn after_a_fault_of_the_disk_everything_is_written_anew_and_nothing_is_missing() {
    let bench = Bench::new();
    let mut journal = SqliteJournal::open(&bench.path).unwrap();
    for number in 0..500 {
        journal.append(&payment(number, PaymentState::Capturing)).unwrap();
    }
    let before = journal.payments(false, 1000).unwrap();
    assert!(
        fs::metadata(bench.beside("-wal")).unwrap().len() > 0,
        "the last payments are in the log only"
    );
    // As a process that stops over the fault leaves it: the log is not taken over.
    let inode = file_number(&bench.path);
    std::mem::forget(journal);
    fs::write(bench.beside(".rewriting"), "an attempt that a power cut ended").unwrap();
    let mut journal = SqliteJournal::recover(&bench.path, RecoveryLevel::Rewrite).unwrap();
    assert_ne!(file_number(&bench.path), inode, "it is a new file");
    assert_eq!(journal.payments(false, 1000).unwrap(), before);
    journal.append(&payment(900, PaymentState::Offered)).unwrap();
    assert!(!bench.beside(".rewriting").exists() && !bench.beside(".rewritten").exists());
}

/// The power is cut when the new file is complete and has not its place yet. The old log must not
/// be applied to it.
#[test]
fn an_exchange_that_was_cut_short_is_finished() {
    for (is_log_there, level) in [
        (true, RecoveryLevel::Open),
        (false, RecoveryLevel::Open),
        (true, RecoveryLevel::Rewrite),
        (false, RecoveryLevel::Rewrite),
    ] {
        let bench = Bench::filled(300);
        let complete = bench.beside(".rewritten");
        Connection::open(&bench.path)
            .unwrap()
            .execute("VACUUM INTO ?1", [complete.to_string_lossy()])
            .unwrap();
        // What is left of the old one is good for nothing, and is not needed: also not to write it
        // anew once more.
        fs::write(&bench.path, "torn").unwrap();
        if is_log_there {
            fs::write(bench.beside("-wal"), "of the old one").unwrap();
        }
        let mut journal = SqliteJournal::recover(&bench.path, level).unwrap();
        assert_eq!(journal.payments(false, 1000).unwrap().len(), 300);
        journal.check_content().unwrap();
        assert!(!complete.exists());
    }
}

#[test]
fn what_is_not_trusted_is_known_to_the_next_process_until_it_was_looked_at() {
    let bench = Bench::filled(3);
    let (marker, inode) = (bench.beside(".recovery"), file_number(&bench.path));
    SqliteJournal::require_recovery(&bench.path, RecoveryLevel::Open);
    assert!(!marker.exists());
    SqliteJournal::require_recovery(&bench.path, RecoveryLevel::Rewrite);
    SqliteJournal::require_recovery(&bench.path, RecoveryLevel::Check);
    assert_eq!(fs::metadata(&marker).unwrap().permissions().mode() & 0o777, 0o600);
    let journal = SqliteJournal::recover(&bench.path, RecoveryLevel::Open).unwrap();
    assert_ne!(file_number(&bench.path), inode, "it was written anew: the greater level stays");
    assert!(!marker.exists());
    drop(journal);

    // A disk that was too full for more than the marker's name.
    let inode = file_number(&bench.path);
    fs::write(&marker, "").unwrap();
    drop(SqliteJournal::recover(&bench.path, RecoveryLevel::Open).unwrap());
    assert_ne!(file_number(&bench.path), inode, "it asks for everything");

    let inode = file_number(&bench.path);
    SqliteJournal::require_recovery(&bench.path, RecoveryLevel::Check);
    drop(SqliteJournal::recover(&bench.path, RecoveryLevel::Open).unwrap());
    assert_eq!(file_number(&bench.path), inode, "it was looked at, and that was enough");
    assert!(!marker.exists());
    fs::write(&bench.path, vec![0x5A; 8192]).unwrap();
    SqliteJournal::require_recovery(&bench.path, RecoveryLevel::Check);
    SqliteJournal::recover(&bench.path, RecoveryLevel::Open).unwrap_err();
    assert!(marker.exists(), "it is still not trusted");
}

#[test]
fn what_could_not_be_written_anew_leaves_nothing_that_takes_room() {
    let bench = Bench::filled(600);
    let mut octets = fs::read(&bench.path).unwrap();
    let middle = octets.len() / 2 / 4096 * 4096;
    octets[middle..middle + 40 * 4096].fill(0xA5);
    fs::write(&bench.path, octets).unwrap();
    SqliteJournal::recover(&bench.path, RecoveryLevel::Rewrite).unwrap_err();
    assert!(!bench.beside(".rewriting").exists() && !bench.beside(".rewritten").exists());
    // Nor does what a power cut left.
    let bench = Bench::filled(1);
    fs::write(bench.beside(".rewriting"), "as far as it came").unwrap();
    SqliteJournal::recover(&bench.path, RecoveryLevel::Open).unwrap();
    assert!(!bench.beside(".rewriting").exists());
}

/// Beside a service, which alone may exchange files and bring schemas up to date.
#[test]
fn who_prunes_changes_no_schema_and_finishes_no_exchange() {
    let bench = Bench::filled(3);
    let complete = bench.beside(".rewritten");
    fs::write(&complete, "the service is about to exchange it").unwrap();
    let inode = file_number(&bench.path);
    let pruned = SqliteJournal::open_to_prune(&bench.path).unwrap().prune(&[]).unwrap();
    assert_eq!((pruned, complete.exists(), file_number(&bench.path)), (0, true, inode));
    fs::remove_file(&complete).unwrap();

    let old = Bench::new();
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/journal/version-1.sql");
    Connection::open(&old.path).unwrap().execute_batch(&fs::read_to_string(here).unwrap()).unwrap();
    let error = SqliteJournal::open_to_prune(&old.path).unwrap_err();
    assert!(matches!(error, SqliteJournalError::Older { found: 1, .. }), "{error}");

    let none = Bench::new();
    SqliteJournal::open_to_prune(&none.path).unwrap_err();
    assert!(!none.path.exists(), "a journal is the service's to make");
}

fn file_number(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(path).unwrap().ino()
}
