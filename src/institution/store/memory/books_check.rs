//! The rules of the books, over the store in memory.

use std::collections::BTreeMap;

use super::tables::{MemoryStore, Transaction};
use crate::domain::{Currency, TransactionState};
use crate::institution::records::{EntryKind, LedgerAccount, LedgerFault};

type Balances = BTreeMap<(Currency, LedgerAccount), i64>;

/// Everything that is wrong with the books.
pub(super) fn faults(store: &MemoryStore) -> Vec<LedgerFault> {
    let mut faults = Vec::new();
    check_balances(store, &mut faults);
    check_transactions(store, &mut faults);
    check_counters(store, &mut faults);
    faults
}

fn check_balances(store: &MemoryStore, faults: &mut Vec<LedgerFault>) {
    let mut posted = Balances::new();
    for entry in &store.books.entries {
        let currency = entry.transfer.amount().currency();
        let postings = entry.transfer.postings();
        if postings.iter().map(|(_, minor)| minor).sum::<i64>() != 0 {
            faults.push(fault("entry_sums_to_zero", format!("{:?}", entry.transfer)));
        }
        for (account, minor) in postings {
            *posted.entry((currency, account.clone())).or_default() += minor;
        }
    }
    if posted != store.books.balances {
        let detail = format!("{:?}, its postings sum to {posted:?}", store.books.balances);
        faults.push(fault("balance_is_sum_of_postings", detail));
    }
    for ((currency, account), minor) in &store.books.balances {
        if *minor < 0 && *account != LedgerAccount::Funding {
            let detail = format!("{account:?} is at {minor} {currency}");
            faults.push(fault("nothing_below_zero", detail));
        }
    }
    let expected = settled_balances(store);
    for ((currency, account), minor) in &store.books.balances {
        let rule = match account {
            LedgerAccount::Held(_) => "held_is_what_is_approved",
            LedgerAccount::Payable(_) => "payable_is_what_is_captured",
            LedgerAccount::Available(_) | LedgerAccount::Funding => continue,
        };
        if expected.get(&(*currency, account.clone())).copied().unwrap_or(0) != *minor {
            faults.push(fault(rule, format!("{account:?} is at {minor} {currency}")));
        }
    }
}

/// What is held and payable, as the transactions have it.
fn settled_balances(store: &MemoryStore) -> Balances {
    let mut balances = Balances::new();
    for Transaction { record, .. } in &store.transactions {
        let account = match (record.state, record.account, &record.merchant_id) {
            (TransactionState::Approved, Some(account), _) => LedgerAccount::Held(account),
            (TransactionState::Captured, _, Some(merchant)) => {
                LedgerAccount::Payable(merchant.clone())
            }
            (_, _, _) => continue,
        };
        if let Some(amount) = record.amount {
            let minor = i64::try_from(amount.minor()).unwrap_or(i64::MAX);
            *balances.entry((amount.currency(), account)).or_default() += minor;
        }
    }
    balances
}

fn check_transactions(store: &MemoryStore, faults: &mut Vec<LedgerFault>) {
    for Transaction { record, accepted_counter } in &store.transactions {
        let was_captured = record.captured_at.is_some();
        let expected: &[EntryKind] = match record.state {
            TransactionState::Approved => &[EntryKind::Hold],
            TransactionState::Captured => &[EntryKind::Hold, EntryKind::Capture],
            TransactionState::Reversed if was_captured => {
                &[EntryKind::Hold, EntryKind::Capture, EntryKind::Reversal]
            }
            TransactionState::Reversed if accepted_counter.is_some() => {
                &[EntryKind::Hold, EntryKind::Reversal]
            }
            TransactionState::Reversed
            | TransactionState::Declined(_)
            | TransactionState::Unknown => &[],
        };
        let kinds = store.books.kinds.get(&record.number).map_or(&[][..], Vec::as_slice);
        if kinds != expected {
            let detail = format!("{} is {}: {kinds:?}", record.key.id, record.state.name());
            faults.push(fault("transaction_has_its_entries", detail));
        }
    }
    for entry in &store.books.entries {
        let record = entry.transaction.and_then(|transaction| {
            let place = usize::try_from(transaction.number).ok()?.checked_sub(1)?;
            Some(&store.transactions.get(place)?.record)
        });
        if record.is_some_and(|record| record.amount != Some(entry.transfer.amount())) {
            faults.push(fault("entry_moves_the_amount", format!("{:?}", entry.transfer)));
        }
    }
}

fn check_counters(store: &MemoryStore, faults: &mut Vec<LedgerFault>) {
    for card in store.cards.values() {
        let of_card =
            store.transactions.iter().filter(|other| other.record.card == Some(card.record.id));
        let used = of_card.filter_map(|transaction| transaction.accepted_counter).max();
        if used.unwrap_or(0) != card.record.counter {
            let detail = format!("{:?} has counter {}", card.record.id, card.record.counter);
            faults.push(fault("card_counter_is_the_highest_used", detail));
        }
    }
}

fn fault(rule: &'static str, detail: String) -> LedgerFault {
    LedgerFault { rule, detail }
}
