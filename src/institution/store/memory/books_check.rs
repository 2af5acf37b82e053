//! The rules of the books, over the store in memory.

use std::collections::BTreeMap;

use super::books::Entry;
use super::tables::{MemoryStore, Transaction};
use crate::domain::{Currency, TransactionState};
use crate::institution::records::{
    AccountId, EntryKind, LedgerAccount, LedgerFault, TransactionRecord, Transfer,
};

type Balances = BTreeMap<(Currency, LedgerAccount), i64>;

/// Everything that is wrong with the books.
pub(super) fn faults(store: &MemoryStore) -> Vec<LedgerFault> {
    let mut faults = Vec::new();
    check_balances(store, &mut faults);
    check_transactions(store, &mut faults);
    check_entries(store, &mut faults);
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
        if *minor < 0 && !account.may_be_negative() {
            let detail = format!("{account:?} is at {minor} {currency}");
            faults.push(fault("nothing_below_zero", detail));
        }
    }
    let expected = settled_balances(store);
    for ((currency, account), minor) in &store.books.balances {
        let rule = match account {
            LedgerAccount::Held(_) => "held_is_what_is_approved",
            LedgerAccount::Payable(_) => "payable_is_what_is_captured",
            LedgerAccount::Available(_) | LedgerAccount::Funding | LedgerAccount::Loss => continue,
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
        let is_written_off = record.written_off_at.is_some();
        let account = match (record.state, record.account, &record.merchant_id) {
            (TransactionState::Approved, Some(account), _) => LedgerAccount::Held(account),
            (TransactionState::Captured, _, Some(merchant)) => {
                LedgerAccount::Payable(merchant.clone())
            }
            (TransactionState::Reversed, _, Some(merchant)) if is_written_off => {
                LedgerAccount::Payable(merchant.clone())
            }
            (_, _, _) => continue,
        };
        if let Some(amount) = record.amount {
            let minor = amount.minor().saturating_sub(record.refunded_minor);
            let minor = i64::try_from(minor).unwrap_or(i64::MAX);
            *balances.entry((amount.currency(), account)).or_default() += minor;
        }
    }
    balances
}

fn check_transactions(store: &MemoryStore, faults: &mut Vec<LedgerFault>) {
    for Transaction { record, accepted_counter, .. } in &store.transactions {
        let expected: &[EntryKind] = match record.state {
            TransactionState::Approved => &[EntryKind::Hold],
            TransactionState::Captured => &[EntryKind::Hold, EntryKind::Capture],
            TransactionState::Reversed if record.written_off_at.is_some() => {
                &[EntryKind::Hold, EntryKind::Reversal, EntryKind::WriteOff]
            }
            TransactionState::Reversed if accepted_counter.is_some() => {
                &[EntryKind::Hold, EntryKind::Reversal]
            }
            TransactionState::Reversed
            | TransactionState::Declined(_)
            | TransactionState::Unknown => &[],
        };
        let kinds = store.books.kinds.get(&record.number).map_or(&[][..], Vec::as_slice);
        // As many refunds as there may be, if it is captured.
        let is_refund = |kind: &EntryKind| {
            *kind == EntryKind::Refund && record.state == TransactionState::Captured
        };
        if !kinds.iter().filter(|kind| !is_refund(kind)).eq(expected) {
            let detail = format!("{} is {}: {kinds:?}", record.key.id, record.state.name());
            faults.push(fault("transaction_has_its_entries", detail));
        }
    }
}

fn check_entries(store: &MemoryStore, faults: &mut Vec<LedgerFault>) {
    let mut refunded: BTreeMap<i64, u64> = BTreeMap::new();
    for Entry { transfer, transaction, .. } in &store.books.entries {
        let record = transaction.and_then(|transaction| {
            let place = usize::try_from(transaction.number).ok()?.checked_sub(1)?;
            Some(&store.transactions.get(place)?.record)
        });
        let is_refund = transfer.kind() == EntryKind::Refund;
        if record.is_some_and(|record| !is_refund && record.amount != Some(transfer.amount())) {
            faults.push(fault("entry_moves_the_amount", format!("{transfer:?}")));
        }
        if !touches_its_accounts(store, transfer, record) {
            faults.push(fault("entry_touches_its_accounts", format!("{transfer:?}")));
        }
        if let (true, Some(record)) = (is_refund, record) {
            *refunded.entry(record.number).or_default() += transfer.amount().minor();
        }
    }
    for Transaction { record, .. } in &store.transactions {
        let sum = refunded.get(&record.number).copied().unwrap_or(0);
        let is_bounded = record.amount.map_or(0, |amount| amount.minor()) >= sum;
        if sum != record.refunded_minor || !is_bounded {
            let detail = format!("{} has refunds of {sum}", record.key.id);
            faults.push(fault("refunds_are_what_is_given_back", detail));
        }
    }
}

/// Whether the entry moves money between the accounts of its kind, and of its transaction.
fn touches_its_accounts(
    store: &MemoryStore,
    transfer: &Transfer,
    record: Option<&TransactionRecord>,
) -> bool {
    let amount = transfer.amount();
    let Some(record) = record else {
        let accounts = (1..).zip(&store.accounts);
        return accounts
            .filter(|(_, account)| account.currency == amount.currency())
            .any(|(number, _)| *transfer == Transfer::funding(AccountId(number), amount));
    };
    let (Some(account), Some(merchant_id)) = (record.account, record.merchant_id.clone()) else {
        return false;
    };
    let expected = match transfer.kind() {
        EntryKind::Funding => return false,
        EntryKind::Hold => Transfer::hold(account, amount),
        EntryKind::Capture => Transfer::capture(account, merchant_id, amount),
        EntryKind::Reversal => Transfer::reversal(account, amount),
        EntryKind::Refund => Transfer::refund(account, merchant_id, amount),
        EntryKind::WriteOff => Transfer::write_off(merchant_id, amount),
    };
    let has_currency = record.amount.is_some_and(|paid| paid.currency() == amount.currency());
    *transfer == expected && has_currency
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
