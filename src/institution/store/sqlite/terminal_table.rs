//! Table `terminal`.

use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::domain::{TerminalId, UnixTime};
use crate::institution::records::{
    EnrolmentState, NewTerminal, NextClient, RegisteredTerminal, TerminalKeys,
};
use crate::institution::store::StoreError;

const COLUMNS: &str = "id, merchant_id, merchant_name, blocked_at, channel_key IS NOT NULL, \
     certificate_not_after, client_key_digest, channel_key, next_client_key_digest, \
     next_certificate_not_after, copied_at";

fn read(row: &Row<'_>) -> Result<RegisteredTerminal, StoreError> {
    let id: String = row.get(0)?;
    let blocked_at = row.get::<_, Option<u64>>(3)?.map(|seconds| UnixTime { seconds });
    Ok(RegisteredTerminal {
        id: id.parse().map_err(|_| StoreError::corrupt("terminal id"))?,
        merchant_id: row.get(1)?,
        merchant_name: row.get(2)?,
        state: EnrolmentState::new(blocked_at.is_some(), row.get(4)?),
        blocked_at,
        certificate_not_after: row.get::<_, Option<u64>>(5)?.map(|seconds| UnixTime { seconds }),
        client_key_digest: row.get(6)?,
        channel_key: row.get(7)?,
        next_client: match (row.get(8)?, row.get::<_, Option<u64>>(9)?) {
            (Some(key_digest), Some(seconds)) => {
                Some(NextClient { key_digest, certificate_not_after: UnixTime { seconds } })
            }
            (Some(_), None) | (None, Some(_)) | (None, None) => None,
        },
        copied_at: row.get::<_, Option<u64>>(10)?.map(|seconds| UnixTime { seconds }),
    })
}

pub(super) fn insert(connection: &Connection, terminal: &NewTerminal) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "INSERT INTO terminal (id, merchant_id, merchant_name, created_at) \
             VALUES (?, ?, ?, ?)",
        )?
        .execute(params![
            terminal.id.as_str(),
            terminal.merchant_id,
            terminal.merchant_name,
            terminal.registered_at.seconds
        ])?;
    Ok(())
}

pub(super) fn find(
    connection: &Connection,
    id: TerminalId,
) -> Result<Option<RegisteredTerminal>, StoreError> {
    let mut statement =
        connection.prepare_cached(&format!("SELECT {COLUMNS} FROM terminal WHERE id = ?"))?;
    statement.query_row([id.as_str()], |row| Ok(read(row))).optional()?.transpose()
}

pub(super) fn all(connection: &Connection) -> Result<Vec<RegisteredTerminal>, StoreError> {
    let mut statement = connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM terminal ORDER BY created_at, id"))?;
    let mut rows = statement.query([])?;
    let mut terminals = Vec::new();
    while let Some(row) = rows.next()? {
        terminals.push(read(row)?);
    }
    Ok(terminals)
}

/// Returns whether there is such a terminal.
pub(super) fn set_blocked(
    connection: &Connection,
    id: TerminalId,
    blocked_at: Option<UnixTime>,
) -> Result<bool, StoreError> {
    // Who is blocked again was blocked before.
    let changed = connection.execute(
        "UPDATE terminal SET blocked_at = CASE WHEN ?1 IS NOT NULL THEN coalesce(blocked_at, ?1) \
         END WHERE id = ?2",
        params![blocked_at.map(|time| time.seconds), id.as_str()],
    )?;
    Ok(changed == 1)
}

pub(super) fn set_copied(
    connection: &Connection,
    id: TerminalId,
    since: UnixTime,
) -> Result<(), StoreError> {
    connection.execute(
        "UPDATE terminal SET copied_at = ? WHERE id = ? AND copied_at IS NULL",
        params![since.seconds, id.as_str()],
    )?;
    Ok(())
}

/// Returns whether it was noted as copied.
pub(super) fn clear_copied(connection: &Connection, id: TerminalId) -> Result<bool, StoreError> {
    let changed = connection.execute(
        "UPDATE terminal SET copied_at = NULL, sequence_era = sequence_era + 1 \
         WHERE id = ? AND copied_at IS NOT NULL",
        [id.as_str()],
    )?;
    Ok(changed == 1)
}

/// Returns whether there is such a terminal.
pub(super) fn set_next_client(
    connection: &Connection,
    id: TerminalId,
    next: &NextClient,
) -> Result<bool, StoreError> {
    let changed = connection.execute(
        "UPDATE terminal SET next_client_key_digest = ?, next_certificate_not_after = ? \
         WHERE id = ?",
        params![next.key_digest, next.certificate_not_after.seconds, id.as_str()],
    )?;
    Ok(changed == 1)
}

/// Returns whether this was the renewed key.
pub(super) fn use_next_client(
    connection: &Connection,
    id: TerminalId,
    key_digest: &[u8; 32],
) -> Result<bool, StoreError> {
    let changed = connection.execute(
        "UPDATE terminal SET client_key_digest = next_client_key_digest, \
         certificate_not_after = next_certificate_not_after, next_client_key_digest = NULL, \
         next_certificate_not_after = NULL WHERE id = ? AND next_client_key_digest = ?",
        params![id.as_str(), key_digest],
    )?;
    Ok(changed == 1)
}

/// New keys begin a new era of numbers, and nobody has a copy of them.
pub(super) fn begin_era(connection: &Connection, id: TerminalId) -> Result<(), StoreError> {
    connection.execute(
        "UPDATE terminal SET copied_at = NULL, sequence_era = sequence_era + 1, \
         next_client_key_digest = NULL, next_certificate_not_after = NULL WHERE id = ?",
        [id.as_str()],
    )?;
    Ok(())
}

pub(super) fn set_keys(
    connection: &Connection,
    id: TerminalId,
    keys: &TerminalKeys,
) -> Result<(), StoreError> {
    connection.execute(
        "UPDATE terminal SET channel_key = ?, client_key_digest = ?, certificate_not_after = ? \
         WHERE id = ?",
        params![
            keys.channel_key,
            keys.client_key_digest,
            keys.certificate_not_after.seconds,
            id.as_str()
        ],
    )?;
    Ok(())
}
