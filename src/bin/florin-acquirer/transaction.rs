//! `florin-acquirer transaction`: payments, to look at.

use clap::Subcommand;
use florin::command_line::{transaction_id, whole_number};
use florin::domain::TransactionId;
use florin::institution::{Institution, InstitutionError, TransactionDetail};
use serde_json::{Value, json};

use crate::output::{Item, Output, dash, time_or_dash};
use crate::typed::TerminalName;

/// The commands of this group.
#[derive(Debug, Subcommand)]
pub enum TransactionCommand {
    /// List the newest payments, newest first.
    List {
        /// Only those of this terminal: its id, or its short code.
        #[arg(long)]
        terminal: Option<TerminalName>,
        /// How many at most.
        #[arg(
            long,
            value_name = "COUNT",
            default_value_t = 50,
            value_parser = whole_number::<u32>("", 1..=u32::MAX.into()),
        )]
        limit: u32,
    },
    /// Show everything that is known of one payment.
    Show {
        /// The payment's id, a UUID.
        #[arg(value_parser = transaction_id)]
        transaction: TransactionId,
    },
}

/// Runs a command of this group.
pub fn run(
    command: TransactionCommand,
    mut institution: Institution,
    output: &Output,
) -> anyhow::Result<()> {
    match command {
        TransactionCommand::List { terminal, limit } => {
            let terminal = match terminal {
                Some(name) => Some(name.find(&mut institution)?),
                None => None,
            };
            let transactions = institution.newest_transactions(terminal, limit)?;
            let headings =
                ["CREATED", "TRANSACTION", "TERMINAL", "STATE", "AMOUNT", "REASON", "CARD"];
            output.list(&headings, transactions.iter().map(item).collect())
        }
        TransactionCommand::Show { transaction: id } => {
            let transactions = institution.transactions_with_id(id)?;
            if transactions.is_empty() {
                let id = id.to_string();
                return Err(InstitutionError::NotFound { what: "transaction", id }.into());
            }
            for transaction in transactions {
                output.object(&object(&transaction), || text(&transaction))?;
            }
            Ok(())
        }
    }
}

fn reason(transaction: &TransactionDetail) -> Option<&'static str> {
    let declined = transaction.state.decline_reason().map(|reason| reason.name());
    declined.or(transaction.reversal_reason.map(|reason| reason.name()))
}

fn amount(transaction: &TransactionDetail) -> String {
    transaction.amount.map_or_else(dash, |amount| amount.to_string())
}

fn card(transaction: &TransactionDetail) -> String {
    transaction.card_hint.as_ref().map_or_else(dash, |hint| format!("…{hint}"))
}

fn object(transaction: &TransactionDetail) -> Value {
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
        "offer_digest": transaction.offer_digest.map(|digest| format!("{digest:?}")),
        "created_at_unix_s": transaction.created_at.seconds,
        "captured_at_unix_s": transaction.captured_at.map(|time| time.seconds),
        "reversed_at_unix_s": transaction.reversed_at.map(|time| time.seconds),
    })
}

fn item(transaction: &TransactionDetail) -> Item {
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

fn text(transaction: &TransactionDetail) -> String {
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
    ];
    rows.map(|(name, value)| format!("{name:<14} {value}")).join("\n")
}
