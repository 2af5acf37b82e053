//! A payment, for people and for programs.

use florin::institution::TransactionDetail;
use serde_json::{Value, json};

use crate::money::money;
use crate::output::{Item, dash, time_or_dash};

fn reason(transaction: &TransactionDetail) -> Option<&'static str> {
    let declined = transaction.state.decline_reason().map(|reason| reason.name());
    declined.or(transaction.reversal_reason.map(|reason| reason.name()))
}

fn amount(transaction: &TransactionDetail) -> String {
    transaction.amount.map_or_else(dash, |amount| amount.to_string())
}

fn refunded(transaction: &TransactionDetail) -> String {
    transaction
        .amount
        .map_or_else(dash, |amount| money(transaction.refunded_minor.into(), amount.currency()))
}

fn card(transaction: &TransactionDetail) -> String {
    transaction.card_hint.as_ref().map_or_else(dash, |hint| format!("…{hint}"))
}

/// A payment for programs.
pub fn object(transaction: &TransactionDetail) -> Value {
    json!({
        "transaction": transaction.id.to_string(),
        "terminal": transaction.terminal.to_string(),
        "merchant_id": transaction.merchant_id,
        "state": transaction.state.name(),
        "decline_reason": transaction.state.decline_reason().map(|reason| reason.name()),
        "reversal_reason": transaction.reversal_reason.map(|reason| reason.name()),
        "amount_minor": transaction.amount.map(|amount| amount.minor()),
        "currency": transaction.amount.map(|amount| amount.currency().code().to_owned()),
        "card_hint": transaction.card_hint,
        "approval_code": transaction.approval_code,
        "refunded_minor": transaction.refunded_minor,
        "offer_digest": transaction.offer_digest.map(|digest| format!("{digest:?}")),
        "created_at_unix_s": transaction.created_at.seconds,
        "captured_at_unix_s": transaction.captured_at.map(|time| time.seconds),
        "reversed_at_unix_s": transaction.reversed_at.map(|time| time.seconds),
        "written_off_at_unix_s": transaction.written_off_at.map(|time| time.seconds),
        "hold_until_unix_s": transaction.hold_until.map(|time| time.seconds),
    })
}

/// A payment in a list.
pub fn item(transaction: &TransactionDetail) -> Item {
    let row = vec![
        transaction.created_at.to_string(),
        transaction.id.to_string(),
        transaction.terminal.to_string(),
        transaction.state.name().to_owned(),
        amount(transaction),
        reason(transaction).unwrap_or("-").to_owned(),
        card(transaction),
    ];
    (object(transaction), row)
}

/// A payment for people.
pub fn text(transaction: &TransactionDetail) -> String {
    let rows = [
        ("transaction", transaction.id.to_string()),
        ("terminal", transaction.terminal.to_string()),
        ("merchant", transaction.merchant_id.clone().unwrap_or_else(dash)),
        ("state", transaction.state.name().to_owned()),
        ("reason", reason(transaction).unwrap_or("-").to_owned()),
        ("amount", amount(transaction)),
        ("card", card(transaction)),
        ("approval code", transaction.approval_code.clone().unwrap_or_else(dash)),
        ("created", transaction.created_at.to_string()),
        ("captured", time_or_dash(transaction.captured_at)),
        ("reversed", time_or_dash(transaction.reversed_at)),
        ("written off", time_or_dash(transaction.written_off_at)),
        ("given back", refunded(transaction)),
    ];
    rows.map(|(name, value)| format!("{name:<14} {value}")).join("\n")
}
