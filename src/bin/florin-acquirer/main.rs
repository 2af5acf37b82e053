//! `florin-acquirer`: the reference institution from the command line. Arguments in, exit codes
//! out.
//!
//! What the commands do is in the library. There is a file for each group of commands.

#![allow(clippy::print_stderr)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod account;
mod approval;
mod arguments;
mod audit;
mod card;
mod code_validity;
mod evidence;
mod failure;
mod init;
mod ledger;
mod money;
mod operator;
mod operator_command;
mod output;
mod serve;
mod store;
mod terminal;
mod transaction;
mod transaction_action;
mod transaction_view;
mod typed;

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use florin::domain::UnixTime;
use florin::institution::{open_institution, open_to_serve};
use serde_json::json;

use self::arguments::{Arguments, Command};
use self::failure::{Usage, exit_code, is_broken_pipe, message};
use self::output::Output;

/// The exit code of a check that found wrong books, or evidence that is not right.
const BOOKS_WRONG: u8 = 1;

fn main() -> ExitCode {
    let arguments = Arguments::of_command_line();
    #[cfg(feature = "manual")]
    if let Command::Manual(manual) = &arguments.command {
        let program = <Arguments as clap::CommandFactory>::command();
        return florin::manual::write_manual(program, manual).map_or_else(
            |error| {
                eprintln!("florin-acquirer manual: {error}");
                ExitCode::FAILURE
            },
            |()| ExitCode::SUCCESS,
        );
    }
    let json = arguments.json;
    match run(arguments) {
        Ok(code) => code,
        // Whoever reads the output has seen enough.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let (code, message) = (exit_code(&error), message(&error));
            if json {
                eprintln!("{}", json!({ "error": message, "exit_code": code }));
            } else {
                eprintln!("florin-acquirer: {message}");
            }
            ExitCode::from(code)
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let output = Output { json: arguments.json };
    let now = unix_time()?;
    let directory = arguments.directory.filter(|path| !path.as_os_str().is_empty());
    let directory = directory.ok_or_else(|| {
        let missing = "say which institution: name its directory with --directory DIR, or in the \
                       environment variable FLORIN_ACQUIRER_DIRECTORY";
        Usage(missing.to_owned())
    })?;
    let open = || open_institution(&directory);
    match arguments.command {
        Command::Init(init) => init::run(init, &directory, now, &output)?,
        Command::Serve(serve) => {
            serve::run(serve, open_to_serve(&directory)?, arguments.log, &output)?;
        }
        Command::Account(command) => account::run(command, open()?.institution, now, &output)?,
        Command::Terminal(command) => terminal::run(command, open()?.institution, now, &output)?,
        Command::Card(command) => card::run(command, open()?.institution, now, &output)?,
        Command::Transaction(command) => {
            let is_right = transaction::run(command, open()?.institution, now, &output)?;
            return Ok(if is_right { ExitCode::SUCCESS } else { ExitCode::from(BOOKS_WRONG) });
        }
        Command::Approval(command) => approval::run(command, open()?.institution, now, &output)?,
        Command::Operator(command) => {
            operator_command::run(command, open()?, &directory, now, &output)?;
        }
        Command::Audit(command) => audit::run(command, open()?.institution, &output)?,
        Command::Ledger(command) => {
            let are_right = ledger::run(command, open()?.institution, &output)?;
            return Ok(if are_right { ExitCode::SUCCESS } else { ExitCode::from(BOOKS_WRONG) });
        }
        Command::Store(command) => store::run(command, &directory, now, &output)?,
        #[cfg(feature = "manual")]
        Command::Manual(_) => {}
    }
    Ok(ExitCode::SUCCESS)
}

fn unix_time() -> anyhow::Result<UnixTime> {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .context("this machine's clock is set to a time before 1970; set it right")?;
    Ok(UnixTime { seconds: since.as_secs() })
}
