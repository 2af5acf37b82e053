//! `florin`: the terminal from the command line. Arguments in, exit codes out.
//!
//! What the commands do is in the library; the commands that drive a running service do so over its
//! till API.

#![allow(clippy::print_stdout, clippy::print_stderr)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod configuration;
#[cfg(all(feature = "wallet", feature = "institution"))]
mod demo;
mod doctor;
mod enrol;
mod findings;
mod journal;
mod pay;
mod payments;
mod reconcile;
mod serve;
mod till;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use florin::log::{LogForm, start_log};

/// Takes payments from phones over Bluetooth Low Energy, for an unattended machine.
#[derive(Debug, Parser)]
#[command(name = "florin", version, max_term_width = 100)]
struct Arguments {
    /// What is logged to standard error: a level (error, warn, info, debug, trace), or per module
    /// as in `info,florin::relay=debug` [default: info for `serve`, warn for all else].
    #[arg(long, global = true, env = "RUST_LOG", value_name = "FILTER")]
    log: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::ServeArguments),
    Enrol(enrol::EnrolArguments),
    Doctor(doctor::DoctorArguments),
    Pay(pay::PayArguments),
    Complete(payments::CompleteArguments),
    Cancel(payments::CancelArguments),
    Payments(payments::PaymentsArguments),
    Status(payments::StatusArguments),
    Metrics(payments::MetricsArguments),
    Reconcile(reconcile::ReconcileArguments),
    Journal(journal::JournalArguments),
    #[cfg(all(feature = "wallet", feature = "institution"))]
    Demo(demo::DemoArguments),
}

fn main() -> ExitCode {
    #[cfg(feature = "manual")]
    if let Some(written) =
        florin::manual::written_if_asked(<Arguments as clap::CommandFactory>::command())
    {
        return written.map_or_else(
            |error| {
                eprintln!("florin: the manual cannot be written: {error}");
                ExitCode::FAILURE
            },
            |()| ExitCode::SUCCESS,
        );
    }
    let arguments = Arguments::parse();
    let default = if matches!(arguments.command, Command::Serve(_)) { "info" } else { "warn" };
    if let Err(problem) = start_log(arguments.log.as_deref().unwrap_or(default), LogForm::Text) {
        eprintln!("florin: --log: {problem}");
        return ExitCode::from(till::USAGE);
    }
    // One thread: a small machine has little to run in parallel.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("florin: no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let exit = runtime.block_on(async {
        match arguments.command {
            Command::Serve(arguments) => serve::run(arguments).await,
            Command::Enrol(arguments) => enrol::run(arguments).await,
            Command::Doctor(arguments) => doctor::run(arguments).await,
            Command::Pay(arguments) => pay::run(arguments).await,
            Command::Complete(arguments) => payments::complete(arguments).await,
            Command::Cancel(arguments) => payments::cancel(arguments).await,
            Command::Payments(arguments) => payments::list(arguments).await,
            Command::Status(arguments) => payments::status(arguments).await,
            Command::Metrics(arguments) => payments::metrics(arguments).await,
            Command::Reconcile(arguments) => reconcile::run(arguments).await,
            Command::Journal(arguments) => journal::run(arguments),
            #[cfg(all(feature = "wallet", feature = "institution"))]
            Command::Demo(arguments) => demo::run(arguments).await,
        }
    });
    // A question to a person may still wait for the keyboard.
    runtime.shutdown_background();
    exit
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(std::iter::once("florin").chain(line.split_whitespace()))
    }

    #[test]
    fn the_commands_hold_together() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn what_is_right_parses() {
        for line in [
            "serve",
            "serve --configuration /tmp/florin.toml --check",
            "serve --air unix:/tmp/air.sock",
            "enrol --institution https://bank.example:7443 --root root.pem ABCD-EFGH",
            "enrol --institution https://bank.example --root root.pem --replace --state-directory /tmp/x -",
            "pay 2.50 EUR",
            "pay 250 JPY --reference 7 --item Coffee=250 --valid-for-s 60 --idempotency-key k --json",
            "pay 2.50 EUR --after-dispense --dispensed true --till 127.0.0.1:8411",
            "pay 2.50 EUR --till http://127.0.0.1:8411 --until final",
            "complete 2f6e6cf0-31c1-4d4c-9c3c-2f1f0d9a7f11 --dispensed false",
            "cancel 2f6e6cf0-31c1-4d4c-9c3c-2f1f0d9a7f11",
            "payments --open --limit 5 --json",
            "doctor",
            "doctor --configuration /tmp/florin.toml --json",
            "status --till unix:/tmp/till.sock --log debug",
            "metrics --till unix:/tmp/till.sock",
            "reconcile --from 2026-11-01 --until 2026-11-23T06:00:00Z --json",
            "journal check",
            "journal export --until 2026-01-01 --prune old.jsonl",
        ] {
            parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }

    #[test]
    fn what_is_wrong_is_a_usage_error() {
        for line in [
            "",
            "serve --air /tmp/air.sock",
            "serve --air unix:/tmp/air.sock --check",
            "pay",
            "pay 2.50",
            "pay 2.50 eur",
            "pay 2.50 EUR --dispensed true",
            "pay 2.50 EUR --after-dispense --dispensed maybe",
            "pay 2.50 EUR --valid-for-s 0",
            "pay 2.50 EUR --till 192.168.1.5:8411",
            "enrol ABCD --root root.pem",
            "enrol ABCD --institution http://bank.example --root root.pem",
            "complete x --dispensed true",
            "complete 2f6e6cf0-31c1-4d4c-9c3c-2f1f0d9a7f11",
            "payments --limit 0",
            "reconcile --from yesterday",
            "journal export old.jsonl",
            "payments --limit 1001",
        ] {
            let error = parse(line).err().unwrap_or_else(|| panic!("{line} parsed"));
            assert_eq!(error.exit_code(), i32::from(till::USAGE), "{line}");
        }
    }

    #[test]
    fn amounts_are_read_in_their_currency() {
        for (line, right) in [
            ("pay 2.50 EUR --item Coffee=2.50", true),
            ("pay 250 JPY", true),
            ("pay 2.505 EUR", false),
            ("pay 2.5 JPY", false),
            ("pay 0 EUR", false),
            ("pay 2.50 EUR --item Coffee", false),
        ] {
            let Command::Pay(arguments) = parse(line).unwrap().command else { panic!("{line}") };
            assert_eq!(arguments.payment().is_ok(), right, "{line}");
        }
    }
}
