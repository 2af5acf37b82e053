//! `florin-acquirer ledger`: the books, to check and to look at.

use clap::Subcommand;
use florin::command_line::whole_number;
use florin::institution::{Institution, LedgerBalance, LedgerEntry, LedgerReport, StateTotal};
use florin::plural::counted;
use serde_json::{Value, json};

use crate::money::money;
use crate::output::{Item, Output, dash};

/// The commands of this group.
#[derive(Debug, Subcommand)]
pub enum LedgerCommand {
    /// Check the books against their rules; exit code 1 if they are wrong.
    Check,
    /// Show the newest entries, oldest of them first.
    Show {
        /// How many at most.
        #[arg(
            long,
            value_name = "COUNT",
            default_value_t = 50,
            value_parser = whole_number::<u32>("", 1..=u32::MAX.into()),
        )]
        limit: u32,
    },
}

/// Runs a command of this group. Returns whether the books are right, as far as the command has
/// looked.
pub fn run(
    command: LedgerCommand,
    mut institution: Institution,
    output: &Output,
) -> anyhow::Result<bool> {
    match command {
        LedgerCommand::Check => {
            let report = institution.check_ledger()?;
            output.object(&report_object(&report), || report_text(&report))?;
            Ok(report.faults.is_empty())
        }
        LedgerCommand::Show { limit } => {
            let entries = institution.newest_ledger_entries(limit)?;
            let headings = ["ENTRY", "MADE", "KIND", "TRANSACTION", "POSTINGS"];
            output.list(&headings, entries.iter().map(item).collect())?;
            Ok(true)
        }
    }
}

fn item(entry: &LedgerEntry) -> Item {
    let posting_object = |posting: &LedgerBalance| {
        json!({
            "kind": posting.kind,
            "owner": posting.owner,
            "currency": posting.currency,
            "amount_minor": posting.balance_minor,
        })
    };
    let posting_text =
        |posting: &LedgerBalance| format!("{} {}", ledger_account(posting), balance_text(posting));
    let transaction = entry.transaction_id.map(|id| id.to_string());
    let object = json!({
        "entry": entry.number,
        "kind": entry.kind,
        "transaction": transaction,
        "made_at_unix_s": entry.made_at.seconds,
        "postings": entry.postings.iter().map(posting_object).collect::<Vec<_>>(),
    });
    let row = vec![
        entry.number.to_string(),
        entry.made_at.to_string(),
        entry.kind.clone(),
        transaction.unwrap_or_else(dash),
        entry.postings.iter().map(posting_text).collect::<Vec<_>>().join(", "),
    ];
    (object, row)
}

fn report_object(report: &LedgerReport) -> Value {
    let balance = |balance: &LedgerBalance| {
        json!({
            "kind": balance.kind,
            "owner": balance.owner,
            "currency": balance.currency,
            "balance_minor": balance.balance_minor,
        })
    };
    let total = |total: &StateTotal| {
        json!({
            "state": total.state,
            "currency": total.currency,
            "count": total.count,
            "amount_minor": total.amount_minor,
        })
    };
    let faults = report.faults.iter();
    json!({
        "balanced": report.faults.is_empty(),
        "entries": report.entries,
        "balances": report.balances.iter().map(balance).collect::<Vec<_>>(),
        "transactions": report.states.iter().map(total).collect::<Vec<_>>(),
        "faults": faults
            .map(|fault| json!({ "rule": fault.rule, "detail": fault.detail }))
            .collect::<Vec<_>>(),
    })
}

fn report_text(report: &LedgerReport) -> String {
    let mut lines = Vec::new();
    for balance in &report.balances {
        lines.push(format!("{:<28} {:>20}", ledger_account(balance), balance_text(balance)));
    }
    for total in &report.states {
        let count = counted(total.count, "transaction", "transactions");
        let minor = i128::from(total.amount_minor);
        let amount =
            total.currency.parse().map_or_else(|_| dash(), |currency| money(minor, currency));
        lines.push(format!("{:<28} {amount:>20}", format!("{count} {}", total.state)));
    }
    for fault in &report.faults {
        lines.push(format!("WRONG {}: {}", fault.rule, fault.detail));
    }
    lines.push(verdict(report));
    lines.join("\n")
}

fn verdict(report: &LedgerReport) -> String {
    match (report.faults.len() as u64, report.entries) {
        (0, 0) => "The books are right: there are no entries yet.".to_owned(),
        (0, 1) => "The books are right: 1 entry, which sums to zero.".to_owned(),
        (0, entries) => format!("The books are right: {entries} entries, each sums to zero."),
        (faults, _) => format!(
            "The books are wrong in {}. Stop the server and restore a backup.",
            counted(faults, "place", "places")
        ),
    }
}

fn ledger_account(balance: &LedgerBalance) -> String {
    let kind = &balance.kind;
    if balance.owner.is_empty() { kind.clone() } else { format!("{kind} {}", balance.owner) }
}

fn balance_text(balance: &LedgerBalance) -> String {
    let minor = i128::from(balance.balance_minor);
    balance.currency.parse().map_or_else(|_| minor.to_string(), |currency| money(minor, currency))
}

#[cfg(test)]
mod tests {
    use florin::institution::LedgerFault;

    use super::*;

    #[test]
    fn numbers_and_nouns_agree() {
        let report = |entries, count, faults| LedgerReport {
            entries,
            balances: Vec::new(),
            states: vec![StateTotal {
                state: "captured".to_owned(),
                currency: "EUR".to_owned(),
                count,
                amount_minor: 250,
            }],
            faults: vec![LedgerFault { rule: "rule", detail: "detail".to_owned() }; faults],
        };
        for (report, texts) in [
            (report(0, 0, 0), ["0 transactions captured ", "no entries yet"]),
            (report(1, 1, 0), ["1 transaction captured ", "1 entry, which sums to zero"]),
            (report(3, 2, 0), ["2 transactions captured ", "3 entries, each sums to zero"]),
            (report(3, 2, 1), ["WRONG rule: detail", "wrong in 1 place."]),
            (report(3, 2, 2), ["WRONG rule: detail", "wrong in 2 places."]),
        ] {
            let printed = report_text(&report);
            assert!(texts.iter().all(|text| printed.contains(text)), "{printed}");
        }
    }
}
