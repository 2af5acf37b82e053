//! The books of the store in memory, to be looked at and checked.

use std::collections::BTreeMap;

use super::books::Entry;
use super::books_check::faults;
use super::tables::MemoryStore;
use crate::domain::Currency;
use crate::institution::records::{
    LedgerAccount, LedgerBalance, LedgerEntry, LedgerReport, StateTotal,
};
use crate::institution::store::{LedgerStore, StoreError};

fn balance(account: &LedgerAccount, currency: Currency, balance_minor: i64) -> LedgerBalance {
    LedgerBalance {
        kind: account.kind().to_owned(),
        owner: account.owner(),
        currency: currency.to_string(),
        balance_minor,
    }
}

fn entry(number: i64, entry: &Entry) -> LedgerEntry {
    let currency = entry.transfer.amount().currency();
    let postings = entry.transfer.postings();
    LedgerEntry {
        number,
        kind: entry.transfer.kind().name().to_owned(),
        transaction_id: entry.transaction.map(|transaction| transaction.id),
        made_at: entry.made_at,
        postings: postings.map(|(account, minor)| balance(account, currency, minor)).to_vec(),
    }
}

impl MemoryStore {
    fn state_totals(&self) -> Vec<StateTotal> {
        let mut totals: BTreeMap<(&str, String), (u64, u64)> = BTreeMap::new();
        for transaction in &self.transactions {
            let record = &transaction.record;
            let amount = record.amount;
            let currency = amount.map_or_else(String::new, |amount| amount.currency().to_string());
            let total = totals.entry((record.state.name(), currency)).or_default();
            *total = (total.0 + 1, total.1 + amount.map_or(0, |amount| amount.minor()));
        }
        totals
            .into_iter()
            .map(|((state, currency), (count, amount_minor))| StateTotal {
                state: state.to_owned(),
                currency,
                count,
                amount_minor,
            })
            .collect()
    }
}

impl LedgerStore for MemoryStore {
    fn check_ledger(&mut self) -> Result<LedgerReport, StoreError> {
        let mut balances: Vec<_> = self
            .books
            .balances
            .iter()
            .map(|((currency, account), minor)| balance(account, *currency, *minor))
            .collect();
        balances.sort_by_key(|balance| {
            (balance.currency.clone(), balance.kind.clone(), balance.owner.clone())
        });
        Ok(LedgerReport {
            entries: self.books.entries.len() as u64,
            balances,
            states: self.state_totals(),
            faults: faults(self),
        })
    }

    fn newest_ledger_entries(&mut self, limit: u32) -> Result<Vec<LedgerEntry>, StoreError> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let skipped = self.books.entries.len().saturating_sub(limit);
        let numbered = (1..).zip(&self.books.entries).skip(skipped);
        Ok(numbered.map(|(number, made)| entry(number, made)).collect())
    }
}
