//! Table `account`, with the balances that the ledger has for each account.

use rusqlite::{Connection, params};

use crate::domain::Currency;
use crate::institution::records::{Account, AccountId, NewAccount};
use crate::institution::store::StoreError;

pub(super) fn read_currency(text: &str) -> Result<Currency, StoreError> {
    text.parse().map_err(|_| StoreError::corrupt("currency"))
}

pub(super) fn insert(
    connection: &Connection,
    account: &NewAccount,
) -> Result<AccountId, StoreError> {
    connection.execute(
        "INSERT INTO account (name, currency, created_at) VALUES (?, ?, ?)",
        params![account.name, account.currency.code(), account.created_at.seconds],
    )?;
    Ok(AccountId(connection.last_insert_rowid()))
}

/// One account, or all, by number.
pub(super) fn select(
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
