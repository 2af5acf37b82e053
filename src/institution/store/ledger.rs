//! The double-entry ledger: what every minor unit is and was.
//!
//! Ledger accounts: `available` and `held` for each cardholder's account, `payable` for each
//! merchant, `funding` for where balances came from. An entry moves money between them and its
//! postings sum to zero; a posting is never changed. When to make an entry is not decided here.

use rusqlite::{Connection, params};

use super::{AccountId, StoreError};
use crate::domain::{Amount, Currency, TransactionId, UnixTime};

/// Where money can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::institution) enum LedgerAccount<'a> {
    /// What the holder can spend.
    Available(AccountId),
    /// What approvals have reserved.
    Held(AccountId),
    /// What the institution owes the merchant.
    Payable(&'a str),
    /// Where opening balances come from; the only one that goes below zero.
    Funding,
}

impl LedgerAccount<'_> {
    fn kind_and_owner(&self) -> (&'static str, String) {
        match self {
            Self::Available(account) => ("available", account.to_string()),
            Self::Held(account) => ("held", account.to_string()),
            Self::Payable(merchant) => ("payable", (*merchant).to_owned()),
            Self::Funding => ("funding", String::new()),
        }
    }
}

/// Why money moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::institution) enum EntryKind {
    /// An opening balance.
    Funding,
    /// An approval reserves.
    Hold,
    /// A capture takes what was reserved.
    Capture,
    /// A reversal gives back.
    Reversal,
}

impl EntryKind {
    fn name(self) -> &'static str {
        match self {
            Self::Funding => "funding",
            Self::Hold => "hold",
            Self::Capture => "capture",
            Self::Reversal => "reversal",
        }
    }
}

/// Moves `amount` between two ledger accounts. `transaction` is the transaction's number; none for
/// funding.
pub(in crate::institution) fn transfer(
    connection: &Connection,
    kind: EntryKind,
    transaction: Option<i64>,
    from: LedgerAccount<'_>,
    to: LedgerAccount<'_>,
    amount: Amount,
    now: UnixTime,
) -> Result<(), StoreError> {
    // An amount has twelve digits at most.
    let minor = i64::try_from(amount.minor()).map_err(|_| StoreError::Unbalanced)?;
    let postings = [(from, -minor), (to, minor)];
    if postings.iter().map(|(_, minor)| minor).sum::<i64>() != 0 {
        return Err(StoreError::Unbalanced);
    }
    connection
        .prepare_cached(
            "INSERT INTO ledger_entry (kind, payment_transaction, made_at) VALUES (?, ?, ?)",
        )?
        .execute(params![kind.name(), transaction, now.seconds])?;
    let entry = connection.last_insert_rowid();
    for (account, minor) in postings {
        let account = ledger_account(connection, account, amount.currency())?;
        connection
            .prepare_cached(
                "INSERT INTO ledger_posting (entry, ledger_account, amount_minor) VALUES (?, ?, ?)",
            )?
            .execute(params![entry, account, minor])?;
    }
    Ok(())
}

/// The row of a ledger account; it is made at its first use.
fn ledger_account(
    connection: &Connection,
    account: LedgerAccount<'_>,
    currency: Currency,
) -> Result<i64, StoreError> {
    let (kind, owner) = account.kind_and_owner();
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

/// What a ledger account holds, in minor units; 0 if nothing ever moved.
pub(in crate::institution) fn balance(
    connection: &Connection,
    account: LedgerAccount<'_>,
    currency: Currency,
) -> Result<i64, StoreError> {
    let (kind, owner) = account.kind_and_owner();
    Ok(connection
        .prepare_cached(
            "SELECT coalesce(sum(balance_minor), 0) FROM ledger_account \
             WHERE kind = ? AND owner = ? AND currency = ?",
        )?
        .query_row(params![kind, owner, currency.code()], |row| row.get(0))?)
}

/// What one ledger account holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerBalance {
    /// `available`, `held`, `payable` or `funding`.
    pub kind: String,
    /// The account's number, the merchant's id, or nothing.
    pub owner: String,
    /// ISO 4217.
    pub currency: String,
    /// In minor units; negative for funding only.
    pub balance_minor: i64,
}

/// One posting of one entry, with its entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerEntry {
    /// 1 and up, in the order of making.
    pub number: i64,
    /// `funding`, `hold`, `capture` or `reversal`.
    pub kind: String,
    /// Which transaction; none for funding.
    pub transaction_id: Option<TransactionId>,
    /// By the institution's clock.
    pub made_at: UnixTime,
    /// Which ledger accounts and by how much, in minor units. They sum to zero.
    pub postings: Vec<LedgerBalance>,
}

/// How many transactions are in a state, and what they come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateTotal {
    /// `declined`, `approved`, `captured` or `reversed`.
    pub state: String,
    /// ISO 4217; empty for tombstones, which have no amount.
    pub currency: String,
    /// How many.
    pub count: u64,
    /// Their sum in minor units.
    pub amount_minor: u64,
}

/// One thing that is wrong with the books.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerFault {
    /// Which rule is broken: a stable name for programs.
    pub rule: &'static str,
    /// What breaks it. No card data.
    pub detail: String,
}

/// What holding the books against their rules has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerReport {
    /// How many entries there are.
    pub entries: u64,
    /// Every ledger account.
    pub balances: Vec<LedgerBalance>,
    /// Every state and currency.
    pub states: Vec<StateTotal>,
    /// What is wrong; empty when the books are right.
    pub faults: Vec<LedgerFault>,
}

/// Each rule of the books: its name, and a query whose every row (one text) is a fault.
const RULES: [(&str, &str); 9] = [
    (
        "entry_sums_to_zero",
        "SELECT 'entry ' || entry || ' sums to ' || sum(amount_minor) || ' ' || currency \
         FROM ledger_posting JOIN ledger_account ON ledger_account.id = ledger_account \
         GROUP BY entry, currency HAVING sum(amount_minor) <> 0",
    ),
    (
        "entry_has_postings",
        "SELECT 'entry ' || number || ' has fewer than two postings' FROM ledger_entry \
         WHERE (SELECT count(*) FROM ledger_posting WHERE entry = number) < 2",
    ),
    (
        "balance_is_sum_of_postings",
        "WITH posted AS (SELECT ledger_account AS id, sum(amount_minor) AS total FROM ledger_posting GROUP BY 1) \
         SELECT kind || ' ' || owner || ' has ' || balance_minor || ' ' || currency || ', its postings come to ' || \
         coalesce(total, 0) FROM ledger_account LEFT JOIN posted USING (id) WHERE balance_minor <> coalesce(total, 0)",
    ),
    (
        "nothing_below_zero",
        "SELECT kind || ' ' || owner || ' is at ' || balance_minor || ' ' || currency \
         FROM ledger_account WHERE kind <> 'funding' AND balance_minor < 0",
    ),
    (
        "held_is_what_is_approved",
        "WITH approved AS (SELECT card.account AS owner, currency, sum(amount_minor) AS total \
           FROM payment_transaction JOIN card ON card.id = payment_transaction.card WHERE state = 'approved' \
           GROUP BY 1, 2) \
         SELECT 'account ' || ledger_account.owner || ' holds ' || balance_minor || ' ' || ledger_account.currency || \
         ', its approved transactions come to ' || coalesce(total, 0) \
         FROM ledger_account LEFT JOIN approved \
         ON ledger_account.owner = CAST(approved.owner AS TEXT) AND ledger_account.currency = approved.currency \
         WHERE kind = 'held' AND balance_minor <> coalesce(total, 0)",
    ),
    (
        "payable_is_what_is_captured",
        "WITH captured AS (SELECT merchant_id AS owner, currency, sum(amount_minor) AS total \
           FROM payment_transaction WHERE state = 'captured' GROUP BY 1, 2) \
         SELECT 'merchant ' || owner || ' is owed ' || balance_minor || ' ' || currency || \
         ', the captured transactions come to ' || coalesce(total, 0) \
         FROM ledger_account LEFT JOIN captured USING (owner, currency) \
         WHERE kind = 'payable' AND balance_minor <> coalesce(total, 0)",
    ),
    (
        "transaction_has_its_entries",
        "SELECT 'a transaction of terminal ' || terminal || ' is ' || state || ', its entries are: ' || \
         coalesce(entries, 'none') FROM (SELECT terminal, state, card_counter, captured_at, \
           (SELECT group_concat(kind, ', ') FROM (SELECT kind FROM ledger_entry \
             WHERE payment_transaction = payment_transaction.number ORDER BY ledger_entry.number)) AS entries \
           FROM payment_transaction) \
         WHERE entries IS NOT CASE \
           WHEN state = 'approved' THEN 'hold' \
           WHEN state = 'captured' THEN 'hold, capture' \
           WHEN state = 'reversed' AND captured_at IS NOT NULL THEN 'hold, capture, reversal' \
           WHEN state = 'reversed' AND card_counter IS NOT NULL THEN 'hold, reversal' \
           ELSE NULL END",
    ),
    (
        "entry_moves_the_amount",
        "SELECT 'entry ' || ledger_entry.number || ' moves ' || amount || ', its transaction is over ' || \
         payment_transaction.amount_minor FROM (SELECT entry, sum(amount_minor) AS amount FROM ledger_posting \
           WHERE amount_minor > 0 GROUP BY entry) \
         JOIN ledger_entry ON ledger_entry.number = entry \
         JOIN payment_transaction ON payment_transaction.number = ledger_entry.payment_transaction \
         WHERE amount IS NOT payment_transaction.amount_minor",
    ),
    (
        "card_counter_is_the_highest_used",
        // A card's last four digits are what people may see.
        "SELECT 'card …' || lower(hex(substr(id, 15))) || ' has counter ' || counter || ', its transactions go up to ' \
         || used FROM (SELECT id, counter, coalesce((SELECT max(card_counter) FROM payment_transaction \
           WHERE card = card.id), 0) AS used FROM card) WHERE counter <> used",
    ),
];

/// How many faults of one rule are listed: one is enough to stop and look.
const FAULTS_PER_RULE_MAX: usize = 20;

/// Holds the books against the rules.
pub(in crate::institution) fn check(connection: &Connection) -> Result<LedgerReport, StoreError> {
    let mut faults = Vec::new();
    for (rule, query) in RULES {
        let mut statement = connection.prepare(query)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            faults.push(LedgerFault { rule, detail: row.get(0)? });
            if faults.iter().filter(|fault| fault.rule == rule).count() == FAULTS_PER_RULE_MAX {
                break;
            }
        }
    }
    let integrity: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if integrity != "ok" {
        faults.push(LedgerFault { rule: "file_is_sound", detail: integrity });
    }
    let entries =
        connection.query_row("SELECT count(*) FROM ledger_entry", [], |row| row.get(0))?;
    Ok(LedgerReport {
        entries,
        balances: balances(connection)?,
        states: states(connection)?,
        faults,
    })
}

fn balances(connection: &Connection) -> Result<Vec<LedgerBalance>, StoreError> {
    let mut statement = connection.prepare(
        "SELECT kind, owner, currency, balance_minor FROM ledger_account ORDER BY currency, kind, owner",
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

fn states(connection: &Connection) -> Result<Vec<StateTotal>, StoreError> {
    let mut statement = connection.prepare(
        "SELECT state, coalesce(currency, ''), count(*), coalesce(sum(amount_minor), 0) FROM payment_transaction \
         GROUP BY 1, 2 ORDER BY 1, 2",
    )?;
    let states = statement.query_map([], |row| {
        Ok(StateTotal {
            state: row.get(0)?,
            currency: row.get(1)?,
            count: row.get(2)?,
            amount_minor: row.get(3)?,
        })
    })?;
    Ok(states.collect::<Result<_, _>>()?)
}

/// The newest `limit` entries, oldest first.
pub(in crate::institution) fn newest_entries(
    connection: &Connection,
    limit: u32,
) -> Result<Vec<LedgerEntry>, StoreError> {
    let mut statement = connection.prepare(
        "SELECT ledger_entry.number, ledger_entry.kind, payment_transaction.id, made_at, ledger_account.kind, owner, \
         ledger_account.currency, ledger_posting.amount_minor \
         FROM (SELECT * FROM ledger_entry ORDER BY number DESC LIMIT ?) AS ledger_entry \
         JOIN ledger_posting ON entry = ledger_entry.number \
         JOIN ledger_account ON ledger_account.id = ledger_posting.ledger_account \
         LEFT JOIN payment_transaction ON payment_transaction.number = ledger_entry.payment_transaction \
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
                    .map_err(|_| StoreError::Corrupt { what: "transaction id" })?,
                made_at: UnixTime { seconds: row.get(3)? },
                postings: vec![posting],
            }),
        }
    }
    Ok(entries)
}
