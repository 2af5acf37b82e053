//! The command line as a whole: options for all commands, the groups of commands, and the help.

use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Parser, Subcommand};
use florin::log::{LogFilter, log_help};

use crate::account::AccountCommand;
use crate::approval::ApprovalCommand;
use crate::audit::AuditCommand;
use crate::card::CardCommand;
use crate::init::InitArguments;
use crate::ledger::LedgerCommand;
use crate::operator_command::OperatorCommand;
use crate::serve::{LOG_LEVEL, ServeArguments};
use crate::store::StoreCommand;
use crate::terminal::TerminalCommand;
use crate::transaction::TransactionCommand;

const AFTER_HELP: &str = "\
A first institution:
  export FLORIN_ACQUIRER_DIRECTORY=bank
  florin-acquirer init --name \"Example Bank\" --host-name localhost
  florin-acquirer account create --name Alice --currency EUR --balance 100.00
  florin-acquirer card add --account 1 --limit 50.00
  florin-acquirer terminal add --merchant-id kiosk-1 --merchant-name \"Corner Kiosk\"
  florin-acquirer serve --listen 127.0.0.1:7443

The two codes that are printed enrol the wallet and the terminal, which also need bank/root.pem.
All other commands can run while the server runs. With --json each result is one JSON object on one
line.

Exit codes:
  0  done
  1  `ledger check` found that the books are wrong, or `transaction evidence` a wrong signature
  2  the command line is wrong
  3  refused: there is no such account, card, terminal or transaction, or a value is out of range
  4  the institution's directory is missing, damaged, there already, or open to other users
  5  the store failed, or a newer version of this program has written it
  6  the server could not listen, or stopped
  7  something else went wrong on this machine";

/// The reference payment institution of Florin: it knows cards and terminals, decides on payments
/// and keeps the ledger.
///
/// It is there to test against and to learn from. It moves no real money.
#[derive(Debug, Parser)]
#[command(name = "florin-acquirer", version, after_help = AFTER_HELP, max_term_width = 100)]
pub struct Arguments {
    /// The institution's directory.
    #[arg(long, global = true, value_name = "DIR", env = "FLORIN_ACQUIRER_DIRECTORY")]
    pub directory: Option<PathBuf>,
    /// Print JSON, one object per line, for programs.
    #[arg(long, global = true)]
    pub json: bool,
    #[arg(
        long,
        global = true,
        env = "RUST_LOG",
        value_name = "FILTER",
        help = log_help(&format!("{LOG_LEVEL}; only `serve` logs")),
    )]
    pub log: Option<LogFilter>,
    #[command(subcommand)]
    pub command: Command,
}

/// The groups of commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    Init(InitArguments),
    Serve(ServeArguments),
    /// Manage the accounts that cards pay from.
    #[command(subcommand)]
    Account(AccountCommand),
    /// Manage terminals, which are the machines that take payments.
    #[command(subcommand)]
    Terminal(TerminalCommand),
    /// Manage cards.
    #[command(subcommand)]
    Card(CardCommand),
    /// Look at payments, end them, and refund what was captured.
    #[command(subcommand)]
    Transaction(TransactionCommand),
    /// Confirm or refuse what needs a second person.
    #[command(subcommand)]
    Approval(ApprovalCommand),
    /// Show what operators did to payments.
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Manage the people who may use the administration service.
    #[command(subcommand)]
    Operator(OperatorCommand),
    /// Check and show the books.
    #[command(subcommand)]
    Ledger(LedgerCommand),
    /// Copy the store, and take a copy into service.
    #[command(subcommand)]
    Store(StoreCommand),
    #[cfg(feature = "manual")]
    Manual(florin::manual::ManualArguments),
}

impl Arguments {
    /// Reads the command line. If it is wrong, this prints what to change and ends the process.
    pub fn of_command_line() -> Self {
        Self::try_parse().unwrap_or_else(|error| about_amounts(error).exit())
    }
}

/// To clap `-2,50` and `-€2` are options that it does not know: says that they are negative.
fn about_amounts(error: clap::Error) -> clap::Error {
    let begins_an_amount = |word: &str| {
        word.starts_with(|first: char| first.is_ascii_digit() || ".,€$£".contains(first))
    };
    let is_amount = error.kind() == ErrorKind::UnknownArgument
        && matches!(
            error.get(ContextKind::InvalidArg),
            Some(ContextValue::String(word)) if word.strip_prefix('-').is_some_and(begins_an_amount)
        );
    if is_amount {
        let negative = "an amount cannot be negative; leave the minus sign out";
        Arguments::command().error(ErrorKind::ValueValidation, negative)
    } else {
        error
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Arguments, clap::Error> {
        let words = line.split_whitespace();
        Arguments::try_parse_from(std::iter::once("florin-acquirer").chain(words))
            .map_err(about_amounts)
    }

    #[test]
    fn the_commands_hold_together() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn what_people_type_is_taken() {
        for line in [
            "init --name Bank --host-name localhost --host-name 192.0.2.1",
            "serve --listen 7443",
            "serve --listen localhost:7443",
            "account create --name Alice --currency eur --balance 2,50",
            "account create --currency EUR --name Alice --balance 0",
            "card add --account 1 --limit 2.5 --verification-limit 1 --valid-for-hours 1",
            "card block …4142",
            "terminal block qs6n-fxpz-86",
            "terminal unblock PZ86",
            "transaction list --terminal pz86 --limit 5",
            "transaction show 2F6E6CF031C14D4C9C3C2F1F0D9A7F11",
            "transaction capture 2F6E6CF031C14D4C9C3C2F1F0D9A7F11 --reason dead --by anna",
            "transaction refund 2F6E6CF031C14D4C9C3C2F1F0D9A7F11 --reason bad --amount 1,50",
            "transaction write-off 2F6E6CF031C14D4C9C3C2F1F0D9A7F11 --terminal pz86 --reason x",
            "transaction evidence 2F6E6CF031C14D4C9C3C2F1F0D9A7F11 --json",
            "approval confirm 7 --by berta",
            "audit list --limit 5",
            "ledger show --limit 5 --json --log off",
            "store backup bank.copy",
            "store adopt --reason disk-lost --by anna",
        ] {
            parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }

    #[test]
    fn what_is_wrong_is_told_what_to_change() {
        for (line, told) in [
            ("serve --listen :7443", "0.0.0.0:7443"),
            ("account create --name A --currency EURO", "expected a code such as EUR"),
            ("account create --name A --currency EUR --balance -2,50", "leave the minus sign out"),
            ("card add --account Alice --limit 5", "`florin-acquirer account list`"),
            ("card add --account 1 --limit 5 --valid-for-hours 2d", "hours from 1 to 8760"),
            ("terminal block QS6NFXPZ8", "`florin-acquirer terminal list`"),
            ("transaction show 2f6e6cf0", "a whole UUID"),
            ("transaction list --limit 0", "from 1 to"),
            ("transaction capture 2F6E6CF031C14D4C9C3C2F1F0D9A7F11", "--reason"),
            ("approval confirm 0", "from 1 to"),
            ("ledger check --log inof", "`inof` is not a log level"),
        ] {
            let error = parse(line).err().unwrap_or_else(|| panic!("{line} was taken"));
            assert_eq!(error.exit_code(), 2, "{line}");
            assert!(error.to_string().contains(told), "{line}: {error}");
        }
    }
}
