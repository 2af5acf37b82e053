//! Requests to the institution: when they are sent, how many at once, and what an answer leads to.

use rand_core::RngCore;

use super::super::transition::{Verdict, on_institution};
use super::super::{InstitutionAnswer, NotChargedReason, Output, PaymentState};
use super::{Effect, Terminal, must_be_open};
use crate::domain::{Moment, TransactionId};

impl Terminal {
    /// Spreads the first requests after a start. Power comes back to all terminals of a fleet at
    /// once, and they must not all send at once.
    pub(super) fn spread_first_requests(&mut self) {
        let spread_ms = self.settings.retry_backoff_min_ms.saturating_add(1);
        for open in self.open.values_mut().filter(|open| open.next_request_at().is_some()) {
            let delay_ms = self.random.next_u64() % spread_ms;
            open.schedule_request(self.now.moment.plus_ms(delay_ms));
        }
    }

    /// How many more requests in the background may be sent now.
    pub(super) fn background_room(&self) -> usize {
        let in_flight = self
            .open
            .values()
            .filter(|open| open.is_background() && open.is_request_in_flight())
            .count();
        self.settings.background_requests_max.saturating_sub(in_flight)
    }

    /// Sends as many requests in the background as there is room for, beginning with those that
    /// have waited longest. Otherwise the same few payments could keep the others waiting for ever.
    pub(super) fn send_background_requests(&mut self) {
        let room = self.background_room();
        if room == 0 {
            return;
        }
        let mut due: Vec<(Moment, TransactionId)> = self
            .open
            .iter()
            .filter(|(_, open)| open.is_background())
            .filter_map(|(transaction_id, open)| Some((open.next_request_at()?, *transaction_id)))
            .filter(|(request_at, _)| *request_at <= self.now.moment)
            .collect();
        if due.len() > room {
            due.select_nth_unstable(room);
            due.truncate(room);
        }
        due.sort_unstable();
        for (_, transaction_id) in due {
            self.send_request(transaction_id);
        }
    }

    /// Sends the request that the payment's state calls for.
    pub(super) fn send_request(&mut self, transaction_id: TransactionId) {
        let Some(open) = must_be_open(&mut self.open, transaction_id) else { return };
        let Some((request, timeout_ms)) = open.request(self.now.moment, &self.settings) else {
            debug_assert!(false, "`{}` calls for no request", open.payment.state.name());
            return;
        };
        open.request_sent(self.now.moment, timeout_ms);
        let output = Output::Request { request, timeout_ms };
        self.after_record(transaction_id, Effect::Emit(output));
    }

    pub(super) fn institution_answered(
        &mut self,
        transaction_id: TransactionId,
        answer: InstitutionAnswer,
    ) {
        // A late answer may find the payment settled.
        let Some(open) = self.open.get_mut(&transaction_id) else { return };
        open.request_ended();
        let state = open.payment.state;
        match on_institution(state, open.payment.capture_after_dispense, &answer) {
            Verdict::Ignore => {}
            Verdict::Move(PaymentState::Declined(reason)) if reason.shows_no_card() => {
                self.declined_without_card(transaction_id, reason, answer.into_receipt());
            }
            Verdict::Move(next) => self.move_to(transaction_id, next, answer.into_receipt()),
            Verdict::Retry if state == PaymentState::Authorising => {
                if !open.retry_authorisation(self.now.moment, &self.settings) {
                    let reason = NotChargedReason::InstitutionUnreachable;
                    self.move_to(transaction_id, PaymentState::NotCharged(reason), None);
                }
            }
            Verdict::Retry => {
                let backoff_ms = jittered(&mut self.random, open.retry_backoff_ms(&self.settings));
                tracing::info!(
                    %transaction_id, state = state.name(), backoff_ms, ?answer,
                    "the request to the institution is retried"
                );
                open.schedule_request(self.now.moment.plus_ms(backoff_ms));
            }
            Verdict::Conflict => {
                let backoff_ms = jittered(&mut self.random, open.retry_backoff_ms(&self.settings));
                tracing::warn!(
                    %transaction_id, state = state.name(), backoff_ms, ?answer,
                    "the institution's answer contradicts this terminal's journal; the request is \
                     retried, and an operator should look into it"
                );
                open.schedule_request(self.now.moment.plus_ms(backoff_ms));
            }
        }
    }
}

/// A random backoff in the upper half, so that the terminals of a fleet do not retry in step.
fn jittered(random: &mut impl RngCore, backoff_ms: u64) -> u64 {
    let half_ms = backoff_ms / 2;
    half_ms + random.next_u64() % (half_ms + 1)
}
