//! The units of work of the ledger over the tables.

use super::database::SqliteStore;
use super::{ledger_check, ledger_tables};
use crate::institution::records::{LedgerEntry, LedgerReport};
use crate::institution::store::{LedgerStore, StoreError};

impl LedgerStore for SqliteStore {
    fn check_ledger(&mut self) -> Result<LedgerReport, StoreError> {
        self.read(ledger_check::check)
    }

    fn newest_ledger_entries(&mut self, limit: u32) -> Result<Vec<LedgerEntry>, StoreError> {
        self.read(|connection| ledger_tables::newest_entries(connection, limit))
    }
}
