//! The ledger of the store in memory: its entries, and the balances beside them.

use std::collections::BTreeMap;

use crate::domain::{Currency, TransactionId, UnixTime};
use crate::institution::records::{EntryKind, LedgerAccount, Transfer};
use crate::institution::store::StoreError;

/// A rule of the store that a caller has broken.
pub(super) fn rule_broken(rule: &str) -> StoreError {
    StoreError::RuleBroken { detail: rule.to_owned() }
}

/// One entry of the ledger.
#[derive(Debug)]
pub(super) struct Entry {
    pub transfer: Transfer,
    pub transaction: Option<EntryTransaction>,
    pub made_at: UnixTime,
}

/// The transaction that an entry belongs to.
#[derive(Debug, Clone, Copy)]
pub(super) struct EntryTransaction {
    pub number: i64,
    pub id: TransactionId,
}

/// Entries and balances.
#[derive(Debug, Default)]
pub(super) struct Books {
    /// The number of an entry is its place, from 1.
    pub entries: Vec<Entry>,
    pub balances: BTreeMap<(Currency, LedgerAccount), i64>,
    /// The kinds of the entries that each transaction has, by its number.
    pub kinds: BTreeMap<i64, Vec<EntryKind>>,
}

impl Books {
    pub(super) fn balance(&self, account: &LedgerAccount, currency: Currency) -> i64 {
        self.balances.get(&(currency, account.clone())).copied().unwrap_or(0)
    }

    /// Whether the entry can be made.
    pub(super) fn check(
        &self,
        transfer: &Transfer,
        transaction: Option<i64>,
    ) -> Result<(), StoreError> {
        let has_kind = transaction
            .and_then(|number| self.kinds.get(&number))
            .is_some_and(|kinds| kinds.contains(&transfer.kind()));
        if has_kind && transfer.kind() != EntryKind::Refund {
            return Err(rule_broken("a transaction has at most one entry of a kind but refunds"));
        }
        let currency = transfer.amount().currency();
        let is_short = transfer.postings().into_iter().any(|(account, change_minor)| {
            !account.may_be_negative() && self.balance(account, currency) + change_minor < 0
        });
        if is_short { Err(rule_broken("no balance goes below zero")) } else { Ok(()) }
    }

    /// Makes an entry that [`Self::check`] has found right.
    pub(super) fn insert(
        &mut self,
        transfer: Transfer,
        transaction: Option<EntryTransaction>,
        made_at: UnixTime,
    ) {
        let currency = transfer.amount().currency();
        for (account, change_minor) in transfer.postings() {
            *self.balances.entry((currency, account.clone())).or_default() += change_minor;
        }
        if let Some(transaction) = transaction {
            self.kinds.entry(transaction.number).or_default().push(transfer.kind());
        }
        self.entries.push(Entry { transfer, transaction, made_at });
    }
}
