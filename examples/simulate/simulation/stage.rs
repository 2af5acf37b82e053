//! The virtual clock, what is to come, and what all parties share: faults, media, the reference
//! model, the trace.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use florin::domain::TransactionId;

use super::event::Event;
use super::fault::{FaultKind, Faults};
use super::link::Link;
use super::model::{Model, Violation};
use super::network::Network;
use super::planted::PlantedBug;
use super::randomness::Dice;

#[derive(Debug)]
struct Entry {
    at_ms: u64,
    number: u64,
    event: Event,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}
impl Eq for Entry {}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at_ms, self.number).cmp(&(other.at_ms, other.number))
    }
}

/// What all parties share.
#[derive(Debug)]
pub struct Stage {
    /// Milliseconds of virtual time.
    pub now_ms: u64,
    /// What goes wrong.
    pub faults: Faults,
    /// What must hold.
    pub model: Model,
    /// The air.
    pub link: Link,
    /// The way to the institution.
    pub network: Network,
    /// What is wrong on purpose.
    pub planted: Option<PlantedBug>,
    /// How many steps the parties took.
    pub steps: u64,
    to_come: BinaryHeap<Reverse<Entry>>,
    last_number: u64,
    trace: Option<Vec<String>>,
    names: BTreeMap<TransactionId, usize>,
}

impl Stage {
    /// An empty stage.
    pub fn new(seed: u64, faults: Faults, planted: Option<PlantedBug>, is_traced: bool) -> Self {
        Self {
            now_ms: 0,
            faults,
            model: Model::default(),
            link: Link::new(Dice::of(&[seed, 1])),
            network: Network::new(Dice::of(&[seed, 2])),
            planted,
            steps: 0,
            to_come: BinaryHeap::new(),
            last_number: 0,
            trace: is_traced.then(Vec::new),
            names: BTreeMap::new(),
        }
    }

    /// Has it happen that much later.
    pub fn after(&mut self, milliseconds: u64, event: Event) {
        self.at(self.now_ms + milliseconds, event);
    }

    /// Has it happen at that time, after all that was to happen then already.
    pub fn at(&mut self, at_ms: u64, event: Event) {
        self.last_number += 1;
        self.to_come.push(Reverse(Entry { at_ms, number: self.last_number, event }));
    }

    /// The next event until then; the clock moves there.
    pub fn next_event(&mut self, until_ms: u64) -> Option<Event> {
        if self.to_come.peek()?.0.at_ms > until_ms {
            return None;
        }
        let Reverse(entry) = self.to_come.pop()?;
        self.now_ms = self.now_ms.max(entry.at_ms);
        self.steps += 1;
        Some(entry.event)
    }

    /// Whether that fault happens now.
    pub fn fault(&mut self, kind: FaultKind) -> Option<Dice> {
        let dice = self.faults.happens(kind)?;
        if self.trace.is_some() {
            let number = self.faults.happened.iter().filter(|(other, _)| *other == kind).count();
            self.say(|_| format!("!! {} ({number})", kind.name()));
        }
        Some(dice)
    }

    /// Is this bug planted?
    pub fn is_planted(&self, bug: PlantedBug) -> bool {
        self.planted == Some(bug)
    }

    /// A line of the trace.
    pub fn say(&mut self, line: impl FnOnce(&Self) -> String) {
        if self.trace.is_some() {
            let at_s = self.now_ms / 1000;
            let line = format!("{at_s:>7}.{:03} s  {}", self.now_ms % 1000, line(self));
            if let Some(trace) = &mut self.trace {
                trace.push(line);
            }
        }
    }

    /// A payment's short name in the trace.
    pub fn name(&self, transaction_id: TransactionId) -> String {
        self.names
            .get(&transaction_id)
            .map_or_else(|| transaction_id.to_string(), |number| format!("#{number}"))
    }

    /// Gives a payment a short name: its number in the journal's order.
    pub fn give_name(&mut self, transaction_id: TransactionId) {
        let number = self.names.len() + 1;
        self.names.entry(transaction_id).or_insert(number);
    }

    /// How many payments there were.
    pub fn payments(&self) -> usize {
        self.names.len()
    }

    /// The first violation, if there was one.
    pub fn violation(&self) -> Option<&Violation> {
        self.model.violation.as_ref()
    }

    /// The trace so far.
    pub fn take_trace(&mut self) -> Vec<String> {
        self.trace.take().unwrap_or_default()
    }
}
