//! What became of each payment, by terminal and transaction id.

use rusqlite::{Connection, OptionalExtension, Row, named_params, params};

use super::{AccountId, StoreError};
use crate::domain::{
    Amount, CardId, DeclineReason, OfferDigest, ReversalReason, TerminalId, TransactionId, UnixTime,
};

/// How a transaction stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TransactionState {
    /// Never seen.
    Unknown,
    /// Refused.
    Declined,
    /// The amount is reserved.
    Approved,
    /// The amount is taken.
    Captured,
    /// Given back, or a tombstone.
    Reversed,
}

impl TransactionState {
    /// A stable name for programs, which is also what the store holds.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Declined => "declined",
            Self::Approved => "approved",
            Self::Captured => "captured",
            Self::Reversed => "reversed",
        }
    }

    fn from_name(name: &str) -> Result<Self, StoreError> {
        [Self::Declined, Self::Approved, Self::Captured, Self::Reversed]
            .into_iter()
            .find(|state| state.name() == name)
            .ok_or(StoreError::Corrupt { what: "transaction state" })
    }
}

/// The decision on an authorisation, to be stored.
#[derive(Debug)]
pub(in crate::institution) struct Authorisation<'a> {
    pub terminal: TerminalId,
    pub id: TransactionId,
    pub verdict: Result<&'a str, DeclineReason>,
    pub request_digest: [u8; 32],
    pub offer: &'a [u8],
    pub offer_digest: OfferDigest,
    pub amount: Amount,
    pub merchant_id: Option<&'a str>,
    pub card: Option<CardId>,
    pub card_counter: Option<u64>,
    pub card_hint: &'a str,
    pub receipt: &'a [u8],
    pub now: UnixTime,
}

/// What the store knows of one transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::institution) struct TransactionRecord {
    pub number: i64,
    pub terminal: TerminalId,
    pub id: TransactionId,
    pub state: TransactionState,
    pub decline_reason: Option<DeclineReason>,
    /// None for a tombstone.
    pub request_digest: Option<[u8; 32]>,
    pub offer_digest: Option<OfferDigest>,
    pub amount: Option<Amount>,
    pub merchant_id: Option<String>,
    pub card: Option<CardId>,
    pub account: Option<AccountId>,
    pub card_hint: Option<String>,
    pub approval_code: Option<String>,
    pub authorisation_receipt: Vec<u8>,
    pub reversal_receipt: Vec<u8>,
    pub reversal_reason: Option<ReversalReason>,
    pub created_at: UnixTime,
    pub captured_at: Option<UnixTime>,
    pub reversed_at: Option<UnixTime>,
}

/// One transaction for the institution's own people. No card data beyond the hint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionDetail {
    /// Which.
    pub id: TransactionId,
    /// Whose machine.
    pub terminal: TerminalId,
    /// Who is paid; none for tombstones and unknown terminals.
    pub merchant_id: Option<String>,
    /// How it stands.
    pub state: TransactionState,
    /// Why refused.
    pub decline_reason: Option<DeclineReason>,
    /// How much; none for tombstones.
    pub amount: Option<Amount>,
    /// By which the holder recognises the card; none where no card was read.
    pub card_hint: Option<String>,
    /// What the holder quotes; where approved.
    pub approval_code: Option<String>,
    /// Why reversed.
    pub reversal_reason: Option<ReversalReason>,
    /// SHA-256 of the offer, in hexadecimal.
    pub offer_digest: Option<OfferDigest>,
    /// By the institution's clock.
    pub created_at: UnixTime,
    /// By the institution's clock.
    pub captured_at: Option<UnixTime>,
    /// By the institution's clock.
    pub reversed_at: Option<UnixTime>,
}

impl From<TransactionRecord> for TransactionDetail {
    fn from(record: TransactionRecord) -> Self {
        Self {
            id: record.id,
            terminal: record.terminal,
            merchant_id: record.merchant_id,
            state: record.state,
            decline_reason: record.decline_reason,
            amount: record.amount,
            card_hint: record.card_hint.filter(|hint| !hint.is_empty()),
            approval_code: record.approval_code,
            reversal_reason: record.reversal_reason,
            offer_digest: record.offer_digest,
            created_at: record.created_at,
            captured_at: record.captured_at,
            reversed_at: record.reversed_at,
        }
    }
}

const QUERY: &str = "SELECT number, terminal, payment_transaction.id, state, decline_reason, request_digest, offer_digest, \
     amount_minor, currency, merchant_id, card, card.account, card_hint, approval_code, authorisation_receipt, \
     reversal_receipt, reversal_reason, payment_transaction.created_at, captured_at, reversed_at \
     FROM payment_transaction LEFT JOIN card ON card.id = payment_transaction.card";

fn read(row: &Row<'_>) -> Result<TransactionRecord, StoreError> {
    let corrupt = |what| StoreError::Corrupt { what };
    let time = |seconds: Option<u64>| seconds.map(|seconds| UnixTime { seconds });
    let amount = match (row.get::<_, Option<u64>>(7)?, row.get::<_, Option<String>>(8)?) {
        (Some(minor), Some(currency)) => {
            let currency = currency.parse().map_err(|_| corrupt("currency"))?;
            Some(Amount::new(minor, currency).map_err(|_| corrupt("amount"))?)
        }
        (None, None) => None,
        (Some(_), None) | (None, Some(_)) => return Err(corrupt("amount")),
    };
    Ok(TransactionRecord {
        number: row.get(0)?,
        terminal: row.get::<_, String>(1)?.parse().map_err(|_| corrupt("terminal id"))?,
        id: TransactionId::from_octets(&row.get::<_, [u8; 16]>(2)?)
            .map_err(|_| corrupt("transaction id"))?,
        state: TransactionState::from_name(&row.get::<_, String>(3)?)?,
        decline_reason: row
            .get::<_, Option<u32>>(4)?
            .map(|code| DeclineReason::from_code(code).ok_or(corrupt("decline reason")))
            .transpose()?,
        request_digest: row.get(5)?,
        offer_digest: row.get::<_, Option<[u8; 32]>>(6)?.map(OfferDigest),
        amount,
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
    })
}

pub(in crate::institution) fn find(
    connection: &Connection,
    terminal: TerminalId,
    id: TransactionId,
) -> Result<Option<TransactionRecord>, StoreError> {
    let mut statement = connection
        .prepare_cached(&format!("{QUERY} WHERE terminal = ? AND payment_transaction.id = ?"))?;
    statement
        .query_row(params![terminal.as_str(), id.as_octets()], |row| Ok(read(row)))
        .optional()?
        .transpose()
}

/// Stores the decision; returns the transaction's number.
pub(in crate::institution) fn insert(
    connection: &Connection,
    authorisation: &Authorisation<'_>,
) -> Result<i64, StoreError> {
    let (state, decline_reason, approval_code) = match authorisation.verdict {
        Ok(approval_code) => (TransactionState::Approved, None, Some(approval_code)),
        Err(reason) => (TransactionState::Declined, Some(reason.code()), None),
    };
    connection
        .prepare_cached(
            "INSERT INTO payment_transaction (terminal, id, state, decline_reason, request_digest, offer, \
             offer_digest, amount_minor, currency, merchant_id, card, card_counter, card_hint, approval_code, \
             authorisation_receipt, created_at) VALUES (:terminal, :id, :state, :decline_reason, :request_digest, \
             :offer, :offer_digest, :amount_minor, :currency, :merchant_id, :card, :card_counter, :card_hint, \
             :approval_code, :receipt, :now)",
        )?
        .execute(named_params! {
            ":terminal": authorisation.terminal.as_str(),
            ":id": authorisation.id.as_octets(),
            ":state": state.name(),
            ":decline_reason": decline_reason,
            ":request_digest": authorisation.request_digest,
            ":offer": authorisation.offer,
            ":offer_digest": authorisation.offer_digest.0,
            ":amount_minor": authorisation.amount.minor(),
            ":currency": authorisation.amount.currency().code(),
            ":merchant_id": authorisation.merchant_id,
            ":card": authorisation.card.as_ref().map(CardId::as_octets),
            ":card_counter": authorisation.card_counter,
            ":card_hint": authorisation.card_hint,
            ":approval_code": approval_code,
            ":receipt": authorisation.receipt,
            ":now": authorisation.now.seconds,
        })?;
    Ok(connection.last_insert_rowid())
}

/// From now on, an authorisation of this id is refused.
pub(in crate::institution) fn insert_tombstone(
    connection: &Connection,
    terminal: TerminalId,
    id: TransactionId,
    reason: ReversalReason,
    now: UnixTime,
) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "INSERT INTO payment_transaction (terminal, id, state, reversal_reason, created_at, reversed_at) \
             VALUES (?1, ?2, 'reversed', ?3, ?4, ?4)",
        )?
        .execute(params![terminal.as_str(), id.as_octets(), reason.name(), now.seconds])?;
    Ok(())
}

pub(in crate::institution) fn set_captured(
    connection: &Connection,
    number: i64,
    now: UnixTime,
) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "UPDATE payment_transaction SET state = 'captured', captured_at = ? \
             WHERE number = ? AND state = 'approved'",
        )?
        .execute(params![now.seconds, number])?;
    Ok(())
}

pub(in crate::institution) fn set_reversed(
    connection: &Connection,
    number: i64,
    reason: ReversalReason,
    receipt: &[u8],
    now: UnixTime,
) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "UPDATE payment_transaction SET state = 'reversed', reversed_at = ?, reversal_reason = ?, \
             reversal_receipt = ? WHERE number = ? AND state IN ('approved', 'captured')",
        )?
        .execute(params![now.seconds, reason.name(), receipt, number])?;
    Ok(())
}

/// Where a page of a reconciliation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PageEnd {
    created_at: UnixTime,
    number: i64,
}

impl PageEnd {
    pub(in crate::institution) fn of(record: &TransactionRecord) -> Self {
        Self { created_at: record.created_at, number: record.number }
    }
}

/// One page of a terminal's transactions of a period, oldest first: those after `after`.
pub(in crate::institution) fn page(
    connection: &Connection,
    terminal: TerminalId,
    from: UnixTime,
    until: UnixTime,
    after: Option<PageEnd>,
    limit: u32,
) -> Result<Vec<TransactionRecord>, StoreError> {
    let bounded = |time: UnixTime| i64::try_from(time.seconds).unwrap_or(i64::MAX);
    // Numbers start at 1, so this is before everything of `from`.
    let after = after
        .filter(|after| after.created_at >= from)
        .unwrap_or(PageEnd { created_at: from, number: 0 });
    let mut statement = connection.prepare_cached(&format!(
        "{QUERY} WHERE terminal = ? AND (payment_transaction.created_at, number) > (?, ?) \
         AND payment_transaction.created_at < ? ORDER BY payment_transaction.created_at, number LIMIT ?"
    ))?;
    collect(statement.query(params![
        terminal.as_str(),
        bounded(after.created_at),
        after.number,
        bounded(until),
        limit
    ])?)
}

/// The newest `limit` transactions, of one terminal or of all, newest first.
pub(in crate::institution) fn newest(
    connection: &Connection,
    terminal: Option<TerminalId>,
    limit: u32,
) -> Result<Vec<TransactionRecord>, StoreError> {
    let mut statement = connection.prepare_cached(&format!(
        "{QUERY} WHERE ?1 IS NULL OR terminal = ?1 ORDER BY number DESC LIMIT ?2"
    ))?;
    collect(statement.query(params![terminal.as_ref().map(TerminalId::as_str), limit])?)
}

/// Every transaction of that id: more than one only where terminals disagree whose it is.
pub(in crate::institution) fn with_id(
    connection: &Connection,
    id: TransactionId,
) -> Result<Vec<TransactionRecord>, StoreError> {
    let mut statement = connection
        .prepare_cached(&format!("{QUERY} WHERE payment_transaction.id = ? ORDER BY number"))?;
    collect(statement.query([id.as_octets()])?)
}

fn collect(mut rows: rusqlite::Rows<'_>) -> Result<Vec<TransactionRecord>, StoreError> {
    let mut records = Vec::new();
    while let Some(row) = rows.next()? {
        records.push(read(row)?);
    }
    Ok(records)
}
