//! Simulates payments with everything that can go wrong, and checks the promises of the house at every step.

#![allow(clippy::print_stdout, clippy::print_stderr)]

mod simulation;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use simulation::campaign::{Campaign, Tally};
use simulation::planted::PlantedBug;

/// The longest story that is printed, in lines; of a longer one the end.
const STORY_LINES_MAX: usize = 400;
/// A planted bug that is not found by then is not found.
const PLANTED_PAYMENTS_MAX: u64 = 20_000;

/// Simulates payments: the real engine, wallet session and institution on a virtual clock, link, network and disk, all
/// from one seed. Checks the promises at every step, and again when nothing has gone wrong for 330 s.
#[derive(Debug, Parser)]
#[command(
    after_help = "Exit codes: 0 nothing broken, 1 a promise is broken (or a planted bug not found), 2 usage, 70 the \
simulator itself failed.\nA broken promise prints its seed and world; --seed S --world W plays it again."
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
    /// How many threads; one for each core if not given.
    #[arg(long)]
    threads: Option<usize>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let threads = arguments
        .threads
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get));
    let campaign = Campaign {
        seed: arguments.seed,
        payments: arguments.payments,
        at_most: arguments.minutes.map(|minutes| Duration::from_secs(60 * minutes)),
        world: arguments.world,
        planted: None,
        threads,
    };
    let done =
        if arguments.planted_bugs { plant_bugs(&campaign) } else { simulate(&campaign, arguments.json) };
    done.unwrap_or_else(|error| {
        eprintln!("the simulator failed: {error}");
        ExitCode::from(70)
    })
}

fn simulate(campaign: &Campaign, is_json: bool) -> Result<ExitCode, String> {
    let tally = campaign.run()?;
    if is_json {
        println!("{}", json(campaign, &tally));
    } else {
        print_tally(campaign, &tally);
    }
    let Some((world, violation)) = &tally.broken else {
        if campaign.world.is_some() && !is_json {
            print_story(campaign, campaign.world.unwrap_or(0))?;
        }
        return Ok(ExitCode::SUCCESS);
    };
    if !is_json {
        println!("\nBROKEN: {}", violation.promise.text());
        println!("  {}", violation.detail);
        println!("  to play it again: --seed {} --world {world}", campaign.seed);
        print_story(campaign, *world)?;
    }
    Ok(ExitCode::FAILURE)
}

fn print_story(campaign: &Campaign, world: u64) -> Result<(), String> {
    let shortest = campaign.shrink(world)?;
    if let Some(violation) = &shortest.violation {
        println!("\nThe shortest story found, with {} faults:", shortest.faults.len());
        let left_out = shortest.trace.len().saturating_sub(STORY_LINES_MAX);
        if left_out > 0 {
            println!("  ({left_out} earlier lines are left out)");
        }
        for line in &shortest.trace[left_out..] {
            println!("  {line}");
        }
        println!("  BROKEN: {}\n  {}", violation.promise.text(), violation.detail);
    }
    Ok(())
}

fn print_tally(campaign: &Campaign, tally: &Tally) {
    println!(
        "{} payments in {} worlds of seed {}, {} steps, {:.1} s, {:.0} payments/s",
        tally.payments,
        tally.worlds,
        campaign.seed,
        tally.steps,
        tally.took.as_secs_f64(),
        tally.payments_per_second()
    );
    println!("outcomes:");
    for (outcome, count) in &tally.outcomes {
        println!("  {count:>9}  {outcome}");
    }
    println!("faults:");
    for (kind, count) in &tally.faults {
        println!("  {count:>9}  {}", kind.name());
    }
    if tally.broken.is_none() {
        println!("no promise broken");
    }
}

fn json(campaign: &Campaign, tally: &Tally) -> serde_json::Value {
    let faults: std::collections::BTreeMap<&str, u64> =
        tally.faults.iter().map(|(kind, count)| (kind.name(), *count)).collect();
    let broken = tally.broken.as_ref().map(|(world, violation)| {
        serde_json::json!({
            "world": world, "promise": violation.promise.text(), "detail": violation.detail,
        })
    });
    serde_json::json!({
        "seed": campaign.seed,
        "worlds": tally.worlds,
        "payments": tally.payments,
        "steps": tally.steps,
        "seconds": tally.took.as_secs_f64(),
        "payments_per_second": tally.payments_per_second(),
        "outcomes": tally.outcomes,
        "faults": faults,
        "broken": broken,
    })
}

fn plant_bugs(campaign: &Campaign) -> Result<ExitCode, String> {
    let mut are_all_found = true;
    println!("{:>9}  planted bug, and what it broke", "payments");
    for bug in PlantedBug::ALL {
        let campaign = Campaign {
            planted: Some(*bug),
            payments: PLANTED_PAYMENTS_MAX,
            threads: 1,
            world: None,
            ..campaign.clone()
        };
        let tally = campaign.run()?;
        match &tally.broken {
            Some((_, violation)) => {
                println!("{:>9}  {}: {}", tally.payments, bug.text(), violation.promise.text());
            }
            None => {
                are_all_found = false;
                println!("{:>9}  {}: NOT FOUND", tally.payments, bug.text());
            }
        }
    }
    Ok(if are_all_found { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
