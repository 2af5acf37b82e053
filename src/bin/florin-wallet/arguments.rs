//! The arguments of `florin-wallet`.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use florin::command_line::{transaction_id, whole_number};
use florin::domain::TransactionId;
use florin::log::{LogFilter, log_help};
use florin::protocol::EngagementLink;
use florin::wallet::CardName;
use tracing::level_filters::LevelFilter;

use crate::nearest::{MARGIN_MIN_DB, STRENGTH_MIN_DBM};

/// What is logged where nothing is said.
pub const LOG_LEVEL: LevelFilter = LevelFilter::ERROR;

const AFTER_HELP: &str = "\
A first payment:
  florin-wallet enrol --institution https://localhost:7443 --root bank/root.pem CODE
  florin-wallet terminals
  florin-wallet pay --code 7QK2

With --json each event is one JSON object on one line; the last one of `pay` and `result` has
\"event\":\"outcome\".

Exit codes:
   0  approved; of other commands: done
   1  something else went wrong on this machine
   2  wrong arguments
   3  declined by the bank
   4  refused by this wallet: certificate, look-alike, limit, or a result that is not proven
   5  pending: the result is not known yet; ask later with `florin-wallet result`
   6  not paid or not charged: you declined, another phone was first, the offer was withdrawn or
      expired, there was nothing to pay, or the amount was given back
   7  no machine was found, it is not clear which, or it is out of service
   8  the connection failed before anything was sent
   9  Bluetooth cannot be used on this machine
  10  the card could not be enrolled
  11  the wallet's files: no card, damaged, or open to other users";

const PAYMENT_EXIT_CODES: &str = "\
Exit codes:
   0  approved
   1  something else went wrong on this machine
   2  wrong arguments
   3  declined by the bank
   4  refused by this wallet: certificate, look-alike, limit, or a result that is not proven
   5  pending: the result is not known yet; ask later with `florin-wallet result`
   6  not paid or not charged: you declined, another phone was first, the offer was withdrawn or
      expired, there was nothing to pay, or the amount was given back
   7  no machine was found, it is not clear which, or it is out of service
   8  the connection failed before anything was sent
   9  Bluetooth cannot be used on this machine
  11  the wallet's files: no card, damaged, or open to other users";

const ENROL_EXIT_CODES: &str = "\
Exit codes:
   0  enrolled
   1  something else went wrong on this machine
   2  wrong arguments
  10  the card could not be enrolled; the message says whose turn it is
  11  the wallet's files: damaged, open to other users, or a card of that name is there";

const FILES_EXIT_CODES: &str = "\
Exit codes:
   0  done
   1  something else went wrong on this machine
   2  wrong arguments
  11  the wallet's files: damaged, or open to other users";

const TERMINALS_EXIT_CODES: &str = "\
Exit codes:
   0  done, also if no machine is in reach
   1  something else went wrong on this machine
   2  wrong arguments
   8  the connection failed
   9  Bluetooth cannot be used on this machine
  11  the wallet's files: open to other users";

/// How long `terminals` may listen, in milliseconds.
const SCAN_MS: RangeInclusive<u64> = 100..=60_000;
/// How long `pay` and `result` may look for a machine, in milliseconds.
const WAIT_MS: RangeInclusive<u64> = 100..=600_000;

fn milliseconds(what: &str, range: &RangeInclusive<u64>) -> String {
    format!("{what}, in milliseconds, {} to {}", range.start(), range.end())
}

/// Pays unattended machines over Bluetooth Low Energy: a wallet for the Florin payment protocol.
#[derive(Debug, Parser)]
#[command(name = "florin-wallet", version, after_help = AFTER_HELP, max_term_width = 100)]
pub struct Arguments {
    /// The wallet's directory [default: $XDG_DATA_HOME/florin-wallet, or
    /// ~/.local/share/florin-wallet].
    #[arg(long, global = true, value_name = "DIRECTORY", env = "FLORIN_WALLET_DIRECTORY")]
    pub directory: Option<PathBuf>,
    /// Print JSON, one object on each line, for programs.
    #[arg(long, global = true)]
    pub json: bool,
    #[arg(
        long,
        global = true,
        env = "RUST_LOG",
        value_name = "FILTER",
        help = log_help(&LOG_LEVEL.to_string()),
    )]
    pub log: Option<LogFilter>,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Put a card into the wallet with a one-time code of its institution.
    ///
    /// The card's key is made here and never leaves. If the answer is lost, repeat the command with
    /// the same code.
    #[command(after_help = ENROL_EXIT_CODES)]
    Enrol {
        /// The institution's server: https://host:port.
        #[arg(long, value_name = "URL")]
        institution: String,
        /// The institution's certificate (PEM), which vouches for its server.
        #[arg(long, value_name = "FILE")]
        root: PathBuf,
        /// What to call the card: lower-case letters, digits and hyphens [default: card- and the
        /// last four digits of its identifier].
        #[arg(long)]
        name: Option<CardName>,
        /// The one-time code; `-` reads it from standard input, where other users cannot see it.
        code: String,
    },
    /// List the cards in this wallet.
    #[command(after_help = FILES_EXIT_CODES)]
    Cards,
    /// List the machines in reach, strongest first.
    #[command(after_help = TERMINALS_EXIT_CODES)]
    Terminals {
        #[arg(
            long,
            value_name = "MILLISECONDS",
            default_value_t = 3_000,
            value_parser = whole_number::<u64>("milliseconds", SCAN_MS),
            help = milliseconds("How long to listen", &SCAN_MS),
        )]
        scan_ms: u64,
        #[command(flatten)]
        radio: RadioArguments,
    },
    /// Pay what a machine offers.
    ///
    /// Shows the merchant, the amount and a matching code, and asks whether to pay. Without --link,
    /// --code or --nearest it lists the machines in reach and asks which one to pay.
    #[command(after_help = PAYMENT_EXIT_CODES)]
    Pay(PayArguments),
    /// Ask for the result of a payment that is pending.
    ///
    /// Without --link, --code or --nearest it looks for the machine of that payment.
    #[command(after_help = PAYMENT_EXIT_CODES)]
    Result {
        /// The payment; `florin-wallet receipts` lists the ids.
        #[arg(value_parser = transaction_id)]
        transaction_id: TransactionId,
        #[command(flatten)]
        which: WhichTerminal,
        #[command(flatten)]
        radio: RadioArguments,
        #[arg(
            long,
            value_name = "MILLISECONDS",
            default_value_t = 30_000,
            value_parser = whole_number::<u64>("milliseconds", WAIT_MS),
            help = milliseconds("How long to look for the machine", &WAIT_MS),
        )]
        wait_ms: u64,
    },
    /// List the payments of this wallet, and verify their receipts again.
    #[command(after_help = FILES_EXIT_CODES)]
    Receipts,
    #[cfg(feature = "manual")]
    Manual(florin::manual::ManualArguments),
}

/// How to pay.
#[derive(Debug, Args)]
pub struct PayArguments {
    #[command(flatten)]
    pub which: WhichTerminal,
    /// Pay without asking. Needs --link, --code or --nearest, and pays only the machine that this
    /// names.
    #[arg(long)]
    pub yes: bool,
    /// The most that this payment may be, in the card's currency, such as 5.00 [default: the
    /// card's own limit].
    #[arg(long, value_name = "AMOUNT", allow_hyphen_values = true)]
    pub limit: Option<String>,
    /// The card to pay with; needed if there are several.
    #[arg(long)]
    pub card: Option<CardName>,
    #[command(flatten)]
    pub radio: RadioArguments,
    #[arg(
        long,
        value_name = "MILLISECONDS",
        default_value_t = 30_000,
        value_parser = whole_number::<u64>("milliseconds", WAIT_MS),
        help = milliseconds(
            "How long to look for the machine, and as long again for room at it and for its offer",
            &WAIT_MS,
        ),
    )]
    pub wait_ms: u64,
    /// Disconnect as soon as the payment is sent, without waiting for its result, like a phone
    /// whose battery dies.
    #[arg(long, help_heading = "Testing")]
    pub vanish_after_command: bool,
}

/// Which machine.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub struct WhichTerminal {
    /// The machine with this engagement link in its QR code: FLORIN:1/...
    #[arg(long)]
    pub link: Option<EngagementLink>,
    /// The machine with this short code, as printed on it; its certificate must have it too.
    #[arg(long, value_parser = short_code)]
    pub code: Option<String>,
    #[arg(
        long,
        help = format!(
            "The machine that you stand at: received with {STRENGTH_MIN_DBM} dBm or more, and all \
             others at least {MARGIN_MIN_DB} dB weaker. If there is no such machine, you are asked \
             which one; `pay --yes` does not ask, and pays nothing then"
        ),
    )]
    pub nearest: bool,
}

/// With which radio.
#[derive(Debug, Args)]
pub struct RadioArguments {
    /// The Bluetooth adapter, such as hci1 [default: the first].
    #[arg(long, value_name = "NAME")]
    pub adapter: Option<String>,
    /// Use this Unix socket (`unix:/tmp/air.sock`) in place of Bluetooth: that of a machine which
    /// runs `florin serve --air`.
    #[cfg(unix)]
    #[arg(long, value_name = "ADDRESS", conflicts_with = "adapter", help_heading = "Testing")]
    pub air: Option<florin::link::AirAddress>,
}

fn short_code(text: &str) -> Result<String, String> {
    let code = text.trim().to_ascii_uppercase();
    if code.len() == 4 && code.bytes().all(|octet| octet.is_ascii_alphanumeric()) {
        Ok(code)
    } else {
        Err("a short code is four letters or digits, such as 7QK2".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn what_is_typed_is_taken_or_told_what_to_write() {
        let first_line = |words: &[&str]| {
            let words = std::iter::once("florin-wallet").chain(words.iter().copied());
            let error = Arguments::try_parse_from(words).unwrap_err().to_string();
            error.lines().next().unwrap_or_default().to_owned()
        };
        let milliseconds =
            "expected a whole number of milliseconds from 100 to 600000, digits only";
        assert_eq!(
            first_line(&["pay", "--wait-ms", "30s"]),
            format!("error: invalid value '30s' for '--wait-ms <MILLISECONDS>': {milliseconds}")
        );
        assert_eq!(
            first_line(&["result", "2f6e6cf0"]),
            "error: invalid value '2f6e6cf0' for '<TRANSACTION_ID>': `2f6e6cf0` is not a \
             transaction id; expected a whole UUID, such as 2f6e6cf0-31c1-4d4c-9c3c-2f1f0d9a7f11"
        );
        assert_eq!(
            first_line(&["pay", "--code", "7QK"]),
            "error: invalid value '7QK' for '--code <CODE>': a short code is four letters or \
             digits, such as 7QK2"
        );
    }

    /// clap prints a default, or the text is known here, or the code makes it.
    #[test]
    fn defaults_in_help_texts_come_from_the_code() {
        let spelt_out = [
            ("directory", "[default: $XDG_DATA_HOME/florin-wallet, or"),
            ("log", "[default: error]"),
            ("name", "[default: card- and the last four digits of its identifier]"),
            ("limit", "[default: the card's own limit]"),
            ("adapter", "[default: the first]"),
        ];
        let mut commands = vec![Arguments::command()];
        while let Some(command) = commands.pop() {
            for argument in command.get_arguments() {
                let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
                let is_known =
                    |(id, text): &(&str, &str)| argument.get_id() == *id && help.contains(text);
                let is_spelt_out = spelt_out.iter().any(is_known);
                assert!(
                    !help.contains("[default") || is_spelt_out,
                    "{} {help}",
                    command.get_name()
                );
            }
            commands.extend(command.get_subcommands().cloned());
        }
    }

    #[test]
    fn a_machine_is_pointed_at_in_one_way() {
        let pay =
            |more: &[&str]| Arguments::try_parse_from(["florin-wallet", "pay"].iter().chain(more));
        assert!(pay(&["--code", "7qk2", "--yes"]).is_ok());
        assert!(pay(&["--nearest"]).is_ok());
        assert!(pay(&["--code", "7qk2", "--nearest"]).is_err());
        assert!(pay(&["--code", "7qk"]).is_err());
        assert!(pay(&["--link", "https://example.org"]).is_err());
        assert!(pay(&["--wait-ms", "1"]).is_err());
        #[cfg(unix)]
        assert!(pay(&["--nearest", "--air", "unix:/tmp/air.sock"]).is_ok());
        #[cfg(unix)]
        assert!(pay(&["--nearest", "--air", "unix:/tmp/air.sock", "--adapter", "hci0"]).is_err());
    }
}
