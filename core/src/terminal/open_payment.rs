//! An open payment: the journal's record of it, its timers, and what only the running engine knows.
//!
//! It knows which request its state calls for. It decides on no state and has no effects; both are
//! the engine's business.

use super::timers::{Timer, TimerTable};
use super::{
    InstitutionRequest, Payment, PaymentState, PhoneAddress, PhoneId, RecordNumber, Settings,
};
use crate::domain::Moment;

/// How much longer than its own time-out a request may stay without an answer before the engine
/// counts it as unanswered.
const ANSWER_GRACE_MS: u64 = 2_000;
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
    /// The device address of the phone that sent the command, connected or not.
    pub(super) payer_address: Option<PhoneAddress>,
    timers: TimerTable,
    /// How many requests were sent to the institution in this state.
    attempts: u32,
    /// The till has not reported whether the goods were released: its time is over, or the terminal
    /// was restarted meanwhile.
    pub(super) dispense_unknown: bool,
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
            payer_address: None,
            timers: TimerTable::default(),
            attempts: 0,
            dispense_unknown: false,
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
            | PaymentState::NotCharged(_)
            | PaymentState::Cancelled
            | PaymentState::Expired => {}
        }
    }

    /// Starts the interval after which the paying phone is told again that its payment is being
    /// processed.
    pub(super) fn restart_working(&mut self, now: Moment, settings: &Settings) {
        self.timers.set(Timer::Working, now.plus_ms(settings.working_interval_ms));
    }

    /// Starts the time in which the till has to report whether the goods were released.
    pub(super) fn await_dispense(&mut self, now: Moment, settings: &Settings) {
        self.timers.set(Timer::DispenseTimeout, now.plus_ms(settings.dispense_timeout_ms));
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
    ) -> Option<(InstitutionRequest, u64)> {
        let transaction_id = self.payment.transaction_id;
        let request = match self.payment.state {
            PaymentState::Authorising => {
                let Some(sealed_command) = self.payment.sealed_command.clone() else {
                    debug_assert!(false, "only a command leads to `Authorising`");
                    return None;
                };
                let request = InstitutionRequest::Authorise {
                    transaction_id,
                    offer: self.payment.offer.clone(),
                    offer_age_ms: now.since_ms(self.opened_at),
                    sealed_command,
                };
                let timeout_ms = self.authorisation_times_out_at(settings).since_ms(now).max(1);
                return Some((request, timeout_ms));
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
            | PaymentState::Expired => return None,
        };
        Some((request, settings.request_timeout_ms))
    }

    fn authorisation_times_out_at(&self, settings: &Settings) -> Moment {
        self.state_since.plus_ms(settings.authorisation_timeout_ms)
    }

    /// Takes note that a request is in flight.
    pub(super) fn request_sent(&mut self, now: Moment, timeout_ms: u64) {
        self.attempts = self.attempts.saturating_add(1);
        self.timers.stop(Timer::NextRequest);
        let response_due = now.plus_ms(timeout_ms.saturating_add(ANSWER_GRACE_MS));
        self.timers.set(Timer::ResponseDue, response_due);
    }

    /// Takes note that no request is in flight any more.
    pub(super) fn request_ended(&mut self) {
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
