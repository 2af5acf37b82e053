//! The journal's tables, and how a file of an earlier version is brought up to date.
//!
//! `payments` holds each payment as it is now, `changes` every state that it went through, in
//! order. An operator can read both with `sqlite3`.

use rusqlite::Connection;

/// Each step takes the schema from the version of its index to the next.
const MIGRATIONS: [&str; 3] = [
    "
    CREATE TABLE payments (
        transaction_id BLOB PRIMARY KEY,
        sale_id BLOB NOT NULL,
        state TEXT NOT NULL,
        reason TEXT NOT NULL,
        is_open INTEGER NOT NULL,
        amount_minor INTEGER NOT NULL,
        currency TEXT NOT NULL,
        reference TEXT NOT NULL,
        capture_after_dispense INTEGER NOT NULL,
        offer BLOB NOT NULL,
        sealed_command BLOB,
        receipt BLOB,
        released INTEGER NOT NULL,
        idempotency_key TEXT,
        idempotency_digest BLOB,
        created_at_unix_s INTEGER NOT NULL,
        updated_at_unix_s INTEGER NOT NULL,
        number INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX open_payments ON payments (number) WHERE is_open;
    CREATE UNIQUE INDEX payments_by_number ON payments (number);
    CREATE INDEX payments_by_sale ON payments (sale_id, number);
    CREATE INDEX payments_by_key ON payments (idempotency_key, number)
        WHERE idempotency_key IS NOT NULL;
    CREATE TABLE changes (
        record INTEGER PRIMARY KEY AUTOINCREMENT,
        transaction_id BLOB NOT NULL,
        state TEXT NOT NULL,
        reason TEXT NOT NULL,
        at_unix_s INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX changes_by_transaction ON changes (transaction_id, record);
",
    // For what asks about a period: reconciliation, export, pruning.
    "CREATE INDEX finished_payments ON payments (updated_at_unix_s) WHERE NOT is_open;",
    // The numbers of authorisations, which go on when payments are pruned. Proofs for phones, and
    // what lets a command be forgotten. A payment that was never sent to the institution has no
    // state of its own any more: nobody was charged for it.
    "
    ALTER TABLE payments ADD COLUMN sequence INTEGER NOT NULL DEFAULT 0;
    CREATE TABLE authorisations (newest_sequence INTEGER NOT NULL) STRICT;
    INSERT INTO authorisations VALUES (0);
    ALTER TABLE payments ADD COLUMN command_digest BLOB;
    ALTER TABLE payments ADD COLUMN exclusion BLOB;
    ALTER TABLE payments ADD COLUMN dispense_restarts INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE payments ADD COLUMN confirmed_generation BLOB;
    CREATE INDEX full_commands ON payments (updated_at_unix_s)
        WHERE NOT is_open AND sealed_command IS NOT NULL;
    UPDATE payments SET state = 'reversed', reason = 'unanswered' WHERE state = 'not_charged';
    UPDATE changes SET state = 'reversed', reason = 'unanswered' WHERE state = 'not_charged';
",
];

/// The version that this program reads and writes.
pub(super) const KNOWN_VERSION: u32 = MIGRATIONS.len() as u32;

/// The version of a file's schema.
pub(super) fn schema_version(connection: &Connection) -> Result<u32, rusqlite::Error> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// Brings the schema up to date, and returns the version that it had. One that is newer stays as
/// it is.
pub(super) fn migrate(connection: &mut Connection) -> Result<u32, rusqlite::Error> {
    let transaction = connection.transaction()?;
    let found = schema_version(&transaction)?;
    if found > KNOWN_VERSION {
        return Ok(found);
    }
    // Written also where nothing changes: a disk that takes no writes is to be noticed now.
    for migration in MIGRATIONS.iter().skip(found as usize) {
        transaction.execute_batch(migration)?;
    }
    transaction.pragma_update(None, "user_version", KNOWN_VERSION)?;
    transaction.commit()?;
    Ok(found)
}
