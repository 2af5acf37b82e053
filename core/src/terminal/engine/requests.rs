//! Requests to the institution: when they are sent, how many at once, and what an answer leads to.

use rand_core::RngCore;

use super::super::answer_check::{CheckedAnswer, check_answer};
use super::super::transition::{Verdict, on_institution};
use super::super::{InstitutionAnswer, Output, PaymentState, TransactionState};
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
        let (now, generation) = (self.now.moment, self.generation);
        let Some((request, timeout_ms)) = open.request(now, &self.settings, generation) else {
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
        if let InstitutionAnswer::Transaction(claim) = &answer
            && let Some(generation) = claim.store_generation
        {
            self.heard_generation(generation);
        }
        // A late answer may find the payment settled.
        let Some(open) = self.open.get_mut(&transaction_id) else { return };
        open.request_ended(!matches!(answer, InstitutionAnswer::NotSent { .. }));
        let (terminal_id, keyring) = (self.identity.terminal_id(), &self.identity.keyring);
        let answer = check_answer(answer, &open.payment, terminal_id, keyring, self.now.wall);
        if open.proof.is_some() {
            return self.proof_answered(transaction_id, answer);
        }
        self.payment_answered(transaction_id, answer);
    }

    /// Acts on the checked answer to a payment's request.
    pub(super) fn payment_answered(
        &mut self,
        transaction_id: TransactionId,
        answer: CheckedAnswer,
    ) {
        let Some(open) = must_be_open(&mut self.open, transaction_id) else { return };
        if !open.awaits_answer() {
            return;
        }
        let state = open.payment.state;
        match on_institution(state, open.payment.capture_after_dispense, &answer) {
            Verdict::Ignore => {}
            Verdict::Move(PaymentState::Declined(reason)) if reason.shows_no_card() => {
                let proven = match answer {
                    CheckedAnswer::Proven(proven) => Some(proven),
                    CheckedAnswer::Unproven(_)
                    | CheckedAnswer::NotSent { .. }
                    | CheckedAnswer::Refused { .. }
                    | CheckedAnswer::Unanswered { .. } => None,
                };
                self.declined_without_card(transaction_id, reason, proven);
            }
            Verdict::Move(next) => {
                let proven = match answer {
                    CheckedAnswer::Proven(proven) if next != PaymentState::Unresolved => {
                        Some(proven)
                    }
                    CheckedAnswer::Unproven(_) => {
                        // The state is the right one, and an operator hears of the reason.
                        self.move_to(transaction_id, next, None);
                        return self.dispute(transaction_id, answer);
                    }
                    CheckedAnswer::Proven(_)
                    | CheckedAnswer::NotSent { .. }
                    | CheckedAnswer::Refused { .. }
                    | CheckedAnswer::Unanswered { .. } => None,
                };
                self.move_to(transaction_id, next, proven);
            }
            Verdict::Retry if state == PaymentState::Authorising => {
                if !open.retry_authorisation(self.now.moment, &self.settings) {
                    self.move_to(transaction_id, PaymentState::Unresolved, None);
                }
            }
            Verdict::Retry => {
                if let CheckedAnswer::Proven(proven) = &answer {
                    open.payment.confirmed_generation = proven.store_generation;
                    self.end_dispute(transaction_id);
                }
                let backoff_ms = self.retry_later(transaction_id);
                tracing::info!(
                    %transaction_id, state = state.name(), backoff_ms, %answer,
                    "the request to the institution is retried"
                );
            }
            Verdict::Conflict => {
                self.dispute(transaction_id, answer);
                self.retry_later(transaction_id);
            }
        }
    }

    /// Schedules the next attempt, and returns in how many milliseconds it is.
    pub(super) fn retry_later(&mut self, transaction_id: TransactionId) -> u64 {
        let Some(open) = must_be_open(&mut self.open, transaction_id) else { return 0 };
        let backoff_ms = jittered(&mut self.random, open.retry_backoff_ms(&self.settings));
        open.schedule_request(self.now.moment.plus_ms(backoff_ms));
        backoff_ms
    }

    /// Tells an operator that the institution's answer contradicts the journal or proves nothing.
    fn dispute(&mut self, transaction_id: TransactionId, answer: CheckedAnswer) {
        let Some(open) = must_be_open(&mut self.open, transaction_id) else { return };
        tracing::error!(
            %transaction_id, state = open.payment.state.name(), %answer,
            "the institution's answer contradicts this terminal's journal or proves nothing; the \
             terminal goes on asking, and an operator should look into it (`florin reconcile`)"
        );
        let proven = match answer {
            CheckedAnswer::Proven(proven) => Some(proven),
            CheckedAnswer::Unproven(_)
            | CheckedAnswer::NotSent { .. }
            | CheckedAnswer::Refused { .. }
            | CheckedAnswer::Unanswered { .. } => None,
        };
        // Nobody knows why: the next request asks how the transaction stands.
        open.inquires_next = proven.is_none();
        let is_taken_there =
            proven.as_ref().is_some_and(|proven| proven.state == TransactionState::Captured);
        open.dispense_unknown |= is_taken_there && open.payment.state == PaymentState::Unresolved;
        open.dispute = Some(proven);
        self.publish(transaction_id);
    }

    fn end_dispute(&mut self, transaction_id: TransactionId) {
        let Some(open) = must_be_open(&mut self.open, transaction_id) else { return };
        if open.dispute.take().is_some() {
            self.publish(transaction_id);
        }
    }
}

/// A random backoff in the upper half, so that the terminals of a fleet do not retry in step.
fn jittered(random: &mut impl RngCore, backoff_ms: u64) -> u64 {
    let half_ms = backoff_ms / 2;
    half_ms + random.next_u64() % (half_ms + 1)
}
