//! A phone: the real wallet session, and around it what the wallet's driver and its attempts do:
//! connect, pay, try again where nothing was sent, ask where something was.
//!
//! Its store is durable when a call returns; a crash loses the session and nothing of the store.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use florin::domain::{HolderVerification, Moment, TransactionId};
use florin::protocol::{EngagementLink, Fingerprint};
use florin::terminal::{Identity, PhoneId};
use florin::wallet::{
    ASK_ATTEMPTS_MAX, Card, Decision, Input, Notice, Output, PAUSE_MS, PAY_ATTEMPTS_MAX,
    PaymentRecord, PaymentStatus, Reservation, Session, SessionEnd, SessionSeed, SessionSettings,
};

use super::clock::WallClock;
use super::event::{Event, Visit};
use super::fault::FaultKind;
use super::model::Word;
use super::planted::PlantedBug;
use super::randomness::Dice;
use super::stage::Stage;

/// How often somebody comes back for the same payment, besides at the end of the world.
const RETURNS_MAX: u32 = 3;

/// One phone with one card.
#[derive(Debug)]
pub struct Phone {
    index: usize,
    card: Arc<Card>,
    link: EngagementLink,
    counter: u64,
    /// What its store holds.
    records: BTreeMap<TransactionId, PaymentRecord>,
    /// How often somebody came back for a payment.
    returns: BTreeMap<TransactionId, u32>,
    clock: WallClock,
    dice: Dice,
    visit: Option<Visiting>,
    visits: u64,
    /// Does the person pay what is offered?
    pays_percent: u64,
}

/// What a person with the phone is doing.
#[derive(Debug)]
struct Visiting {
    visit: Visit,
    tries: u32,
    /// The record whose result is asked for after the payment.
    following: Option<TransactionId>,
    reported: Option<SessionEnd>,
    offered: Option<TransactionId>,
    vanishes: bool,
    talk: Option<Talk>,
}

/// A session over a connection.
#[derive(Debug)]
struct Talk {
    session: Session,
    connection: PhoneId,
    started_ms: u64,
    tick_at_ms: Option<u64>,
}

impl Phone {
    /// A phone that nobody holds.
    pub fn new(index: usize, card: Arc<Card>, identity: &Identity, mut dice: Dice) -> Self {
        let link = EngagementLink {
            terminal_id: identity.terminal_id(),
            fingerprint: Fingerprint::of(&identity.certificate.channel_key),
            transaction_id: None,
        };
        let pays_percent = [80, 95, 100][dice.below(3) as usize];
        Self {
            index,
            card,
            link,
            counter: 0,
            records: BTreeMap::new(),
            returns: BTreeMap::new(),
            clock: WallClock::default(),
            dice,
            visit: None,
            visits: 0,
            pays_percent,
        }
    }

    /// The payments whose end it does not know.
    pub fn pending(&self) -> Vec<TransactionId> {
        self.records
            .values()
            .filter(|record| record.is_open())
            .map(PaymentRecord::transaction_id)
            .collect()
    }

    /// What its store says of each payment.
    pub fn statuses(&self) -> impl Iterator<Item = (TransactionId, PaymentStatus)> {
        self.records.values().map(|record| (record.transaction_id(), record.status))
    }

    /// The clock is right.
    pub fn comes_right(&mut self) {
        self.clock.set_right();
        self.pays_percent = 100;
    }

    /// A person comes with it.
    pub fn visits(&mut self, stage: &mut Stage, visit: Visit) {
        if self.visit.is_some() {
            // Still busy: a little later.
            return stage.after(5_000, Event::PhoneVisits { phone: self.index, visit });
        }
        if let Visit::Ask(transaction_id) = visit
            && self.records.get(&transaction_id).is_none_or(|record| !record.is_open())
        {
            return;
        }
        if let Some(dice) = stage.fault(FaultKind::PhoneClockJumps) {
            self.clock.jump(dice);
        }
        let vanishes = stage.fault(FaultKind::PhoneVanishes).is_some();
        stage.say(|stage| {
            let what = match visit {
                Visit::Pay(Some(transaction_id)) => {
                    format!("to pay {}", stage.name(transaction_id))
                }
                Visit::Pay(None) => "to pay".into(),
                Visit::Ask(transaction_id) => format!("to ask for {}", stage.name(transaction_id)),
            };
            format!("phone {}: comes {what}", self.index)
        });
        self.visits += 1;
        self.visit = Some(Visiting {
            visit,
            tries: 0,
            following: None,
            reported: None,
            offered: None,
            vanishes,
            talk: None,
        });
        self.connect_after(stage, 1);
    }

    fn connect_after(&self, stage: &mut Stage, delay_ms: u64) {
        stage
            .after(delay_ms, Event::PhoneConnects { phone: self.index, visit_number: self.visits });
    }

    /// Tries to connect.
    pub fn connects(&mut self, stage: &mut Stage, visit_number: u64, boot: Option<u64>) {
        if self.visits != visit_number || self.visit.is_none() {
            return;
        }
        let takes_ms = self.dice.between(100, 900);
        let phone = self.index;
        let connection = match boot {
            Some(_) if stage.fault(FaultKind::ConnectionFails).is_some() => None,
            Some(boot) => Some(stage.connect(phone, boot).0),
            None => None,
        };
        stage.after(takes_ms, Event::PhoneConnected { phone, visit_number, connection });
    }

    /// Is connected, or not.
    pub fn connected(
        &mut self,
        stage: &mut Stage,
        visit_number: u64,
        connection: Option<PhoneId>,
        boot: Option<u64>,
    ) {
        if self.visits != visit_number {
            return;
        }
        let Some(visiting) = &mut self.visit else { return };
        visiting.tries += 1;
        let Some(connection) = connection else { return self.connection_failed(stage) };
        let record = match (visiting.following, visiting.visit) {
            (Some(transaction_id), _) | (None, Visit::Ask(transaction_id)) => {
                self.records.get(&transaction_id).cloned()
            }
            (None, Visit::Pay(_)) => None,
        };
        if visiting.following.is_none() {
            visiting.offered = None;
        }
        let link = match visiting.visit {
            Visit::Pay(transaction_id @ Some(_)) => {
                Some(EngagementLink { transaction_id, ..self.link.clone() })
            }
            Visit::Pay(None) | Visit::Ask(_) => None,
        };
        let settings = SessionSettings {
            // A link that is gone by now shows when it is used.
            value_octets_max: boot
                .and_then(|boot| stage.link.seen_by_machine(connection, boot))
                .unwrap_or(20),
            link,
            short_code: None,
            limit: None,
            offer_wait_ms: 30_000,
            stay_ms: 0,
            holder_verification: HolderVerification::Consent,
            wall_clock: self.clock.read(stage.now_ms),
        };
        let seed = SessionSeed::from_random(&self.dice.octets());
        let now = Moment::default();
        let started = match record {
            Some(record) => Ok(Session::ask(Arc::clone(&self.card), record, settings, seed, now)),
            None => Session::pay(Arc::clone(&self.card), settings, seed, now),
        };
        match started {
            Ok((session, outputs)) => {
                let talk = Talk { session, connection, started_ms: stage.now_ms, tick_at_ms: None };
                visiting.talk = Some(talk);
                self.perform(stage, outputs);
            }
            Err(refusal) => {
                stage.phone_disconnects(connection);
                self.ended(stage, SessionEnd::Refused(refusal));
            }
        }
    }

    fn connection_failed(&mut self, stage: &mut Stage) {
        let Some(visiting) = &self.visit else { return };
        if visiting.following.is_some() && visiting.tries < ASK_ATTEMPTS_MAX {
            return self.connect_after(stage, PAUSE_MS);
        }
        self.leaves(stage);
    }

    fn is_talking_over(&self, connection: PhoneId) -> bool {
        let talk = self.visit.as_ref().and_then(|visiting| visiting.talk.as_ref());
        talk.is_some_and(|talk| talk.connection == connection)
    }

    /// A notification.
    pub fn hears(&mut self, stage: &mut Stage, connection: PhoneId, value: Vec<u8>) {
        if stage.link.is_whole(connection) {
            self.put(stage, connection, Input::Value(value));
        }
    }

    /// Its connection is gone.
    pub fn link_lost(&mut self, stage: &mut Stage, connection: PhoneId) {
        self.put(stage, connection, Input::LinkLost);
    }

    /// The person has decided.
    pub fn decides(&mut self, stage: &mut Stage, connection: PhoneId, decision: Decision) {
        self.put(stage, connection, Input::Decided(decision));
    }

    /// The session's deadline has come, if it still is its deadline.
    pub fn tick(&mut self, stage: &mut Stage, connection: PhoneId, at_ms: u64) {
        let talk = self.visit.as_mut().and_then(|visiting| visiting.talk.as_mut());
        if let Some(talk) = talk
            && talk.connection == connection
            && talk.tick_at_ms == Some(at_ms)
        {
            talk.tick_at_ms = None;
            self.put(stage, connection, Input::Tick);
        }
    }

    fn put(&mut self, stage: &mut Stage, connection: PhoneId, input: Input) {
        if !self.is_talking_over(connection) {
            return;
        }
        if let Some(outputs) = self.handle(stage, input) {
            self.perform(stage, outputs);
        }
    }

    /// One step of the session; none where the session refuses the input, which then changes
    /// nothing.
    fn handle(&mut self, stage: &Stage, input: Input) -> Option<Vec<Output>> {
        let talk = self.visit.as_mut()?.talk.as_mut()?;
        let now = Moment { milliseconds: stage.now_ms - talk.started_ms };
        talk.session.handle(now, input).ok()
    }

    /// Stores a record, or fails to.
    fn try_to_store(&mut self, stage: &mut Stage, record: PaymentRecord, is_new: bool) -> Input {
        match stage.fault(FaultKind::WalletStoreFails) {
            Some(mut dice) => {
                // Where it was the sync that failed, the record may be there all the same.
                if dice.percent(40) {
                    self.store(stage, record, is_new);
                }
                Input::StoreFailed
            }
            None => {
                self.store(stage, record, is_new);
                Input::Stored
            }
        }
    }

    /// Does what the session says, in order; what comes of it goes in at once. The wallet may die
    /// before any of it.
    fn perform(&mut self, stage: &mut Stage, outputs: Vec<Output>) {
        let mut todo: VecDeque<Output> = outputs.into();
        let mut is_link_lost = false;
        while let Some(output) = todo.pop_front() {
            if stage.fault(FaultKind::WalletCrashes).is_some() {
                return self.crash(stage);
            }
            let Some(visiting) = &mut self.visit else { return };
            let Some(talk) = &mut visiting.talk else { return };
            let connection = talk.connection;
            let mut input = None;
            match output {
                Output::Write(value) if !is_link_lost => stage.phone_writes(connection, value),
                Output::Write(_) => {}
                Output::Ask(view) => {
                    visiting.offered = Some(view.offer.transaction_id());
                    let decision = if self.dice.percent(self.pays_percent) {
                        Decision::Pay
                    } else {
                        Decision::Decline
                    };
                    let delay_ms = self.dice.magnitude(500, 25_000);
                    stage.after(
                        delay_ms,
                        Event::PhoneDecides { phone: self.index, connection, decision },
                    );
                }
                Output::Reserve(transaction_id) => {
                    let reservation = self.reserve(stage, transaction_id);
                    // A counter that was used up for nothing does no harm.
                    input = Some(match stage.fault(FaultKind::WalletStoreFails) {
                        Some(_) => Input::StoreFailed,
                        None => Input::Reserved(reservation),
                    });
                }
                Output::Store { record, is_new } => {
                    input = Some(self.try_to_store(stage, *record, is_new));
                }
                // No institution of the simulation changes its keys.
                Output::StoreKeyring(_) => input = Some(Input::Stored),
                Output::Tell(notice) => {
                    if notice == Notice::CommandSent {
                        let transaction_id = visiting.offered;
                        let vanishes = visiting.vanishes;
                        stage.say(|_| format!("phone {}: sent its command", self.index));
                        if let Some(transaction_id) = transaction_id {
                            stage.model.command_is_sent(self.index, transaction_id);
                        }
                        if vanishes {
                            stage.phone_disconnects(connection);
                            is_link_lost = true;
                            input = Some(Input::LinkLost);
                        }
                    }
                }
                Output::End(end) => {
                    stage.phone_disconnects(connection);
                    visiting.talk = None;
                    return self.ended(stage, *end);
                }
                Output::Disconnect => {}
            }
            let Some(input) = input else { continue };
            for output in self.handle(stage, input).unwrap_or_default().into_iter().rev() {
                todo.push_front(output);
            }
        }
        self.set_tick(stage);
    }

    fn set_tick(&mut self, stage: &mut Stage) {
        let Some(talk) = self.visit.as_mut().and_then(|visiting| visiting.talk.as_mut()) else {
            return;
        };
        let at_ms = talk.session.deadline().map(|deadline| talk.started_ms + deadline.milliseconds);
        if at_ms != talk.tick_at_ms {
            talk.tick_at_ms = at_ms;
            let (phone, connection) = (self.index, talk.connection);
            if let Some(at_ms) = at_ms {
                stage.at(at_ms.max(stage.now_ms), Event::PhoneTick { phone, connection, at_ms });
            }
        }
    }

    fn reserve(&mut self, stage: &Stage, transaction_id: TransactionId) -> Reservation {
        match self.records.get(&transaction_id) {
            Some(record) => Reservation::Earlier(Box::new(record.clone())),
            None => {
                if !(stage.is_planted(PlantedBug::CounterNotAdvanced) && self.counter > 0) {
                    self.counter += 1;
                }
                Reservation::Counter(self.counter)
            }
        }
    }

    fn store(&mut self, stage: &mut Stage, record: PaymentRecord, is_new: bool) {
        let transaction_id = record.transaction_id();
        if is_new {
            stage.model.command_is_made(self.index, &record);
        }
        let status = record.status;
        self.records.insert(transaction_id, record);
        stage.model.phone_stores(self.index, transaction_id, status);
    }

    /// The wallet's process dies.
    fn crash(&mut self, stage: &mut Stage) {
        if let Some(talk) = self.visit.take().and_then(|visiting| visiting.talk) {
            stage.break_link(talk.connection);
        }
        stage.say(|_| format!("phone {}: its wallet died", self.index));
        self.comes_again(stage);
    }

    /// A session is over. What then happens is what the wallet's `pay` and `ask` do.
    fn ended(&mut self, stage: &mut Stage, end: SessionEnd) {
        stage.say(|_| {
            format!("phone {}: session ends {} {:?}", self.index, end.name(), end.reason())
        });
        let Some(visiting) = &mut self.visit else { return };
        if visiting.following.is_some() {
            if end.is_an_answer() {
                visiting.reported = Some(end);
            } else if visiting.tries < ASK_ATTEMPTS_MAX {
                return self.connect_after(stage, PAUSE_MS);
            }
            return self.leaves(stage);
        }
        let may_retry = end.may_retry();
        let tries_max = if matches!(visiting.visit, Visit::Ask(_)) {
            ASK_ATTEMPTS_MAX
        } else {
            PAY_ATTEMPTS_MAX
        };
        visiting.reported = Some(end);
        if may_retry && visiting.tries < tries_max {
            return self.connect_after(stage, PAUSE_MS);
        }
        if !visiting.vanishes
            && let Some(transaction_id) = self.to_ask_about()
            && let Some(visiting) = &mut self.visit
        {
            visiting.following = Some(transaction_id);
            visiting.tries = 0;
            return self.connect_after(stage, PAUSE_MS);
        }
        self.leaves(stage);
    }

    /// The payment that the wallet asks about on its own.
    fn to_ask_about(&self) -> Option<TransactionId> {
        let visiting = self.visit.as_ref()?;
        let Visit::Pay(linked) = visiting.visit else { return None };
        let transaction_id = visiting.reported.as_ref()?.to_ask_about(visiting.offered, linked)?;
        let record = self.records.get(&transaction_id)?;
        record.is_open().then_some(transaction_id)
    }

    /// The person is told, and goes.
    fn leaves(&mut self, stage: &mut Stage) {
        let Some(visiting) = self.visit.take() else { return };
        if let Some(mut end) = visiting.reported {
            if let (Visit::Pay(Some(transaction_id)) | Visit::Ask(transaction_id), None) =
                (visiting.visit, visiting.offered)
                && let Some(record) = self.records.get(&transaction_id)
            {
                end = end.given_earlier(record.status);
            }
            let about = match visiting.visit {
                Visit::Pay(link) => link.or(visiting.offered),
                Visit::Ask(transaction_id) => Some(transaction_id),
            };
            let about = end.transaction_id().or(about);
            let name = end.name();
            let told = if stage.is_planted(PlantedBug::ToldToAnotherPhone) {
                self.index ^ 1
            } else {
                self.index
            };
            stage.say(|stage| {
                format!(
                    "phone {}: the person is told {name} of {:?}",
                    self.index,
                    about.map(|id| stage.name(id))
                )
            });
            if let Some(about) = about {
                let mut word = word_of(&end);
                if word == Word::Unknown && stage.is_planted(PlantedBug::PendingIsNotCharged) {
                    word = Word::NotCharged;
                }
                stage.model.phone_is_told(told, about, word, name);
            }
        }
        self.comes_again(stage);
    }

    /// Perhaps somebody comes back for what is pending. Nobody comes back for the same payment for
    /// ever.
    fn comes_again(&mut self, stage: &mut Stage) {
        let mut pending = self.pending();
        pending.retain(|transaction_id| {
            self.returns.get(transaction_id).is_none_or(|returns| *returns < RETURNS_MAX)
        });
        if pending.is_empty() || !self.dice.percent(70) {
            return;
        }
        let transaction_id = pending[self.dice.below(pending.len() as u64) as usize];
        *self.returns.entry(transaction_id).or_default() += 1;
        let visit = if self.dice.percent(60) {
            Visit::Ask(transaction_id)
        } else {
            Visit::Pay(Some(transaction_id))
        };
        let delay_ms = self.dice.magnitude(1_000, 400_000);
        stage.after(delay_ms, Event::PhoneVisits { phone: self.index, visit });
    }
}

/// What the person understands.
fn word_of(end: &SessionEnd) -> Word {
    match end {
        SessionEnd::Settled(receipt) => match receipt.status {
            florin::domain::ReceiptStatus::Approved { .. }
            | florin::domain::ReceiptStatus::Captured { .. } => Word::Paid,
            florin::domain::ReceiptStatus::Declined(_)
            | florin::domain::ReceiptStatus::Reversed => Word::NotCharged,
        },
        SessionEnd::Reserved(_) => Word::Paid,
        SessionEnd::NotCharged(_)
        | SessionEnd::NotPaid(_)
        | SessionEnd::LinkFailed(_)
        | SessionEnd::StoreFailed => Word::NotCharged,
        // It says where to look, or not to pay here; about this wallet's own refusal, not about the
        // earlier payment.
        SessionEnd::Refused(florin::wallet::Refusal::AlreadySettled) => Word::Unknown,
        SessionEnd::Refused(_) => Word::NotCharged,
        SessionEnd::Pending(_) | SessionEnd::Unproven(_) => Word::Unknown,
        SessionEnd::NotProven(_) => Word::Unproven,
    }
}
