//! Table `refund`.

use rusqlite::{Connection, params};

use crate::institution::records::RefundId;
use crate::institution::store::StoreError;

/// `entry` is the ledger's, `audit` that of the audit log.
pub(super) fn insert(
    connection: &Connection,
    id: RefundId,
    entry: i64,
    audit: i64,
) -> Result<(), StoreError> {
    connection.execute(
        "INSERT INTO refund (id, ledger_entry, audit_entry) VALUES (?, ?, ?)",
        params![id.0, entry, audit],
    )?;
    Ok(())
}
