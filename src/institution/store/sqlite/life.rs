//! The lives of the store, and copies of it.

use std::path::Path;

use rusqlite::{Connection, params};

use super::database::SqliteStore;
use super::maintenance_table;
use crate::institution::records::MaintenanceEntry;
use crate::institution::store::{LifeStore, StoreError, StoreLife, StoreProgress};

impl LifeStore for SqliteStore {
    fn life(&mut self) -> Result<StoreLife, StoreError> {
        self.read(|connection| {
            let (generation, server_start, is_copy) = connection.query_row(
                "SELECT generation, server_start, is_copy FROM store_life",
                [],
                |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
            )?;
            let newest = |table: &str| {
                let sql = format!("SELECT coalesce(max(number), 0) FROM {table}");
                connection.query_row(&sql, [], |row| row.get(0))
            };
            let progress = StoreProgress {
                transaction: newest("payment_transaction")?,
                entry: newest("ledger_entry")?,
            };
            Ok(StoreLife { generation, server_start, is_copy, progress })
        })
    }

    fn note_server_start(&mut self, server_start: &[u8; 16]) -> Result<(), StoreError> {
        self.write(|connection| {
            connection.execute("UPDATE store_life SET server_start = ?", [server_start])?;
            Ok(())
        })
    }

    fn begin_generation(
        &mut self,
        generation: &[u8; 16],
        entry: &MaintenanceEntry,
    ) -> Result<(), StoreError> {
        self.write(|connection| {
            connection.execute(
                "UPDATE store_life SET generation = ?1, server_start = ?1, is_copy = 0",
                params![generation],
            )?;
            maintenance_table::insert(connection, entry)
        })
    }
}

impl SqliteStore {
    /// Writes all that is in the store at one point in time into a new file, while others may write
    /// to the store. The file says that it is a copy.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn copy_into(&mut self, path: &Path) -> Result<(), StoreError> {
        self.copy_of_all(&path.to_string_lossy())?;
        let copy = Connection::open(path)?;
        copy.pragma_update(None, "synchronous", "FULL")?;
        copy.execute("UPDATE store_life SET is_copy = 1", [])?;
        copy.close().map_err(|(_, error)| error.into())
    }
}
