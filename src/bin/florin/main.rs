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

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Parser, Subcommand};
use florin::log::{LogFilter, LogForm, log_help, start_log};
use tracing::level_filters::LevelFilter;

/// What is logged where nothing is said: by the service, and by all other commands.
const SERVICE_LOG_LEVEL: LevelFilter = LevelFilter::INFO;
const LOG_LEVEL: LevelFilter = LevelFilter::WARN;

/// Takes payments from phones over Bluetooth Low Energy, for an unattended machine.
#[derive(Debug, Parser)]
#[command(name = "florin", version, max_term_width = 100)]
struct Arguments {
    #[arg(
        long,
        global = true,
        env = "RUST_LOG",
        value_name = "FILTER",
        help = log_help(&format!("{SERVICE_LOG_LEVEL} for `serve`, {LOG_LEVEL} for all else")),
    )]
    log: Option<LogFilter>,
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
    Resolve(payments::ResolveArguments),
    Payments(payments::PaymentsArguments),
    Status(payments::StatusArguments),
    Metrics(payments::MetricsArguments),
    Reconcile(reconcile::ReconcileArguments),
    Journal(journal::JournalArguments),
    #[cfg(all(feature = "wallet", feature = "institution"))]
    Demo(demo::DemoArguments),
    #[cfg(feature = "manual")]
    Manual(florin::manual::ManualArguments),
}

fn main() -> ExitCode {
    let arguments = Arguments::try_parse().unwrap_or_else(|error| about_amounts(error).exit());
    let level =
        if matches!(arguments.command, Command::Serve(_)) { SERVICE_LOG_LEVEL } else { LOG_LEVEL };
    start_log(arguments.log, level, LogForm::Text);
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
            Command::Complete(arguments) => ended(payments::complete(arguments).await),
            Command::Cancel(arguments) => ended(payments::cancel(arguments).await),
            Command::Resolve(arguments) => ended(payments::resolve(arguments).await),
            Command::Payments(arguments) => ended(payments::list(arguments).await),
            Command::Status(arguments) => ended(payments::status(arguments).await),
            Command::Metrics(arguments) => ended(payments::metrics(arguments).await),
            Command::Reconcile(arguments) => reconcile::run(arguments).await,
            Command::Journal(arguments) => journal::run(arguments),
            #[cfg(all(feature = "wallet", feature = "institution"))]
            Command::Demo(arguments) => demo::run(arguments).await,
            #[cfg(feature = "manual")]
            Command::Manual(arguments) => manual(&arguments),
        }
    });
    // A question to a person may still wait for the keyboard.
    runtime.shutdown_background();
    exit
}

/// The exit code of a command that prints its own errors.
fn ended(result: Result<(), ExitCode>) -> ExitCode {
    result.err().unwrap_or(ExitCode::SUCCESS)
}

/// To clap `-2,50` and `-€2` are options that it does not know: says that they are negative.
fn about_amounts(error: clap::Error) -> clap::Error {
    let is_amount = error.kind() == ErrorKind::UnknownArgument
        && matches!(
            error.get(ContextKind::InvalidArg),
            Some(ContextValue::String(word))
                if word.strip_prefix('-').is_some_and(|rest| rest.starts_with(is_of_amount))
        );
    if is_amount {
        let negative = "an amount cannot be negative; leave the minus sign out";
        Arguments::command().error(ErrorKind::ValueValidation, negative)
    } else {
        error
    }
}

fn is_of_amount(character: char) -> bool {
    character.is_ascii_digit() || ".,€$£¥".contains(character)
}

#[cfg(feature = "manual")]
fn manual(arguments: &florin::manual::ManualArguments) -> ExitCode {
    match florin::manual::write_manual(Arguments::command(), arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("florin manual: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
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
            "enrol --institution https://bank.example --root root.pem --replace - \
             --state-directory /tmp/x",
            "pay 2.50 EUR",
            "pay EUR 2,50 --json",
            "pay 250 JPY --reference 7 --item Coffee=250 --valid-for-s 60 --json \
             --idempotency-key k",
            "pay 2.50 EUR --after-dispense --dispensed true --till 127.0.0.1:8411",
            "pay 2.50 EUR --till http://127.0.0.1:8411 --until final",
            "complete 2f6e6cf0-31c1-4d4c-9c3c-2f1f0d9a7f11 --dispensed false",
            "cancel 2f6e6cf0-31c1-4d4c-9c3c-2f1f0d9a7f11",
            "resolve 2f6e6cf0-31c1-4d4c-9c3c-2f1f0d9a7f11 --dispensed yes",
            "payments --open --limit 5 --json",
            "doctor",
            "doctor --configuration /tmp/florin.toml --json",
            "status --till unix:/tmp/till.sock --log debug",
            "metrics --till unix:/tmp/till.sock",
            "metrics --till /tmp/till.sock",
            "metrics --configuration /tmp/florin.toml",
            "cancel 2F6E6CF031C14D4C9C3C2F1F0D9A7F11",
            "reconcile --from 2026-11-01 --until 2026-11-23T06:00:00Z --json",
            "journal check",
            "journal export --until 2026-01-01 --prune old.jsonl",
        ] {
            parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }

    #[test]
    fn every_instruction_of_a_reconciliation_is_a_command_that_exists() {
        let mut named = 0;
        for difference in florin::terminal::Difference::ALL {
            let advice = difference.to_string();
            for words in advice.split('`').skip(1).step_by(2) {
                let mut command = Arguments::command();
                let mut words = words.split(' ');
                assert_eq!(words.next(), Some("florin"), "{advice}");
                for word in words {
                    let found = command.find_subcommand(word).cloned();
                    command = found.unwrap_or_else(|| panic!("no command `{word}`: {advice}"));
                    named += 1;
                }
            }
        }
        assert!(named >= 3, "{named}");
    }

    #[test]
    fn what_is_wrong_is_a_usage_error() {
        for line in [
            "",
            "serve --air /tmp/air.sock",
            "serve --air unix:/tmp/air.sock --check",
            "pay",
            "pay -2,50 EUR",
            "pay 2.50 EUR --valid-for-s 60s",
            "pay 2.50 EUR --dispensed true",
            "pay 2.50 EUR --after-dispense --dispensed maybe",
            "pay 2.50 EUR --valid-for-s 0",
            "pay 2.50 EUR --till 192.168.1.5:8411",
            "enrol ABCD --root root.pem",
            "enrol ABCD --institution http://bank.example --root root.pem",
            "complete x --dispensed true",
            "complete 2f6e6cf0-31c1-4d4c-9c3c-2f1f0d9a7f11",
            "resolve 2f6e6cf0-31c1-4d4c-9c3c-2f1f0d9a7f11",
            "resolve 2f6e6cf0-31c1-4d4c-9c3c-2f1f0d9a7f11 --dispensed maybe",
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
            ("pay 2.50 eur", true),
            ("pay €2.50 --item Water=0", true),
            ("pay 1 000,00 EUR", true),
            ("pay 250 JPY", true),
            ("pay 2.50", false),
            ("pay -2.50 EUR", false),
            ("pay 1,234 EUR", false),
            ("pay 2.505 EUR", false),
            ("pay 2.5 JPY", false),
            ("pay 0 EUR", false),
            ("pay 2.50 EUR --item Coffee", false),
        ] {
            let Command::Pay(arguments) = parse(line).unwrap().command else { panic!("{line}") };
            assert_eq!(arguments.payment().is_ok(), right, "{line}");
        }
    }

    #[test]
    fn a_negative_amount_is_called_negative_also_where_it_looks_like_an_option() {
        for line in ["pay -2,50 EUR", "pay -€2.50"] {
            let error = about_amounts(parse(line).unwrap_err());
            assert!(error.to_string().contains("cannot be negative"), "{error}");
            assert_eq!(error.exit_code(), i32::from(till::USAGE));
        }
        let error = about_amounts(parse("pay 2.50 EUR -x").unwrap_err()).to_string();
        assert!(error.contains("unexpected argument '-x'"), "{error}");
    }

    /// Every default that a help text names stands in the code once: clap prints it, or the text is
    /// made from the constant.
    #[test]
    fn defaults_in_help_texts_come_from_the_code() {
        let spelt_out = [
            ("florin", "log", "[default: info for `serve`, warn for all else]".to_owned()),
            ("pay", "valid_for_s", "[default: as the service is configured]".to_owned()),
            ("pay", "idempotency_key", "[default: a random one]".to_owned()),
            ("export", "from", "[default: all]".to_owned()),
            ("demo", "directory", "[default: a temporary directory".to_owned()),
            ("enrol", "state_directory", "[default: the state directory of the".to_owned()),
            ("reconcile", "from", reconcile::default_from()),
            ("reconcile", "until", reconcile::default_until()),
        ];
        let mut commands = vec![Arguments::command()];
        while let Some(command) = commands.pop() {
            for argument in command.get_arguments() {
                let texts = [argument.get_help(), argument.get_long_help()];
                let help = texts.into_iter().flatten().map(ToString::to_string).collect::<String>();
                if !help.contains("[default") {
                    continue;
                }
                let named = spelt_out.iter().find(|(name, id, _)| {
                    *name == command.get_name() && *id == argument.get_id().as_str()
                });
                let is_till = argument.get_id() == "till"
                    && help.contains(florin::service::TILL_ADDRESS)
                    || argument.get_id() == "configuration"
                        && help.contains(florin::service::CONFIGURATION_PATH);
                let is_known = named.is_some_and(|(_, _, text)| help.contains(text.as_str()));
                assert!(is_known || is_till, "{} {help}", command.get_name());
            }
            commands.extend(command.get_subcommands().cloned());
        }
    }
}
