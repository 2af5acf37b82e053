//! The engine: inputs in, outputs out.
//!
//! A step that changes a payment emits [`Output::Append`] and remembers what is to follow; when the
//! journal has confirmed it ([`Input::Journalled`]), what follows is emitted. So the effects of a
//! payment never run ahead of its record, and a crash at any point leaves nothing done that the
//! journal does not know of.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore, SeedableRng};
use sha2::{Digest, Sha256};

use crate::credential::SealedCommand;
use crate::domain::{Moment, Offer, Outcome, TransactionId, UnixTime};
use crate::protocol::{
    FragmentTag, FromPhone, FromTerminal, Hello, ProtocolError, WireError, decode_offer,
    encode_offer,
};

use super::phone_session::{PhoneSession, Received};
use super::slots::{Slot, phone_to_evict};
use super::transition::{Verdict, on_dispense_timeout, on_institution, on_restart, on_till};
use super::{
    AdvertisingPace, Identity, InstitutionAnswer, InstitutionRequest, OpenPayments, Payment,
    PaymentRequest, PaymentState, PaymentView, PhoneId, Settings, TillRefusal, TillRequest,
};

/// How many phones that were told to leave are remembered until the link says that they have: more
/// than any link holds.
const LEAVING_MAX: usize = 1_024;
/// How many matching codes a till is told: more phones than this do not stand before one machine.
const MATCHING_CODES_MAX: usize = 8;
/// The longest sealed command, in octets: ten times what a plain one has.
const SEALED_COMMAND_OCTETS_MAX: usize = 2048;
/// The longest idempotency key, in octets.
const IDEMPOTENCY_KEY_OCTETS_MAX: usize = 64;
/// How much longer than its own time-out a request may stay without an answer before the engine
/// stops waiting.
const ANSWER_GRACE_MS: u64 = 2_000;
/// The wait before an authorisation that was not sent is tried again.
const NOT_SENT_RETRY_MS: u64 = 500;

/// What the clocks say at an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// Monotonic: for deadlines.
    pub moment: Moment,
    /// Wall: for people.
    pub wall: UnixTime,
}

/// A call of the till that waits for its answer, as the driver numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TillCallId(pub u64);

/// The place of a record in the journal's order, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct RecordNumber(pub u64);

/// What happens to the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A phone connected.
    PhoneConnected(PhoneId),
    /// A phone wrote a value to the inbox.
    PhoneWrote {
        /// Which connection.
        phone: PhoneId,
        /// The longest value that the connection carries now, in octets, 20 to 512.
        value_octets_max: usize,
        /// The value.
        value: Vec<u8>,
    },
    /// A phone is gone.
    PhoneDisconnected(PhoneId),
    /// The till wants something.
    Till {
        /// Which call.
        call: TillCallId,
        /// What it wants.
        request: TillRequest,
        /// What the journal holds under the request's transaction id or idempotency key.
        stored: Option<Payment>,
    },
    /// The journal has every record up to and with this one.
    Journalled(RecordNumber),
    /// What the journal holds of a payment that a phone asked about.
    Loaded {
        /// Which connection asked.
        phone: PhoneId,
        /// What it asked.
        question: PhoneQuestion,
        /// What the journal holds, if anything.
        payment: Option<Payment>,
    },
    /// The institution answered, or will not.
    Institution {
        /// About which payment.
        transaction_id: TransactionId,
        /// What it said.
        answer: InstitutionAnswer,
    },
    /// Time passed: [`Terminal::next_deadline`] has come.
    Tick,
}

/// A phone's question about a payment that is not open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PhoneQuestion {
    /// About which payment.
    pub transaction_id: TransactionId,
    /// SHA-256 over the sealed command that the phone sent, or says that it sent.
    pub command_digest: [u8; 32],
    /// It sent a command just now, rather than asking for a result.
    pub is_command: bool,
}

/// What the engine wants done. In order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Write this to the journal, durably, then say [`Input::Journalled`].
    Append {
        /// The record's place.
        record: RecordNumber,
        /// The payment as it is now.
        payment: Box<Payment>,
    },
    /// Send a value to a phone.
    Notify {
        /// To which connection.
        phone: PhoneId,
        /// At most 512 octets.
        value: Vec<u8>,
    },
    /// End a connection.
    Disconnect {
        /// Which.
        phone: PhoneId,
        /// Why, for the log.
        reason: &'static str,
    },
    /// Find what the journal holds of a payment, then say [`Input::Loaded`].
    Load {
        /// Who asked.
        phone: PhoneId,
        /// What.
        question: PhoneQuestion,
    },
    /// Ask the institution, then say [`Input::Institution`].
    Ask {
        /// What.
        request: InstitutionRequest,
        /// After how many milliseconds it counts as unanswered.
        timeout_ms: u64,
    },
    /// Answer a call of the till.
    AnswerTill {
        /// Which call.
        call: TillCallId,
        /// The payment, or why not.
        answer: Result<PaymentView, TillRefusal>,
    },
    /// A payment looks different now: tell whoever watches it.
    Publish(PaymentView),
    /// Be found faster or slower.
    Advertise(AdvertisingPace),
}

/// What follows a record, in the engine's own words. Messages are sealed only when they leave,
/// since the channel numbers them.
#[derive(Debug)]
enum Effect {
    Tell {
        phone: PhoneId,
        message: FromTerminal,
    },
    Emit(Output),
    /// The payment is final and durable: nothing more to hold in memory.
    Forget(TransactionId),
    /// The offer is durable: show it to every phone that waits for one.
    ShowOffer(TransactionId),
    /// The approval is durable and the till is told: its time to say what became of the goods
    /// begins.
    AwaitTill(TransactionId),
}

/// An open payment.
#[derive(Debug)]
struct Open {
    payment: Payment,
    /// The newest record of it. Effects wait for it.
    record: RecordNumber,
    offered_at: Moment,
    /// When the offer is no longer good.
    expires_at: Moment,
    /// The phone that sent the command, while it is connected.
    payer: Option<PhoneId>,
    /// A request to the institution is under way, and counts as unanswered from then.
    asking_until: Option<Moment>,
    /// When to ask the institution next.
    ask_at: Option<Moment>,
    /// How often it was asked in this state.
    asked: u32,
    /// When the authorisation counts as unanswered.
    authorise_until: Moment,
    /// When to give the payer a sign of life.
    working_at: Option<Moment>,
    /// The till has been told of the approval just now.
    till_told: bool,
    /// When it has to have said what became of the goods.
    dispense_until: Option<Moment>,
    /// It has not, in its time, or the terminal was restarted meanwhile.
    dispense_unknown: bool,
}

/// The terminal: every open payment and every connected phone.
#[derive(Debug)]
pub struct Terminal {
    identity: Identity,
    settings: Settings,
    random: ChaCha20Rng,
    open: BTreeMap<TransactionId, Open>,
    phones: BTreeMap<PhoneId, PhoneSession>,
    /// Told to leave; what is still under way from them is not heard.
    leaving: BTreeSet<PhoneId>,
    last_record: RecordNumber,
    journalled: RecordNumber,
    withheld: VecDeque<(RecordNumber, Effect)>,
    outputs: Vec<Output>,
    pace: AdvertisingPace,
}

impl Terminal {
    /// A terminal that continues the open payments of its journal. `seed` is 32 fresh random
    /// octets.
    ///
    /// Returns what there is to do at once.
    pub fn new(
        identity: Identity,
        settings: Settings,
        seed: [u8; 32],
        open: Vec<Payment>,
        now: Now,
    ) -> (Self, Vec<Output>) {
        let mut terminal = Self {
            identity,
            settings,
            random: ChaCha20Rng::from_seed(seed),
            open: BTreeMap::new(),
            phones: BTreeMap::new(),
            leaving: BTreeSet::new(),
            last_record: RecordNumber(0),
            journalled: RecordNumber(0),
            withheld: VecDeque::new(),
            outputs: vec![Output::Advertise(AdvertisingPace::Slow)],
            pace: AdvertisingPace::Slow,
        };
        for payment in open {
            let transaction_id = payment.transaction_id;
            let state = payment.state;
            terminal.open.insert(transaction_id, Open::new(payment, now.moment));
            let next = on_restart(state);
            if next == state {
                terminal.enter(now, transaction_id);
                terminal.ask_till_again(transaction_id);
            } else {
                terminal.move_to(now, transaction_id, next, None);
            }
        }
        terminal.spread_first_asks(now);
        terminal.tick(now);
        let outputs = std::mem::take(&mut terminal.outputs);
        (terminal, outputs)
    }

    /// Who the terminal is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// How many payments are open.
    pub fn open_count(&self) -> usize {
        self.open.len()
    }

    /// How the open payments stand, how old they are, and which need a person.
    pub fn open_payments(&self, now: UnixTime) -> OpenPayments {
        let payments = self.open.values().map(|open| &open.payment);
        OpenPayments::of(payments, now, self.settings.escalate_after_s)
    }

    /// How many phones are connected.
    pub fn phone_count(&self) -> usize {
        self.phones.len()
    }

    /// An open payment as its till may see it.
    pub fn view(&self, transaction_id: TransactionId) -> Option<PaymentView> {
        let open = self.open.get(&transaction_id)?;
        let matching_codes = self
            .phones
            .values()
            .filter(|session| session.shown == Some(transaction_id))
            .filter_map(PhoneSession::matching_code)
            .take(MATCHING_CODES_MAX)
            .collect();
        let dispense_unknown = open.dispense_unknown;
        Some(PaymentView { matching_codes, dispense_unknown, ..PaymentView::of(&open.payment) })
    }

    /// When the engine wants [`Input::Tick`] at the latest.
    pub fn next_deadline(&self) -> Option<Moment> {
        let may_ask = self.background_requests_in_flight() < self.settings.background_requests_max;
        let payments = self.open.values().flat_map(|open| {
            let expiry = (open.payment.state == PaymentState::Offered).then_some(open.expires_at);
            // Who waits for its turn is asked about when an answer comes, or does not.
            let ask_at = open.ask_at.filter(|_| may_ask || !open.waits_its_turn());
            [expiry, ask_at, open.asking_until, open.working_at, open.dispense_until]
        });
        let phones = self.phones.values().map(|session| Some(session.deadline()));
        payments.chain(phones).flatten().min()
    }

    /// One step.
    pub fn handle(&mut self, now: Now, input: Input) -> Vec<Output> {
        match input {
            Input::PhoneConnected(phone) => self.phone_connected(now, phone),
            Input::PhoneWrote { phone, value_octets_max, value } => {
                self.phone_wrote(now, phone, value_octets_max, &value);
            }
            Input::PhoneDisconnected(phone) => {
                self.leaving.remove(&phone);
                self.phone_disconnected(phone);
            }
            Input::Till { call, request, stored } => self.till_called(now, call, request, stored),
            Input::Journalled(record) => self.release(record),
            Input::Loaded { phone, question, payment } => {
                self.loaded(phone, &question, payment.as_ref())
            }
            Input::Institution { transaction_id, answer } => {
                self.institution_answered(now, transaction_id, answer);
            }
            Input::Tick => {}
        }
        self.tick(now);
        std::mem::take(&mut self.outputs)
    }

    // ---- The journal's gate

    /// Writes a payment down as it is now.
    fn append(&mut self, transaction_id: TransactionId) {
        let Some(open) = self.open.get_mut(&transaction_id) else { return };
        self.last_record = RecordNumber(self.last_record.0 + 1);
        open.record = self.last_record;
        let payment = Box::new(open.payment.clone());
        self.outputs.push(Output::Append { record: self.last_record, payment });
    }

    /// Does something once the newest record of this payment is durable: at once if it is.
    fn after_record(&mut self, transaction_id: TransactionId, effect: Effect) {
        let record = self.open.get(&transaction_id).map_or(RecordNumber(0), |open| open.record);
        if record <= self.journalled {
            self.perform(effect);
        } else {
            self.withheld.push_back((record, effect));
        }
    }

    /// The journal has confirmed: what waited for it goes out, in the order in which it was
    /// decided.
    fn release(&mut self, record: RecordNumber) {
        self.journalled = self.journalled.max(record);
        let mut waiting = std::mem::take(&mut self.withheld);
        while let Some((needed, effect)) = waiting.pop_front() {
            if needed <= self.journalled {
                self.perform(effect);
            } else {
                self.withheld.push_back((needed, effect));
            }
        }
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Tell { phone, message } => self.tell(phone, &message),
            Effect::Emit(output) => self.outputs.push(output),
            Effect::ShowOffer(transaction_id) => self.show_offer(transaction_id),
            Effect::AwaitTill(transaction_id) => {
                if let Some(open) = self.open.get_mut(&transaction_id) {
                    open.till_told = open.payment.state == PaymentState::Approved;
                }
            }
            Effect::Forget(transaction_id) => {
                self.open.remove(&transaction_id);
            }
        }
    }

    /// Tells who watches how a payment is now, once that is durable. The view is taken now: by then
    /// the payment may be further than the journal.
    fn publish(&mut self, transaction_id: TransactionId) {
        if let Some(view) = self.view(transaction_id) {
            self.after_record(transaction_id, Effect::Emit(Output::Publish(view)));
        }
    }

    // ---- Payments

    /// The offer that waits for a phone, if there is one.
    fn waiting_offer(&self) -> Option<TransactionId> {
        self.open
            .iter()
            .find(|(_, open)| open.payment.state == PaymentState::Offered)
            .map(|(transaction_id, _)| *transaction_id)
    }

    /// Changes a payment's state, writes it down, and lines up what follows.
    fn move_to(
        &mut self,
        now: Now,
        transaction_id: TransactionId,
        next: PaymentState,
        receipt: Option<Vec<u8>>,
    ) {
        let Some(open) = self.open.get_mut(&transaction_id) else { return };
        let previous = open.payment.state;
        tracing::info!(%transaction_id, from = previous.name(), to = next.name(), reason = next.reason(), "payment");
        open.payment.state = next;
        open.payment.updated_at = now.wall;
        if receipt.is_some() {
            open.payment.receipt = receipt;
        }
        if matches!(next, PaymentState::Approved | PaymentState::Capturing) {
            // The record that says "approved" says "released" too: the till is told right after it
            // is durable.
            open.payment.released = true;
        }
        self.append(transaction_id);
        self.tell_bystanders(transaction_id, previous, next);
        self.enter(now, transaction_id);
        let payer = self.open.get(&transaction_id).and_then(|open| open.payer);
        if previous == PaymentState::Authorising
            && let Some(session) = payer.and_then(|phone| self.phones.get_mut(&phone))
        {
            session.held_since = now.moment;
        }
        if let Some((phone, message)) = payer.zip(self.reply_for_payer_state(transaction_id)) {
            self.after_record(transaction_id, Effect::Tell { phone, message });
        }
        self.publish(transaction_id);
        if next.is_final() {
            self.after_record(transaction_id, Effect::Forget(transaction_id));
        }
    }

    /// Sets the timers of a state that was just entered, or continued after a restart.
    fn enter(&mut self, now: Now, transaction_id: TransactionId) {
        let Some(open) = self.open.get_mut(&transaction_id) else { return };
        open.asking_until = None;
        open.asked = 0;
        open.working_at = None;
        open.ask_at = None;
        open.till_told = false;
        open.dispense_until = None;
        open.dispense_unknown = false;
        match open.payment.state {
            PaymentState::Authorising => {
                open.authorise_until = now.moment.plus_ms(self.settings.authorisation_timeout_ms);
                open.ask_at = Some(now.moment);
                open.working_at = Some(now.moment.plus_ms(self.settings.working_interval_ms));
            }
            PaymentState::Unresolved | PaymentState::Capturing | PaymentState::Reversing(_) => {
                open.ask_at = Some(now.moment);
            }
            PaymentState::Approved => {
                self.after_record(transaction_id, Effect::AwaitTill(transaction_id))
            }
            PaymentState::Offered
            | PaymentState::Captured
            | PaymentState::Reversed(_)
            | PaymentState::Declined(_)
            | PaymentState::NotCharged(_)
            | PaymentState::Cancelled
            | PaymentState::Expired => {}
        }
    }

    /// Power comes back to all of a fleet at once: who starts does not ask at once about what was
    /// open before.
    fn spread_first_asks(&mut self, now: Now) {
        let spread_ms = self.settings.retry_backoff_min_ms.saturating_add(1);
        for open in self.open.values_mut().filter(|open| open.ask_at.is_some()) {
            open.ask_at = Some(now.moment.plus_ms(self.random.next_u64() % spread_ms));
        }
    }

    /// Shows the till that nobody knows what became of the goods of an approved payment.
    fn ask_till_again(&mut self, transaction_id: TransactionId) {
        let Some(open) = self.open.get_mut(&transaction_id) else { return };
        if open.payment.state == PaymentState::Approved {
            tracing::warn!(%transaction_id, "the till has not said whether the goods were released; it is asked again");
            open.dispense_unknown = true;
            self.publish(transaction_id);
        }
    }

    /// What the phone that paid is told about a payment's state now.
    fn reply_for_payer_state(&self, transaction_id: TransactionId) -> Option<FromTerminal> {
        let open = self.open.get(&transaction_id)?;
        match open.payment.state {
            // It was told "approved" already, and "given back" is not true yet.
            PaymentState::Reversing(_) | PaymentState::Captured | PaymentState::Authorising => None,
            // Said on approval; capturing after a dispense says nothing new.
            PaymentState::Capturing if open.payment.capture_after_dispense => None,
            PaymentState::Offered
            | PaymentState::Unresolved
            | PaymentState::Approved
            | PaymentState::Capturing
            | PaymentState::Reversed(_)
            | PaymentState::Declined(_)
            | PaymentState::NotCharged(_)
            | PaymentState::Cancelled
            | PaymentState::Expired => reply_to_payer(&open.payment),
        }
    }

    /// Tells the phones that have the offer in front of them, and did not pay it, that it is gone.
    fn tell_bystanders(
        &mut self,
        transaction_id: TransactionId,
        previous: PaymentState,
        next: PaymentState,
    ) {
        if previous != PaymentState::Offered {
            return;
        }
        let message = match next {
            PaymentState::Cancelled => FromTerminal::Withdrawn(transaction_id),
            PaymentState::Expired => FromTerminal::Expired(transaction_id),
            PaymentState::Authorising
            | PaymentState::Offered
            | PaymentState::Unresolved
            | PaymentState::Approved
            | PaymentState::Capturing
            | PaymentState::Captured
            | PaymentState::Reversing(_)
            | PaymentState::Reversed(_)
            | PaymentState::Declined(_)
            | PaymentState::NotCharged(_) => FromTerminal::Taken(transaction_id),
        };
        let payer = self.open.get(&transaction_id).and_then(|open| open.payer);
        let bystanders: Vec<PhoneId> = self
            .phones
            .iter_mut()
            .filter(|(_, session)| session.shown == Some(transaction_id))
            .map(|(phone, session)| {
                session.shown = None;
                *phone
            })
            .filter(|phone| Some(*phone) != payer)
            .collect();
        for phone in bystanders {
            self.after_record(transaction_id, Effect::Tell { phone, message: message.clone() });
        }
    }

    /// How many of [`Settings::background_requests_max`] are taken.
    fn background_requests_in_flight(&self) -> usize {
        self.open
            .values()
            .filter(|open| open.asking_until.is_some() && open.waits_its_turn())
            .count()
    }

    /// Asks the institution what the payment's state calls for.
    fn ask(&mut self, now: Now, transaction_id: TransactionId) {
        let Some(open) = self.open.get_mut(&transaction_id) else { return };
        let mut timeout_ms = self.settings.request_timeout_ms;
        let request = match open.payment.state {
            PaymentState::Authorising => {
                let Some(sealed_command) = open.payment.sealed_command.clone() else { return };
                timeout_ms = open.authorise_until.since_ms(now.moment).max(1);
                InstitutionRequest::Authorise {
                    transaction_id,
                    offer: open.payment.offer.clone(),
                    offer_age_ms: now.moment.since_ms(open.offered_at),
                    sealed_command,
                }
            }
            PaymentState::Unresolved => InstitutionRequest::Inquire { transaction_id },
            PaymentState::Capturing => InstitutionRequest::Capture { transaction_id },
            PaymentState::Reversing(reason) => {
                InstitutionRequest::Reverse { transaction_id, reason }
            }
            PaymentState::Offered
            | PaymentState::Approved
            | PaymentState::Captured
            | PaymentState::Reversed(_)
            | PaymentState::Declined(_)
            | PaymentState::NotCharged(_)
            | PaymentState::Cancelled
            | PaymentState::Expired => return,
        };
        open.ask_at = None;
        open.asked = open.asked.saturating_add(1);
        open.asking_until = Some(now.moment.plus_ms(timeout_ms + ANSWER_GRACE_MS));
        self.after_record(transaction_id, Effect::Emit(Output::Ask { request, timeout_ms }));
    }

    fn institution_answered(
        &mut self,
        now: Now,
        transaction_id: TransactionId,
        answer: InstitutionAnswer,
    ) {
        let wait_ms = self.wait_before_asking_again(transaction_id);
        let Some(open) = self.open.get_mut(&transaction_id) else { return };
        open.asking_until = None;
        let state = open.payment.state;
        let verdict = on_institution(state, open.payment.capture_after_dispense, &answer);
        match verdict {
            Verdict::Ignore => {}
            Verdict::Move(next) => {
                let receipt = match answer {
                    InstitutionAnswer::Transaction { receipt, .. } => receipt,
                    InstitutionAnswer::NotSent { .. }
                    | InstitutionAnswer::Refused { .. }
                    | InstitutionAnswer::Unanswered { .. } => None,
                };
                self.move_to(now, transaction_id, next, receipt);
            }
            Verdict::AskAgain if state == PaymentState::Authorising => {
                let again_at = now.moment.plus_ms(NOT_SENT_RETRY_MS);
                if again_at < open.authorise_until {
                    open.ask_at = Some(again_at);
                } else {
                    let next = PaymentState::NotCharged(WireError::InstitutionUnreachable);
                    self.move_to(now, transaction_id, next, None);
                }
            }
            Verdict::AskAgain => {
                tracing::info!(%transaction_id, state = state.name(), wait_ms, ?answer, "the institution is asked again");
                open.ask_at = Some(now.moment.plus_ms(wait_ms));
            }
            Verdict::Disagree => {
                tracing::warn!(
                    %transaction_id, state = state.name(), wait_ms, ?answer,
                    "the institution's word does not fit; it is asked again, and an operator should look"
                );
                open.ask_at = Some(now.moment.plus_ms(wait_ms));
            }
        }
    }

    /// Doubling with every attempt, and spread out so that a fleet does not come back in step.
    fn wait_before_asking_again(&mut self, transaction_id: TransactionId) -> u64 {
        let asked = self.open.get(&transaction_id).map_or(1, |open| open.asked.max(1));
        let doubled = self.settings.retry_backoff_min_ms.saturating_mul(1 << (asked - 1).min(20));
        let wait_ms = doubled.min(self.settings.retry_backoff_max_ms);
        wait_ms / 2 + self.random.next_u64() % (wait_ms / 2 + 1)
    }

    // ---- Time

    fn tick(&mut self, now: Now) {
        let due: Vec<TransactionId> = self
            .open
            .iter()
            .filter(|(_, open)| open.is_due(now.moment))
            .map(|(transaction_id, _)| *transaction_id)
            .collect();
        for transaction_id in due {
            self.payment_due(now, transaction_id);
        }
        self.ask_in_turn(now);
        let silent: Vec<PhoneId> = self
            .phones
            .iter()
            .filter(|(_, session)| session.deadline() <= now.moment)
            .map(|(phone, _)| *phone)
            .collect();
        for phone in silent {
            self.tell(
                phone,
                &FromTerminal::Error(ProtocolError::new(WireError::TooSlow, "no word in time")),
            );
            self.disconnect(phone, "it said nothing in time");
        }
        self.set_pace();
    }

    /// Slows down only when no phone is here: to change an advertisement takes BlueZ about as long
    /// as a payment's messages.
    fn set_pace(&mut self) {
        let pace = if self.waiting_offer().is_some() {
            AdvertisingPace::Fast
        } else if self.phones.is_empty() {
            AdvertisingPace::Slow
        } else {
            self.pace
        };
        if pace != self.pace {
            self.pace = pace;
            self.outputs.push(Output::Advertise(pace));
        }
    }

    /// Asks about as many older payments as there is room for, those first that have waited
    /// longest: otherwise the same few, time and again, would keep all others from ever being
    /// asked about.
    fn ask_in_turn(&mut self, now: Now) {
        let room = self
            .settings
            .background_requests_max
            .saturating_sub(self.background_requests_in_flight());
        if room == 0 {
            return;
        }
        let mut waiting: Vec<(Moment, TransactionId)> = self
            .open
            .iter()
            .filter(|(_, open)| open.waits_its_turn())
            .filter_map(|(transaction_id, open)| Some((open.ask_at?, *transaction_id)))
            .filter(|(ask_at, _)| *ask_at <= now.moment)
            .collect();
        if waiting.len() > room {
            waiting.select_nth_unstable(room);
            waiting.truncate(room);
        }
        waiting.sort_unstable();
        for (_, transaction_id) in waiting {
            self.ask(now, transaction_id);
        }
    }

    fn payment_due(&mut self, now: Now, transaction_id: TransactionId) {
        let Some(open) = self.open.get_mut(&transaction_id) else { return };
        let moment = now.moment;
        if std::mem::take(&mut open.till_told) {
            open.dispense_until = Some(moment.plus_ms(self.settings.dispense_timeout_ms));
        }
        if open.payment.state == PaymentState::Offered && open.expires_at <= moment {
            return self.move_to(now, transaction_id, PaymentState::Expired, None);
        }
        if open.dispense_until.is_some_and(|until| until <= moment) {
            open.dispense_until = None;
            return match on_dispense_timeout(open.payment.state, self.settings.dispense_policy) {
                Some(next) => self.move_to(now, transaction_id, next, None),
                None => self.ask_till_again(transaction_id),
            };
        }
        if open.asking_until.is_some_and(|until| until <= moment) {
            let detail = "the relay did not report in time".to_owned();
            return self.institution_answered(
                now,
                transaction_id,
                InstitutionAnswer::Unanswered { detail },
            );
        }
        if open.working_at.is_some_and(|at| at <= moment) {
            open.working_at = Some(moment.plus_ms(self.settings.working_interval_ms));
            if let Some(phone) = open.payer {
                self.after_record(
                    transaction_id,
                    Effect::Tell { phone, message: FromTerminal::Working },
                );
            }
        }
        let Some(open) = self.open.get(&transaction_id) else { return };
        if !open.waits_its_turn() && open.ask_at.is_some_and(|at| at <= moment) {
            self.ask(now, transaction_id);
        }
    }

    // ---- The till

    fn till_called(
        &mut self,
        now: Now,
        call: TillCallId,
        request: TillRequest,
        stored: Option<Payment>,
    ) {
        let result = match &request {
            TillRequest::Create(content) => self.create(now, content, stored),
            TillRequest::Complete { transaction_id, .. }
            | TillRequest::Cancel { transaction_id } => {
                self.till_decides(now, *transaction_id, &request, stored)
            }
        };
        // A refusal says how a payment stands, too, so it waits for that payment's record as every
        // other word does.
        let about = match (&request, &result) {
            (
                TillRequest::Complete { transaction_id, .. }
                | TillRequest::Cancel { transaction_id },
                _,
            ) => Some(*transaction_id),
            (TillRequest::Create(_), Ok(view)) => Some(view.transaction_id),
            (
                TillRequest::Create(_),
                Err(TillRefusal::OfferWaiting(id) | TillRefusal::KeyReused(id)),
            ) => Some(*id),
            (TillRequest::Create(_), Err(_)) => None,
        };
        let output = Output::AnswerTill { call, answer: result };
        match about {
            Some(transaction_id) => self.after_record(transaction_id, Effect::Emit(output)),
            None => self.outputs.push(output),
        }
    }

    fn create(
        &mut self,
        now: Now,
        request: &PaymentRequest,
        stored: Option<Payment>,
    ) -> Result<PaymentView, TillRefusal> {
        let invalid = |what: &dyn ToString| TillRefusal::Invalid(what.to_string());
        let mut offer = Offer {
            transaction_id: TransactionId::from_random([0; 16]),
            terminal_id: self.identity.terminal_id(),
            merchant_name: self.identity.certificate.merchant_name.clone(),
            amount: request.amount,
            valid_for_s: request.valid_for_s.unwrap_or(self.settings.valid_for_s),
            nonce: [0; 16],
            reference: request.reference.clone(),
            items: request.items.clone(),
            capture_after_dispense: request.capture_after_dispense,
        }
        .check()
        .map_err(|error| invalid(&error))?;
        // The offer without what is drawn at random is what the till asked for.
        let content: [u8; 32] = Sha256::digest(encode_offer(&offer)).into();
        if let Some(key) = &request.idempotency_key {
            if key.is_empty() || key.len() > IDEMPOTENCY_KEY_OCTETS_MAX {
                let expected = format!("idempotency_key: 1 to {IDEMPOTENCY_KEY_OCTETS_MAX} octets");
                return Err(invalid(&expected));
            }
            let same_key = |payment: &&Payment| {
                payment.idempotency.as_ref().is_some_and(|(stored, _)| stored == key)
            };
            let open = self.open.values().map(|open| &open.payment).find(same_key);
            if let Some(payment) = open.or(stored.as_ref().filter(same_key)) {
                return match &payment.idempotency {
                    Some((_, digest)) if *digest == content => Ok(self
                        .view(payment.transaction_id)
                        .unwrap_or_else(|| PaymentView::of(payment))),
                    _ => Err(TillRefusal::KeyReused(payment.transaction_id)),
                };
            }
        }
        if let Some(waiting) = self.waiting_offer() {
            return Err(TillRefusal::OfferWaiting(waiting));
        }
        if self.open.len() >= self.settings.open_max {
            return Err(TillRefusal::TooManyOpen(self.settings.open_max));
        }
        let mut random = [0; 16];
        self.random.fill_bytes(&mut random);
        self.random.fill_bytes(&mut offer.nonce);
        offer.transaction_id = TransactionId::from_random(random);
        let transaction_id = offer.transaction_id;
        let payment = Payment {
            transaction_id,
            state: PaymentState::Offered,
            amount: offer.amount,
            reference: offer.reference.clone(),
            capture_after_dispense: offer.capture_after_dispense,
            offer: encode_offer(&offer),
            sealed_command: None,
            receipt: None,
            released: false,
            idempotency: request.idempotency_key.clone().map(|key| (key, content)),
            created_at: now.wall,
            updated_at: now.wall,
        };
        tracing::info!(%transaction_id, amount = %payment.amount, "payment offered");
        let view = PaymentView::of(&payment);
        self.open.insert(transaction_id, Open::new(payment, now.moment));
        self.append(transaction_id);
        self.publish(transaction_id);
        self.after_record(transaction_id, Effect::ShowOffer(transaction_id));
        Ok(view)
    }

    fn till_decides(
        &mut self,
        now: Now,
        transaction_id: TransactionId,
        request: &TillRequest,
        stored: Option<Payment>,
    ) -> Result<PaymentView, TillRefusal> {
        let open = self.open.get(&transaction_id).map(|open| open.payment.clone());
        let payment = open.or(stored).ok_or(TillRefusal::Unknown(transaction_id))?;
        let next = on_till(payment.state, payment.capture_after_dispense, request).map_err(
            |explanation| TillRefusal::WrongState { state: payment.state.name(), explanation },
        )?;
        if let Some(next) = next {
            self.move_to(now, transaction_id, next, None);
        }
        Ok(self.view(transaction_id).unwrap_or_else(|| PaymentView::of(&payment)))
    }

    // ---- Phones

    fn phone_connected(&mut self, now: Now, phone: PhoneId) {
        if self.phones.contains_key(&phone) || self.leaving.contains(&phone) {
            return;
        }
        self.phones.insert(phone, PhoneSession::new(now.moment, &self.settings));
        if self.phones.len() > self.settings.phones_max {
            // The newcomer has not stayed long enough to be the one.
            let leaves = phone_to_evict(self.slots(), now.moment, self.settings.stay_min_ms)
                .unwrap_or(phone);
            let busy = ProtocolError::new(WireError::Busy, "too many phones");
            self.tell(leaves, &FromTerminal::Error(busy));
            self.disconnect(
                leaves,
                if leaves == phone { "too many phones" } else { "its place is needed" },
            );
        }
    }

    fn slots(&self) -> impl Iterator<Item = Slot> {
        let payers: BTreeSet<PhoneId> = self
            .open
            .values()
            .filter(|open| open.payment.state == PaymentState::Authorising)
            .filter_map(|open| open.payer)
            .collect();
        self.phones.iter().map(move |(phone, session)| Slot {
            phone: *phone,
            held_since: session.held_since,
            is_paying: payers.contains(phone),
        })
    }

    fn phone_disconnected(&mut self, phone: PhoneId) {
        if let Some(shown) = self.phones.remove(&phone).and_then(|session| session.shown) {
            self.publish(shown);
        }
        for open in self.open.values_mut().filter(|open| open.payer == Some(phone)) {
            open.payer = None;
        }
    }

    fn disconnect(&mut self, phone: PhoneId, reason: &'static str) {
        self.phone_disconnected(phone);
        self.leaving.insert(phone);
        if self.leaving.len() > LEAVING_MAX {
            self.leaving.pop_first();
        }
        self.outputs.push(Output::Disconnect { phone, reason });
    }

    /// Says something to a phone, if it is still there.
    fn tell(&mut self, phone: PhoneId, message: &FromTerminal) {
        let Some(session) = self.phones.get_mut(&phone) else { return };
        let values = session.say(message);
        self.outputs.extend(values.into_iter().map(|value| Output::Notify { phone, value }));
    }

    fn phone_wrote(&mut self, now: Now, phone: PhoneId, value_octets_max: usize, value: &[u8]) {
        // A write can overtake the news of its connection.
        self.phone_connected(now, phone);
        let Some(session) = self.phones.get_mut(&phone) else { return };
        if !session.may_write(now.moment) {
            return self.dismiss(phone, "too many values");
        }
        let received = session.receive(value, value_octets_max);
        session.set_message_deadline(now.moment, self.settings.message_timeout_ms);
        let is_message = matches!(received, Ok(Received::Hello { .. } | Received::Message(_)));
        if is_message && !session.may_say(now.moment) {
            return self.dismiss(phone, "too many messages");
        }
        let result = match received {
            Ok(Received::Fragment) => Ok(()),
            Ok(Received::Hello { message, tag }) => {
                self.phone_said_hello(now, phone, &message, tag)
            }
            Ok(Received::Message(message)) => {
                session.heard_until = now.moment.plus_ms(self.settings.silence_timeout_ms);
                self.phone_said(now, phone, message)
            }
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            self.phone_faulted(phone, error);
        }
    }

    /// Ends the connection of a phone that does too much of something.
    fn dismiss(&mut self, phone: PhoneId, reason: &'static str) {
        self.tell(
            phone,
            &FromTerminal::Error(ProtocolError::new(WireError::TooManyAttempts, reason)),
        );
        self.disconnect(phone, reason);
    }

    /// Tells the phone what was wrong, and ends the connection of one that does not learn.
    fn phone_faulted(&mut self, phone: PhoneId, error: ProtocolError) {
        tracing::debug!(?phone, %error, "a phone's mistake");
        self.tell(phone, &FromTerminal::Error(error));
        let Some(session) = self.phones.get_mut(&phone) else { return };
        session.faults += 1;
        // Without its channel it has no offer before it any more, and no matching code.
        let lost = if session.is_open() { None } else { session.shown.take() };
        if session.faults >= self.settings.faults_max {
            self.dismiss(phone, "too many mistakes");
        }
        if let Some(lost) = lost {
            self.publish(lost);
        }
    }

    fn phone_said_hello(
        &mut self,
        now: Now,
        phone: PhoneId,
        message: &[u8],
        tag: FragmentTag,
    ) -> Result<(), ProtocolError> {
        let waiting = self
            .waiting_offer()
            .and_then(|id| self.open.get(&id))
            .filter(|open| open.record <= self.journalled && open.expires_at > now.moment)
            .map(|open| (open.payment.transaction_id, open.payment.offer.clone()));
        let open_ids: Vec<TransactionId> = self.open.keys().copied().collect();
        let mut ephemeral = [0; 32];
        self.random.fill_bytes(&mut ephemeral);
        let Some(session) = self.phones.get_mut(&phone) else { return Ok(()) };
        session.hellos += 1;
        if session.hellos > self.settings.hellos_max {
            self.dismiss(phone, "too many hellos on this connection");
            return Ok(());
        }
        let mut shown = None;
        let first = |hello: &Hello| match (hello.transaction_id, waiting) {
            (None, None) => FromTerminal::NothingToPay,
            (Some(wanted), Some((id, offer))) if wanted == id => {
                shown = Some(id);
                FromTerminal::Offer(offer)
            }
            (None, Some((id, offer))) => {
                shown = Some(id);
                FromTerminal::Offer(offer)
            }
            (Some(wanted), _) if open_ids.contains(&wanted) => FromTerminal::Taken(wanted),
            (Some(wanted), _) => FromTerminal::Error(ProtocolError::new(
                WireError::TransactionUnknown,
                format!("no offer {wanted} waits here"),
            )),
        };
        let was_shown = session.shown;
        let result =
            session.answer_hello(message, tag, &self.identity, ephemeral, first).map(|values| {
                session.shown = shown;
                session.heard_until = now.moment.plus_ms(self.settings.silence_timeout_ms);
                self.outputs
                    .extend(values.into_iter().map(|value| Output::Notify { phone, value }));
            });
        // The code of the channel before is gone, whatever came of the hello.
        let changed: BTreeSet<TransactionId> = was_shown.into_iter().chain(session.shown).collect();
        for transaction_id in changed {
            self.publish(transaction_id);
        }
        result
    }

    /// Shows a new offer to every phone that waits for one.
    fn show_offer(&mut self, transaction_id: TransactionId) {
        let Some(open) = self.open.get(&transaction_id) else { return };
        if open.payment.state != PaymentState::Offered {
            return;
        }
        let message = FromTerminal::Offer(open.payment.offer.clone());
        let waiting: Vec<PhoneId> = self
            .phones
            .iter_mut()
            .filter(|(_, session)| {
                session.is_open()
                    && session.shown.is_none()
                    && session.wanted.is_none_or(|wanted| wanted == transaction_id)
                    && session.refused != Some(transaction_id)
            })
            .map(|(phone, session)| {
                session.shown = Some(transaction_id);
                *phone
            })
            .collect();
        for phone in &waiting {
            self.tell(*phone, &message);
        }
        if !waiting.is_empty() {
            self.publish(transaction_id);
        }
    }

    fn phone_said(
        &mut self,
        now: Now,
        phone: PhoneId,
        message: FromPhone,
    ) -> Result<(), ProtocolError> {
        match message {
            FromPhone::PaymentCommand { transaction_id, sealed_command } => {
                self.phone_pays(now, phone, transaction_id, sealed_command)
            }
            FromPhone::ResultQuery { transaction_id, command_digest } => {
                self.phone_asks(
                    phone,
                    PhoneQuestion { transaction_id, command_digest, is_command: false },
                );
                Ok(())
            }
            FromPhone::Cancel { transaction_id } => {
                let Some(session) = self.phones.get_mut(&phone) else { return Ok(()) };
                if session.shown == Some(transaction_id) {
                    session.shown = None;
                    session.refused = Some(transaction_id);
                    self.publish(transaction_id);
                }
                self.tell(phone, &FromTerminal::NothingToPay);
                Ok(())
            }
            FromPhone::ReceiptAck { transaction_id } => {
                tracing::debug!(?phone, %transaction_id, "the phone has its receipt");
                Ok(())
            }
        }
    }

    /// The first valid command wins.
    fn phone_pays(
        &mut self,
        now: Now,
        phone: PhoneId,
        transaction_id: TransactionId,
        sealed_command: Vec<u8>,
    ) -> Result<(), ProtocolError> {
        if sealed_command.len() > SEALED_COMMAND_OCTETS_MAX {
            let detail = format!("a sealed command of {} octets", sealed_command.len());
            return Err(ProtocolError::new(WireError::MessageTooLong, detail));
        }
        SealedCommand::decode(&sealed_command)
            .map_err(|error| ProtocolError::new(WireError::MalformedMessage, error))?;
        let was_shown =
            self.phones.get(&phone).is_some_and(|session| session.shown == Some(transaction_id));
        let Some(open) = self.open.get_mut(&transaction_id).filter(|open| {
            was_shown && open.payment.state == PaymentState::Offered && open.expires_at > now.moment
        }) else {
            let command_digest = SealedCommand::digest_of_encoded(&sealed_command);
            self.phone_asks(
                phone,
                PhoneQuestion { transaction_id, command_digest, is_command: true },
            );
            return Ok(());
        };
        open.payment.sealed_command = Some(sealed_command);
        open.payer = Some(phone);
        self.move_to(now, transaction_id, PaymentState::Authorising, None);
        Ok(())
    }

    fn phone_asks(&mut self, phone: PhoneId, question: PhoneQuestion) {
        let Some(open) = self.open.get_mut(&question.transaction_id) else {
            self.outputs.push(Output::Load { phone, question });
            return;
        };
        let message = reply_about(&open.payment, &question);
        if is_own(&open.payment, &question) {
            // It came back on another connection: what follows is for it.
            open.payer = Some(phone);
        }
        self.after_record(question.transaction_id, Effect::Tell { phone, message });
    }

    fn loaded(&mut self, phone: PhoneId, question: &PhoneQuestion, payment: Option<&Payment>) {
        let message = match payment {
            Some(payment) => reply_about(payment, question),
            None => unknown(),
        };
        self.tell(phone, &message);
    }
}

impl Open {
    fn new(payment: Payment, now: Moment) -> Self {
        // An offer of our own always decodes; one that did not would be good for nothing.
        let valid_for_s = decode_offer(&payment.offer).map_or(0, |offer| offer.valid_for_s);
        Self {
            payment,
            record: RecordNumber(0),
            offered_at: now,
            expires_at: now.plus_ms(u64::from(valid_for_s) * 1000),
            payer: None,
            asking_until: None,
            ask_at: None,
            asked: 0,
            authorise_until: now,
            working_at: None,
            till_told: false,
            dispense_until: None,
            dispense_unknown: false,
        }
    }

    /// Nobody stands before the machine for it: it is asked about when there is room, in its turn.
    fn waits_its_turn(&self) -> bool {
        self.payment.state != PaymentState::Authorising
    }

    /// Is there something to do, other than to ask in its turn?
    fn is_due(&self, now: Moment) -> bool {
        let is_past = |at: Option<Moment>| at.is_some_and(|at| at <= now);
        (self.payment.state == PaymentState::Offered && self.expires_at <= now)
            || (!self.waits_its_turn() && is_past(self.ask_at))
            || is_past(self.asking_until)
            || is_past(self.working_at)
            || is_past(self.dispense_until)
            || self.till_told
    }
}

fn unknown() -> FromTerminal {
    FromTerminal::Error(ProtocolError::new(
        WireError::TransactionUnknown,
        "no such payment of this phone",
    ))
}

/// Is the one who asks the one who sent the command?
fn is_own(payment: &Payment, question: &PhoneQuestion) -> bool {
    payment
        .sealed_command
        .as_ref()
        .is_some_and(|command| SealedCommand::digest_of_encoded(command) == question.command_digest)
}

/// What a phone is told that asks about a payment, or sends a command for one that is not open to
/// it.
fn reply_about(payment: &Payment, question: &PhoneQuestion) -> FromTerminal {
    if is_own(payment, question) {
        return reply_to_payer(payment).unwrap_or_else(unknown);
    }
    if !question.is_command {
        return unknown();
    }
    match payment.state {
        PaymentState::Cancelled => FromTerminal::Withdrawn(payment.transaction_id),
        PaymentState::Expired | PaymentState::Offered => {
            FromTerminal::Expired(payment.transaction_id)
        }
        PaymentState::Authorising
        | PaymentState::Unresolved
        | PaymentState::Approved
        | PaymentState::Capturing
        | PaymentState::Captured
        | PaymentState::Reversing(_)
        | PaymentState::Reversed(_)
        | PaymentState::Declined(_)
        | PaymentState::NotCharged(_) => FromTerminal::Taken(payment.transaction_id),
    }
}

/// What the phone that sent the command is told.
fn reply_to_payer(payment: &Payment) -> Option<FromTerminal> {
    let transaction_id = payment.transaction_id;
    match (payment.state.outcome(), payment.state) {
        (Some(outcome), _) => {
            // A payment that is to be reversed may hold the receipt of its approval: nobody must
            // see it as paid.
            let receipt = payment.receipt.clone().filter(|_| outcome != Outcome::Pending);
            Some(FromTerminal::Result { transaction_id, outcome, receipt })
        }
        (None, PaymentState::NotCharged(wire)) => {
            Some(FromTerminal::Error(ProtocolError::new(wire, "nobody was charged")))
        }
        (None, PaymentState::Authorising) => Some(FromTerminal::Working),
        (None, _) => None,
    }
}
