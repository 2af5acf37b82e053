//! Table `enrolment_code`.

use rusqlite::{Connection, OptionalExtension, params};

use crate::domain::{CardId, UnixTime};
use crate::institution::records::{CodeDigest, CodeSubject, NewEnrolmentCode};
use crate::institution::store::StoreError;

/// One row of the table.
pub(super) struct Code {
    pub subject: CodeSubject,
    pub not_after: UnixTime,
    pub used_by: Option<[u8; 32]>,
}

/// Inserts a new code, and deletes the unused ones of its subject.
pub(super) fn insert(
    connection: &Connection,
    subject: CodeSubject,
    code: &NewEnrolmentCode,
) -> Result<(), StoreError> {
    let (terminal, card) = match &subject {
        CodeSubject::Terminal(terminal) => (Some(terminal.as_str()), None),
        CodeSubject::Card(card) => (None, Some(card.as_octets())),
    };
    connection.execute(
        "DELETE FROM enrolment_code WHERE used_by IS NULL AND (terminal = ?1 OR card = ?2)",
        params![terminal, card],
    )?;
    connection.execute(
        "INSERT INTO enrolment_code (digest, terminal, card, not_after) VALUES (?, ?, ?, ?)",
        params![code.digest.0, terminal, card, code.not_after.seconds],
    )?;
    Ok(())
}

pub(super) fn find(
    connection: &Connection,
    digest: &CodeDigest,
) -> Result<Option<Code>, StoreError> {
    type Columns = (Option<String>, Option<[u8; 16]>, u64, Option<[u8; 32]>);
    let columns: Option<Columns> = connection
        .query_row(
            "SELECT terminal, card, not_after, used_by FROM enrolment_code WHERE digest = ?",
            [digest.0],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
        )
        .optional()?;
    let Some((terminal, card, not_after, used_by)) = columns else { return Ok(None) };
    let corrupt = || StoreError::corrupt("enrolment code");
    let subject = match (terminal, card) {
        (Some(terminal), None) => CodeSubject::Terminal(terminal.parse().map_err(|_| corrupt())?),
        (None, Some(card)) => CodeSubject::Card(CardId::from_octets(&card).map_err(|_| corrupt())?),
        (Some(_), Some(_)) | (None, None) => return Err(corrupt()),
    };
    Ok(Some(Code { subject, not_after: UnixTime { seconds: not_after }, used_by }))
}

pub(super) fn mark_used(
    connection: &Connection,
    digest: &CodeDigest,
    used_by: &[u8; 32],
) -> Result<(), StoreError> {
    connection.execute(
        "UPDATE enrolment_code SET used_by = ? WHERE digest = ?",
        params![used_by, digest.0],
    )?;
    Ok(())
}
