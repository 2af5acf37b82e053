//! `florin-acquirer transaction`: payments, to look at and to end.

use clap::Subcommand;
use florin::command_line::{transaction_id, whole_number};
use florin::domain::{TransactionId, UnixTime};
use florin::institution::{Institution, InstitutionError, Operation};

use crate::evidence;
use crate::output::Output;
use crate::transaction_action::{self, ActionArguments, PaymentName, RefundArguments};
use crate::transaction_view::{item, object, text};
use crate::typed::TerminalName;

/// The commands of this group.
#[derive(Debug, Subcommand)]
pub enum TransactionCommand {
    /// List the newest payments, newest first.
    List {
        /// Only those of this terminal: its id, or its short code.
        #[arg(long)]
        terminal: Option<TerminalName>,
        /// Only those whose money is still held, oldest first.
        #[arg(long)]
        held: bool,
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
    /// Take what a payment has reserved, in the terminal's place.
    Capture(ActionArguments),
    /// Give back what a payment has reserved, in the terminal's place.
    Reverse(ActionArguments),
    /// Give back what was captured, or a part of it.
    Refund(RefundArguments),
    /// Give back what a payment has reserved, and pay the merchant at the institution's own loss:
    /// for what nobody can clear up.
    WriteOff(ActionArguments),
    /// Show what proves a payment, checked anew; exit code 1 if something is wrong. With --json it
    /// prints the octets, for a third party to check.
    Evidence {
        #[command(flatten)]
        payment: PaymentName,
    },
}

/// Runs a command of this group. Returns whether what it has checked is right.
pub fn run(
    command: TransactionCommand,
    institution: Institution,
    now: UnixTime,
    output: &Output,
) -> anyhow::Result<bool> {
    let end = transaction_action::end;
    match command {
        TransactionCommand::List { terminal, held, limit } => {
            list(terminal, held, limit, institution, output)?;
        }
        TransactionCommand::Show { transaction } => show(transaction, institution, output)?,
        TransactionCommand::Capture(arguments) => {
            end(arguments, Operation::Capture, institution, now, output)?;
        }
        TransactionCommand::Reverse(arguments) => {
            end(arguments, Operation::Reverse, institution, now, output)?;
        }
        TransactionCommand::WriteOff(arguments) => {
            end(arguments, Operation::WriteOff, institution, now, output)?;
        }
        TransactionCommand::Refund(arguments) => {
            transaction_action::refund(arguments, institution, now, output)?;
        }
        TransactionCommand::Evidence { payment } => {
            return evidence::run(&payment, institution, output);
        }
    }
    Ok(true)
}

fn list(
    terminal: Option<TerminalName>,
    is_held_only: bool,
    limit: u32,
    mut institution: Institution,
    output: &Output,
) -> anyhow::Result<()> {
    let terminal = match terminal {
        Some(name) => Some(name.find(&mut institution)?),
        None => None,
    };
    let transactions = if is_held_only {
        institution.held_transactions(terminal, limit)?
    } else {
        institution.newest_transactions(terminal, limit)?
    };
    let headings = ["CREATED", "TRANSACTION", "TERMINAL", "STATE", "AMOUNT", "REASON", "CARD"];
    output.list(&headings, transactions.iter().map(item).collect())
}

fn show(id: TransactionId, mut institution: Institution, output: &Output) -> anyhow::Result<()> {
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
