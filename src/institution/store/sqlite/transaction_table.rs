//! Table `payment_transaction`.

use rusqlite::{Connection, OptionalExtension, Row, Rows, named_params, params};

use crate::domain::{
    Amount, CardId, CommandDigest, DeclineReason, OfferDigest, ReversalReason, TerminalId,
    TransactionId, TransactionState, UnixTime,
};
use crate::institution::records::{AccountId, Evidence, TransactionKey, TransactionRecord};
use crate::institution::store::{
    AuthorisationFacts, AuthorisationRecord, AuthorisationSubject, CaptureRecord, PageQuery,
    RefundRecord, ReversalRecord, SEQUENCE_GAP_MAX, StoreError, TombstoneRecord, WriteOffRecord,
};

const QUERY: &str = "SELECT number, terminal, payment_transaction.id, state, decline_reason, \
     request_digest, offer_digest, amount_minor, currency, merchant_id, card, card.account, \
     card_hint, approval_code, authorisation_receipt, reversal_receipt, reversal_reason, \
     payment_transaction.created_at, captured_at, reversed_at, command_digest, capture_receipt, \
     exclusion, refund_receipt, refunded_minor, hold_until, written_off_at \
     FROM payment_transaction LEFT JOIN card ON card.id = payment_transaction.card";

fn read(row: &Row<'_>) -> Result<TransactionRecord, StoreError> {
    let corrupt = StoreError::corrupt;
    let time = |seconds: Option<u64>| seconds.map(|seconds| UnixTime { seconds });
    Ok(TransactionRecord {
        number: row.get(0)?,
        key: TransactionKey {
            terminal: row.get::<_, String>(1)?.parse().map_err(|_| corrupt("terminal id"))?,
            id: TransactionId::from_octets(&row.get::<_, [u8; 16]>(2)?)
                .map_err(|_| corrupt("transaction id"))?,
        },
        state: read_state(&row.get::<_, String>(3)?, row.get(4)?)?,
        request_digest: row.get(5)?,
        offer_digest: row.get::<_, Option<[u8; 32]>>(6)?.map(OfferDigest),
        amount: read_amount(row.get(7)?, row.get(8)?)?,
        merchant_id: row.get(9)?,
        card: row
            .get::<_, Option<[u8; 16]>>(10)?
            .map(|id| CardId::from_octets(&id))
            .transpose()
            .map_err(|_| corrupt("card id"))?,
        account: row.get::<_, Option<i64>>(11)?.map(AccountId),
        card_hint: row.get(12)?,
        approval_code: row.get(13)?,
        authorisation_receipt: row.get::<_, Option<Vec<u8>>>(14)?.unwrap_or_default(),
        reversal_receipt: row.get::<_, Option<Vec<u8>>>(15)?.unwrap_or_default(),
        reversal_reason: row
            .get::<_, Option<String>>(16)?
            .map(|name| ReversalReason::from_name(&name).ok_or(corrupt("reversal reason")))
            .transpose()?,
        created_at: UnixTime { seconds: row.get(17)? },
        captured_at: time(row.get(18)?),
        reversed_at: time(row.get(19)?),
        command_digest: row.get::<_, Option<[u8; 32]>>(20)?.map(CommandDigest),
        capture_receipt: row.get::<_, Option<Vec<u8>>>(21)?.unwrap_or_default(),
        exclusion: row.get(22)?,
        refund_receipt: row.get::<_, Option<Vec<u8>>>("refund_receipt")?.unwrap_or_default(),
        refunded_minor: row.get("refunded_minor")?,
        hold_until: time(row.get("hold_until")?),
        written_off_at: time(row.get("written_off_at")?),
    })
}

pub(super) fn read_state(
    name: &str,
    decline_reason: Option<u32>,
) -> Result<TransactionState, StoreError> {
    let reason = decline_reason.and_then(DeclineReason::from_code);
    [
        reason.map(TransactionState::Declined),
        Some(TransactionState::Approved),
        Some(TransactionState::Captured),
        Some(TransactionState::Reversed),
    ]
    .into_iter()
    .flatten()
    .find(|state| state.name() == name)
    .ok_or_else(|| StoreError::corrupt("transaction state"))
}

fn read_amount(minor: Option<u64>, currency: Option<String>) -> Result<Option<Amount>, StoreError> {
    let corrupt = || StoreError::corrupt("amount");
    match (minor, currency) {
        (Some(minor), Some(currency)) => {
            let currency = currency.parse().map_err(|_| corrupt())?;
            Amount::new(minor, currency).map(Some).map_err(|_| corrupt())
        }
        (None, None) => Ok(None),
        (Some(_), None) | (None, Some(_)) => Err(corrupt()),
    }
}

fn collect(mut rows: Rows<'_>) -> Result<Vec<TransactionRecord>, StoreError> {
    let mut records = Vec::new();
    while let Some(row) = rows.next()? {
        records.push(read(row)?);
    }
    Ok(records)
}

pub(super) fn find(
    connection: &Connection,
    key: &TransactionKey,
) -> Result<Option<TransactionRecord>, StoreError> {
    let mut statement = connection
        .prepare_cached(&format!("{QUERY} WHERE terminal = ? AND payment_transaction.id = ?"))?;
    statement
        .query_row(params![key.terminal.as_str(), key.id.as_octets()], |row| Ok(read(row)))
        .optional()?
        .transpose()
}

/// Another transaction of the terminal in this era that another machine has sent.
pub(super) fn with_sequence(
    connection: &Connection,
    subject: &AuthorisationSubject,
) -> Result<Option<TransactionId>, StoreError> {
    let id: Option<[u8; 16]> = connection
        .prepare_cached(
            "SELECT id FROM payment_transaction WHERE terminal = ?1 AND sequence_era = \
             (SELECT sequence_era FROM terminal WHERE id = ?1) AND id <> ?3 \
             AND (sequence = ?2 OR sequence > ?4) LIMIT 1",
        )?
        .query_row(
            params![
                subject.key.terminal.as_str(),
                subject.sequence,
                subject.key.id.as_octets(),
                subject.sequence.saturating_add(SEQUENCE_GAP_MAX).min(i64::MAX as u64)
            ],
            |row| row.get(0),
        )
        .optional()?;
    id.map(|id| TransactionId::from_octets(&id))
        .transpose()
        .map_err(|_| StoreError::corrupt("transaction id"))
}

/// Returns the transaction's number.
pub(super) fn insert(
    connection: &Connection,
    authorisation: &AuthorisationRecord,
    facts: &AuthorisationFacts,
) -> Result<i64, StoreError> {
    let (state, approval) = match &authorisation.verdict {
        Ok(approval) => (TransactionState::Approved, Some(approval)),
        Err(reason) => (TransactionState::Declined(*reason), None),
    };
    let amount = authorisation.subject.amount;
    connection
        .prepare_cached(
            "INSERT INTO payment_transaction (terminal, id, state, decline_reason, \
             request_digest, offer, offer_digest, amount_minor, currency, merchant_id, card, \
             card_counter, card_hint, approval_code, authorisation_receipt, created_at, \
             command_digest, exclusion, hold_until, sealed_command, signed_command, \
             card_public_key, sequence, sequence_era) \
             VALUES (:terminal, :id, :state, :decline_reason, :request_digest, :offer, \
             :offer_digest, :amount_minor, :currency, :merchant_id, :card, :card_counter, \
             :card_hint, :approval_code, :receipt, :now, :command_digest, :exclusion, \
             :hold_until, :sealed_command, :signed_command, :card_public_key, \
             :sequence, (SELECT sequence_era FROM terminal WHERE id = :terminal))",
        )?
        .execute(named_params! {
            ":terminal": authorisation.subject.key.terminal.as_str(),
            ":id": authorisation.subject.key.id.as_octets(),
            ":state": state.name(),
            ":decline_reason": state.decline_reason().map(DeclineReason::code),
            ":request_digest": authorisation.request_digest,
            ":offer": authorisation.offer,
            ":offer_digest": authorisation.offer_digest.0,
            ":amount_minor": amount.minor(),
            ":currency": amount.currency().code(),
            ":merchant_id": facts.terminal.as_ref().map(|terminal| &terminal.merchant_id),
            ":card": facts.card.as_ref().map(|card| card.id.as_octets()),
            ":card_counter": authorisation.accepted_counter,
            ":card_hint": authorisation.card_hint,
            ":approval_code": approval.map(|approval| &approval.code),
            ":receipt": authorisation.receipt,
            ":now": authorisation.decided_at.seconds,
            ":command_digest": authorisation.command_digest.0,
            ":exclusion": authorisation.exclusion,
            ":hold_until": approval.map(|approval| approval.hold_until.seconds),
            ":sealed_command": authorisation.sealed_command,
            ":signed_command": authorisation.signed_command,
            ":sequence": authorisation.subject.sequence,
            ":card_public_key": facts.card_public_key(),
        })?;
    Ok(connection.last_insert_rowid())
}

pub(super) fn insert_tombstone(
    connection: &Connection,
    tombstone: &TombstoneRecord,
) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "INSERT INTO payment_transaction \
             (terminal, id, state, reversal_reason, created_at, reversed_at, exclusion) \
             VALUES (?1, ?2, 'reversed', ?3, ?4, ?4, ?5)",
        )?
        .execute(params![
            tombstone.key.terminal.as_str(),
            tombstone.key.id.as_octets(),
            tombstone.reason.name(),
            tombstone.reversed_at.seconds,
            tombstone.exclusion
        ])?;
    Ok(())
}

pub(super) fn set_captured(
    connection: &Connection,
    number: i64,
    capture: &CaptureRecord,
) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "UPDATE payment_transaction SET state = 'captured', captured_at = ?, \
             capture_receipt = ? WHERE number = ? AND state = 'approved'",
        )?
        .execute(params![capture.captured_at.seconds, capture.receipt, number])?;
    Ok(())
}

pub(super) fn set_reversed(
    connection: &Connection,
    number: i64,
    reversal: &ReversalRecord,
) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "UPDATE payment_transaction SET state = 'reversed', reversed_at = ?, \
             reversal_reason = ?, reversal_receipt = ? \
             WHERE number = ? AND state = 'approved'",
        )?
        .execute(params![
            reversal.reversed_at.seconds,
            reversal.reason.map(ReversalReason::name),
            reversal.receipt,
            number
        ])?;
    Ok(())
}

pub(super) fn set_written_off(
    connection: &Connection,
    number: i64,
    write_off: &WriteOffRecord,
) -> Result<(), StoreError> {
    connection.execute(
        "UPDATE payment_transaction SET state = 'reversed', reversed_at = ?1, \
         written_off_at = ?1, reversal_receipt = ?2 WHERE number = ?3 AND state = 'approved'",
        params![write_off.written_off_at.seconds, write_off.receipt, number],
    )?;
    Ok(())
}

pub(super) fn add_refund(
    connection: &Connection,
    number: i64,
    refund: &RefundRecord,
) -> Result<(), StoreError> {
    connection.execute(
        "UPDATE payment_transaction SET refunded_minor = refunded_minor + ?, refund_receipt = ? \
         WHERE number = ? AND state = 'captured'",
        params![refund.transfer.amount().minor(), refund.receipt, number],
    )?;
    Ok(())
}

pub(super) fn tombstones_since(
    connection: &Connection,
    terminal: TerminalId,
    since: UnixTime,
) -> Result<u64, StoreError> {
    Ok(connection
        .prepare_cached(
            "SELECT count(*) FROM payment_transaction \
             WHERE terminal = ? AND created_at >= ? AND request_digest IS NULL",
        )?
        .query_row(params![terminal.as_str(), since.seconds], |row| row.get(0))?)
}

pub(super) fn evidence(
    connection: &Connection,
    key: &TransactionKey,
) -> Result<Option<Evidence>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT offer, sealed_command, signed_command, card_public_key \
         FROM payment_transaction WHERE terminal = ? AND id = ? AND request_digest IS NOT NULL",
    )?;
    let found = statement.query_row(params![key.terminal.as_str(), key.id.as_octets()], |row| {
        Ok(Evidence {
            offer: row.get(0)?,
            sealed_command: row.get(1)?,
            signed_command: row.get(2)?,
            card_public_key: row.get(3)?,
        })
    });
    Ok(found.optional()?)
}

pub(super) fn page(
    connection: &Connection,
    query: &PageQuery,
) -> Result<Vec<TransactionRecord>, StoreError> {
    // SQLite counts to 2^63 - 1.
    let bounded = |time: UnixTime| i64::try_from(time.seconds).unwrap_or(i64::MAX);
    let start = query.start();
    let mut statement = connection.prepare_cached(&format!(
        "{QUERY} WHERE terminal = ? AND (payment_transaction.created_at, number) > (?, ?) \
         AND payment_transaction.created_at < ? \
         ORDER BY payment_transaction.created_at, number LIMIT ?"
    ))?;
    collect(statement.query(params![
        query.terminal.as_str(),
        bounded(start.created_at),
        start.number,
        bounded(query.until),
        query.limit
    ])?)
}

/// Reads transactions, the newest first.
pub(super) fn newest(
    connection: &Connection,
    terminal: Option<TerminalId>,
    limit: u32,
) -> Result<Vec<TransactionRecord>, StoreError> {
    let mut statement = connection.prepare_cached(&format!(
        "{QUERY} WHERE ?1 IS NULL OR terminal = ?1 ORDER BY number DESC LIMIT ?2"
    ))?;
    collect(statement.query(params![terminal.as_ref().map(TerminalId::as_str), limit])?)
}

/// Reads the transactions of a card, the newest first.
pub(super) fn of_card(
    connection: &Connection,
    card: CardId,
    before_number: Option<i64>,
    limit: u32,
) -> Result<Vec<TransactionRecord>, StoreError> {
    let mut statement = connection.prepare_cached(&format!(
        "{QUERY} WHERE payment_transaction.card = ? AND number < ? ORDER BY number DESC LIMIT ?"
    ))?;
    collect(statement.query(params![card.as_octets(), before_number.unwrap_or(i64::MAX), limit])?)
}

/// Reads approved transactions, the oldest first.
pub(super) fn approved(
    connection: &Connection,
    terminal: Option<TerminalId>,
    limit: u32,
) -> Result<Vec<TransactionRecord>, StoreError> {
    let mut statement = connection.prepare_cached(&format!(
        "{QUERY} WHERE state = 'approved' AND (?1 IS NULL OR terminal = ?1) \
         ORDER BY number LIMIT ?2"
    ))?;
    collect(statement.query(params![terminal.as_ref().map(TerminalId::as_str), limit])?)
}

pub(super) fn with_id(
    connection: &Connection,
    id: TransactionId,
) -> Result<Vec<TransactionRecord>, StoreError> {
    let mut statement = connection
        .prepare_cached(&format!("{QUERY} WHERE payment_transaction.id = ? ORDER BY number"))?;
    collect(statement.query([id.as_octets()])?)
}
