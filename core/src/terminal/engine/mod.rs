//! The engine: inputs in, outputs out.
//!
//! A step that changes a payment emits [`Output::Append`] and holds the effects of the change back;
//! when the journal has confirmed the record ([`Input::Journalled`]), the effects are emitted. So
//! the effects of a payment never run ahead of its record, and a crash at any point leaves nothing
//! done that the journal does not know of.
//!
//! This file takes inputs, keeps deadlines and carries out effects. What happens to payments and
//! phones is in the files beside it.

mod payments;
mod phone_messages;
mod phones;
mod reoffers;
mod requests;
mod till_calls;

use std::collections::{BTreeMap, BTreeSet};

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use super::addresses::Addresses;
use super::gate::Gate;
use super::open_payment::OpenPayment;
use super::phone_session::PhoneSession;
use super::token_bucket::TokenBucket;
use super::transition::on_restart;
use super::{
    AdvertisingPace, Deadline, DeadlinePurpose, Identity, Input, Now, OpenPayments, Output,
    Payment, PaymentState, PaymentView, PhoneId, PhoneTimer, RecordNumber, Settings,
};
use crate::domain::{TransactionId, UnixTime};
use crate::protocol::FromTerminal;

/// The most matching codes that a till is told: no more phones stand before one machine.
const MATCHING_CODES_MAX: usize = 8;

/// The terminal: every open payment and every connected phone.
#[derive(Debug)]
pub struct Terminal {
    identity: Identity,
    settings: Settings,
    random: ChaCha20Rng,
    /// What the clocks said at the input that is being handled.
    now: Now,
    open: BTreeMap<TransactionId, OpenPayment>,
    phones: BTreeMap<PhoneId, PhoneSession>,
    addresses: Addresses,
    /// Phones that the engine has disconnected and the link has not reported as gone. What they
    /// still write is ignored.
    leaving: BTreeSet<PhoneId>,
    gate: Gate<Effect>,
    outputs: Vec<Output>,
    pace: AdvertisingPace,
    /// How many more offers may be made again, of all sales.
    reoffers: TokenBucket,
}

/// What follows a record. A message is sealed only when it leaves, because the channel numbers
/// messages.
#[derive(Debug)]
enum Effect {
    Send {
        phone: PhoneId,
        message: FromTerminal,
    },
    Emit(Output),
    /// The payment is final and durable: memory need not hold it any more.
    Forget(TransactionId),
    /// The offer is durable: show it to every phone that waits for one.
    ShowOffer(TransactionId),
    /// The approval is durable and the till is told: its time to report on the goods begins.
    AwaitDispense(TransactionId),
    /// The phone has its answer and is disconnected.
    TurnAway {
        phone: PhoneId,
        reason: &'static str,
    },
}

impl Terminal {
    /// A terminal that continues the open payments of its journal, and what it wants done at once.
    /// `seed` is 32 fresh random octets.
    pub fn new(
        identity: Identity,
        settings: Settings,
        seed: [u8; 32],
        open: Vec<Payment>,
        now: Now,
    ) -> (Self, Vec<Output>) {
        let reoffers =
            TokenBucket::new(settings.reoffers_burst_max, settings.reoffers_per_s, now.moment);
        let mut terminal = Self {
            identity,
            settings,
            random: ChaCha20Rng::from_seed(seed),
            now,
            open: BTreeMap::new(),
            phones: BTreeMap::new(),
            addresses: Addresses::default(),
            leaving: BTreeSet::new(),
            gate: Gate::new(),
            outputs: vec![Output::Advertise(AdvertisingPace::Slow)],
            pace: AdvertisingPace::Slow,
            reoffers,
        };
        for payment in open {
            terminal.resume(payment);
        }
        terminal.spread_first_requests();
        terminal.tick();
        let outputs = std::mem::take(&mut terminal.outputs);
        (terminal, outputs)
    }

    /// Continues a payment of the journal.
    fn resume(&mut self, payment: Payment) {
        let (transaction_id, state) = (payment.transaction_id, payment.state);
        self.open.insert(transaction_id, OpenPayment::resumed(payment, self.now.moment));
        let next = on_restart(state);
        if next != state {
            return self.move_to(transaction_id, next, None);
        }
        self.start_state(transaction_id);
        if state == PaymentState::Approved {
            self.publish_dispense_unknown(transaction_id);
        }
    }

    /// Handles one input, and returns what is to be done, in order.
    pub fn handle(&mut self, now: Now, input: Input) -> Vec<Output> {
        self.now = now;
        match input {
            Input::PhoneConnected { phone, address } => self.phone_connected(phone, address),
            Input::PhoneWrote { phone, value_octets_max, value } => {
                self.phone_wrote(phone, value_octets_max, &value);
            }
            Input::PhoneDisconnected(phone) => {
                self.leaving.remove(&phone);
                self.phone_disconnected(phone);
            }
            Input::Till { call, request, stored } => self.till_called(call, request, stored),
            Input::Journalled(record) => {
                for effect in self.gate.confirm(record) {
                    self.perform(effect);
                }
            }
            Input::Loaded { phone, question, payment } => {
                self.loaded(phone, &question, payment.as_ref());
            }
            Input::Institution { transaction_id, answer } => {
                self.institution_answered(transaction_id, answer);
            }
            Input::Tick => {}
        }
        self.tick();
        std::mem::take(&mut self.outputs)
    }

    /// When the engine wants [`Input::Tick`] at the latest, and what for.
    pub fn next_deadline(&self) -> Option<Deadline> {
        // A request in the background that finds no room is sent when one in flight ends.
        let has_background_room = self.background_room() > 0;
        let payments = self.open.iter().flat_map(|(transaction_id, open)| {
            open.timers(has_background_room).map(|(timer, moment)| {
                let (transaction_id, state) = (*transaction_id, open.payment.state);
                let purpose = DeadlinePurpose::Payment { transaction_id, state, timer };
                Deadline { moment, purpose }
            })
        });
        let phones = self.phones.iter().map(|(phone, session)| {
            let (moment, timer) = session.deadline();
            Deadline { moment, purpose: DeadlinePurpose::Phone { phone: *phone, timer } }
        });
        let slot = self.next_slot().map(|(moment, phone)| {
            let timer = PhoneTimer::SlotHold;
            Deadline { moment, purpose: DeadlinePurpose::Phone { phone, timer } }
        });
        payments.chain(phones).chain(slot).min_by_key(|deadline| deadline.moment)
    }

    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The number of open payments.
    pub fn open_count(&self) -> usize {
        self.open.len()
    }

    /// The open payments in figures: their states, their ages, and which need an operator.
    pub fn open_payments(&self, now: UnixTime) -> OpenPayments {
        let payments = self.open.values().map(|open| &open.payment);
        OpenPayments::of(payments, now, self.settings.escalate_after_s)
    }

    /// The number of connected phones.
    pub fn phone_count(&self) -> usize {
        self.phones.len()
    }

    /// An open payment as its till may see it. `transaction_id` is any id of the sale.
    pub fn view(&self, transaction_id: TransactionId) -> Option<PaymentView> {
        let transaction_id = self.newest_of_sale(transaction_id);
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

    /// Does what is due. Runs at the end of every step.
    fn tick(&mut self) {
        let now = self.now.moment;
        let due: Vec<TransactionId> = self
            .open
            .iter()
            .filter(|(_, open)| open.is_due(now))
            .map(|(transaction_id, _)| *transaction_id)
            .collect();
        for transaction_id in due {
            self.payment_due(transaction_id);
        }
        self.send_background_requests();
        self.dismiss_silent_phones();
        self.give_away_slots();
        self.update_pace();
    }

    /// Writes a payment as it is now to the journal.
    fn append(&mut self, transaction_id: TransactionId) {
        let Some(open) = must_be_open(&mut self.open, transaction_id) else { return };
        open.record = self.gate.append();
        let payment = Box::new(open.payment.clone());
        self.outputs.push(Output::Append { record: open.record, payment });
    }

    /// Carries out an effect once the newest record of this payment is durable: at once if it is.
    fn after_record(&mut self, transaction_id: TransactionId, effect: Effect) {
        // The journal holds the final record of a payment that is not open.
        let record =
            self.open.get(&transaction_id).map_or_else(RecordNumber::default, |open| open.record);
        if let Some(effect) = self.gate.hold(effect, record) {
            self.perform(effect);
        }
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Send { phone, message } => self.send(phone, &message),
            Effect::Emit(output) => self.outputs.push(output),
            Effect::Forget(transaction_id) => {
                self.open.remove(&transaction_id);
            }
            Effect::ShowOffer(transaction_id) => self.show_offer(transaction_id),
            Effect::AwaitDispense(transaction_id) => self.await_dispense(transaction_id),
            Effect::TurnAway { phone, reason } => {
                if self.phones.contains_key(&phone) {
                    self.turn_away(phone, reason);
                }
            }
        }
    }

    /// Tells whoever watches a payment how it is now, once that is durable. The view is taken now,
    /// because the payment may have changed again by then.
    fn publish(&mut self, transaction_id: TransactionId) {
        if self.open.get(&transaction_id).is_some_and(|open| open.is_superseded) {
            return;
        }
        if let Some(view) = self.view(transaction_id) {
            self.after_record(transaction_id, Effect::Emit(Output::Publish(view)));
        }
    }
}

/// A payment of which the caller knows that it is open.
fn must_be_open(
    open: &mut BTreeMap<TransactionId, OpenPayment>,
    transaction_id: TransactionId,
) -> Option<&mut OpenPayment> {
    let payment = open.get_mut(&transaction_id);
    debug_assert!(payment.is_some(), "payment {transaction_id} is not open");
    payment
}
