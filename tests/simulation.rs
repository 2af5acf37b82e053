//! The simulator is itself tested: what it finds, what it counts, what it tells, and that a seed
//! plays the same again.
//!
//! A small run only, so that it fits an ordinary `cargo test`; the stage `simulation` of
//! `tests/run` has a larger one.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[path = "../examples/simulate/simulation/mod.rs"]
mod simulation;

use simulation::campaign::{Campaign, PLANTED_PAYMENTS_MAX, Tally};
use simulation::fault::FaultKind;
use simulation::model::Promise;
use simulation::planted::PlantedBug;
use simulation::report;

/// Enough that every kind of fault happens.
const PAYMENTS: u64 = 1_500;
const SEED: u64 = 20_261_123;

fn campaign() -> Campaign {
    Campaign {
        seed: SEED,
        payments: PAYMENTS,
        at_most: None,
        world: None,
        planted: None,
        threads: 2,
    }
}

fn told(campaign: &Campaign, tally: &Tally) -> String {
    match &tally.broken {
        Some(broken) => {
            let whole = campaign.play(broken.world).unwrap();
            let shortest = campaign.shrink(broken.world).unwrap();
            report::violation(campaign, broken, &whole, &shortest)
        }
        None => report::tally(campaign, tally),
    }
}

#[test]
fn no_promise_is_broken_and_every_kind_of_fault_happens() {
    let campaign = campaign();
    let tally = campaign.run().unwrap();
    let told = told(&campaign, &tally);
    println!("{told}");
    assert!(tally.broken.is_none(), "{told}");
    assert!(tally.payments >= PAYMENTS, "{told}");
    for kind in FaultKind::ALL {
        assert!(tally.count(*kind) > 0, "{} never happened:\n{told}", kind.name());
    }
    for outcome in
        ["captured", "reversed/unanswered", "reversed/dispense_unknown", "declined", "expired"]
    {
        assert!(
            tally.outcomes.keys().any(|key| key.starts_with(outcome)),
            "nothing is {outcome}:\n{told}"
        );
    }
    let json = report::json(&campaign, &tally);
    assert_eq!(json["payments"], tally.payments);
    assert_eq!(json["faults"]["request_lost"], tally.count(FaultKind::RequestLost));
    assert!(json["broken"].is_null());
}

#[test]
fn every_planted_bug_is_found_and_every_promise_is_broken_by_one() {
    let mut not_found = Vec::new();
    let mut promises = Vec::new();
    println!("{:>9}  planted bug, and what it broke", "payments");
    for bug in PlantedBug::ALL {
        let tally = campaign().plant(*bug).unwrap();
        println!("{}", report::planted_bug(*bug, &tally, PLANTED_PAYMENTS_MAX));
        match tally.broken {
            Some(broken) => promises.push(broken.violation.promise),
            None => not_found.push(bug.name()),
        }
    }
    assert!(
        not_found.is_empty(),
        "not found within {PLANTED_PAYMENTS_MAX} payments: {}",
        not_found.join(", ")
    );
    promises.sort_unstable();
    promises.dedup();
    let every = [
        Promise::DebitedOnce,
        Promise::ReleasedWhenDurable,
        Promise::EndsSettled,
        Promise::NeverWronglyUncharged,
        Promise::CommandGoodOnce,
        Promise::BooksAgree,
        Promise::TillIsToldOnce,
        Promise::HonestPartiesAgree,
    ];
    assert_eq!(promises, every, "a check that nothing can fail checks nothing");
}

#[test]
fn a_broken_promise_is_told_with_its_seed_its_steps_and_the_shortest_story() {
    let bug = PlantedBug::from_name("effect_before_journal").unwrap();
    let campaign = Campaign { planted: Some(bug), ..campaign() };
    let tally = campaign.plant(bug).unwrap();
    let broken = tally.broken.as_ref().unwrap();
    let text = told(&campaign, &tally);
    println!("{text}");
    let again = format!("--seed {SEED} --world {} --plant effect_before_journal", broken.world);
    for part in [
        "BROKEN: promise 2",
        &again,
        "The last steps of that world",
        "The shortest story found",
        " s  ",
    ] {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
    let whole = campaign.play(broken.world).unwrap();
    let shortest = campaign.shrink(broken.world).unwrap();
    assert_eq!(
        shortest.violation.as_ref().map(|violation| violation.promise),
        Some(broken.violation.promise)
    );
    // This bug needs no fault at all.
    assert!(shortest.faults.is_empty(), "{:?}", shortest.faults);
    assert!(shortest.trace.len() <= whole.trace.len());
    assert!(PlantedBug::from_name("none").unwrap_err().contains("effect_before_journal"));
}

#[test]
fn a_seed_plays_the_same_again() {
    let bug = PlantedBug::ConfirmedRecordLost;
    let campaign = Campaign { planted: Some(bug), ..campaign() };
    let broken = campaign.plant(bug).unwrap().broken.unwrap();
    let (first, second) =
        (campaign.play(broken.world).unwrap(), campaign.play(broken.world).unwrap());
    assert_eq!(first.violation, Some(broken.violation));
    assert_eq!(first.violation, second.violation);
    assert_eq!(first.faults, second.faults);
    assert!(!first.trace.is_empty());
    assert_eq!(report::story(&first), report::story(&second));
}
