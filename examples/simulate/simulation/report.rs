//! What a run has to say to people and programs. Decides nothing.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::campaign::{Broken, Campaign, Tally};
use super::fault::{FaultKind, Occasion};
use super::planted::PlantedBug;
use super::world::WorldReport;

/// The longest trace that is printed of a world that was not asked for, in lines; of a longer one
/// the end.
const TRACE_LINES_MAX: usize = 60;
/// The longest story that is printed, in lines; of a longer one the end.
const STORY_LINES_MAX: usize = 400;

/// The counts of a run: payments, outcomes, and every kind of fault, also one that never happened.
pub fn tally(campaign: &Campaign, tally: &Tally) -> String {
    let mut text = String::new();
    let rate = tally.payments_per_second();
    let _ = writeln!(
        text,
        "{} payments in {} worlds of seed {}, {} steps, {:.1} s, {rate:.0} payments/s on {} \
         threads",
        tally.payments,
        tally.worlds,
        campaign.seed,
        tally.steps,
        tally.took.as_secs_f64(),
        campaign.threads
    );
    text.push_str("outcomes:\n");
    for (outcome, count) in &tally.outcomes {
        let _ = writeln!(text, "  {count:>9}  {outcome}");
    }
    text.push_str("faults:\n");
    for kind in FaultKind::ALL {
        let _ = writeln!(text, "  {:>9}  {}", tally.count(*kind), kind.name());
    }
    if tally.broken.is_none() {
        text.push_str("no promise broken\n");
    }
    text
}

/// The same for programs: one object.
pub fn json(campaign: &Campaign, tally: &Tally) -> serde_json::Value {
    let faults: BTreeMap<&str, u64> =
        FaultKind::ALL.iter().map(|kind| (kind.name(), tally.count(*kind))).collect();
    let broken = tally.broken.as_ref().map(|Broken { world, violation }| {
        serde_json::json!({
            "world": world, "promise": violation.promise.text(), "detail": violation.detail,
        })
    });
    serde_json::json!({
        "seed": campaign.seed,
        "threads": campaign.threads,
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

/// A broken promise: which, how to play it again, the last steps of the world, and the shortest
/// story that was found.
pub fn violation(
    campaign: &Campaign,
    broken: &Broken,
    whole: &WorldReport,
    shortest: &WorldReport,
) -> String {
    let Broken { world, violation } = broken;
    let mut text = format!("BROKEN: {}\n  {}\n", violation.promise.text(), violation.detail);
    let planted = campaign.planted.map_or(String::new(), |bug| format!(" --plant {}", bug.name()));
    let _ = writeln!(text, "  to play it again: --seed {} --world {world}{planted}", campaign.seed);
    let _ = writeln!(text, "\nThe last steps of that world, of {}:", whole.trace.len());
    push_lines(&mut text, &whole.trace, TRACE_LINES_MAX);
    let _ = writeln!(
        text,
        "\nThe shortest story found, with {} payments and {} faults ({}):",
        shortest.payments,
        shortest.faults.len(),
        occasions(&shortest.faults)
    );
    push_lines(&mut text, &shortest.trace, STORY_LINES_MAX);
    if let Some(violation) = &shortest.violation {
        let _ = writeln!(text, "  BROKEN: {}\n  {}", violation.promise.text(), violation.detail);
    }
    text
}

/// All steps of a world in which nothing was broken.
pub fn story(report: &WorldReport) -> String {
    let mut text = String::new();
    push_lines(&mut text, &report.trace, usize::MAX);
    text
}

/// How many payments it took to find each planted bug, and what it broke.
pub fn planted_bug(bug: PlantedBug, tally: &Tally, bound: u64) -> String {
    match &tally.broken {
        Some(Broken { violation, .. }) => {
            format!("{:>9}  {}: {}", tally.payments, bug.text(), violation.promise.text())
        }
        None => format!("{:>9}  {}: NOT FOUND within {bound} payments", tally.payments, bug.text()),
    }
}

fn push_lines(text: &mut String, lines: &[String], lines_max: usize) {
    let left_out = lines.len().saturating_sub(lines_max);
    if left_out > 0 {
        let _ = writeln!(text, "  ({left_out} earlier lines are left out)");
    }
    for line in &lines[left_out..] {
        let _ = writeln!(text, "  {line}");
    }
}

fn occasions(faults: &[Occasion]) -> String {
    let named: Vec<String> =
        faults.iter().map(|(kind, number)| format!("{} {number}", kind.name())).collect();
    named.join(", ")
}
