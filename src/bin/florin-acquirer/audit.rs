//! `florin-acquirer audit`: what operators did to payments.

use clap::Subcommand;
use florin::command_line::whole_number;
use florin::institution::{AuditEntry, Institution, TransactionKey};
use serde_json::json;

use crate::output::{Item, Output};
use crate::transaction_action::PaymentName;

/// The commands of this group.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// List the newest actions of operators, oldest of them first.
    List {
        /// How many at most.
        #[arg(
            long,
            value_name = "COUNT",
            default_value_t = 50,
            value_parser = whole_number::<u32>("", 1..=u32::MAX.into()),
        )]
        limit: u32,
    },
    /// List what operators did to one payment.
    Show {
        #[command(flatten)]
        payment: PaymentName,
    },
}

/// Runs a command of this group.
pub fn run(
    command: AuditCommand,
    mut institution: Institution,
    output: &Output,
) -> anyhow::Result<()> {
    let entries = match command {
        AuditCommand::List { limit } => institution.newest_audit_entries(None, limit)?,
        AuditCommand::Show { payment } => {
            let found = payment.find(&mut institution)?;
            let key = TransactionKey { terminal: found.terminal, id: found.id };
            institution.newest_audit_entries(Some(&key), u32::MAX)?
        }
    };
    let headings = [
        "ENTRY",
        "MADE",
        "BY",
        "CONFIRMED BY",
        "ACTION",
        "TRANSACTION",
        "BEFORE",
        "AFTER",
        "REASON",
    ];
    output.list(&headings, entries.iter().map(item).collect())
}

fn item((number, entry): &(i64, AuditEntry)) -> Item {
    let AuditEntry { made_at, operator, approved_by, key, action, reason, before, after, request } =
        entry;
    let refund = action.refund();
    let object = json!({
        "entry": number,
        "made_at_unix_s": made_at.seconds,
        "operator": operator,
        "approved_by": approved_by,
        "approval": request,
        "action": action.name(),
        "terminal": key.terminal.to_string(),
        "transaction": key.id.to_string(),
        "refund": refund.map(|(id, _)| id.to_string()),
        "amount_minor": refund.map(|(_, amount)| amount.minor()),
        "currency": refund.map(|(_, amount)| amount.currency().to_string()),
        "reason": reason,
        "state_before": before.state.name(),
        "state_after": after.state.name(),
        "refunded_minor_before": before.refunded_minor,
        "refunded_minor_after": after.refunded_minor,
    });
    let amount = refund.map_or_else(String::new, |(_, amount)| format!(" {amount}"));
    let row = vec![
        number.to_string(),
        made_at.to_string(),
        operator.clone(),
        approved_by.clone().unwrap_or_else(|| "-".to_owned()),
        format!("{}{amount}", action.name()),
        key.id.to_string(),
        before.state.name().to_owned(),
        after.state.name().to_owned(),
        reason.clone(),
    ];
    (object, row)
}
