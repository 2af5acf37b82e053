//! Table `card`.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::account_table::read_currency;
use crate::credential::VerifyingKey;
use crate::domain::{CardId, UnixTime};
use crate::institution::records::{AccountId, CardKey, EnrolmentState, IssuedCard, NewCard};
use crate::institution::store::StoreError;

const QUERY: &str = "SELECT card.id, card.account, account.currency, card.blocked, \
     card.payment_limit_minor, card.verification_limit_minor, card.counter, card.public_key, \
     card.not_after \
     FROM card JOIN account ON account.id = card.account";

fn read(row: &Row<'_>) -> Result<IssuedCard, StoreError> {
    let id: [u8; 16] = row.get(0)?;
    let is_blocked: bool = row.get(3)?;
    let public_key: Option<Vec<u8>> = row.get(7)?;
    Ok(IssuedCard {
        id: CardId::from_octets(&id).map_err(|_| StoreError::corrupt("card id"))?,
        account: AccountId(row.get(1)?),
        currency: read_currency(&row.get::<_, String>(2)?)?,
        state: EnrolmentState::new(is_blocked, public_key.is_some()),
        payment_limit_minor: row.get(4)?,
        verification_limit_minor: row.get(5)?,
        counter: row.get(6)?,
        public_key: public_key
            .map(|octets| VerifyingKey::from_sec1(&octets))
            .transpose()
            .map_err(|_| StoreError::corrupt("card's public key"))?,
        not_after: row.get::<_, Option<u64>>(8)?.map(|seconds| UnixTime { seconds }),
    })
}

pub(super) fn insert(connection: &Connection, card: &NewCard) -> Result<(), StoreError> {
    connection.execute(
        "INSERT INTO card (id, account, payment_limit_minor, verification_limit_minor, created_at) \
         VALUES (?, ?, ?, ?, ?)",
        params![
            card.id.as_octets(),
            card.account.0,
            card.payment_limit_minor,
            card.verification_limit_minor,
            card.issued_at.seconds
        ],
    )?;
    Ok(())
}

pub(super) fn find(connection: &Connection, id: CardId) -> Result<Option<IssuedCard>, StoreError> {
    let mut statement = connection.prepare_cached(&format!("{QUERY} WHERE card.id = ?"))?;
    statement.query_row([id.as_octets()], |row| Ok(read(row))).optional()?.transpose()
}

pub(super) fn all(connection: &Connection) -> Result<Vec<IssuedCard>, StoreError> {
    let mut statement =
        connection.prepare_cached(&format!("{QUERY} ORDER BY card.created_at, card.id"))?;
    let mut rows = statement.query([])?;
    let mut cards = Vec::new();
    while let Some(row) = rows.next()? {
        cards.push(read(row)?);
    }
    Ok(cards)
}

/// Returns whether there is such a card.
pub(super) fn set_blocked(
    connection: &Connection,
    id: CardId,
    is_blocked: bool,
) -> Result<bool, StoreError> {
    let changed = connection
        .execute("UPDATE card SET blocked = ? WHERE id = ?", params![is_blocked, id.as_octets()])?;
    Ok(changed == 1)
}

/// The counter stays: it only moves up.
pub(super) fn set_key(
    connection: &Connection,
    id: CardId,
    key: &CardKey,
) -> Result<(), StoreError> {
    connection.execute(
        "UPDATE card SET public_key = ?, not_after = ? WHERE id = ?",
        params![key.public_key.to_sec1(), key.not_after.seconds, id.as_octets()],
    )?;
    Ok(())
}

/// Moves the counter up.
pub(super) fn set_counter(
    connection: &Connection,
    id: CardId,
    counter: u64,
) -> Result<(), StoreError> {
    let moved = connection
        .prepare_cached("UPDATE card SET counter = ?1 WHERE id = ?2 AND counter < ?1")?
        .execute(params![counter, id.as_octets()])?;
    if moved == 1 {
        Ok(())
    } else {
        Err(StoreError::RuleBroken { detail: "a card counter only moves up".to_owned() })
    }
}
