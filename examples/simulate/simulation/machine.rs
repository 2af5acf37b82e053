//! The terminal's process: the real engine, and around it what the service's driver does, on a
//! virtual disk, link, network and clock.
//!
//! As in the service, the till reads what was published or what the journal holds, and the engine
//! is told what the journal holds of the payment that a till's request is about. An engine whose
//! journal fails is given up; the process stays, refuses till and phones, and makes a new engine
//! when the journal can be used again.

use std::collections::BTreeMap;

use florin::domain::{Moment, TransactionId};
use florin::journal::Search;
use florin::terminal::{
    Identity, Input, Now, Output, Payment, PaymentState, PaymentView, PhoneId, Settings, Terminal,
    TillCallId, TillRefusal, TillRequest,
};

use super::clock::WallClock;
use super::disk::{Disk, DiskRequest, Searcher};
use super::event::{Event, FromAir, TillAsk};
use super::fault::FaultKind;
use super::planted::PlantedBug;
use super::randomness::Dice;
use super::stage::Stage;

/// As in the service.
const JOURNAL_RETRY_MS_MIN: u64 = 1_000;
/// As in the service.
const JOURNAL_RETRY_MS_MAX: u64 = 30_000;

/// The terminal.
#[derive(Debug)]
pub struct Machine {
    identity: Identity,
    settings: Settings,
    /// The number of the process, from 1, while it runs. Connections are with a process.
    boot: Option<u64>,
    last_boot: u64,
    engine: Option<Engine>,
    /// The number of the engine, from 1. What was meant for an earlier one is lost.
    epoch: u64,
    /// How long the process waits before it tries the journal again, in milliseconds.
    retry_ms: u64,
    busy_until_ms: u64,
    clock: WallClock,
    /// Its disk.
    pub disk: Disk,
    dice: Dice,
}

#[derive(Debug)]
struct Engine {
    terminal: Terminal,
    started_ms: u64,
    published: BTreeMap<TransactionId, PaymentView>,
    /// The engine's calls, and the till's.
    calls: BTreeMap<TillCallId, (u64, Option<TransactionId>)>,
    tick_at_ms: Option<u64>,
}

impl Machine {
    /// A terminal that is off.
    pub fn new(identity: Identity, settings: Settings, disk: Disk, dice: Dice) -> Self {
        Self {
            identity,
            settings,
            boot: None,
            last_boot: 0,
            engine: None,
            epoch: 0,
            retry_ms: JOURNAL_RETRY_MS_MIN,
            busy_until_ms: 0,
            clock: WallClock::default(),
            disk,
            dice,
        }
    }

    /// Who it is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The number of the process that phones can connect to; none while it is off.
    pub fn boot(&self) -> Option<u64> {
        self.boot
    }

    /// How many payments the engine has open; none while there is none.
    pub fn open_count(&self) -> Option<usize> {
        self.engine.as_ref().map(|engine| engine.terminal.open_count())
    }

    /// If it hangs: until when.
    pub fn hangs_until_ms(&self, now_ms: u64) -> Option<u64> {
        Some(self.busy_until_ms).filter(|until| *until > now_ms)
    }

    fn now(&self, stage: &Stage) -> Now {
        let started_ms = self.engine.as_ref().map_or(stage.now_ms, |engine| engine.started_ms);
        Now {
            moment: Moment { milliseconds: stage.now_ms - started_ms },
            wall: self.clock.read(stage.now_ms),
        }
    }

    /// The process starts.
    pub fn start(&mut self, stage: &mut Stage) {
        if self.boot.is_some() {
            return;
        }
        self.last_boot += 1;
        self.boot = Some(self.last_boot);
        self.retry_ms = JOURNAL_RETRY_MS_MIN;
        self.busy_until_ms = stage.now_ms;
        self.open_journal(stage);
    }

    /// The process tries to open its journal. If that goes, there is an engine; if not, it is tried
    /// again.
    pub fn tries_journal(&mut self, stage: &mut Stage, boot: u64) {
        if self.boot == Some(boot) && self.engine.is_none() {
            self.open_journal(stage);
        }
    }

    fn open_journal(&mut self, stage: &mut Stage) {
        if stage.now_ms < self.disk.fails_until_ms {
            return self.stand_in(stage);
        }
        self.start_engine(stage);
    }

    /// There is no engine: the journal is tried again later.
    fn stand_in(&mut self, stage: &mut Stage) {
        let Some(boot) = self.boot else { return };
        let retry_ms = self.retry_ms;
        self.retry_ms = (2 * retry_ms).min(JOURNAL_RETRY_MS_MAX);
        stage.say(|_| "terminal: out of service, its journal cannot be used".into());
        stage.after(retry_ms, Event::MachineTriesJournal { boot });
    }

    fn start_engine(&mut self, stage: &mut Stage) {
        self.epoch += 1;
        self.disk.busy_until_ms = stage.now_ms;
        let mut open = self.disk.journal.payments(true, usize::MAX).unwrap_or_default();
        stage.say(|_| format!("terminal: starts, {} open payments", open.len()));
        if stage.is_planted(PlantedBug::ReversalDroppedAtRestart) {
            open.retain(|payment| !matches!(payment.state, PaymentState::Reversing(_)));
        }
        if stage.is_planted(PlantedBug::AuthorisingExpiresAtRestart) {
            for payment in &mut open {
                if payment.state == PaymentState::Authorising {
                    payment.state = PaymentState::Offered;
                }
            }
        }
        let (identity, seed) = (self.identity.clone(), self.dice.octets());
        let settings = self.settings.clone();
        let now = Now { moment: Moment::default(), wall: self.clock.read(stage.now_ms) };
        let (terminal, outputs) = Terminal::new(identity, settings, seed, open, now);
        self.engine = Some(Engine {
            terminal,
            started_ms: stage.now_ms,
            published: BTreeMap::new(),
            calls: BTreeMap::new(),
            tick_at_ms: None,
        });
        self.perform(stage, outputs);
        self.set_tick(stage);
    }

    /// The process is gone, and what it held in memory with it.
    pub fn crash(&mut self, stage: &mut Stage, mut dice: Dice) {
        if self.boot.take().is_none() {
            return;
        }
        self.engine = None;
        let (kept, lost) = self.disk.crash(&mut dice, stage.now_ms);
        stage.say(|_| {
            format!("terminal: crashes; {} unconfirmed records kept, {lost} lost", kept.len())
        });
        for payment in kept {
            self.write(stage, &payment);
        }
        if stage.is_planted(PlantedBug::ConfirmedRecordLost)
            && let Some(before) = self.disk.lose_newest()
        {
            stage.say(|stage| {
                format!(
                    "disk: {} is {} again",
                    stage.name(before.transaction_id),
                    before.state.name()
                )
            });
        }
        stage.machine_is_gone();
        let down_ms = dice.magnitude(50, 300_000);
        stage.after(down_ms, Event::MachineStarts);
    }

    /// The journal could not write or read: the engine is given up, and what it had asked of the
    /// journal is not done.
    fn give_up_engine(&mut self, stage: &mut Stage, mut dice: Dice) {
        self.engine = None;
        let lost = self.disk.give_up();
        stage.say(|_| format!("terminal: its journal fails; {lost} unconfirmed records lost"));
        self.disk.fails_until_ms = stage.now_ms + dice.magnitude(1, 600_000);
        self.stand_in(stage);
    }

    /// One step of the engine.
    fn step(&mut self, stage: &mut Stage, input: Input) {
        if let Some(dice) = stage.fault(FaultKind::TerminalCrashes) {
            return self.crash(stage, dice);
        }
        if let Some(dice) = stage.fault(FaultKind::TerminalClockJumps) {
            self.clock.jump(dice);
        }
        let now = self.now(stage);
        let Some(engine) = &mut self.engine else { return };
        let outputs = engine.terminal.handle(now, input);
        self.perform(stage, outputs);
        if let Some(mut dice) = stage.fault(FaultKind::TerminalStalls) {
            self.busy_until_ms = stage.now_ms + dice.magnitude(100, 60_000);
        }
        self.set_tick(stage);
    }

    fn set_tick(&mut self, stage: &mut Stage) {
        let epoch = self.epoch;
        let Some(engine) = &mut self.engine else { return };
        let deadline = engine.terminal.next_deadline();
        let at_ms = deadline
            .map(|deadline| (engine.started_ms + deadline.moment.milliseconds).max(stage.now_ms));
        if at_ms != engine.tick_at_ms {
            engine.tick_at_ms = at_ms;
            if let Some(at_ms) = at_ms {
                stage.at(at_ms, Event::MachineTick { epoch, at_ms });
            }
        }
    }

    /// The engine's deadline has come, if it still is its deadline.
    pub fn tick(&mut self, stage: &mut Stage, epoch: u64, at_ms: u64) {
        let Some(engine) = &mut self.engine else { return };
        if self.epoch == epoch && engine.tick_at_ms == Some(at_ms) {
            engine.tick_at_ms = None;
            self.step(stage, Input::Tick);
        }
    }

    /// An input for the engine of that number.
    pub fn hears(&mut self, stage: &mut Stage, epoch: u64, input: Input) {
        if self.epoch == epoch {
            self.step(stage, input);
        }
    }

    /// Something came over the air.
    pub fn hears_from_air(&mut self, stage: &mut Stage, phone: PhoneId, what: FromAir) {
        let Some(boot) = self.boot else { return };
        let Some(value_octets_max) = stage.link.seen_by_machine(phone, boot) else { return };
        if self.engine.is_none() {
            match what {
                FromAir::Connected | FromAir::Value(_) => stage.machine_disconnects(phone),
                FromAir::Disconnected => stage.link.forget(phone),
            }
            return;
        }
        match what {
            FromAir::Connected => self.step(stage, Input::PhoneConnected { phone, address: None }),
            FromAir::Value(value) if stage.link.is_whole(phone) => {
                self.step(stage, Input::PhoneWrote { phone, value_octets_max, value });
            }
            FromAir::Value(_) => {}
            FromAir::Disconnected => {
                stage.link.forget(phone);
                self.step(stage, Input::PhoneDisconnected(phone));
            }
        }
    }

    /// The till calls.
    pub fn called(&mut self, stage: &mut Stage, call: u64, ask: TillAsk) {
        if self.boot.is_none() {
            return;
        }
        let Some(engine) = &mut self.engine else {
            return stage.answer_till(
                call,
                None,
                Err(TillRefusal::OutOfService("simulated".into())),
            );
        };
        let ask = match ask {
            TillAsk::Read(transaction_id) if stage.is_planted(PlantedBug::CapturedWithoutWord) => {
                TillAsk::Request(TillRequest::Complete { transaction_id, dispensed: true })
            }
            ask @ (TillAsk::Request(_) | TillAsk::Read(_)) => ask,
        };
        match ask {
            TillAsk::Request(request) => self.requested(stage, call, request),
            TillAsk::Read(transaction_id) => {
                let own_state = stage.is_planted(PlantedBug::TillReadsEngine);
                let view = match engine.terminal.view(transaction_id).filter(|_| own_state) {
                    Some(view) => Some(view),
                    None => engine.published.get(&transaction_id).cloned(),
                };
                match view {
                    Some(view) => stage.answer_till(call, None, Ok(view)),
                    None => {
                        let search = Search::Sale(transaction_id);
                        let searcher = Searcher::TillRead { call, transaction_id };
                        self.ask_disk(stage, DiskRequest::Find { search, searcher });
                    }
                }
            }
        }
    }

    fn requested(&mut self, stage: &mut Stage, call: u64, mut request: TillRequest) {
        let Some(engine) = &mut self.engine else { return };
        if stage.is_planted(PlantedBug::FailedReleaseIsCaptured)
            && let TillRequest::Complete { dispensed, .. } = &mut request
        {
            *dispensed = true;
        }
        if stage.is_planted(PlantedBug::OfferedForLess)
            && let TillRequest::Create(content) = &mut request
            && let Ok(amount) = florin::domain::Amount::new(
                content.amount.minor().saturating_sub(1).max(1),
                content.amount.currency(),
            )
        {
            content.amount = amount;
        }
        let search = match &request {
            TillRequest::Create(content) => {
                content.idempotency_key.as_ref().map(|key| Search::IdempotencyKey(key.to_string()))
            }
            TillRequest::Complete { transaction_id, .. }
            | TillRequest::Cancel { transaction_id } => Some(Search::Sale(*transaction_id)),
        };
        let about = match &search {
            Some(Search::TransactionId(id) | Search::Sale(id)) => Some(*id),
            Some(Search::IdempotencyKey(_) | Search::List { .. }) | None => None,
        };
        let engine_call = TillCallId(call);
        engine.calls.insert(engine_call, (call, about));
        match search {
            Some(search) => {
                let searcher = Searcher::Till { call: engine_call, request };
                self.ask_disk(stage, DiskRequest::Find { search, searcher });
            }
            None => self.step(stage, Input::Till { call: engine_call, request, stored: None }),
        }
    }

    fn ask_disk(&mut self, stage: &mut Stage, request: DiskRequest) {
        let takes_ms = match stage.fault(FaultKind::JournalSlow) {
            Some(mut dice) => dice.magnitude(100, 40_000),
            None => match &request {
                DiskRequest::Append { .. } => self.dice.between(1, 20),
                DiskRequest::Find { .. } => 1,
            },
        };
        self.disk.put(request);
        self.disk.busy_until_ms = self.disk.busy_until_ms.max(stage.now_ms) + takes_ms;
        let epoch = self.epoch;
        stage.at(self.disk.busy_until_ms, Event::DiskDone { epoch });
    }

    fn write(&mut self, stage: &mut Stage, payment: &Payment) {
        self.disk.write(payment);
        stage.give_name(payment.transaction_id);
        stage.say(|stage| {
            let (name, state) = (stage.name(payment.transaction_id), payment.state);
            format!("journal: {name} {} {}", state.name(), state.reason())
        });
        stage.model.is_durable(payment, stage.now_ms);
    }

    /// The journal has done its oldest request.
    pub fn disk_done(&mut self, stage: &mut Stage, epoch: u64) {
        if self.epoch != epoch {
            return;
        }
        let Some(request) = self.disk.take() else { return };
        match request {
            DiskRequest::Append { record, payment } => {
                if let Some(mut dice) = stage.fault(FaultKind::JournalWriteFails) {
                    // Where it was the sync that failed, the record may be on the disk,
                    // unconfirmed.
                    if dice.percent(40) {
                        self.write(stage, &payment);
                    }
                    if stage.is_planted(PlantedBug::WriteErrorIgnored) {
                        return self.step(stage, Input::Journalled(record));
                    }
                    return self.give_up_engine(stage, dice);
                }
                self.write(stage, &payment);
                self.step(stage, Input::Journalled(record));
            }
            DiskRequest::Find { search, searcher } => {
                if let Some(dice) = stage.fault(FaultKind::JournalReadFails) {
                    return self.give_up_engine(stage, dice);
                }
                let found = match &search {
                    Search::TransactionId(transaction_id) => {
                        self.disk.journal.payment(*transaction_id)
                    }
                    Search::Sale(id) => self.disk.journal.newest_of_sale(*id),
                    Search::IdempotencyKey(_) if stage.is_planted(PlantedBug::KeyNotFound) => {
                        Ok(None)
                    }
                    Search::IdempotencyKey(key) => self.disk.journal.payment_by_key(key),
                    // Nobody lists payments here.
                    Search::List { .. } => Ok(None),
                };
                let payment = found.ok().flatten();
                match searcher {
                    Searcher::Till { call, request } => {
                        self.step(stage, Input::Till { call, request, stored: payment });
                    }
                    Searcher::TillRead { call, transaction_id } => {
                        let view = payment.as_ref().map(PaymentView::of);
                        stage.answer_till(
                            call,
                            None,
                            view.ok_or(TillRefusal::Unknown(transaction_id)),
                        );
                    }
                    Searcher::Phone { phone, question } => {
                        self.step(stage, Input::Loaded { phone, question, payment });
                    }
                }
            }
        }
    }

    /// Does what the engine says, in order; a crash may come before any of it.
    fn perform(&mut self, stage: &mut Stage, outputs: Vec<Output>) {
        for output in outputs {
            if let Some(dice) = stage.fault(FaultKind::TerminalCrashes) {
                return self.crash(stage, dice);
            }
            match output {
                Output::Append { record, payment } => {
                    self.ask_disk(stage, DiskRequest::Append { record, payment });
                    if stage.is_planted(PlantedBug::EffectBeforeJournal) {
                        let input = Box::new(Input::Journalled(record));
                        stage.after(0, Event::MachineHears { epoch: self.epoch, input });
                    }
                }
                Output::Notify { phone, value } => {
                    stage.machine_notifies(phone, value);
                }
                Output::Disconnect { phone, .. } => stage.machine_disconnects(phone),
                Output::Load { phone, question } => {
                    let search = Search::TransactionId(question.transaction_id);
                    let searcher = Searcher::Phone { phone, question };
                    self.ask_disk(stage, DiskRequest::Find { search, searcher });
                }
                Output::Request { request, timeout_ms } => {
                    stage.ask_institution(self.epoch, request, timeout_ms)
                }
                Output::AnswerTill { call, answer } => {
                    let waiting =
                        self.engine.as_mut().and_then(|engine| engine.calls.remove(&call));
                    if let Some((call, about)) = waiting {
                        stage.answer_till(call, about, answer);
                    }
                }
                Output::Publish(view) => self.publish(stage, view),
                Output::Advertise(_) => {}
            }
        }
    }

    fn publish(&mut self, stage: &mut Stage, mut view: PaymentView) {
        if stage.is_planted(PlantedBug::LateApprovalReleases)
            && view.state == PaymentState::Reversing(florin::domain::ReversalReason::Unanswered)
        {
            view.release = true;
        }
        if let Some(engine) = &mut self.engine {
            if stage.is_planted(PlantedBug::OtherPaymentReleased)
                && view.release
                && let Some(other) = engine.published.values().find(|other| !other.release)
            {
                view = PaymentView { release: true, ..other.clone() };
            }
            if view.state.is_final() {
                engine.published.remove(&view.transaction_id);
            } else {
                engine.published.insert(view.transaction_id, view.clone());
            }
        }
        stage.tell_till_update(view);
    }

    /// Nothing goes wrong any more: the clock is right, and the process runs.
    pub fn comes_back(&mut self, stage: &mut Stage) {
        self.clock.set_right();
        self.busy_until_ms = stage.now_ms;
        self.disk.fails_until_ms = stage.now_ms;
        self.start(stage);
        if let Some(boot) = self.boot {
            self.tries_journal(stage, boot);
        }
    }
}
