//! The SQLite file: how it is opened, brought up to date, read and written.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, TransactionBehavior};

use crate::institution::store::StoreError;
use crate::private_file::{self, PrivateFileError};

/// The step from each version of the schema to the next; the number of steps is the version.
const MIGRATIONS: [&str; 1] = [include_str!("schema_1.sql")];

/// How long a transaction waits while another process writes, in milliseconds. A write takes a few,
/// a backup some hundreds.
const BUSY_TIMEOUT_MS: u64 = 5_000;

/// How many prepared statements are kept: more than the program has.
const STATEMENTS_KEPT_MAX: usize = 64;

/// Why the store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum SqliteOpenError {
    /// The file is not there, not this user's, or open to other users.
    #[error(transparent)]
    File(#[from] PrivateFileError),
    /// A newer version of this program has written the file.
    #[error(
        "{} has schema version {found}, and this version of florin-acquirer knows versions up to \
         {known}; use the version that wrote it, or a newer one", path.display()
    )]
    NewerSchema {
        path: PathBuf,
        /// The version of the file.
        found: u32,
        /// The newest version that this program knows.
        known: u32,
    },
    /// SQLite cannot use the file.
    #[error("cannot open {}: {source}", path.display())]
    Store { path: PathBuf, source: StoreError },
}

/// The store of a single server, in one SQLite file. Other processes may have it open too.
#[derive(Debug)]
pub struct SqliteStore {
    connection: Connection,
}

impl SqliteStore {
    /// Opens the store at `path` and brings its schema up to date; makes a store if there is none.
    /// Only its owner may read the file.
    ///
    /// # Errors
    /// [`SqliteOpenError`]; a file with a newer schema is left alone.
    pub fn open(path: &Path) -> Result<Self, SqliteOpenError> {
        private_file::ensure(path)?;
        let failed = |source| SqliteOpenError::Store { path: path.to_path_buf(), source };
        let mut connection = connect(path).map_err(|error| failed(error.into()))?;
        match migrate(&mut connection).map_err(|error| failed(error.into()))? {
            Migration::Done => Ok(Self { connection }),
            Migration::Newer { found, known } => {
                Err(SqliteOpenError::NewerSchema { path: path.to_path_buf(), found, known })
            }
        }
    }

    /// A store that ends with the value: for tests and simulations.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open_in_memory() -> Result<Self, StoreError> {
        let mut connection = Connection::open_in_memory()?;
        prepare(&connection)?;
        migrate(&mut connection)?;
        Ok(Self { connection })
    }

    /// How long a transaction waits from now on while another process writes.
    pub(super) fn set_busy_timeout(&self, milliseconds: u64) -> Result<(), StoreError> {
        Ok(self.connection.busy_timeout(Duration::from_millis(milliseconds))?)
    }

    /// Does all of `work` or nothing of it, and no other writer comes in between.
    pub(super) fn write<T>(
        &mut self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        // Dropped, it rolls back.
        let done = work(&transaction)?;
        transaction.commit()?;
        Ok(done)
    }

    /// Lets `work` see the store at one point in time.
    pub(super) fn read<T>(
        &mut self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Deferred)?;
        work(&transaction)
    }
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    // WAL, so that commands can read while the server writes. FULL, so that an answer that was
    // given survives a power cut.
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    prepare(&connection)?;
    Ok(connection)
}

fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(Duration::from_millis(BUSY_TIMEOUT_MS))?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    // A statement is planned once and not again for each value: without this, planning takes a
    // third of a look-up.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_KEPT_MAX);
    Ok(())
}

/// What became of a migration.
enum Migration {
    /// The schema is the newest that this program knows.
    Done,
    /// The schema is newer than that, and the file was left alone.
    Newer { found: u32, known: u32 },
}

/// Brings the schema from the version that the file has to the newest: all steps or none.
fn migrate(connection: &mut Connection) -> rusqlite::Result<Migration> {
    let known = u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX);
    let version = |connection: &Connection| {
        connection.pragma_query_value(None, "user_version", |row| row.get::<_, u32>(0))
    };
    if version(connection)? == known {
        return Ok(Migration::Done);
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Again, now that no other process can migrate at the same time.
    let found = version(&transaction)?;
    if found > known {
        return Ok(Migration::Newer { found, known });
    }
    for step in MIGRATIONS.iter().skip(usize::try_from(found).unwrap_or(usize::MAX)) {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "user_version", known)?;
    transaction.commit()?;
    Ok(Migration::Done)
}
