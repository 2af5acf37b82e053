//! What is SQLite's own: the file, its schema, what its rules refuse, and what the check of the
//! books finds in a file that was tampered with.

use std::path::Path;

use rusqlite::types::Value;
use rusqlite::{Connection, ffi};

use super::database::{SqliteOpenError, SqliteStore};
use super::ledger_check;
use crate::institution::records::{LedgerReport, RefundId, TransactionKey};
use crate::institution::store::StoreError;
use crate::institution::tests::{Bench, NOW, euros};
use crate::institution::{Operation, OperatorOrder};

const INSERT_ACCOUNT: &str =
    "INSERT INTO account (name, currency, created_at) VALUES ('x', 'EUR', 0)";

fn insert_account(connection: &Connection) -> Result<(), StoreError> {
    connection.execute(INSERT_ACCOUNT, [])?;
    Ok(())
}

#[test]
fn a_store_of_a_newer_version_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.sqlite");
    drop(SqliteStore::open(&path).unwrap());
    let connection = Connection::open(&path).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    let error = SqliteStore::open(&path).unwrap_err();
    let is_newer = matches!(error, SqliteOpenError::NewerSchema { found: 99, known: 1, .. });
    assert!(is_newer, "{error}");
    assert!(error.to_string().contains("newer"), "{error}");
    let version: u32 =
        connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    assert_eq!(version, 99);
}

#[test]
fn a_failed_piece_of_work_leaves_nothing() {
    let mut store = SqliteStore::open_in_memory().unwrap();
    let failed: Result<(), StoreError> = store.write(|connection| {
        insert_account(connection)?;
        Err(StoreError::Busy)
    });
    assert!(failed.is_err());
    let count = store.read(|connection| {
        Ok(connection.query_row("SELECT count(*) FROM account", [], |row| row.get::<_, u32>(0))?)
    });
    assert_eq!(count, Ok(0));
}

#[test]
fn what_is_durable_is_durable_and_private() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.sqlite");
    let mut store = SqliteStore::open(&path).unwrap();
    let mut pragma = |name: &str| {
        let read = store.read(|connection| {
            Ok(connection.pragma_query_value(None, name, |row| row.get::<_, Value>(0))?)
        });
        read.unwrap()
    };
    assert_eq!(pragma("journal_mode"), Value::Text("wal".into()));
    assert_eq!(pragma("synchronous"), Value::Integer(2));
    assert_eq!(pragma("foreign_keys"), Value::Integer(1));
    store.write(insert_account).unwrap();
    for file in std::fs::read_dir(directory.path()).unwrap() {
        let file = file.unwrap();
        let mode = file.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", file.path().display());
    }
}

#[test]
fn a_file_that_is_no_store_is_named_with_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.sqlite");
    crate::private_file::create(&path, &[7; 4096]).unwrap();
    let error = SqliteStore::open(&path).unwrap_err().to_string();
    assert!(error.contains("store.sqlite") && error.contains("from a backup"), "{error}");
}

#[test]
fn errors_of_sqlite_say_what_to_do() {
    let of_code =
        |code| StoreError::from(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None));
    for code in [ffi::SQLITE_BUSY, ffi::SQLITE_LOCKED] {
        assert_eq!(of_code(code), StoreError::Busy);
    }
    assert!(matches!(of_code(ffi::SQLITE_CONSTRAINT), StoreError::RuleBroken { .. }));
    for (code, advice) in [
        (ffi::SQLITE_FULL, "free some space"),
        (ffi::SQLITE_READONLY, "check that this user may write it"),
        (ffi::SQLITE_CANTOPEN, "check that this user may read"),
        (ffi::SQLITE_IOERR, "check the disk"),
        (ffi::SQLITE_CORRUPT, "restore it from a backup"),
        (ffi::SQLITE_NOTADB, "restore it from a backup"),
        (ffi::SQLITE_MISUSE, "please report it"),
    ] {
        let message = of_code(code).to_string();
        assert!(message.contains(advice), "{message}");
    }
    let wrong =
        rusqlite::Error::InvalidColumnType(0, "counter".into(), rusqlite::types::Type::Text);
    let message = StoreError::from(wrong).to_string();
    assert!(message.contains("value of `counter`") && message.contains("backup"), "{message}");
}

/// A store in a file, with a captured payment and an approved one, and a second hand on it.
fn used_store(path: &Path) -> (Bench, SqliteStore) {
    let mut bench = Bench::over(SqliteStore::open(path).unwrap());
    let approved = bench.authorise(&bench.request(1, euros("2.50"), 1));
    bench.institution.capture(bench.terminal, approved.id, NOW).unwrap();
    let order = OperatorOrder {
        operator: "anna".to_owned(),
        key: TransactionKey { terminal: bench.terminal, id: approved.id },
        operation: Operation::Refund { id: RefundId([1; 16]), amount: Some(euros("0.01")) },
        reason: "a cent too much".to_owned(),
    };
    bench.institution.operate(&order, NOW).unwrap();
    bench.authorise(&bench.request(2, euros("2.50"), 2));
    bench.institution = bench.institution.with_two_people_above(Some(0));
    bench.institution.operate(&order_of_another_cent(&order), NOW).unwrap();
    (bench, SqliteStore::open(path).unwrap())
}

/// Which waits for a second person.
fn order_of_another_cent(order: &OperatorOrder) -> OperatorOrder {
    let operation = Operation::Refund { id: RefundId([2; 16]), amount: Some(euros("0.01")) };
    OperatorOrder { operation, ..order.clone() }
}

#[test]
fn the_check_finds_wrong_books() {
    let directory = tempfile::tempdir().unwrap();
    let (mut bench, mut store) = used_store(&directory.path().join("store.sqlite"));
    bench.assert_books_right();
    let payable =
        "UPDATE ledger_account SET balance_minor = balance_minor + 1 WHERE kind = 'payable'";
    let captured = "UPDATE payment_transaction SET state = 'captured', captured_at = 1, \
                    capture_receipt = x'00' WHERE state = 'approved'";
    let refunded = "UPDATE payment_transaction SET refunded_minor = 2, refund_receipt = x'00' \
                    WHERE state = 'captured'";
    let amount = "UPDATE payment_transaction SET amount_minor = 251 WHERE state = 'captured'";
    let counter = "UPDATE card SET counter = counter + 1";
    let entry = "INSERT INTO ledger_entry (kind, made_at) VALUES ('funding', 0)";
    let posting =
        "INSERT INTO ledger_posting SELECT 1, id, 7 FROM ledger_account WHERE kind = 'held'";
    for (damage, rule) in [
        (payable, "balance_is_sum_of_postings"),
        (payable, "payable_is_what_is_captured"),
        (captured, "held_is_what_is_approved"),
        (captured, "transaction_has_its_entries"),
        (amount, "entry_moves_the_amount"),
        (refunded, "refunds_are_what_is_given_back"),
        (refunded, "payable_is_what_is_captured"),
        (counter, "card_counter_is_the_highest_used"),
        (entry, "entry_has_postings"),
        (posting, "entry_sums_to_zero"),
    ] {
        let rolled_back: Result<LedgerReport, StoreError> = store.read(|connection| {
            connection.execute_batch(damage)?;
            ledger_check::check(connection)
        });
        let faults = rolled_back.unwrap().faults;
        assert!(faults.iter().any(|fault| fault.rule == rule), "{damage}: {faults:?}");
        bench.assert_books_right();
    }
}

#[test]
fn the_schema_itself_refuses_what_breaks_the_books() {
    let directory = tempfile::tempdir().unwrap();
    let (mut bench, mut store) = used_store(&directory.path().join("store.sqlite"));
    for damage in [
        "UPDATE ledger_posting SET amount_minor = 1",
        "DELETE FROM ledger_posting",
        "DELETE FROM ledger_entry",
        "UPDATE ledger_account SET balance_minor = -1 WHERE kind = 'held'",
        "UPDATE card SET counter = 0",
        "INSERT INTO ledger_entry (kind, payment_transaction, made_at) VALUES ('hold', 1, 0)",
        "UPDATE payment_transaction SET card_counter = 1",
        "UPDATE payment_transaction SET refunded_minor = 251, refund_receipt = x'00' \
         WHERE state = 'captured'",
        "UPDATE payment_transaction SET refunded_minor = 1, refund_receipt = x'00' \
         WHERE state = 'approved'",
        "UPDATE payment_transaction SET state = 'reversed', reversed_at = 0, \
         refunded_minor = 0, refund_receipt = NULL WHERE state = 'captured'",
        "DELETE FROM payment_transaction",
        "UPDATE audit_entry SET reason = 'x'",
        "DELETE FROM audit_entry",
        "DELETE FROM operation_request",
        "UPDATE refund SET audit_entry = 2",
        "DELETE FROM refund",
    ] {
        let refused = store.write(|connection| Ok(connection.execute_batch(damage)?));
        assert!(matches!(refused, Err(StoreError::RuleBroken { .. })), "{damage}: {refused:?}");
    }
    bench.assert_books_right();
}
