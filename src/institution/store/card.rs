//! Accounts and the cards that pay from them.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::StoreError;
use crate::credential::VerifyingKey;
use crate::domain::{CardId, Currency, UnixTime};

/// An account, by its number: 1 and up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountId(pub i64);

impl std::fmt::Display for AccountId {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(formatter)
    }
}

/// One cardholder's account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Which.
    pub id: AccountId,
    /// For people.
    pub name: String,
    /// The only currency it pays in.
    pub currency: Currency,
    /// What can be spent, in minor units.
    pub available_minor: u64,
    /// What is reserved by approvals that were neither captured nor reversed, in minor units.
    pub held_minor: u64,
}

/// How a card stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CardState {
    /// Made; its code was not used yet.
    Pending,
    /// Enrolled.
    Active,
    /// Shut out.
    Blocked,
}

impl CardState {
    /// A stable name for programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Blocked => "blocked",
        }
    }
}

/// One card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Card {
    /// Which. Prints only its hint.
    pub id: CardId,
    /// Where it pays from.
    pub account: AccountId,
    /// The account's currency.
    pub currency: Currency,
    /// How it stands.
    pub state: CardState,
    /// What it may pay at once, in minor units.
    pub payment_limit_minor: u64,
    /// Above it, a passcode or a biometric trait is wanted; in minor units.
    pub verification_limit_minor: u64,
    /// The highest counter of a command with a good signature; 0 before the first.
    pub counter: u64,
    /// Verifies its commands; none before enrolment.
    pub public_key: Option<VerifyingKey>,
    /// Last second it may pay; none before enrolment.
    pub not_after: Option<UnixTime>,
}

/// What is known of a card before its holder has it.
#[derive(Debug, Clone, Copy)]
pub(in crate::institution) struct NewCard {
    pub id: CardId,
    pub account: AccountId,
    pub payment_limit_minor: u64,
    pub verification_limit_minor: u64,
}

/// What enrolment adds.
#[derive(Debug, Clone, Copy)]
pub(in crate::institution) struct CardEnrolmentKeys {
    pub public_key: VerifyingKey,
    pub not_after: UnixTime,
}

const CARD_QUERY: &str = "SELECT card.id, card.account, account.currency, card.blocked, card.payment_limit_minor, \
     card.verification_limit_minor, card.counter, card.public_key, card.not_after \
     FROM card JOIN account ON account.id = card.account";

fn read_currency(text: &str) -> Result<Currency, StoreError> {
    text.parse().map_err(|_| StoreError::Corrupt { what: "currency" })
}

fn read_card(row: &Row<'_>) -> Result<Card, StoreError> {
    let id: [u8; 16] = row.get(0)?;
    let blocked: bool = row.get(3)?;
    let public_key: Option<Vec<u8>> = row.get(7)?;
    Ok(Card {
        id: CardId::from_octets(&id).map_err(|_| StoreError::Corrupt { what: "card id" })?,
        account: AccountId(row.get(1)?),
        currency: read_currency(&row.get::<_, String>(2)?)?,
        state: match (blocked, &public_key) {
            (true, _) => CardState::Blocked,
            (false, Some(_)) => CardState::Active,
            (false, None) => CardState::Pending,
        },
        payment_limit_minor: row.get(4)?,
        verification_limit_minor: row.get(5)?,
        counter: row.get(6)?,
        public_key: public_key
            .map(|octets| VerifyingKey::from_sec1(&octets))
            .transpose()
            .map_err(|_| StoreError::Corrupt { what: "card key" })?,
        not_after: row.get::<_, Option<u64>>(8)?.map(|seconds| UnixTime { seconds }),
    })
}

pub(in crate::institution) fn insert_account(
    connection: &Connection,
    name: &str,
    currency: Currency,
    now: UnixTime,
) -> Result<AccountId, StoreError> {
    connection.execute(
        "INSERT INTO account (name, currency, created_at) VALUES (?, ?, ?)",
        params![name, currency.code(), now.seconds],
    )?;
    Ok(AccountId(connection.last_insert_rowid()))
}

pub(in crate::institution) fn accounts(
    connection: &Connection,
    only: Option<AccountId>,
) -> Result<Vec<Account>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT account.id, account.name, account.currency, \
         coalesce((SELECT balance_minor FROM ledger_account WHERE kind = 'available' \
           AND owner = CAST(account.id AS TEXT) AND currency = account.currency), 0), \
         coalesce((SELECT balance_minor FROM ledger_account WHERE kind = 'held' \
           AND owner = CAST(account.id AS TEXT) AND currency = account.currency), 0) \
         FROM account WHERE ?1 IS NULL OR account.id = ?1 ORDER BY account.id",
    )?;
    let mut rows = statement.query([only.map(|id| id.0)])?;
    let mut accounts = Vec::new();
    while let Some(row) = rows.next()? {
        accounts.push(Account {
            id: AccountId(row.get(0)?),
            name: row.get(1)?,
            currency: read_currency(&row.get::<_, String>(2)?)?,
            available_minor: row.get(3)?,
            held_minor: row.get(4)?,
        });
    }
    Ok(accounts)
}

pub(in crate::institution) fn insert(
    connection: &Connection,
    card: NewCard,
    now: UnixTime,
) -> Result<(), StoreError> {
    connection.execute(
        "INSERT INTO card (id, account, payment_limit_minor, verification_limit_minor, created_at) \
         VALUES (?, ?, ?, ?, ?)",
        params![
            card.id.as_octets(),
            card.account.0,
            card.payment_limit_minor,
            card.verification_limit_minor,
            now.seconds
        ],
    )?;
    Ok(())
}

pub(in crate::institution) fn find(
    connection: &Connection,
    id: CardId,
) -> Result<Option<Card>, StoreError> {
    let mut statement = connection.prepare_cached(&format!("{CARD_QUERY} WHERE card.id = ?"))?;
    statement.query_row([id.as_octets()], |row| Ok(read_card(row))).optional()?.transpose()
}

pub(in crate::institution) fn all(connection: &Connection) -> Result<Vec<Card>, StoreError> {
    let mut statement =
        connection.prepare_cached(&format!("{CARD_QUERY} ORDER BY card.created_at, card.id"))?;
    let mut rows = statement.query([])?;
    let mut cards = Vec::new();
    while let Some(row) = rows.next()? {
        cards.push(read_card(row)?);
    }
    Ok(cards)
}

/// Returns whether there is such a card.
pub(in crate::institution) fn set_blocked(
    connection: &Connection,
    id: CardId,
    blocked: bool,
) -> Result<bool, StoreError> {
    let changed = connection
        .execute("UPDATE card SET blocked = ? WHERE id = ?", params![blocked, id.as_octets()])?;
    Ok(changed == 1)
}

/// A new key starts with a new counter only where the card never had one: the counter only grows.
pub(in crate::institution) fn enrol(
    connection: &Connection,
    id: CardId,
    keys: CardEnrolmentKeys,
) -> Result<(), StoreError> {
    connection.execute(
        "UPDATE card SET public_key = ?, not_after = ? WHERE id = ?",
        params![keys.public_key.to_sec1(), keys.not_after.seconds, id.as_octets()],
    )?;
    Ok(())
}

pub(in crate::institution) fn set_counter(
    connection: &Connection,
    id: CardId,
    counter: u64,
) -> Result<(), StoreError> {
    connection
        .prepare_cached("UPDATE card SET counter = ? WHERE id = ?")?
        .execute(params![counter, id.as_octets()])?;
    Ok(())
}
