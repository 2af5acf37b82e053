//! One world: a terminal, an institution, a till and some phones, from one seed. First things go
//! wrong; then nothing does any more, and everything has to settle within the bound; then what is
//! still under way arrives.

use std::collections::{BTreeMap, BTreeSet};

use florin::domain::{Currency, TransactionState};
use florin::journal::{Journal, SqliteJournal};
use florin::terminal::{DispensePolicy, Payment, Settings};
use florin::wallet::PaymentStatus;

use super::bank::{Bank, Enrolled, enrol};
use super::books::Books;
use super::disk::{Disk, MemoryJournal};
use super::event::{Event, Visit};
use super::fault::{Faults, LeftOut, Occasion};
use super::machine::Machine;
use super::model::{Promise, Violation};
use super::phone::Phone;
use super::planted::PlantedBug;
use super::randomness::Dice;
use super::relay::DELAY_MS_MAX;
use super::stage::Stage;
use super::till::Till;

/// How long settling may take once nothing goes wrong any more, in milliseconds: the longest wait
/// before the institution is asked again (300 s), a question that was still out (12 s), and the
/// rest.
pub const SETTLE_MS: u64 = 330_000;
/// How often, and how long after each other in milliseconds, an operator goes through what waits
/// for a word.
const OPERATOR_ROUNDS: u64 = 4;
const OPERATOR_PAUSE_MS: u64 = 30_000;
/// How long a world's script may take in virtual time, in milliseconds: ten days.
const SCRIPT_MS_MAX: u64 = 10 * 86_400_000;
/// How many steps a world may take for each payment. More is a loop.
const STEPS_PER_PAYMENT_MAX: u64 = 200_000;
/// One world in so many has no faults.
const CALM_WORLDS: u64 = 16;
/// One world in so many has the real journal, in memory, and the others one without a database.
const REAL_JOURNAL_WORLDS: u64 = 8;

/// What world to run.
#[derive(Debug, Clone)]
pub struct WorldPlan {
    /// Of the whole run.
    pub seed: u64,
    /// Its number.
    pub world: u64,
    /// How many payments the till's script has.
    pub payments: usize,
    /// What is wrong on purpose.
    pub planted: Option<PlantedBug>,
    /// Faults that are left out.
    pub left_out: LeftOut,
    /// Payments of the script that are left out.
    pub payments_left_out: BTreeSet<usize>,
    /// Whether to write down what happens.
    pub is_traced: bool,
}

/// What came of a world.
#[derive(Debug, Default)]
pub struct WorldReport {
    /// How many payments the terminal's journal has.
    pub payments: u64,
    /// How many ended how.
    pub outcomes: BTreeMap<String, u64>,
    /// What went wrong, in order.
    pub faults: Vec<Occasion>,
    /// How many steps the parties took.
    pub steps: u64,
    /// The first promise that was broken.
    pub violation: Option<Violation>,
    /// What happened.
    pub trace: Vec<String>,
}

struct World {
    stage: Stage,
    machine: Machine,
    bank: Bank,
    phones: Vec<Phone>,
    till: Till,
    policy: DispensePolicy,
    /// How long an approval stands without the till's word, in milliseconds; none where it stands
    /// for ever.
    stands_ms: Option<u64>,
    steps_max: u64,
}

/// Runs one world to its end, or until a promise is broken.
///
/// # Errors
/// Where the world cannot be made: a mistake of the simulator.
pub fn run(plan: WorldPlan) -> Result<WorldReport, Box<dyn std::error::Error>> {
    let seed = Dice::of(&[plan.seed, plan.world]).roll();
    let mut dice = Dice::of(&[seed, 6]);
    let phones = dice.between(1, 4) as usize;
    let euro: Currency = "EUR".parse()?;
    let currencies: &[Currency] = match dice.below(8) {
        0 | 1 => &[euro],
        2 => &[euro, "JPY".parse()?],
        _ => &[euro, euro],
    };
    let is_calm = plan.world.is_multiple_of(CALM_WORLDS) && plan.planted.is_none();
    let Enrolled { bank, identity, cards, accounts, account_of } = enrol(seed, phones, currencies)?;
    let journal: Box<dyn Journal> = if plan.world % REAL_JOURNAL_WORLDS == 1 {
        Box::new(SqliteJournal::in_memory()?)
    } else {
        Box::new(MemoryJournal::default())
    };
    let faults = Faults::new(seed, is_calm, plan.left_out);
    let mut stage = Stage::new(seed, faults, plan.planted, plan.is_traced);
    let settings = settings(&mut dice);
    let policy = settings.dispense_policy;
    let stands_ms = (policy == DispensePolicy::Reverse).then_some(settings.dispense_timeout_ms);
    stage.model.begin(&accounts, account_of, stands_ms);
    let machine = Machine::new(identity, settings, Disk::new(journal), Dice::of(&[seed, 7]));
    let phones: Vec<Phone> = cards
        .into_iter()
        .enumerate()
        .map(|(index, card)| {
            Phone::new(index, card, machine.identity(), Dice::of(&[seed, 8, index as u64]))
        })
        .collect();
    let till = Till::new(seed, plan.payments, phones.len(), currencies, &plan.payments_left_out);
    let steps_max = STEPS_PER_PAYMENT_MAX * plan.payments.max(1) as u64;
    let mut world = World { stage, machine, bank, phones, till, policy, stands_ms, steps_max };
    world.live();
    Ok(world.report())
}

/// The terminal's defaults, and either policy for goods that nobody speaks of.
fn settings(dice: &mut Dice) -> Settings {
    let policy = if dice.percent(50) { DispensePolicy::Reverse } else { DispensePolicy::Hold };
    let dispense_timeout_ms = [60_000, 180_000, 600_000][dice.below(3) as usize];
    Settings { dispense_policy: policy, dispense_timeout_ms, ..Settings::default() }
}

impl World {
    fn live(&mut self) {
        self.stage.at(0, Event::MachineStarts);
        self.till.begins(&mut self.stage);
        while !self.till.is_through() && self.stage.now_ms < SCRIPT_MS_MAX {
            if !self.happen(SCRIPT_MS_MAX) {
                break;
            }
        }
        self.reconcile();
        self.stop_faults();
        let settled_ms = self.stage.now_ms + SETTLE_MS + self.stands_ms.unwrap_or(0);
        while self.happen(settled_ms) {}
        self.stage.now_ms = settled_ms;
        self.stage.say(|_| "-- the bound for settling is over".into());
        self.check();
        // What was held back on its way for hours arrives now, and the phones ask a last time.
        for phone in &self.phones {
            for transaction_id in phone.pending() {
                let visit = Visit::Ask(transaction_id);
                let phone = self.phone_index(phone);
                self.stage.after(1_000, Event::PhoneVisits { phone, visit });
            }
        }
        while self.happen(settled_ms + 2 * DELAY_MS_MAX) {}
        self.check();
        self.check_phones();
    }

    fn phone_index(&self, wanted: &Phone) -> usize {
        self.phones.iter().position(|phone| std::ptr::eq(phone, wanted)).unwrap_or(0)
    }

    fn stop_faults(&mut self) {
        self.stage.say(|_| "-- faults stop".into());
        self.stage.faults.stop();
        self.stage.network.down_until_ms = self.stage.now_ms;
        self.bank.comes_back();
        for phone in &mut self.phones {
            phone.comes_right();
        }
        self.machine.comes_back(&mut self.stage);
        self.till.comes_back(&mut self.stage);
        if self.policy == DispensePolicy::Hold {
            // More than once: what was under way is approved only later, and an answer to the
            // operator may be refused.
            for round in 0..OPERATOR_ROUNDS {
                self.stage.after(round * OPERATOR_PAUSE_MS, Event::OperatorDecides);
            }
        }
    }

    /// Lets one thing happen, if there is one until then, and no promise is broken yet.
    fn happen(&mut self, until_ms: u64) -> bool {
        if self.stage.violation().is_some() {
            return false;
        }
        if self.stage.steps > self.steps_max {
            self.broken(Promise::EndsSettled, format!("no end after {} steps", self.stage.steps));
            return false;
        }
        let Some(event) = self.stage.next_event(until_ms) else { return false };
        self.dispatch(event);
        true
    }

    fn dispatch(&mut self, event: Event) {
        let Self { stage, machine, bank, phones, till, .. } = self;
        if let Event::MachineHears { .. }
        | Event::MachineTick { .. }
        | Event::MachineCalled { .. }
        | Event::DiskDone { .. }
        | Event::ToMachine { .. } = event
            && let Some(until_ms) = machine.hangs_until_ms(stage.now_ms)
        {
            return stage.at(until_ms, event);
        }
        match event {
            Event::MachineStarts => machine.start(stage),
            Event::MachineTriesJournal { boot } => machine.tries_journal(stage, boot),
            Event::MachineHears { epoch, input } => machine.hears(stage, epoch, *input),
            Event::MachineTick { epoch, at_ms } => machine.tick(stage, epoch, at_ms),
            Event::MachineCalled { call, ask } => machine.called(stage, call, ask),
            Event::DiskDone { epoch } => machine.disk_done(stage, epoch),
            Event::ToMachine { connection, what } => {
                machine.hears_from_air(stage, connection, what)
            }
            Event::ToPhone { connection, phone, value } => {
                phones[phone].hears(stage, connection, value)
            }
            Event::PhoneLinkLost { connection, phone } => {
                phones[phone].link_lost(stage, connection)
            }
            Event::PhoneVisits { phone, visit } => phones[phone].visits(stage, visit),
            Event::PhoneConnects { phone, visit_number } => {
                phones[phone].connects(stage, visit_number, machine.boot());
            }
            Event::PhoneConnected { phone, visit_number, connection } => {
                phones[phone].connected(stage, visit_number, connection, machine.boot());
            }
            Event::PhoneDecides { phone, connection, decision } => {
                phones[phone].decides(stage, connection, decision)
            }
            Event::PhoneTick { phone, connection, at_ms } => {
                phones[phone].tick(stage, connection, at_ms)
            }
            Event::BankHears { request, ask } => bank.hears(stage, &request, ask),
            Event::RelayHears { ask, answer } => {
                if let Some((epoch, input)) = stage.relay_hears(ask, *answer) {
                    // Through the terminal's own queue, so that a process that hangs hears it
                    // later.
                    stage.after(0, Event::MachineHears { epoch, input: Box::new(input) });
                }
            }
            Event::TillHears { call, answer } => till.hears(stage, call, answer),
            Event::TillSees { view } => till.sees(stage, &view),
            Event::TillWakes { epoch } => till.wakes(stage, epoch),
            Event::OperatorDecides => {
                let approved = machine.disk.approved();
                till.operator_decides(stage, &approved);
            }
        }
    }

    /// Journal and books as they are now.
    fn both_sides(&mut self) -> Option<(Vec<Payment>, Books)> {
        let journal = self.machine.disk.journal.payments(false, usize::MAX).unwrap_or_default();
        match self.bank.books(&self.stage) {
            Ok(books) => Some((journal, books)),
            Err(error) => {
                self.broken(Promise::BooksAgree, format!("the institution's store: {error}"));
                None
            }
        }
    }

    /// In the midst of it: whatever is under way, nobody has to look into anything.
    fn reconcile(&mut self) {
        if let Some((journal, books)) = self.both_sides() {
            self.stage.model.reconcile(&journal, &books);
        }
    }

    /// At the end: everything is settled.
    fn check(&mut self) {
        if self.stage.violation().is_some() {
            return;
        }
        if let Some((journal, books)) = self.both_sides() {
            self.stage.model.is_settled(&journal, &books, self.till.goods());
        }
        if self.machine.open_count().is_some_and(|open| open > 0) {
            self.broken(
                Promise::EndsSettled,
                "the engine still has payments open, and the journal has none".into(),
            );
        }
    }

    fn broken(&mut self, promise: Promise, detail: String) {
        let violation = &mut self.stage.model.violation;
        violation.get_or_insert(Violation { promise, detail, transaction_id: None });
    }

    /// Every phone that could ask knows the truth.
    fn check_phones(&mut self) {
        for (index, phone) in self.phones.iter().enumerate() {
            for (transaction_id, status) in phone.statuses() {
                let held = self.stage.model.charged(transaction_id, index);
                let is_known = match (held, status) {
                    // Who was told the approval need not have asked again.
                    (Some(TransactionState::Captured), status) => {
                        matches!(status, PaymentStatus::Approved | PaymentStatus::Captured)
                    }
                    (Some(TransactionState::Reversed), status) => {
                        matches!(status, PaymentStatus::Approved | PaymentStatus::Reversed)
                    }
                    (
                        Some(
                            TransactionState::Unknown
                            | TransactionState::Declined(_)
                            | TransactionState::Approved,
                        )
                        | None,
                        status,
                    ) => !matches!(status, PaymentStatus::Approved | PaymentStatus::Captured),
                };
                if !is_known && self.stage.violation().is_none() {
                    let detail = format!(
                        "in the end phone {index} knows {status:?}, and the institution {held:?}"
                    );
                    let (promise, transaction_id) =
                        (Promise::HonestPartiesAgree, Some(transaction_id));
                    self.stage.model.violation =
                        Some(Violation { promise, detail, transaction_id });
                }
            }
        }
    }

    fn report(mut self) -> WorldReport {
        let mut outcomes: BTreeMap<String, u64> = BTreeMap::new();
        for payment in self.machine.disk.journal.payments(false, usize::MAX).unwrap_or_default() {
            let reason = payment.state.reason();
            let name = if reason.is_empty() { "" } else { "/" };
            *outcomes.entry(format!("{}{name}{reason}", payment.state.name())).or_default() += 1;
        }
        let violation = self.stage.violation().cloned().map(|mut violation| {
            if let Some(transaction_id) = violation.transaction_id {
                violation.detail =
                    format!("payment {}: {}", self.stage.name(transaction_id), violation.detail);
            }
            violation
        });
        WorldReport {
            payments: self.stage.payments() as u64,
            outcomes,
            faults: self.stage.faults.happened.clone(),
            steps: self.stage.steps,
            violation,
            trace: self.stage.take_trace(),
        }
    }
}
