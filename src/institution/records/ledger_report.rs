//! What the books say: balances, entries, totals, and what is wrong with them.

use crate::domain::{TransactionId, UnixTime};

/// The balance of one ledger account, or one posting to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerBalance {
    /// `available`, `held`, `payable`, `funding` or `loss`.
    pub kind: String,
    /// The number of the account, the merchant's id, or nothing for funding and loss.
    pub owner: String,
    /// The code of ISO 4217.
    pub currency: String,
    /// In minor units; negative for funding and loss only.
    pub balance_minor: i64,
}

/// One entry of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerEntry {
    /// From 1, in the order in which entries are made.
    pub number: i64,
    /// `funding`, `hold`, `capture`, `reversal`, `refund` or `write_off`.
    pub kind: String,
    /// The transaction it belongs to; none for funding.
    pub transaction_id: Option<TransactionId>,
    /// By the institution's clock.
    pub made_at: UnixTime,
    /// Which ledger accounts change by how much, in minor units. They sum to zero.
    pub postings: Vec<LedgerBalance>,
}

/// How many transactions are in a state, and their sum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateTotal {
    /// `declined`, `approved`, `captured` or `reversed`.
    pub state: String,
    /// The code of ISO 4217; empty for tombstones, which have no amount.
    pub currency: String,
    pub count: u64,
    /// The sum in minor units.
    pub amount_minor: u64,
}

/// One place where the books break a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerFault {
    /// The broken rule: a stable name for programs.
    pub rule: &'static str,
    /// What breaks it. Holds no card data.
    pub detail: String,
}

/// The result of a check of the books.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerReport {
    /// How many entries there are.
    pub entries: u64,
    /// Every ledger account, by currency, kind and owner.
    pub balances: Vec<LedgerBalance>,
    /// Every state and currency.
    pub states: Vec<StateTotal>,
    /// What is wrong; empty if the books are right.
    pub faults: Vec<LedgerFault>,
}
