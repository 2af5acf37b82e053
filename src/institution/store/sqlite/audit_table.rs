//! Table `audit_entry`.

use rusqlite::{Connection, OptionalExtension, Row, named_params, params};

use super::action_columns::{read_action, read_key};
use super::transaction_table::read_state;
use crate::domain::{DeclineReason, UnixTime};
use crate::institution::records::{AuditEntry, RefundId, Standing, TransactionKey};
use crate::institution::store::StoreError;

const QUERY: &str = "SELECT * FROM audit_entry";

fn read(row: &Row<'_>) -> Result<(i64, AuditEntry), StoreError> {
    let standing = |state: &str, reason: &str, refunded: &str| -> Result<Standing, StoreError> {
        Ok(Standing {
            state: read_state(&row.get::<_, String>(state)?, row.get(reason)?)?,
            refunded_minor: row.get(refunded)?,
        })
    };
    let entry = AuditEntry {
        made_at: UnixTime { seconds: row.get("made_at")? },
        operator: row.get("operator")?,
        approved_by: row.get("approved_by")?,
        key: read_key(row)?,
        action: read_action(row)?,
        reason: row.get("reason")?,
        before: standing("state_before", "decline_reason", "refunded_before")?,
        after: standing("state_after", "decline_reason", "refunded_after")?,
        request: row.get("request")?,
    };
    Ok((row.get("number")?, entry))
}

/// Returns the number of the entry.
pub(super) fn insert(connection: &Connection, entry: &AuditEntry) -> Result<i64, StoreError> {
    let refund = entry.action.refund();
    connection.execute(
        "INSERT INTO audit_entry (made_at, operator, approved_by, terminal, transaction_id, \
         action, refund, amount_minor, currency, reason, state_before, state_after, \
         decline_reason, refunded_before, refunded_after, request) \
         VALUES (:made_at, :operator, :approved_by, :terminal, :transaction_id, :action, \
         :refund, :amount_minor, :currency, :reason, :state_before, :state_after, \
         :decline_reason, :refunded_before, :refunded_after, :request)",
        named_params! {
            ":made_at": entry.made_at.seconds,
            ":operator": entry.operator,
            ":approved_by": entry.approved_by,
            ":terminal": entry.key.terminal.as_str(),
            ":transaction_id": entry.key.id.as_octets(),
            ":action": entry.action.name(),
            ":refund": refund.map(|(id, _)| id.0),
            ":amount_minor": refund.map(|(_, amount)| amount.minor()),
            ":currency": refund.map(|(_, amount)| amount.currency().to_string()),
            ":reason": entry.reason,
            ":state_before": entry.before.state.name(),
            ":state_after": entry.after.state.name(),
            ":decline_reason": entry.before.state.decline_reason().map(DeclineReason::code),
            ":refunded_before": entry.before.refunded_minor,
            ":refunded_after": entry.after.refunded_minor,
            ":request": entry.request,
        },
    )?;
    Ok(connection.last_insert_rowid())
}

pub(super) fn of_refund(
    connection: &Connection,
    id: RefundId,
) -> Result<Option<AuditEntry>, StoreError> {
    let mut statement = connection.prepare_cached(&format!("{QUERY} WHERE refund = ?"))?;
    let found = statement.query_row([id.0], |row| Ok(read(row))).optional()?.transpose()?;
    Ok(found.map(|(_, entry)| entry))
}

/// The newest entries, oldest of them first.
pub(super) fn newest(
    connection: &Connection,
    key: Option<&TransactionKey>,
    limit: u32,
) -> Result<Vec<(i64, AuditEntry)>, StoreError> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT * FROM ({QUERY} WHERE ?1 IS NULL OR (terminal = ?1 AND transaction_id = ?2) \
         ORDER BY number DESC LIMIT ?3) ORDER BY number"
    ))?;
    let terminal = key.map(|key| key.terminal.as_str().to_owned());
    let id = key.map(|key| key.id.as_octets().to_vec());
    let mut rows = statement.query(params![terminal, id, limit])?;
    let mut entries = Vec::new();
    while let Some(row) = rows.next()? {
        entries.push(read(row)?);
    }
    Ok(entries)
}
