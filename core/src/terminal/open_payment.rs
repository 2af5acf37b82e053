//! An open payment: the journal's record of it, its timers, and what only the running engine knows.
//!
//! It knows which request its state calls for. It decides on no state and has no effects; both are
//! the engine's business.

use std::collections::BTreeMap;

use super::answer_check::ProvenTransaction;
use super::timers::{Timer, TimerTable};
use super::{
    InstitutionRequest, JournalledCommand, Payment, PaymentState, PhoneId, RecordNumber, Settings,
    StoreGeneration, TransactionState,
};
use crate::domain::{CommandDigest, Moment, ReversalReason};

/// How much longer than its own time-out a request may stay without an answer before the engine
/// counts it as unanswered.
const ANSWER_GRACE_MS: u64 = 2_000;
/// After how many restarts the till still has its full time to report on the goods.
pub const RESTARTS_WITH_FULL_TIME: u32 = 8;
/// The retry backoff of an authorisation that was not sent: a person waits for it.
const AUTHORISATION_RETRY_BACKOFF_MS: u64 = 500;

/// A payment that is not final, or whose final record the journal has not confirmed yet.
#[derive(Debug)]
pub(super) struct OpenPayment {
    pub(super) payment: Payment,
    /// The payment's newest record. Its effects wait for it.
    pub(super) record: RecordNumber,
    /// When this run of the engine made the offer, or read the payment from the journal.
    opened_at: Moment,
    /// Since when the payment has been in its state.
    state_since: Moment,
    /// When the offer ends. None if an earlier run of the engine made it.
    offer_ends_at: Option<Moment>,
    /// How often this sale was offered again before this offer.
    pub(super) reoffers: u32,
    /// The sale was offered again, so the till is told of the newer payment instead.
    pub(super) is_superseded: bool,
    /// The phone that sent the command, while it is connected.
    pub(super) payer: Option<PhoneId>,
    timers: TimerTable,
    /// How many requests were sent to the institution in this state.
    pub(super) attempts: u32,
    /// The till has not reported whether the goods were released: its time is over, or the terminal
    /// was restarted meanwhile.
    pub(super) dispense_unknown: bool,
    /// The till's time is over, and the terminal inquires before it gives the amount back.
    inquires_before_reversal: bool,
    /// A request in this state may have left for the institution, and it is not the one in flight.
    has_left: bool,
    /// What the institution proved that contradicts the journal. None in it: what it showed proves
    /// nothing.
    pub(super) dispute: Option<Option<ProvenTransaction>>,
    /// The next request in this state inquires: the last one was refused, and nobody knows why.
    pub(super) inquires_next: bool,
    /// What is still asked about a payment that has ended: for the proof that a command was not
    /// used, or because the institution may have lost the payment.
    pub(super) proof: Option<ProofStep>,
    /// Phones that sent a command that was not accepted, and wait for the proof of it.
    pub(super) claimants: BTreeMap<PhoneId, CommandDigest>,
}

/// What the terminal still asks the institution about a payment that has ended here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ProofStep {
    /// What does the institution know? The journal may be older than the payment.
    Inquiry,
    /// Nothing: a reversal leaves a tombstone.
    Tombstone,
    /// The institution's store has a new life, and may have lost the payment.
    Presentation,
}

impl OpenPayment {
    /// A payment whose offer was made now.
    pub(super) fn offered(payment: Payment, now: Moment, valid_for_s: u32) -> Self {
        let mut open = Self::resumed(payment, now);
        let ends_at = now.plus_ms(u64::from(valid_for_s) * 1000);
        open.offer_ends_at = Some(ends_at);
        open.timers.set(Timer::OfferExpiry, ends_at);
        open
    }

    /// A payment that the journal held when the engine started. No timer is set.
    pub(super) fn resumed(payment: Payment, now: Moment) -> Self {
        Self {
            payment,
            record: RecordNumber::default(),
            opened_at: now,
            state_since: now,
            offer_ends_at: None,
            reoffers: 0,
            is_superseded: false,
            payer: None,
            timers: TimerTable::default(),
            attempts: 0,
            dispense_unknown: false,
            inquires_before_reversal: false,
            // The process before this one may have sent anything.
            has_left: true,
            dispute: None,
            inquires_next: false,
            proof: None,
            claimants: BTreeMap::new(),
        }
    }

    /// Takes note that the payment enters another state: no request of it has left.
    pub(super) fn forget_requests(&mut self) {
        self.has_left = false;
    }

    /// A phone that waits for a proof turns out to have sent the command that was used.
    pub(super) fn adopt_payer(&mut self) {
        let Some(command_digest) = self.payment.command_digest() else { return };
        let payer = self.claimants.iter().find(|(_, digest)| **digest == command_digest);
        if let Some((phone, _)) = payer {
            let phone = *phone;
            self.claimants.remove(&phone);
            self.payer = Some(phone);
        }
    }

    /// For how many more whole seconds the offer would have been good. 0 after a restart: nobody
    /// knows how old the offer is then.
    pub(super) fn offer_remaining_s(&self, now: Moment) -> u32 {
        let remaining_ms = self.offer_ends_at.map_or(0, |ends_at| ends_at.since_ms(now));
        u32::try_from(remaining_ms / 1000).unwrap_or(u32::MAX)
    }

    /// A command for the offer can still be accepted.
    pub(super) fn is_payable(&self, now: Moment) -> bool {
        self.payment.state == PaymentState::Offered && !self.timers.is_due(Timer::OfferExpiry, now)
    }

    /// Sets the timers of a state that the payment has just entered, or continues after a restart.
    pub(super) fn start_state(&mut self, now: Moment, settings: &Settings) {
        self.state_since = now;
        self.attempts = 0;
        self.dispense_unknown = false;
        self.inquires_before_reversal = false;
        self.dispute = None;
        self.inquires_next = false;
        self.proof = None;
        self.timers.stop_all();
        match self.payment.state {
            PaymentState::Authorising => {
                self.timers.set(Timer::NextRequest, now);
                self.restart_working(now, settings);
            }
            PaymentState::Unresolved | PaymentState::Capturing | PaymentState::Reversing(_) => {
                self.timers.set(Timer::NextRequest, now);
            }
            PaymentState::Offered
            | PaymentState::Approved
            | PaymentState::Captured
            | PaymentState::Reversed(_)
            | PaymentState::Declined(_)
            | PaymentState::Cancelled
            | PaymentState::Expired => {}
        }
    }

    /// Starts the interval after which the paying phone is told again that its payment is being
    /// processed.
    pub(super) fn restart_working(&mut self, now: Moment, settings: &Settings) {
        self.timers.set(Timer::Working, now.plus_ms(settings.working_interval_ms));
    }

    /// Starts the time in which the till has to report whether the goods were released. After a
    /// restart the till has its full time again; after many restarts less with each, so that
    /// restarts without end do not put the end off without end.
    pub(super) fn await_dispense(&mut self, now: Moment, settings: &Settings) {
        let restarts = self.payment.dispense_restarts;
        let halvings = restarts.saturating_sub(RESTARTS_WITH_FULL_TIME).min(63);
        let timeout_ms = settings.dispense_timeout_ms >> halvings;
        self.timers.set(Timer::DispenseTimeout, now.plus_ms(timeout_ms));
    }

    /// Inquires at the institution before the amount is given back for lack of a report.
    pub(super) fn inquire_before_reversal(&mut self, now: Moment) {
        self.inquires_before_reversal = true;
        self.timers.set(Timer::NextRequest, now);
    }

    /// Does the payment wait for an answer of the institution?
    pub(super) fn awaits_answer(&self) -> bool {
        self.payment.state != PaymentState::Approved || self.inquires_before_reversal
    }

    /// Takes the next step towards the proof that no command was used.
    pub(super) fn start_proof(&mut self, step: ProofStep, now: Moment) {
        self.proof = Some(step);
        self.attempts = 0;
        self.timers.set(Timer::NextRequest, now);
    }

    pub(super) fn end_proof(&mut self) {
        self.proof = None;
        self.timers.stop_all();
    }

    /// Nobody knows whether the goods were released, and the institution has taken the amount.
    pub(super) fn is_taken_there(&self) -> bool {
        let taken = |proven: &ProvenTransaction| proven.state == TransactionState::Captured;
        self.payment.state == PaymentState::Unresolved
            && self.dispute.as_ref().and_then(Option::as_ref).is_some_and(taken)
    }

    /// May a request of this state be on its way, or have arrived?
    pub(super) fn may_have_left(&self) -> bool {
        self.has_left || self.is_request_in_flight()
    }

    /// When the next request to the institution is due, if the state calls for one.
    pub(super) fn next_request_at(&self) -> Option<Moment> {
        self.timers.get(Timer::NextRequest)
    }

    /// Moves the next request to this moment.
    pub(super) fn schedule_request(&mut self, moment: Moment) {
        self.timers.set(Timer::NextRequest, moment);
    }

    /// Schedules another attempt at an authorisation that was not sent. False if the authorisation
    /// would time out first.
    pub(super) fn retry_authorisation(&mut self, now: Moment, settings: &Settings) -> bool {
        let retry_at = now.plus_ms(AUTHORISATION_RETRY_BACKOFF_MS);
        let is_in_time = retry_at < self.authorisation_times_out_at(settings);
        if is_in_time {
            self.schedule_request(retry_at);
        }
        is_in_time
    }

    /// The request that the state calls for, and its time-out in milliseconds.
    pub(super) fn request(
        &self,
        now: Moment,
        settings: &Settings,
        generation: Option<StoreGeneration>,
    ) -> Option<(InstitutionRequest, u64)> {
        let transaction_id = self.payment.transaction_id;
        let request = match self.payment.state {
            PaymentState::Authorising => {
                let command = self.payment.command.as_ref().and_then(JournalledCommand::octets);
                let Some(sealed_command) = command.map(<[u8]>::to_vec) else {
                    debug_assert!(false, "only a command leads to `Authorising`");
                    return None;
                };
                let request = InstitutionRequest::Authorise {
                    transaction_id,
                    offer: self.payment.offer.clone(),
                    offer_age_ms: now.since_ms(self.opened_at),
                    sealed_command,
                    sequence: self.payment.sequence,
                };
                let timeout_ms = self.authorisation_times_out_at(settings).since_ms(now).max(1);
                return Some((request, timeout_ms));
            }
            PaymentState::Capturing | PaymentState::Reversing(_) if self.inquires_next => {
                InstitutionRequest::Inquire { transaction_id }
            }
            PaymentState::Approved | PaymentState::Capturing | PaymentState::Reversing(_)
                if self.may_be_lost(generation) =>
            {
                self.presentation()
            }
            PaymentState::Unresolved => InstitutionRequest::Inquire { transaction_id },
            PaymentState::Approved if self.inquires_before_reversal => {
                InstitutionRequest::Inquire { transaction_id }
            }
            PaymentState::Capturing => InstitutionRequest::Capture { transaction_id },
            PaymentState::Reversing(reason) => {
                InstitutionRequest::Reverse { transaction_id, reason }
            }
            PaymentState::Offered
            | PaymentState::Approved
            | PaymentState::Captured
            | PaymentState::Reversed(_)
            | PaymentState::Declined(_)
            | PaymentState::Cancelled
            | PaymentState::Expired => match self.proof? {
                ProofStep::Inquiry => InstitutionRequest::Inquire { transaction_id },
                ProofStep::Tombstone => {
                    let reason = ReversalReason::NotUsed;
                    InstitutionRequest::Reverse { transaction_id, reason }
                }
                ProofStep::Presentation => self.presentation(),
            },
        };
        Some((request, settings.request_timeout_ms))
    }

    /// The payment was confirmed by an earlier life of the institution's store, and the terminal
    /// has what it takes to present it again.
    fn may_be_lost(&self, generation: Option<StoreGeneration>) -> bool {
        let confirmed = self.payment.confirmed_generation;
        let command = self.payment.command.as_ref().and_then(JournalledCommand::octets);
        confirmed.zip(generation).is_some_and(|(confirmed, now)| confirmed != now)
            && command.is_some()
            && self.payment.receipt.is_some()
    }

    fn presentation(&self) -> InstitutionRequest {
        let payment = &self.payment;
        let command = payment.command.as_ref().and_then(JournalledCommand::octets);
        // Without a receipt there is only a tombstone to present.
        let is_decided = payment.receipt.is_some();
        InstitutionRequest::Present {
            sequence: if is_decided { payment.sequence } else { 0 },
            transaction_id: payment.transaction_id,
            offer: if is_decided { payment.offer.clone() } else { Vec::new() },
            sealed_command: command.filter(|_| is_decided).map(<[u8]>::to_vec).unwrap_or_default(),
            receipt: payment.receipt.clone().unwrap_or_default(),
            exclusion: payment.exclusion.clone().unwrap_or_default(),
        }
    }

    fn authorisation_times_out_at(&self, settings: &Settings) -> Moment {
        self.state_since.plus_ms(settings.authorisation_timeout_ms)
    }

    /// Takes note that a request is in flight.
    pub(super) fn request_sent(&mut self, now: Moment, timeout_ms: u64) {
        self.attempts = self.attempts.saturating_add(1);
        self.inquires_next = false;
        self.timers.stop(Timer::NextRequest);
        let response_due = now.plus_ms(timeout_ms.saturating_add(ANSWER_GRACE_MS));
        self.timers.set(Timer::ResponseDue, response_due);
    }

    /// Takes note that no request is in flight any more, and of whether it may have left.
    pub(super) fn request_ended(&mut self, has_left: bool) {
        self.has_left |= has_left;
        self.timers.stop(Timer::ResponseDue);
    }

    pub(super) fn is_request_in_flight(&self) -> bool {
        self.timers.is_set(Timer::ResponseDue)
    }

    /// The longest wait before the next attempt, in milliseconds: doubled with every attempt.
    pub(super) fn retry_backoff_ms(&self, settings: &Settings) -> u64 {
        let doublings = self.attempts.saturating_sub(1).min(20);
        settings
            .retry_backoff_min_ms
            .saturating_mul(1 << doublings)
            .min(settings.retry_backoff_max_ms)
    }

    /// Nobody waits at the machine for this payment, so its requests are sent in the background.
    pub(super) fn is_background(&self) -> bool {
        self.payment.state != PaymentState::Authorising
    }

    /// The timers that are set. A request in the background has none while there is no room for it.
    pub(super) fn timers(
        &self,
        has_background_room: bool,
    ) -> impl Iterator<Item = (Timer, Moment)> {
        let waits_for_room = self.is_background() && !has_background_room;
        self.timers.iter().filter(move |(timer, _)| !waits_for_room || *timer != Timer::NextRequest)
    }

    /// Is a timer due, other than that of a request in the background?
    pub(super) fn is_due(&self, now: Moment) -> bool {
        self.timers(false).any(|(_, moment)| moment <= now)
    }

    /// Stops the timer if it is due, and says whether it was.
    pub(super) fn expire(&mut self, timer: Timer, now: Moment) -> bool {
        self.timers.expire(timer, now)
    }
}
