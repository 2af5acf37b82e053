//! The terminal's process: the real engine, and around it what the service's driver does, on a virtual disk, link,
//! network and clock.
//!
//! As in the service, the till reads what was published or what the journal holds, and the engine is told what the
//! journal holds of the payment that a till's request is about.

use std::collections::BTreeMap;

use florin::domain::{Moment, TransactionId};
use florin::journal::Search;
use florin::terminal::{
    Identity, Input, Now, Output, Payment, PaymentState, PaymentView, PhoneId, Settings, Terminal,
    TillCallId, TillRefusal, TillRequest,
};

use super::clock::WallClock;
use super::disk::{Disk, DiskRequest, Searcher};
use super::fault::FaultKind;
use super::planted::PlantedBug;
use super::randomness::Dice;
use super::stage::{Event, FromAir, Stage};
use super::till::TillAsk;

/// The terminal.
#[derive(Debug)]
pub struct Machine {
    identity: Identity,
    process: Option<Process>,
    /// The number of the process, from 1. What was meant for an earlier one is lost.
    pub epoch: u64,
    busy_until_ms: u64,
    clock: WallClock,
    /// Its disk.
    pub disk: Disk,
    dice: Dice,
}

#[derive(Debug)]
struct Process {
    terminal: Terminal,
    started_ms: u64,
    published: BTreeMap<TransactionId, PaymentView>,
    /// The engine's calls, and the till's.
    calls: BTreeMap<TillCallId, (u64, Option<TransactionId>)>,
    tick_at_ms: Option<u64>,
}

impl Machine {
    /// A terminal that is off.
    pub fn new(identity: Identity, disk: Disk, dice: Dice) -> Self {
        Self { identity, process: None, epoch: 0, busy_until_ms: 0, clock: WallClock::default(), disk, dice }
    }

    /// Who it is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Can phones connect?
    pub fn is_up(&self) -> bool {
        self.process.is_some()
    }

    /// How many payments the engine has open; none while it is off.
    pub fn open_count(&self) -> Option<usize> {
        self.process.as_ref().map(|process| process.terminal.open_count())
    }

    /// If it hangs: until when.
    pub fn hangs_until_ms(&self, now_ms: u64) -> Option<u64> {
        Some(self.busy_until_ms).filter(|until| *until > now_ms)
    }

    fn now(&self, stage: &Stage) -> Now {
        let started_ms = self.process.as_ref().map_or(stage.now_ms, |process| process.started_ms);
        Now {
            moment: Moment { milliseconds: stage.now_ms - started_ms },
            wall: self.clock.read(stage.now_ms),
        }
    }

    /// The process starts, and reads the journal.
    pub fn start(&mut self, stage: &mut Stage) {
        if self.process.is_some() {
            return;
        }
        self.epoch += 1;
        self.busy_until_ms = stage.now_ms;
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
        let settings = Settings::default();
        let now = Now { moment: Moment::default(), wall: self.clock.read(stage.now_ms) };
        let (terminal, outputs) = Terminal::new(identity, settings, seed, open, now);
        self.process = Some(Process {
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
        if self.process.take().is_none() {
            return;
        }
        let (kept, lost) = self.disk.crash(&mut dice, stage.now_ms);
        stage.say(|_| format!("terminal: crashes; {} unconfirmed records kept, {lost} lost", kept.len()));
        for payment in kept {
            self.write(stage, &payment);
        }
        if stage.is_planted(PlantedBug::ConfirmedRecordLost)
            && let Some(before) = self.disk.lose_newest()
        {
            stage.say(|stage| {
                format!("disk: {} is {} again", stage.name(before.transaction_id), before.state.name())
            });
        }
        stage.machine_is_gone();
        let down_ms = dice.magnitude(50, 300_000);
        stage.after(down_ms, Event::MachineStarts);
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
        let Some(process) = &mut self.process else { return };
        let outputs = process.terminal.handle(now, input);
        self.perform(stage, outputs);
        if let Some(mut dice) = stage.fault(FaultKind::TerminalStalls) {
            self.busy_until_ms = stage.now_ms + dice.magnitude(100, 60_000);
        }
        self.set_tick(stage);
    }

    fn set_tick(&mut self, stage: &mut Stage) {
        let epoch = self.epoch;
        let Some(process) = &mut self.process else { return };
        let deadline = process.terminal.next_deadline();
        let at_ms = deadline.map(|deadline| (process.started_ms + deadline.milliseconds).max(stage.now_ms));
        if at_ms != process.tick_at_ms {
            process.tick_at_ms = at_ms;
            if let Some(at_ms) = at_ms {
                stage.at(at_ms, Event::MachineTick { epoch, at_ms });
            }
        }
    }

    /// The engine's deadline has come, if it still is its deadline.
    pub fn tick(&mut self, stage: &mut Stage, epoch: u64, at_ms: u64) {
        let Some(process) = &mut self.process else { return };
        if self.epoch == epoch && process.tick_at_ms == Some(at_ms) {
            process.tick_at_ms = None;
            self.step(stage, Input::Tick);
        }
    }

    /// An input for the process of that number.
    pub fn hears(&mut self, stage: &mut Stage, epoch: u64, input: Input) {
        if self.epoch == epoch {
            self.step(stage, input);
        }
    }

    /// Something came over the air.
    pub fn hears_from_air(&mut self, stage: &mut Stage, phone: PhoneId, what: FromAir) {
        let Some(value_octets_max) = stage.link.seen_by_machine(phone, self.epoch) else { return };
        match what {
            FromAir::Connected => self.step(stage, Input::PhoneConnected(phone)),
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
        let Some(process) = &mut self.process else { return };
        match ask {
            TillAsk::Request(mut request) => {
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
                        content.idempotency_key.clone().map(Search::IdempotencyKey)
                    }
                    TillRequest::Complete { transaction_id, .. } | TillRequest::Cancel { transaction_id } => {
                        Some(Search::TransactionId(*transaction_id))
                    }
                };
                let about = match &search {
                    Some(Search::TransactionId(transaction_id)) => Some(*transaction_id),
                    Some(Search::IdempotencyKey(_) | Search::Newest { .. }) | None => None,
                };
                let engine_call = TillCallId(call);
                process.calls.insert(engine_call, (call, about));
                match search {
                    Some(search) => {
                        let searcher = Searcher::Till { call: engine_call, request };
                        self.ask_disk(stage, DiskRequest::Find { search, searcher });
                    }
                    None => self.step(stage, Input::Till { call: engine_call, request, stored: None }),
                }
            }
            TillAsk::Read(transaction_id) => {
                let own_state = stage.is_planted(PlantedBug::TillReadsEngine);
                let view = match process.terminal.view(transaction_id).filter(|_| own_state) {
                    Some(view) => Some(view),
                    None => process.published.get(&transaction_id).cloned(),
                };
                match view {
                    Some(view) => stage.answer_till(call, None, Ok(view)),
                    None => {
                        let search = Search::TransactionId(transaction_id);
                        let searcher = Searcher::TillRead { call, transaction_id };
                        self.ask_disk(stage, DiskRequest::Find { search, searcher });
                    }
                }
            }
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
        stage.model.is_durable(payment);
    }

    /// The journal has done its oldest request.
    pub fn disk_done(&mut self, stage: &mut Stage, epoch: u64) {
        if self.epoch != epoch {
            return;
        }
        let Some(request) = self.disk.take() else { return };
        match request {
            DiskRequest::Append { record, payment } => {
                if let Some(dice) = stage.fault(FaultKind::JournalFails) {
                    // The service stops when its journal fails, and begins again from what it holds.
                    return self.crash(stage, dice);
                }
                self.write(stage, &payment);
                self.step(stage, Input::Journalled(record));
            }
            DiskRequest::Find { search, searcher } => {
                let found = match &search {
                    Search::TransactionId(transaction_id) => self.disk.journal.payment(*transaction_id),
                    Search::IdempotencyKey(_) if stage.is_planted(PlantedBug::KeyNotFound) => Ok(None),
                    Search::IdempotencyKey(key) => self.disk.journal.payment_by_key(key),
                    // Nobody lists payments here.
                    Search::Newest { .. } => Ok(None),
                };
                let payment = found.ok().flatten();
                match searcher {
                    Searcher::Till { call, request } => {
                        self.step(stage, Input::Till { call, request, stored: payment });
                    }
                    Searcher::TillRead { call, transaction_id } => {
                        let view = payment.as_ref().map(PaymentView::of);
                        stage.answer_till(call, None, view.ok_or(TillRefusal::Unknown(transaction_id)));
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
                Output::Ask { request, timeout_ms } => stage.ask_institution(self.epoch, request, timeout_ms),
                Output::AnswerTill { call, answer } => {
                    let waiting = self.process.as_mut().and_then(|process| process.calls.remove(&call));
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
        if let Some(process) = &mut self.process {
            if stage.is_planted(PlantedBug::OtherPaymentReleased)
                && view.release
                && let Some(other) = process.published.values().find(|other| !other.release)
            {
                view = PaymentView { release: true, ..other.clone() };
            }
            if view.state.is_final() {
                process.published.remove(&view.transaction_id);
            } else {
                process.published.insert(view.transaction_id, view.clone());
            }
        }
        stage.tell_till_update(view);
    }

    /// Nothing goes wrong any more: the clock is right, and the process runs.
    pub fn comes_back(&mut self, stage: &mut Stage) {
        self.clock.set_right();
        self.busy_until_ms = stage.now_ms;
        self.start(stage);
    }
}
