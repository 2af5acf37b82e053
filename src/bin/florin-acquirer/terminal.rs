//! `florin-acquirer terminal`: the terminals, which are the machines that take payments.

use clap::Subcommand;
use florin::domain::{TerminalId, UnixTime};
use florin::institution::{EnrolmentCode, Institution, RegisteredTerminal, random};
use serde_json::json;

use crate::code_validity::CodeValidity;
use crate::operator::OperatorName;
use crate::output::{Item, Output, time_or_dash};
use crate::typed::TerminalName;

/// The commands of this group.
#[derive(Debug, Subcommand)]
pub enum TerminalCommand {
    /// Register a terminal. Prints its id and its enrolment code, which is shown only this once.
    Add {
        /// The institution's name for the merchant, who is owed the money: at most 32 octets.
        #[arg(long)]
        merchant_id: String,
        /// The name that people are shown: at most 40 octets.
        #[arg(long)]
        merchant_name: String,
        #[command(flatten)]
        validity: CodeValidity,
    },
    /// Give a terminal a new enrolment code: for new keys, or before its certificates expire.
    ///
    /// Codes that the terminal has and did not use are void from then on.
    Code {
        /// The terminal's id, or its short code (the last four characters of the id).
        terminal: TerminalName,
        #[command(flatten)]
        validity: CodeValidity,
    },
    /// List all terminals.
    List,
    /// Block a terminal: its authorisations are declined. It may still capture and reverse what was
    /// approved before, for seven days from the approval.
    Block {
        /// The terminal's id, or its short code (the last four characters of the id).
        terminal: TerminalName,
    },
    /// Let a terminal that ran on two machines take payments again.
    ///
    /// Do this only when one of the two machines is stopped for good. To be sure, give the other a
    /// new enrolment code instead: its new keys end the copy, and this too.
    ClearCopy {
        /// The terminal's id, or its short code (the last four characters of the id).
        terminal: TerminalName,
        /// Why, for the institution's log.
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        operator: OperatorName,
    },
    /// Unblock a terminal.
    Unblock {
        /// The terminal's id, or its short code (the last four characters of the id).
        terminal: TerminalName,
    },
}

/// Runs a command of this group.
pub fn run(
    command: TerminalCommand,
    mut institution: Institution,
    now: UnixTime,
    output: &Output,
) -> anyhow::Result<()> {
    match command {
        TerminalCommand::Add { merchant_id, merchant_name, validity } => {
            let not_after = validity.not_after(now);
            add(institution, &merchant_id, &merchant_name, not_after, now, output)
        }
        TerminalCommand::Code { terminal, validity } => {
            let id = terminal.find(&mut institution)?;
            renew_code(institution, id, validity.not_after(now), output)
        }
        TerminalCommand::List => {
            let terminals = institution.terminals()?;
            let headings =
                ["TERMINAL", "STATE", "MERCHANT", "NAME", "CERTIFICATES END", "RUNS TWICE SINCE"];
            output.list(&headings, terminals.iter().map(item).collect())
        }
        TerminalCommand::Block { terminal } => {
            let id = terminal.find(&mut institution)?;
            institution.set_terminal_blocked(id, Some(now))?;
            output.object(&json!({ "terminal": id.to_string(), "blocked": true }), || {
                format!("terminal {id} is blocked")
            })
        }
        TerminalCommand::ClearCopy { terminal, reason, operator } => {
            let id = terminal.find(&mut institution)?;
            institution.clear_terminal_copy(id, &operator.resolve()?, &reason, now)?;
            output.object(&json!({ "terminal": id.to_string(), "copied": false }), || {
                format!("terminal {id} may take payments again")
            })
        }
        TerminalCommand::Unblock { terminal } => {
            let id = terminal.find(&mut institution)?;
            institution.set_terminal_blocked(id, None)?;
            output.object(&json!({ "terminal": id.to_string(), "blocked": false }), || {
                format!("terminal {id} is no longer blocked")
            })
        }
    }
}

fn add(
    mut institution: Institution,
    merchant_id: &str,
    merchant_name: &str,
    not_after: UnixTime,
    now: UnixTime,
    output: &Output,
) -> anyhow::Result<()> {
    let id = TerminalId::from_random(*random()?);
    let code = EnrolmentCode::from_random(*random()?);
    institution.add_terminal(id, merchant_id, merchant_name, &code, not_after, now)?;
    let object = json!({
        "terminal": id.to_string(),
        "short_code": id.short_code(),
        "merchant_id": merchant_id,
        "merchant_name": merchant_name,
        "code": code.expose_text(),
        "code_not_after_unix_s": not_after.seconds,
    });
    output.object(&object, || format!("terminal {id}\n{}", code_text(&code, not_after)))
}

fn renew_code(
    mut institution: Institution,
    id: TerminalId,
    not_after: UnixTime,
    output: &Output,
) -> anyhow::Result<()> {
    let code = EnrolmentCode::from_random(*random()?);
    institution.renew_terminal_code(id, &code, not_after)?;
    let object = json!({
        "terminal": id.to_string(),
        "code": code.expose_text(),
        "code_not_after_unix_s": not_after.seconds,
    });
    output.object(&object, || code_text(&code, not_after))
}

fn code_text(code: &EnrolmentCode, not_after: UnixTime) -> String {
    format!(
        "enrolment code {}\nThe code is shown only now; it is good once, until {not_after}.",
        code.expose_text()
    )
}

fn item(terminal: &RegisteredTerminal) -> Item {
    let object = json!({
        "terminal": terminal.id.to_string(),
        "short_code": terminal.id.short_code(),
        "state": terminal.state.name(),
        "merchant_id": terminal.merchant_id,
        "merchant_name": terminal.merchant_name,
        "copied_at_unix_s": terminal.copied_at.map(|time| time.seconds),
        "certificate_not_after_unix_s": terminal.certificate_not_after.map(|time| time.seconds),
    });
    let row = vec![
        terminal.id.to_string(),
        terminal.state.name().to_owned(),
        terminal.merchant_id.clone(),
        terminal.merchant_name.clone(),
        time_or_dash(terminal.certificate_not_after),
        time_or_dash(terminal.copied_at),
    ];
    (object, row)
}
