//! What can be asked of the wallet on the command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use florin::domain::TransactionId;
use florin::log::{LogFilter, log_help};
use florin::protocol::EngagementLink;
use florin::wallet::CardName;
use tracing::level_filters::LevelFilter;

/// What is logged where nothing is said.
pub const LOG_LEVEL: LevelFilter = LevelFilter::ERROR;

const AFTER_HELP: &str = "\
A first payment:
  florin-wallet enrol --institution https://localhost:7443 --root bank/root.pem CODE
  florin-wallet terminals
  florin-wallet pay --code 7QK2

With --json each event is one JSON object on one line; of `pay` and `result` the last has \"event\":\"outcome\".

Exit codes:
   0  approved; for other commands: done
   1  anything else that failed on this machine
   2  the command line is wrong
   3  declined by the bank
   4  refused by this wallet: certificate, look-alike, limit, or a result that is not proven
   5  pending: nobody here knows yet; ask later with `result`
   6  not paid, not charged: you declined, another phone was first, withdrawn, expired, nothing to pay, given back
   7  no machine found, or it is not clear which, or it is out of service
   8  the connection failed before anything was sent
   9  Bluetooth on this machine cannot be used
  10  the card could not be enrolled
  11  the wallet's files: no card, damaged, or open to other users";

/// A wallet for the Florin payment protocol: pays unattended machines over Bluetooth Low Energy.
#[derive(Debug, Parser)]
#[command(name = "florin-wallet", version, after_help = AFTER_HELP, max_term_width = 110)]
pub struct Arguments {
    /// The wallet's directory [default: $XDG_DATA_HOME/florin-wallet, or
    /// ~/.local/share/florin-wallet].
    #[arg(long, global = true, value_name = "DIR", env = "FLORIN_WALLET_DIRECTORY")]
    pub directory: Option<PathBuf>,
    /// Print JSON, one object per line, for programs.
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

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Put a card into the wallet with a one-time code of its institution.
    ///
    /// The card's key is made here and never leaves. If the answer gets lost, the same code can be
    /// tried again.
    Enrol {
        /// The institution's server: https://host:port.
        #[arg(long, value_name = "URL")]
        institution: String,
        /// The institution's certificate, in PEM, by which its server is known.
        #[arg(long, value_name = "FILE")]
        root: PathBuf,
        /// What to call the card: lower-case letters, digits and hyphens [default: card- and its
        /// last four digits].
        #[arg(long)]
        name: Option<CardName>,
        /// The code; `-` reads it from standard input, where other users cannot see it.
        code: String,
    },
    /// List the cards in this wallet.
    Cards,
    /// List the machines in reach, strongest first.
    Terminals {
        /// How long to listen, in milliseconds, 100 to 60000.
        #[arg(long, default_value_t = 3000, value_parser = clap::value_parser!(u64).range(100..=60_000))]
        scan_ms: u64,
        #[command(flatten)]
        radio: RadioArguments,
    },
    /// Pay what a machine offers.
    ///
    /// Shows the merchant, the amount and a matching code, and asks. Without --link, --code or
    /// --nearest it lists the machines in reach and asks which.
    Pay(PayArguments),
    /// Ask for the result of a payment whose end this wallet does not know.
    Result {
        /// Which payment; `receipts` lists them.
        transaction_id: TransactionId,
        #[command(flatten)]
        which: WhichTerminal,
        #[command(flatten)]
        radio: RadioArguments,
        /// How long to look for the machine, in milliseconds, 100 to 600000.
        #[arg(long, default_value_t = 30_000, value_parser = clap::value_parser!(u64).range(100..=600_000))]
        wait_ms: u64,
    },
    /// List what was paid, with the receipts verified anew.
    Receipts,
    #[cfg(feature = "manual")]
    Manual(florin::manual::ManualArguments),
}

/// How to pay.
#[derive(Debug, Args)]
pub struct PayArguments {
    #[command(flatten)]
    pub which: WhichTerminal,
    /// Pay without asking. Needs --link, --code or --nearest; only a machine that these point at
    /// is paid.
    #[arg(long)]
    pub yes: bool,
    /// The most that this payment may be, in major units of the card's currency, such as 5.00.
    #[arg(long, value_name = "AMOUNT")]
    pub limit: Option<String>,
    /// Which card, where there are several.
    #[arg(long)]
    pub card: Option<CardName>,
    #[command(flatten)]
    pub radio: RadioArguments,
    /// How long to look for the machine, and then to wait for its offer, in milliseconds each, 100
    /// to 600000.
    #[arg(long, default_value_t = 30_000, value_parser = clap::value_parser!(u64).range(100..=600_000))]
    pub wait_ms: u64,
    /// Disconnect as soon as the payment is sent, without waiting for its result, as a phone whose
    /// battery dies.
    #[arg(long, help_heading = "Testing")]
    pub vanish_after_command: bool,
}

/// Which machine.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub struct WhichTerminal {
    /// The machine whose QR code says this: FLORIN:1/...
    #[arg(long)]
    pub link: Option<EngagementLink>,
    /// The machine with this short code, as printed on it; its certificate has to have it too.
    #[arg(long, value_parser = short_code)]
    pub code: Option<String>,
    /// The machine that you stand at: received with -65 dBm or more, and every other at least 10
    /// dB weaker. If that holds for none, you are asked which; with --yes nothing is paid
    /// then.
    #[arg(long)]
    pub nearest: bool,
}

/// With which radio.
#[derive(Debug, Args)]
pub struct RadioArguments {
    /// The Bluetooth adapter, such as hci1 [default: the first].
    #[arg(long, value_name = "NAME")]
    pub adapter: Option<String>,
    /// In place of Bluetooth, the Unix socket (`unix:/tmp/air.sock`) of a machine that runs
    /// `florin serve --air`.
    #[cfg(unix)]
    #[arg(long, value_name = "ADDRESS", conflicts_with = "adapter", help_heading = "Testing")]
    pub air: Option<florin::link::AirAddress>,
}

fn short_code(text: &str) -> Result<String, String> {
    let code = text.to_ascii_uppercase();
    if code.len() == 4 && code.bytes().all(|octet| octet.is_ascii_alphanumeric()) {
        Ok(code)
    } else {
        Err("a short code has four letters or digits".to_owned())
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
