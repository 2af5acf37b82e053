//! The institution's durable store: one SQLite file.
//!
//! Opening, migration, and what a transaction of the database is. Which rows mean what is in the
//! files of their concepts; nothing here decides about money.

pub(super) mod card;
pub(super) mod enrolment_code;
pub(super) mod ledger;
pub(super) mod payment_transaction;
pub(super) mod terminal;

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, TransactionBehavior};

use crate::private_file::{self, PrivateFileError};

pub use card::{Account, AccountId, Card, CardState};
pub(super) use card::{CardEnrolmentKeys, NewCard};
pub(super) use enrolment_code::EnrolmentSubject;
pub use enrolment_code::{EnrolmentCode, EnrolmentCodeError};
pub use ledger::{LedgerBalance, LedgerEntry, LedgerFault, LedgerReport, StateTotal};
pub(super) use payment_transaction::{Authorisation, TransactionRecord};
pub use payment_transaction::{PageEnd, TransactionDetail, TransactionState};
pub use terminal::{Terminal, TerminalState};

/// How each version of the schema is made from the one before; the number of steps is the version.
const MIGRATIONS: [&str; 1] = [include_str!("schema_1.sql")];

/// How long a command waits while another process writes, in milliseconds. A write takes a few; a
/// backup some hundreds.
const BUSY_TIMEOUT_MS: u64 = 5_000;

/// Why the store did not do what it was asked. Nothing was changed then. Never holds card data.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// SQLite refused.
    #[error("the institution's store failed: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// The file was written by a newer version of this program.
    #[error(
        "the institution's store has schema version {found}, and this program knows versions up to {known}: use the \
         version of florin-acquirer that wrote it, or a newer one"
    )]
    NewerSchema {
        /// The file's version.
        found: u32,
        /// The newest version this program knows.
        known: u32,
    },
    /// A row that this program never writes.
    #[error(
        "the institution's store holds a {what} that cannot be: restore it from a backup and run `ledger check`"
    )]
    Corrupt {
        /// Of which kind.
        what: &'static str,
    },
    /// A ledger entry that does not sum to zero was about to be made.
    #[error(
        "a ledger entry would not have summed to zero, and was not made; this is a fault of the program"
    )]
    Unbalanced,
    /// The file or its directory.
    #[error(transparent)]
    File(#[from] PrivateFileError),
}

impl StoreError {
    /// Whether the same request may succeed a little later.
    pub fn is_busy(&self) -> bool {
        let Self::Sqlite(rusqlite::Error::SqliteFailure(error, _)) = self else { return false };
        matches!(
            error.code,
            rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked
        )
    }
}

/// The open store.
#[derive(Debug)]
pub struct Store {
    connection: Connection,
}

impl Store {
    /// Opens the store at `path`, brings its schema up to date, and makes it if there is none. Only
    /// its owner may read the file.
    ///
    /// # Errors
    /// [`StoreError`]; a newer schema is refused and left alone.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        private_file::ensure(path)?;
        let connection = Connection::open(path)?;
        // WAL, so that the commands read while the server writes; FULL, so that an answer that was
        // given survives a power cut.
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        Self::prepare(connection)
    }

    /// A store that is gone with the value: for tests and simulations.
    ///
    /// # Errors
    /// [`StoreError::Sqlite`].
    pub fn open_in_memory() -> Result<Self, StoreError> {
        Self::prepare(Connection::open_in_memory()?)
    }

    fn prepare(mut connection: Connection) -> Result<Self, StoreError> {
        connection.busy_timeout(Duration::from_millis(BUSY_TIMEOUT_MS))?;
        connection.pragma_update(None, "foreign_keys", true)?;
        connection.pragma_update(None, "trusted_schema", false)?;
        // A statement is planned once, not again for each value: without it, a third of a look-up
        // is planning.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        connection.set_prepared_statement_cache_capacity(64);
        migrate(&mut connection)?;
        Ok(Self { connection })
    }

    /// Does all of `work` or nothing of it, and no other writer in between.
    pub(super) fn write<T, E: From<StoreError>>(
        &mut self,
        work: impl FnOnce(&Connection) -> Result<T, E>,
    ) -> Result<T, E> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(StoreError::from)?;
        // Dropped, it rolls back.
        let done = work(&transaction)?;
        transaction.commit().map_err(StoreError::from)?;
        Ok(done)
    }

    /// Lets `work` see one state of the store.
    pub(super) fn read<T, E: From<StoreError>>(
        &mut self,
        work: impl FnOnce(&Connection) -> Result<T, E>,
    ) -> Result<T, E> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Deferred)
            .map_err(StoreError::from)?;
        work(&transaction)
    }
}

/// Brings the schema from the version that the file has to the newest, all steps or none.
fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    let known = u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX);
    let version = |connection: &Connection| {
        connection.pragma_query_value(None, "user_version", |row| row.get::<_, u32>(0))
    };
    if version(connection)? == known {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Again, now that no other process can migrate at the same time.
    let found = version(&transaction)?;
    if found > known {
        return Err(StoreError::NewerSchema { found, known });
    }
    for step in MIGRATIONS.iter().skip(usize::try_from(found).unwrap_or(usize::MAX)) {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "user_version", known)?;
    transaction.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_of_a_newer_version_is_refused_and_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store.sqlite");
        drop(Store::open(&path).unwrap());
        let connection = Connection::open(&path).unwrap();
        connection.pragma_update(None, "user_version", 99).unwrap();
        let error = Store::open(&path).unwrap_err();
        assert!(matches!(error, StoreError::NewerSchema { found: 99, known: 1 }), "{error}");
        assert!(error.to_string().contains("newer"), "{error}");
        let version: u32 =
            connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
        assert_eq!(version, 99);
    }

    #[test]
    fn a_failed_piece_of_work_leaves_nothing() {
        let mut store = Store::open_in_memory().unwrap();
        let failed: Result<(), StoreError> = store.write(|connection| {
            connection.execute(
                "INSERT INTO account (name, currency, created_at) VALUES ('x', 'EUR', 0)",
                [],
            )?;
            Err(StoreError::Unbalanced)
        });
        assert!(failed.is_err());
        let count: u32 = store
            .read(|connection| {
                Ok::<_, StoreError>(connection.query_row(
                    "SELECT count(*) FROM account",
                    [],
                    |row| row.get(0),
                )?)
            })
            .unwrap();
        assert_eq!(count, 0);
    }

    #[test]
    fn what_is_durable_is_durable_and_private() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store.sqlite");
        let mut store = Store::open(&path).unwrap();
        let pragma = |store: &Store, name: &str| {
            store
                .connection
                .pragma_query_value(None, name, |row| row.get::<_, rusqlite::types::Value>(0))
                .unwrap()
        };
        assert_eq!(pragma(&store, "journal_mode"), rusqlite::types::Value::Text("wal".into()));
        assert_eq!(pragma(&store, "synchronous"), rusqlite::types::Value::Integer(2));
        assert_eq!(pragma(&store, "foreign_keys"), rusqlite::types::Value::Integer(1));
        store
            .write(|connection| {
                connection.execute(
                    "INSERT INTO account (name, currency, created_at) VALUES ('x', 'EUR', 0)",
                    [],
                )?;
                Ok::<_, StoreError>(())
            })
            .unwrap();
        for file in std::fs::read_dir(directory.path()).unwrap() {
            let file = file.unwrap();
            let mode = file.metadata().unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{}", file.path().display());
        }
    }
}
