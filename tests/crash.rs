//! The real programs, killed with SIGKILL, and without power, at every storage call of a payment:
//! the terminal, and the institution. Each time it is started again, everything settles, and the
//! promises are checked as they are seen from outside: by the till, the phone, and whoever compares
//! journal and ledger.
//!
//! A storage call is one that changes a file of the killed program or makes a change durable, from
//! the program's start to its end (tests/storage-faults.c). Killed is before each, and after each
//! that makes durable; what the kernel has taken stays. Before each the power is cut, too: what was
//! written since a file's last sync is lost, torn, or kept. That shows what the programs ask of a
//! disk; a real kernel and file system lose power in `tests/bluez/run power-cut`.

#![cfg(all(
    feature = "terminal",
    feature = "wallet",
    feature = "institution",
    target_os = "linux"
))]
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod programs;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::process::ExitStatus;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use florin::domain::{TransactionId, TransactionState};
use florin::institution::{LedgerEntry, TransactionDetail, open_institution};
use florin::journal::SqliteJournal;
use florin::till::{NewPayment, PaymentJson, TillClient, TillClientError};
use programs::storage_fault::{FaultKind, StorageFault};
use programs::{Programs, Running, TIMEOUT_S, copy_directory, replace_directory, was_killed};
use serde_json::Value;

/// How many sets of programs run side by side: they mostly wait, for a phone that pauses, or for
/// the disk.
const WORKERS: usize = 4;
/// After so many crashes that were not survived the rest is not tried: each may take its time to
/// fail.
const FAILURES_MAX: usize = 4;

/// Who is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Terminal,
    Institution,
}

/// One crash.
#[derive(Debug, Clone)]
struct Crash {
    victim: Victim,
    after_dispense: bool,
    kind: FaultKind,
    at: u64,
    /// The call and its file, as a run without a fault had them.
    call: String,
}

impl fmt::Display for Crash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let capture = if self.after_dispense { "after_dispense" } else { "at_once" };
        write!(
            formatter,
            "{:?}, {capture}, {:?} call {}, {}",
            self.victim, self.kind, self.at, self.call
        )
    }
}

/// What the till was told of one transaction, and did.
#[derive(Debug, Clone)]
struct Told {
    transaction_id: TransactionId,
    /// State, release, final: each as it first differed from the one before.
    views: Vec<(String, bool, bool)>,
    goods_are_out: bool,
}

type Sale = Arc<Mutex<Vec<Told>>>;
/// The journal's newest payments.
type Records = BTreeMap<TransactionId, PaymentJson>;

/// How one crash went.
#[derive(Debug)]
struct Report {
    was_killed: bool,
    /// How the payments of the sale ended.
    ends: Vec<String>,
    wallet: String,
    violations: Vec<String>,
}

// ---- The parties that are not killed

/// A till that sells one thing: it offers until somebody pays, or nobody is there any more, and
/// asks again whatever happens to the terminal. It releases the goods once, when it is told to.
async fn sell(
    till: TillClient,
    name: String,
    after_dispense: bool,
    sale: Sale,
    phone_is_gone: Arc<AtomicBool>,
) {
    let payment = NewPayment {
        amount_minor: 250,
        currency: "EUR".into(),
        reference: name.clone(),
        items: Vec::new(),
        capture: if after_dispense { "after_dispense" } else { "at_once" },
        valid_for_s: None,
    };
    for offer in 0.. {
        let key = format!("{name}-{offer}");
        let (mut view, mut entity_tag) =
            insist(async || till.create(&payment, Some(&key)).await).await;
        let id = view.transaction_id.clone();
        let transaction_id = id.parse().unwrap();
        sale.lock().unwrap().push(Told { transaction_id, views: Vec::new(), goods_are_out: false });
        loop {
            hear(&sale, &view);
            if view.is_final {
                break;
            }
            if view.state == "approved" && view.release {
                (view, entity_tag) = insist(async || till.complete(&id, true).await).await;
            } else if view.state == "offered" && phone_is_gone.load(Ordering::Relaxed) {
                match till.cancel(&id).await {
                    Ok(cancelled) => (view, entity_tag) = cancelled,
                    // The phone had paid before it went; or the terminal is gone for the moment.
                    Err(_) => (view, entity_tag) = insist(async || till.read(&id).await).await,
                }
            } else if let Some(change) =
                insist(async || till.next_change(&id, &entity_tag, 1).await).await
            {
                (view, entity_tag) = change;
            }
        }
        if view.state != "expired" || phone_is_gone.load(Ordering::Relaxed) {
            return;
        }
    }
}

fn hear(sale: &Sale, view: &PaymentJson) {
    let mut sale = sale.lock().unwrap();
    let told = sale.last_mut().unwrap();
    let heard = (view.state.clone(), view.release, view.is_final);
    if told.views.last() != Some(&heard) {
        told.views.push(heard);
    }
    told.goods_are_out |= view.release;
}

/// Asks until the terminal answers.
async fn insist<T>(ask: impl AsyncFn() -> Result<T, TillClientError>) -> T {
    let end = Instant::now() + Duration::from_secs(TIMEOUT_S);
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(
                error @ (TillClientError::Unreachable { .. }
                | TillClientError::Lost(_)
                | TillClientError::Refused { status: 503, .. }),
            ) => assert!(Instant::now() < end, "no answer for {TIMEOUT_S} s: {error}"),
            Err(error) => panic!("the till is refused: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A phone that pays what is offered, and asks for the result if the connection is lost.
fn start_wallet(programs: &Programs) -> (Running, tempfile::NamedTempFile) {
    let said = tempfile::NamedTempFile::new().unwrap();
    let air = programs.air_address().to_string();
    let mut command = programs.wallet(&[
        "pay",
        "--yes",
        "--nearest",
        "--json",
        "--stay-ms",
        "0",
        "--wait-ms",
        "20000",
        "--air",
        &air,
    ]);
    command.stdout(said.reopen().unwrap());
    (Running::start("florin-wallet pay", command, None), said)
}

// ---- One crash

/// One set of programs, used for one crash after the other. Who is to be killed starts from the
/// template's files each time, so that its calls are the same ones each time.
struct Stage {
    programs: Programs,
    /// Who is not killed runs on.
    bystander: Option<(Victim, Running)>,
    /// The transactions that the institution had before.
    known: BTreeSet<TransactionId>,
    sales: usize,
}

impl Stage {
    fn new(directory: &Path) -> Self {
        let programs = template().copy_to(directory);
        Self { programs, bystander: None, known: BTreeSet::new(), sales: 0 }
    }

    fn start(&self, who: Victim, fault: Option<&StorageFault>) -> Running {
        match who {
            Victim::Terminal => self.programs.start_terminal(fault),
            Victim::Institution => self.programs.start_institution(fault),
        }
    }

    /// Plays a sale with a crash in it, to its end.
    fn play(&mut self, crash: &Crash, log: Option<&Path>) -> Report {
        let fault = self.prepare(crash, log);
        self.sales += 1;
        let (sale, phone_is_gone) = (Sale::default(), Arc::new(AtomicBool::new(false)));
        let running = self.start(crash.victim, Some(&fault));
        let (wallet, said) = start_wallet(&self.programs);
        let (till, name) = (self.programs.till(), format!("sale-{}", self.sales));
        let selling = {
            let (sale, gone) = (Arc::clone(&sale), Arc::clone(&phone_is_gone));
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let after_dispense = crash.after_dispense;
            std::thread::spawn(move || {
                runtime.block_on(sell(till, name, after_dispense, sale, gone))
            })
        };
        let mut run = Run {
            stage: self,
            victim: crash.victim,
            running,
            wallet,
            sale: Arc::clone(&sale),
            was_shot: false,
        };
        let settled = run.until_settled(&selling, &phone_is_gone);
        let was_killed = run.was_shot;
        let records = match settled {
            Ok(records) => records,
            Err(violations) => {
                self.bystander = None;
                let ends = Vec::new();
                return Report { was_killed, ends, wallet: String::new(), violations };
            }
        };
        let mut violations = Vec::new();
        if selling.join().is_err() {
            violations.push("the till gave up".to_owned());
        }
        let wallet = std::fs::read_to_string(said.path()).unwrap();
        let wallet: Value =
            wallet.lines().last().map_or(Value::Null, |line| serde_json::from_str(line).unwrap());
        let sale = sale.lock().unwrap().clone();
        let ends = self.judge(&sale, &records, &wallet, &mut violations);
        let wallet = wallet["outcome"].as_str().unwrap_or("nothing").to_owned();
        Report { was_killed, ends, wallet, violations }
    }

    /// Starts who is not killed, and gives who is its files anew. The fault that kills it.
    fn prepare(&mut self, crash: &Crash, log: Option<&Path>) -> StorageFault {
        let bystander = match crash.victim {
            Victim::Terminal => Victim::Institution,
            Victim::Institution => Victim::Terminal,
        };
        if self.bystander.as_ref().is_none_or(|(who, _)| *who != bystander) {
            self.bystander = None;
            self.bystander = Some((bystander, self.start(bystander, None)));
        }
        let directory = match crash.victim {
            Victim::Terminal => {
                replace_directory(&template().state(), &self.programs.state());
                self.programs.state()
            }
            Victim::Institution => {
                replace_directory(&template().bank(), &self.programs.bank());
                self.known.clear();
                self.programs.bank()
            }
        };
        let seed = crash.at * 2 + u64::from(crash.after_dispense);
        let fault = StorageFault::new(&directory, crash.kind, crash.at).seed(seed);
        match log {
            Some(log) => fault.log(log),
            None => fault,
        }
    }

    /// What the terminal says of its newest payments; none while it does not answer.
    fn records(&self) -> Option<Records> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let list = runtime.block_on(self.programs.till().list(false, 20)).ok()?;
        let named = list
            .payments
            .into_iter()
            .map(|payment| (payment.transaction_id.parse().unwrap(), payment));
        Some(named.collect())
    }

    /// Holds what everybody was told against what journal and ledger say now. How the sale's
    /// payments ended.
    fn judge(
        &mut self,
        sale: &[Told],
        records: &Records,
        wallet: &Value,
        violations: &mut Vec<String>,
    ) -> Vec<String> {
        let mut institution = open_institution(&self.programs.bank()).unwrap().institution;
        let mut ends = Vec::new();
        for told in sale {
            let id = told.transaction_id;
            let Some(record) = records.get(&id) else {
                let wrong = "was told to the till, and the journal has no record of it";
                violations.push(format!("{id} {wrong}"));
                continue;
            };
            ends.push(record.state.clone());
            violations.extend(told_otherwise(told, record));
            let at_bank = institution.transactions_with_id(id).unwrap();
            violations.extend(booked_otherwise(record, &at_bank));
        }
        if ends.iter().filter(|state| *state == "captured").count() > 1 {
            violations.push(format!("one sale was paid twice: {sale:?}"));
        }

        let at_bank = institution.newest_transactions(None, 20).unwrap();
        for transaction in at_bank.iter().filter(|found| !self.known.contains(&found.id)) {
            if !records.contains_key(&transaction.id) {
                let wrong = "the institution has a payment that the journal does not know";
                violations.push(format!("{wrong}: {transaction:?}"));
            }
        }
        self.known.extend(at_bank.iter().map(|transaction| transaction.id));
        let entries = institution.newest_ledger_entries(50).unwrap();
        for told in sale {
            let of_kind = |kind| {
                let is_it = |entry: &&LedgerEntry| {
                    entry.transaction_id == Some(told.transaction_id) && entry.kind == kind
                };
                entries.iter().filter(is_it).count()
            };
            if of_kind("hold") > 1 || of_kind("capture") > 1 {
                violations.push(format!("{} was debited more than once", told.transaction_id));
            }
        }
        let report = institution.check_ledger().unwrap();
        if !report.faults.is_empty() {
            violations.push(format!("the books are wrong: {:?}", report.faults));
        }
        violations.extend(phone_was_misled(wallet, records));
        ends
    }
}

/// A sale that is under way, with whoever is to be killed in it.
struct Run<'stage> {
    stage: &'stage Stage,
    victim: Victim,
    running: Running,
    wallet: Running,
    sale: Sale,
    was_shot: bool,
}

impl Run<'_> {
    /// Starts the victim again after its crash, and waits until till and phone are done. What the
    /// journal says then; or what went wrong.
    fn until_settled(
        &mut self,
        selling: &JoinHandle<()>,
        phone_is_gone: &AtomicBool,
    ) -> Result<Records, Vec<String>> {
        let end = Instant::now() + Duration::from_secs(TIMEOUT_S);
        let mut records = None;
        let mut is_stopping = false;
        loop {
            let wallet_has_ended = self.wallet.ended().is_some();
            phone_is_gone.store(wallet_has_ended, Ordering::Relaxed);
            if let Some(status) = self.running.ended() {
                if let Some(records) = records.take_if(|_| is_stopping && status.success()) {
                    return Ok(records);
                }
                self.rise_again(status)?;
                // It may have been killed while it stopped.
                is_stopping = false;
            }
            let is_over = selling.is_finished() && wallet_has_ended;
            if is_over && !is_stopping {
                // The journal's word for it, while somebody is there to tell it.
                match self.stage.records() {
                    Some(answer) => records = Some(answer),
                    None => continue,
                }
                self.running.ask_to_stop();
                is_stopping = true;
            }
            if Instant::now() > end {
                let log = self.running.log();
                return Err(vec![format!("nothing settled within {TIMEOUT_S} s: {log}")]);
            }
            std::thread::sleep(Duration::from_millis(3));
        }
    }

    /// The victim was killed, once: it starts again, without a fault.
    fn rise_again(&mut self, status: ExitStatus) -> Result<(), Vec<String>> {
        let victim = self.victim;
        if !was_killed(status) || self.was_shot {
            let log = self.running.log();
            return Err(vec![format!("the {victim:?} ended with {status}: {log}")]);
        }
        self.was_shot = true;
        if victim == Victim::Terminal {
            let violations = told_without_record(&self.stage.programs, &self.sale);
            if !violations.is_empty() {
                return Err(violations);
            }
        }
        self.running = self.stage.start(victim, None);
        Ok(())
    }
}

/// Where the till was told something else than the journal has.
fn told_otherwise(told: &Told, record: &PaymentJson) -> Vec<String> {
    let (id, state) = (told.transaction_id, record.state.as_str());
    let mut wrong = Vec::new();
    if !record.is_final {
        wrong.push(format!("{id} is not settled: {state}"));
    }
    if (state == "captured") != told.goods_are_out {
        let released = told.goods_are_out;
        wrong.push(format!("{id} ended as {state}, goods released: {released}; {told:?}"));
    }
    let first_final = told.views.iter().find(|(_, _, is_final)| *is_final);
    if first_final.is_none_or(|(told_state, _, _)| told_state != state) {
        wrong.push(format!("{id} ended as {state}, and the till was told {:?}", told.views));
    }
    let was_taken_back = told.views.windows(2).any(|views| views[0].1 && !views[1].1);
    let went_on = told.views.iter().rev().skip(1).any(|(_, _, is_final)| *is_final);
    if was_taken_back || went_on {
        wrong.push(format!("{id}: what the till was told changed afterwards: {:?}", told.views));
    }
    wrong
}

/// Where the ledger has something else than the journal.
fn booked_otherwise(record: &PaymentJson, at_bank: &[TransactionDetail]) -> Option<String> {
    let states: Vec<_> = at_bank.iter().map(|transaction| transaction.state).collect();
    let agrees = match record.state.as_str() {
        "captured" => {
            let amount = at_bank.first().and_then(|transaction| transaction.amount);
            states == [TransactionState::Captured]
                && amount.is_some_and(|amount| amount.minor() == record.amount_minor)
        }
        "declined" => matches!(states[..], [TransactionState::Declined(_)]),
        "reversed" => states == [TransactionState::Reversed],
        // A command that came when the offer had ended left a tombstone: nothing was ever charged.
        "expired" | "cancelled" => {
            states.is_empty()
                || states == [TransactionState::Reversed]
                    && at_bank.iter().all(|transaction| transaction.amount.is_none())
        }
        _ => states.is_empty(),
    };
    let (id, state) = (&record.transaction_id, &record.state);
    (!agrees).then(|| format!("{id} is {state} in the journal, and in the ledger: {at_bank:?}"))
}

/// Where the phone was told something else than what became of its transaction, if it came to one.
fn phone_was_misled(wallet: &Value, records: &Records) -> Option<String> {
    let end_of = |id: &Value| {
        let id: TransactionId = id.as_str()?.parse().ok()?;
        records.get(&id).map(|record| record.state.as_str())
    };
    let end = end_of(&wallet["transaction_id"]);
    let is_contradicted = match wallet["outcome"].as_str().unwrap_or_default() {
        "approved" | "captured" => end != Some("captured"),
        // Each of these says that nothing was, or stays, charged.
        "declined" | "reversed" | "not_charged" | "not_paid" | "cancelled" | "refused"
        | "link_failed" | "no_terminal" => end == Some("captured"),
        // None of these says what became of it.
        "pending" | "reserved" | "unproven" => false,
        _ => true,
    };
    is_contradicted
        .then(|| format!("the phone was told {wallet}, and the payment ended as {end:?}"))
}

/// At the moment of the crash: what the till was told to release has its approval in the journal.
fn told_without_record(programs: &Programs, sale: &Sale) -> Vec<String> {
    let wreck = tempfile::tempdir().unwrap();
    copy_directory(&programs.state(), wreck.path());
    let mut violations = Vec::new();
    for told in sale.lock().unwrap().iter().filter(|told| told.goods_are_out) {
        let journal = SqliteJournal::open(&wreck.path().join("journal.sqlite")).unwrap();
        let changes = journal.changes(told.transaction_id).unwrap();
        if !changes.iter().any(|change| ["approved", "capturing"].contains(&change.state.name())) {
            let id = told.transaction_id;
            violations.push(format!(
                "{id} was released, and the journal's record of it ends at {changes:?}"
            ));
        }
    }
    violations
}

// ---- All of them

/// Enrolled once.
fn template() -> &'static Programs {
    static TEMPLATE: OnceLock<(tempfile::TempDir, Programs)> = OnceLock::new();
    let (_, programs) = TEMPLATE.get_or_init(|| {
        let directory = tempfile::tempdir().unwrap();
        let programs = Programs::set_up(&directory.path().join("template"));
        (directory, programs)
    });
    programs
}

/// Every crash of this victim in a payment: from a run without a fault, whose calls are written
/// down.
fn crashes_of(victim: Victim, after_dispense: bool) -> Vec<Crash> {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("calls");
    let nothing =
        Crash { victim, after_dispense, kind: FaultKind::None, at: 1, call: String::new() };
    let report = Stage::new(&directory.path().join("stage")).play(&nothing, Some(&log));
    let outcome = if after_dispense { "reserved" } else { "approved" };
    assert_eq!(
        (&report.violations, &report.ends, report.wallet.as_str()),
        (&vec![], &vec!["captured".into()], outcome)
    );

    let mut crashes = Vec::new();
    for line in std::fs::read_to_string(log).unwrap().lines() {
        let (number, call) = line.split_once(' ').unwrap();
        let crash = |kind| Crash {
            kind,
            at: number.parse().unwrap(),
            call: call.to_owned(),
            ..nothing.clone()
        };
        crashes.push(crash(FaultKind::KillBefore));
        crashes.push(crash(FaultKind::CutPower));
        if !call.starts_with("write ") {
            crashes.push(crash(FaultKind::KillAfter));
        }
    }
    crashes
}

fn every_crash_is_survived(victim: Victim) {
    let started = Instant::now();
    let crashes: Vec<_> =
        [false, true].into_iter().flat_map(|mode| crashes_of(victim, mode)).collect();
    let (next, failures) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let reports = Mutex::new(Vec::new());
    let directory = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for worker in 0..WORKERS {
            let (next, failures, reports, crashes) = (&next, &failures, &reports, &crashes);
            let place = directory.path().join(worker.to_string());
            scope.spawn(move || {
                let mut stage = Stage::new(&place);
                while let Some(crash) = crashes.get(next.fetch_add(1, Ordering::Relaxed))
                    && failures.load(Ordering::Relaxed) < FAILURES_MAX
                {
                    let report = stage.play(crash, None);
                    failures
                        .fetch_add(usize::from(!report.violations.is_empty()), Ordering::Relaxed);
                    reports.lock().unwrap().push((crash.to_string(), report));
                }
            });
        }
    });

    let reports = reports.into_inner().unwrap();
    let mut tally = BTreeMap::<String, usize>::new();
    let mut violations = Vec::new();
    for (crash, report) in &reports {
        *tally
            .entry(format!("sale {}, phone {}", report.ends.join(" then "), report.wallet))
            .or_default() += 1;
        violations
            .extend(report.violations.iter().map(|violation| format!("{crash}: {violation}")));
        if !report.was_killed {
            violations.push(format!("{crash}: the call was not reached"));
        }
    }
    println!("{victim:?}: {} crashes in {} s", reports.len(), started.elapsed().as_secs());
    for (what, times) in &tally {
        println!("{times:>5}  {what}");
    }
    // Enough calls that it is the storage of a whole payment that was walked through: four records
    // at least.
    assert!(crashes.len() > 100, "only {} crashes", crashes.len());
    assert!(violations.is_empty(), "{} violations:\n{}", violations.len(), violations.join("\n"));
    assert_eq!(reports.len(), crashes.len());
}

#[test]
fn the_terminal_survives_a_kill_and_a_power_cut_at_every_storage_call() {
    every_crash_is_survived(Victim::Terminal);
}

#[test]
fn the_institution_survives_a_kill_and_a_power_cut_at_every_storage_call() {
    every_crash_is_survived(Victim::Institution);
}
