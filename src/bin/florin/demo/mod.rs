//! `florin demo`: one payment with all parties in one process, told step by step.

mod event;
mod observed_relay;
mod parties;
mod phone;
mod play;
mod randomness;
mod scenario;
mod silent_proxy;
mod storyteller;
mod temporary_directory;
mod till;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use florin::domain::{Amount, Currency};

use self::event::Story;
use self::scenario::{DemoSettings, Scenario};
use crate::till::USAGE;

/// Play one payment with all parties in this process, without a radio.
#[derive(Debug, Args)]
pub struct DemoArguments {
    /// The amount, in major units.
    #[arg(long, default_value = "2.50")]
    amount: String,
    /// The currency (ISO 4217).
    #[arg(long, default_value = "EUR")]
    currency: Currency,
    /// What is to happen.
    #[arg(long, default_value = "approved", value_parser = scenario_parser())]
    scenario: Scenario,
    /// Keep all files of the parties (keys, journal, ledger) in this directory [default: a
    /// temporary directory, which is removed at the end].
    #[arg(long)]
    directory: Option<PathBuf>,
    /// Print one JSON object a line, the last a summary.
    #[arg(long)]
    json: bool,
}

pub async fn run(arguments: DemoArguments) -> ExitCode {
    let amount = match Amount::parse_major(&arguments.amount, arguments.currency) {
        Ok(amount) => amount,
        Err(error) => {
            eprintln!("florin demo: --amount: {error}");
            return ExitCode::from(USAGE);
        }
    };
    let settings =
        DemoSettings { amount, scenario: arguments.scenario, directory: arguments.directory };
    match play::run(settings, Story::new(arguments.json)).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("florin demo: the payment did not go as the scenario says");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("florin demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The names of the scenarios, which `--help` lists.
fn scenario_parser() -> impl TypedValueParser<Value = Scenario> {
    PossibleValuesParser::new(Scenario::ALL.map(Scenario::name)).try_map(|name| {
        Scenario::ALL.into_iter().find(|scenario| scenario.name() == name).ok_or("no such scenario")
    })
}
