//! Many worlds on all cores, their sum, and where a promise is broken the shortest story that still
//! breaks it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::fault::{FaultKind, LeftOut, Occasion};
use super::model::Violation;
use super::planted::PlantedBug;
use super::world::{WorldPlan, WorldReport, run};

/// How many payments a world's script has: enough that old ones are still being settled when new
/// ones come, and few enough that a story can be shrunk.
pub const PAYMENTS_PER_WORLD: usize = 50;
/// A planted bug has to be found within so many payments.
pub const PLANTED_PAYMENTS_MAX: u64 = 1_000;

/// How long a story is made shorter at most.
const SHRINKING_TIME_MAX: Duration = Duration::from_secs(60);

/// What to run.
#[derive(Debug, Clone)]
pub struct Campaign {
    /// Of all worlds.
    pub seed: u64,
    /// Stops when there were so many.
    pub payments: u64,
    /// Or after so long.
    pub at_most: Option<Duration>,
    /// Only this world.
    pub world: Option<u64>,
    /// What is wrong on purpose.
    pub planted: Option<PlantedBug>,
    /// How many threads.
    pub threads: usize,
}

/// The sum of all worlds.
#[derive(Debug, Default)]
pub struct Tally {
    pub worlds: u64,
    pub payments: u64,
    pub steps: u64,
    pub outcomes: BTreeMap<String, u64>,
    pub faults: BTreeMap<FaultKind, u64>,
    pub took: Duration,
    /// The world with the lowest number that broke a promise.
    pub broken: Option<Broken>,
}

/// A world in which a promise was broken.
#[derive(Debug, Clone)]
pub struct Broken {
    /// Its number.
    pub world: u64,
    /// The first promise that was broken.
    pub violation: Violation,
}

impl Tally {
    fn add(&mut self, world: u64, report: WorldReport) {
        self.worlds += 1;
        self.payments += report.payments;
        self.steps += report.steps;
        for (outcome, count) in report.outcomes {
            *self.outcomes.entry(outcome).or_default() += count;
        }
        for (kind, _) in report.faults {
            *self.faults.entry(kind).or_default() += 1;
        }
        if let Some(violation) = report.violation
            && self.broken.as_ref().is_none_or(|other| world < other.world)
        {
            self.broken = Some(Broken { world, violation });
        }
    }

    /// How often that fault happened.
    pub fn count(&self, kind: FaultKind) -> u64 {
        self.faults.get(&kind).copied().unwrap_or(0)
    }

    /// Payments in a second of real time.
    pub fn payments_per_second(&self) -> f64 {
        self.payments as f64 / self.took.as_secs_f64().max(0.001)
    }
}

impl Campaign {
    /// The plan of one of its worlds.
    pub fn plan(&self, world: u64) -> WorldPlan {
        WorldPlan {
            seed: self.seed,
            world,
            payments: PAYMENTS_PER_WORLD,
            planted: self.planted,
            left_out: LeftOut::default(),
            payments_left_out: BTreeSet::new(),
            is_traced: false,
        }
    }

    /// Runs worlds until there were enough payments, the time is over, or a promise is broken.
    ///
    /// # Errors
    /// Where a world cannot be made: a mistake of the simulator.
    pub fn run(&self) -> Result<Tally, String> {
        let start = Instant::now();
        let (next, payments) = (AtomicU64::new(self.world.unwrap_or(0)), AtomicU64::new(0));
        let stop = AtomicBool::new(false);
        let tally = Mutex::new(Tally::default());
        let failure = Mutex::new(None);
        let work = || {
            while !stop.load(Ordering::Relaxed) {
                let world = next.fetch_add(1, Ordering::Relaxed);
                let report = match run(self.plan(world)) {
                    Ok(report) => report,
                    Err(error) => {
                        stop.store(true, Ordering::Relaxed);
                        *lock(&failure) = Some(error.to_string());
                        return;
                    }
                };
                let so_far =
                    payments.fetch_add(report.payments, Ordering::Relaxed) + report.payments;
                let is_over = self.world.is_some()
                    || so_far >= self.payments
                    || report.violation.is_some()
                    || self.at_most.is_some_and(|at_most| start.elapsed() >= at_most);
                lock(&tally).add(world, report);
                if is_over {
                    stop.store(true, Ordering::Relaxed);
                }
            }
        };
        std::thread::scope(|scope| {
            let threads = if self.world.is_some() { 1 } else { self.threads };
            for _ in 0..threads {
                scope.spawn(work);
            }
        });
        if let Some(failure) = lock(&failure).take() {
            return Err(failure);
        }
        let mut tally = std::mem::take(&mut *lock(&tally));
        tally.took = start.elapsed();
        Ok(tally)
    }

    /// Runs worlds with this bug until it is found, or there were [`PLANTED_PAYMENTS_MAX`]; with
    /// one thread, so that the number of payments is the same every time.
    ///
    /// # Errors
    /// As [`Campaign::run`].
    pub fn plant(&self, bug: PlantedBug) -> Result<Tally, String> {
        let planted = Some(bug);
        let campaign = Self {
            planted,
            payments: PLANTED_PAYMENTS_MAX,
            threads: 1,
            world: None,
            ..self.clone()
        };
        campaign.run()
    }

    /// One world, with its story.
    ///
    /// # Errors
    /// As [`Campaign::run`].
    pub fn play(&self, world: u64) -> Result<WorldReport, String> {
        let plan = WorldPlan { is_traced: true, ..self.plan(world) };
        run(plan).map_err(|error| error.to_string())
    }

    /// The shortest story that still breaks the same promise, found by leaving out faults and
    /// payments, for a minute at most.
    ///
    /// # Errors
    /// As [`Campaign::run`].
    pub fn shrink(&self, world: u64) -> Result<WorldReport, String> {
        let mut plan = self.plan(world);
        let again = |plan: &WorldPlan| run(plan.clone()).map_err(|error| error.to_string());
        let mut report = again(&plan)?;
        let Some(promise) = report.violation.as_ref().map(|violation| violation.promise) else {
            return Ok(report);
        };
        let start = Instant::now();
        loop {
            let weight_before = weight(&plan, &report);
            for way in [kinds_to_leave_out, payments_to_leave_out, occasions_to_leave_out] {
                for change in way(&plan, &report) {
                    if start.elapsed() > SHRINKING_TIME_MAX {
                        break;
                    }
                    let candidate = change.made_to(&plan);
                    let tried = again(&candidate)?;
                    let still = tried
                        .violation
                        .as_ref()
                        .is_some_and(|violation| violation.promise == promise);
                    if still && weight(&candidate, &tried) < weight(&plan, &report) {
                        (plan, report) = (candidate, tried);
                    }
                }
            }
            if weight(&plan, &report) == weight_before || start.elapsed() > SHRINKING_TIME_MAX {
                break;
            }
        }
        plan.is_traced = true;
        again(&plan)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Fewer faults, then fewer payments, then fewer steps.
fn weight(plan: &WorldPlan, report: &WorldReport) -> (usize, usize, u64) {
    (report.faults.len(), plan.payments - plan.payments_left_out.len(), report.steps)
}

/// Something to leave out.
enum Change {
    Kind(FaultKind),
    Payments(Vec<usize>),
    Occasions(Vec<Occasion>),
}

impl Change {
    fn made_to(self, plan: &WorldPlan) -> WorldPlan {
        let mut plan = plan.clone();
        match self {
            Self::Kind(kind) => {
                plan.left_out.kinds.insert(kind);
            }
            Self::Payments(payments) => plan.payments_left_out.extend(payments),
            Self::Occasions(occasions) => plan.left_out.occasions.extend(occasions),
        }
        plan
    }
}

fn kinds_to_leave_out(_: &WorldPlan, report: &WorldReport) -> Vec<Change> {
    let kinds: BTreeSet<FaultKind> = report.faults.iter().map(|(kind, _)| *kind).collect();
    kinds.into_iter().map(Change::Kind).collect()
}

fn payments_to_leave_out(plan: &WorldPlan, _: &WorldReport) -> Vec<Change> {
    let payments: Vec<usize> =
        (0..plan.payments).filter(|number| !plan.payments_left_out.contains(number)).collect();
    parts(&payments).into_iter().map(Change::Payments).collect()
}

fn occasions_to_leave_out(_: &WorldPlan, report: &WorldReport) -> Vec<Change> {
    parts(&report.faults).into_iter().map(Change::Occasions).collect()
}

/// Halves, quarters, and so on, to single ones.
fn parts<T: Clone>(all: &[T]) -> Vec<Vec<T>> {
    let mut parts = Vec::new();
    let mut length = all.len().div_ceil(2);
    while length > 0 && !all.is_empty() {
        // The newest first: the end of a story is where it breaks.
        parts.extend(all.rchunks(length).map(<[T]>::to_vec));
        length = if length == 1 { 0 } else { length.div_ceil(2) };
    }
    parts
}
