//! Table `maintenance_entry`.

use rusqlite::{Connection, Row, params};

use crate::domain::UnixTime;
use crate::institution::records::{MaintenanceAction, MaintenanceEntry};
use crate::institution::store::StoreError;

fn read(row: &Row<'_>) -> Result<MaintenanceEntry, StoreError> {
    let corrupt = || StoreError::corrupt("maintenance entry");
    let action: String = row.get("action")?;
    let terminal: Option<String> = row.get("terminal")?;
    let action = match (action.as_str(), terminal) {
        ("clear_copy", Some(id)) => {
            MaintenanceAction::ClearCopy(id.parse().map_err(|_| corrupt())?)
        }
        ("adopt_store", None) => MaintenanceAction::AdoptStore,
        (_, _) => return Err(corrupt()),
    };
    Ok(MaintenanceEntry {
        made_at: UnixTime { seconds: row.get("made_at")? },
        operator: row.get("operator")?,
        action,
        reason: row.get("reason")?,
    })
}

pub(super) fn insert(connection: &Connection, entry: &MaintenanceEntry) -> Result<(), StoreError> {
    connection.execute(
        "INSERT INTO maintenance_entry (made_at, operator, action, terminal, reason) \
         VALUES (?, ?, ?, ?, ?)",
        params![
            entry.made_at.seconds,
            entry.operator,
            entry.action.name(),
            entry.action.terminal().map(|id| id.as_str().to_owned()),
            entry.reason
        ],
    )?;
    Ok(())
}

/// The newest entries, oldest of them first.
pub(super) fn newest(
    connection: &Connection,
    limit: u32,
) -> Result<Vec<MaintenanceEntry>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT * FROM (SELECT * FROM maintenance_entry ORDER BY number DESC LIMIT ?) \
         ORDER BY number",
    )?;
    let mut rows = statement.query([limit])?;
    let mut entries = Vec::new();
    while let Some(row) = rows.next()? {
        entries.push(read(row)?);
    }
    Ok(entries)
}
