//! Simulates payments with everything that can go wrong, and checks the promises of the house at
//! every step.

#![allow(clippy::print_stdout, clippy::print_stderr)]

mod simulation;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use florin::log::{LogFilter, LogForm, log_help, start_log};
use tracing::level_filters::LevelFilter;

use simulation::campaign::{Campaign, PLANTED_PAYMENTS_MAX};
use simulation::planted::PlantedBug;
use simulation::report;

/// What is logged where nothing is said: the faults that the simulator plants are no news.
const LOG_LEVEL: LevelFilter = LevelFilter::OFF;

/// Simulates payments: the real engine, wallet session and institution on a virtual clock, link,
/// network and disk, all from one seed. Checks the promises at every step, and again when nothing
/// has gone wrong for as long as their bound is.
#[derive(Debug, Parser)]
#[command(
    after_help = "Exit codes: 0 nothing broken, 1 a promise is broken (or a planted bug not \
found), 2 usage, 70 the simulator itself failed.\nA broken promise prints its seed and world; \
--seed S --world W plays it again."
)]
struct Arguments {
    /// How many payments, at least.
    #[arg(long, default_value_t = 20_000)]
    payments: u64,
    /// The same seed makes the same worlds.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Stops after so many minutes of real time, if there were not enough payments before.
    #[arg(long)]
    minutes: Option<u64>,
    /// Only this world, with its story.
    #[arg(long)]
    world: Option<u64>,
    /// Prints the summary as one line of JSON.
    #[arg(long)]
    json: bool,
    /// Plants each bug in turn, and prints how many payments it took to find it.
    #[arg(long)]
    planted_bugs: bool,
    /// Plants this bug, and prints what is made of it; a wrong name prints all.
    #[arg(
        long,
        value_name = "BUG",
        value_parser = PlantedBug::from_name,
        conflicts_with = "planted_bugs"
    )]
    plant: Option<PlantedBug>,
    /// How many threads; one for each core if not given.
    #[arg(long)]
    threads: Option<usize>,
    #[arg(long, env = "RUST_LOG", value_name = "FILTER", help = log_help(&LOG_LEVEL.to_string()))]
    log: Option<LogFilter>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    start_log(arguments.log.clone(), LOG_LEVEL, LogForm::Text);
    let threads = arguments.threads.unwrap_or_else(|| {
        std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get)
    });
    let campaign = Campaign {
        seed: arguments.seed,
        payments: arguments.payments,
        at_most: arguments.minutes.map(|minutes| Duration::from_secs(60 * minutes)),
        world: arguments.world,
        planted: arguments.plant,
        threads,
    };
    let done = if arguments.planted_bugs {
        plant_bugs(&campaign)
    } else {
        simulate(&campaign, arguments.json)
    };
    done.unwrap_or_else(|error| {
        eprintln!("the simulator failed: {error}");
        ExitCode::from(70)
    })
}

fn simulate(campaign: &Campaign, is_json: bool) -> Result<ExitCode, String> {
    let tally = campaign.run()?;
    if is_json {
        println!("{}", report::json(campaign, &tally));
    } else {
        print!("{}", report::tally(campaign, &tally));
    }
    let Some(broken) = &tally.broken else {
        if let Some(world) = campaign.world.filter(|_| !is_json) {
            print!("\n{}", report::story(&campaign.play(world)?));
        }
        return Ok(ExitCode::SUCCESS);
    };
    if !is_json {
        let (whole, shortest) = (campaign.play(broken.world)?, campaign.shrink(broken.world)?);
        print!("\n{}", report::violation(campaign, broken, &whole, &shortest));
    }
    Ok(ExitCode::FAILURE)
}

fn plant_bugs(campaign: &Campaign) -> Result<ExitCode, String> {
    let mut are_all_found = true;
    println!("{:>9}  planted bug, and what it broke", "payments");
    for bug in PlantedBug::ALL {
        let tally = campaign.plant(*bug)?;
        are_all_found &= tally.broken.is_some();
        println!("{}", report::planted_bug(*bug, &tally, PLANTED_PAYMENTS_MAX));
    }
    Ok(if are_all_found { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
