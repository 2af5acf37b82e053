//! Terminals that the institution vouches for.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::StoreError;
use crate::domain::{TerminalId, UnixTime};

/// How a terminal stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TerminalState {
    /// Registered; its code was not used yet.
    Pending,
    /// Enrolled.
    Active,
    /// Shut out: its authorisations are declined. What it had approved it may still capture and
    /// reverse.
    Blocked,
}

impl TerminalState {
    /// A stable name for programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Blocked => "blocked",
        }
    }
}

/// One registered terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terminal {
    /// Which.
    pub id: TerminalId,
    /// Who is paid: the owner of the ledger account.
    pub merchant_id: String,
    /// What the person is shown: 1 to 40 octets.
    pub merchant_name: String,
    /// How it stands.
    pub state: TerminalState,
    /// Last second its certificates are good; none before enrolment.
    pub certificate_not_after: Option<UnixTime>,
    /// SHA-256 over the public key of its newest client certificate; none before enrolment.
    pub client_key_digest: Option<[u8; 32]>,
}

const COLUMNS: &str = "id, merchant_id, merchant_name, blocked, channel_key IS NOT NULL, certificate_not_after, client_key_digest";

fn read(row: &Row<'_>) -> Result<Terminal, StoreError> {
    let id: String = row.get(0)?;
    let blocked: bool = row.get(3)?;
    let enrolled: bool = row.get(4)?;
    Ok(Terminal {
        id: id.parse().map_err(|_| StoreError::Corrupt { what: "terminal id" })?,
        merchant_id: row.get(1)?,
        merchant_name: row.get(2)?,
        state: match (blocked, enrolled) {
            (true, _) => TerminalState::Blocked,
            (false, true) => TerminalState::Active,
            (false, false) => TerminalState::Pending,
        },
        certificate_not_after: row.get::<_, Option<u64>>(5)?.map(|seconds| UnixTime { seconds }),
        client_key_digest: row.get(6)?,
    })
}

pub(in crate::institution) fn insert(
    connection: &Connection,
    id: TerminalId,
    merchant_id: &str,
    merchant_name: &str,
    now: UnixTime,
) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "INSERT INTO terminal (id, merchant_id, merchant_name, created_at) VALUES (?, ?, ?, ?)",
        )?
        .execute(params![id.as_str(), merchant_id, merchant_name, now.seconds])?;
    Ok(())
}

pub(in crate::institution) fn find(
    connection: &Connection,
    id: TerminalId,
) -> Result<Option<Terminal>, StoreError> {
    let mut statement =
        connection.prepare_cached(&format!("SELECT {COLUMNS} FROM terminal WHERE id = ?"))?;
    statement.query_row([id.as_str()], |row| Ok(read(row))).optional()?.transpose()
}

pub(in crate::institution) fn all(connection: &Connection) -> Result<Vec<Terminal>, StoreError> {
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
pub(in crate::institution) fn set_blocked(
    connection: &Connection,
    id: TerminalId,
    blocked: bool,
) -> Result<bool, StoreError> {
    let changed = connection
        .execute("UPDATE terminal SET blocked = ? WHERE id = ?", params![blocked, id.as_str()])?;
    Ok(changed == 1)
}

pub(in crate::institution) fn enrol(
    connection: &Connection,
    id: TerminalId,
    channel_key: &[u8; 32],
    client_key_digest: &[u8; 32],
    certificate_not_after: UnixTime,
) -> Result<(), StoreError> {
    connection.execute(
        "UPDATE terminal SET channel_key = ?, client_key_digest = ?, certificate_not_after = ? WHERE id = ?",
        params![channel_key, client_key_digest, certificate_not_after.seconds, id.as_str()],
    )?;
    Ok(())
}
