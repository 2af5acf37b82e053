//! Tables `ledger_entry`, `ledger_posting` and `ledger_account`: entries are made and balances are
//! read. Triggers of the schema keep the balances.

use rusqlite::{Connection, params};

use crate::domain::{Currency, TransactionId, UnixTime};
use crate::institution::records::{LedgerAccount, LedgerBalance, LedgerEntry, Transfer};
use crate::institution::store::StoreError;

/// Makes an entry and returns its number. `transaction` is the transaction's; none for funding.
pub(super) fn insert(
    connection: &Connection,
    transfer: &Transfer,
    transaction: Option<i64>,
    made_at: UnixTime,
) -> Result<i64, StoreError> {
    connection
        .prepare_cached(
            "INSERT INTO ledger_entry (kind, payment_transaction, made_at) VALUES (?, ?, ?)",
        )?
        .execute(params![transfer.kind().name(), transaction, made_at.seconds])?;
    let entry = connection.last_insert_rowid();
    for (account, change_minor) in transfer.postings() {
        let account = account_number(connection, account, transfer.amount().currency())?;
        connection
            .prepare_cached(
                "INSERT INTO ledger_posting (entry, ledger_account, amount_minor) \
                 VALUES (?, ?, ?)",
            )?
            .execute(params![entry, account, change_minor])?;
    }
    Ok(entry)
}

/// The row of a ledger account; it is made at its first use.
fn account_number(
    connection: &Connection,
    account: &LedgerAccount,
    currency: Currency,
) -> Result<i64, StoreError> {
    let (kind, owner) = (account.kind(), account.owner());
    connection
        .prepare_cached(
            "INSERT OR IGNORE INTO ledger_account (kind, owner, currency) VALUES (?, ?, ?)",
        )?
        .execute(params![kind, owner, currency.code()])?;
    Ok(connection
        .prepare_cached(
            "SELECT id FROM ledger_account WHERE kind = ? AND owner = ? AND currency = ?",
        )?
        .query_row(params![kind, owner, currency.code()], |row| row.get(0))?)
}

/// The balance of a ledger account in minor units; 0 if nothing ever moved.
pub(super) fn balance(
    connection: &Connection,
    account: &LedgerAccount,
    currency: Currency,
) -> Result<i64, StoreError> {
    Ok(connection
        .prepare_cached(
            "SELECT coalesce(sum(balance_minor), 0) FROM ledger_account \
             WHERE kind = ? AND owner = ? AND currency = ?",
        )?
        .query_row(params![account.kind(), account.owner(), currency.code()], |row| row.get(0))?)
}

/// Every balance, by currency, kind and owner.
pub(super) fn balances(connection: &Connection) -> Result<Vec<LedgerBalance>, StoreError> {
    let mut statement = connection.prepare(
        "SELECT kind, owner, currency, balance_minor FROM ledger_account \
         ORDER BY currency, kind, owner",
    )?;
    let balances = statement.query_map([], |row| {
        Ok(LedgerBalance {
            kind: row.get(0)?,
            owner: row.get(1)?,
            currency: row.get(2)?,
            balance_minor: row.get(3)?,
        })
    })?;
    Ok(balances.collect::<Result<_, _>>()?)
}

/// The newest `limit` entries, oldest first.
pub(super) fn newest_entries(
    connection: &Connection,
    limit: u32,
) -> Result<Vec<LedgerEntry>, StoreError> {
    let mut statement = connection.prepare(
        "SELECT ledger_entry.number, ledger_entry.kind, payment_transaction.id, made_at, \
         ledger_account.kind, owner, ledger_account.currency, ledger_posting.amount_minor \
         FROM (SELECT * FROM ledger_entry ORDER BY number DESC LIMIT ?) AS ledger_entry \
         JOIN ledger_posting ON entry = ledger_entry.number \
         JOIN ledger_account ON ledger_account.id = ledger_posting.ledger_account \
         LEFT JOIN payment_transaction \
           ON payment_transaction.number = ledger_entry.payment_transaction \
         ORDER BY ledger_entry.number, ledger_posting.amount_minor",
    )?;
    let mut rows = statement.query([limit])?;
    let mut entries: Vec<LedgerEntry> = Vec::new();
    while let Some(row) = rows.next()? {
        let number = row.get(0)?;
        let posting = LedgerBalance {
            kind: row.get(4)?,
            owner: row.get(5)?,
            currency: row.get(6)?,
            balance_minor: row.get(7)?,
        };
        match entries.last_mut() {
            Some(entry) if entry.number == number => entry.postings.push(posting),
            Some(_) | None => entries.push(LedgerEntry {
                number,
                kind: row.get(1)?,
                transaction_id: row
                    .get::<_, Option<[u8; 16]>>(2)?
                    .map(|id| TransactionId::from_octets(&id))
                    .transpose()
                    .map_err(|_| StoreError::corrupt("transaction id"))?,
                made_at: UnixTime { seconds: row.get(3)? },
                postings: vec![posting],
            }),
        }
    }
    Ok(entries)
}
