//! The course of a payment: its states, what enters them, and what is due in them.

use rand_core::RngCore;

use super::super::answer_check::ProvenTransaction;
use super::super::open_payment::ProofStep;
use super::super::replies::{reply_on_state, reply_to_bystander};
use super::super::timers::Timer;
use super::super::transition::on_dispense_timeout;
use super::super::{InstitutionAnswer, JournalledCommand, PaymentState, PhoneId, TransactionState};
use super::{Effect, Terminal, must_be_open};
use crate::domain::{TransactionId, UnixTime};
use crate::protocol::FromTerminal;

/// How many numbers a terminal has for each second: more than it can use.
const SEQUENCE_PER_SECOND: u64 = 1 << 16;

/// Where the numbers of a new journal begin. An earlier journal may have been lost, and its numbers
/// must not come again: they are below this, since the clock was right when it began. `random`
/// keeps two journals of one second apart.
fn first_sequence(now: UnixTime, random: u32) -> u64 {
    let within_second = u64::from(random) % (SEQUENCE_PER_SECOND / 2);
    now.seconds.saturating_mul(SEQUENCE_PER_SECOND).min(u64::MAX / 4) + within_second
}

impl Terminal {
    /// The offer that waits for a phone, if there is one.
    pub(super) fn waiting_offer(&self) -> Option<TransactionId> {
        self.open
            .iter()
            .find(|(_, open)| open.payment.state == PaymentState::Offered)
            .map(|(transaction_id, _)| *transaction_id)
    }

    /// Changes a payment's state, writes it down, and lines up what follows. `proven` is what the
    /// institution proved, if the new state rests on that.
    pub(super) fn move_to(
        &mut self,
        transaction_id: TransactionId,
        next: PaymentState,
        proven: Option<ProvenTransaction>,
    ) {
        let Some(open) = must_be_open(&mut self.open, transaction_id) else { return };
        let previous = open.payment.state;
        tracing::info!(
            %transaction_id, from = previous.name(), to = next.name(), reason = next.reason(),
            "payment"
        );
        open.payment.state = next;
        open.payment.updated_at = self.now.wall;
        if next == PaymentState::Authorising && open.payment.sequence == 0 {
            // In the same record, so that no request leaves with a number that a restart gives to
            // another.
            if self.newest_sequence == 0 {
                self.newest_sequence = first_sequence(self.now.wall, self.random.next_u32());
            }
            self.newest_sequence += 1;
            open.payment.sequence = self.newest_sequence;
        }
        open.forget_requests();
        if let Some(proven) = proven.filter(|it| it.state != TransactionState::Unknown) {
            open.payment.receipt = proven.receipt;
            open.payment.confirmed_generation = proven.store_generation;
            open.payment.exclusion = proven.exclusion.or(open.payment.exclusion.take());
            if open.payment.command.is_none() {
                open.payment.command = proven.command_digest.map(JournalledCommand::Digest);
            }
            open.adopt_payer();
        }
        if matches!(next, PaymentState::Approved | PaymentState::Capturing) {
            // The record that says "approved" says "released" too: the till is told to release as
            // soon as that record is durable.
            open.payment.released = true;
        }
        let payer = open.payer;
        let reply = reply_on_state(&open.payment);
        self.append(transaction_id);
        if previous == PaymentState::Offered {
            self.send_to_bystanders(transaction_id, next, payer);
        }
        self.start_state(transaction_id);
        if previous == PaymentState::Authorising
            && let Some(session) = payer.and_then(|phone| self.phones.get_mut(&phone))
        {
            session.held_since = self.now.moment;
        }
        if let Some((phone, message)) = payer.zip(reply) {
            self.after_record(transaction_id, Effect::Send { phone, message });
        }
        self.publish(transaction_id);
        self.tell_claimants(transaction_id);
        if next.is_final() {
            self.end(transaction_id);
        }
    }

    /// The payment is final. Memory forgets it, unless a phone waits for a proof.
    fn end(&mut self, transaction_id: TransactionId) {
        let Some(open) = must_be_open(&mut self.open, transaction_id) else { return };
        if open.payment.is_given_away() {
            self.given_away = self.given_away.saturating_add(1);
            tracing::error!(
                %transaction_id,
                "goods were released, and the money for them was given back or never taken"
            );
        }
        if open.claimants.is_empty() {
            self.after_record(transaction_id, Effect::Forget(transaction_id));
        } else {
            open.start_proof(ProofStep::Inquiry, self.now.moment);
        }
    }

    /// Sets the timers of a state that a payment has just entered, or continues after a restart.
    pub(super) fn start_state(&mut self, transaction_id: TransactionId) {
        let Some(open) = must_be_open(&mut self.open, transaction_id) else { return };
        open.start_state(self.now.moment, &self.settings);
        if open.payment.state == PaymentState::Approved {
            self.after_record(transaction_id, Effect::AwaitDispense(transaction_id));
        }
    }

    pub(super) fn await_dispense(&mut self, transaction_id: TransactionId) {
        // The till may have reported before the journal confirmed the approval.
        if let Some(open) = self.open.get_mut(&transaction_id)
            && open.payment.state == PaymentState::Approved
        {
            open.await_dispense(self.now.moment, &self.settings);
        }
    }

    /// Tells the till that nobody knows whether the goods of an approved payment were released.
    pub(super) fn publish_dispense_unknown(&mut self, transaction_id: TransactionId) {
        let Some(open) = must_be_open(&mut self.open, transaction_id) else { return };
        tracing::warn!(
            %transaction_id,
            "the till has not reported whether the goods were released; it is asked to report"
        );
        open.dispense_unknown = true;
        self.publish(transaction_id);
    }

    /// Tells the phones that show an offer, and did not pay it, that it is gone.
    fn send_to_bystanders(
        &mut self,
        transaction_id: TransactionId,
        next: PaymentState,
        payer: Option<PhoneId>,
    ) {
        let mut bystanders = Vec::new();
        for (phone, session) in &mut self.phones {
            if session.shown == Some(transaction_id) {
                session.shown = None;
                bystanders.push(*phone);
            }
        }
        for phone in bystanders.into_iter().filter(|phone| Some(*phone) != payer) {
            let message = reply_to_bystander(transaction_id, next);
            self.after_record(transaction_id, Effect::Send { phone, message });
        }
    }

    /// Serves the timers of a payment that are due. A timer that changes the state ends the others.
    pub(super) fn payment_due(&mut self, transaction_id: TransactionId) {
        let now = self.now.moment;
        let Some(open) = must_be_open(&mut self.open, transaction_id) else { return };
        if open.expire(Timer::OfferExpiry, now) {
            return self.move_to(transaction_id, PaymentState::Expired, None);
        }
        if open.expire(Timer::DispenseTimeout, now) {
            if on_dispense_timeout(open.payment.state, self.settings.dispense_policy) {
                open.inquire_before_reversal(now);
            }
            return self.publish_dispense_unknown(transaction_id);
        }
        if open.expire(Timer::ResponseDue, now) {
            let detail = "the relay did not report in time".to_owned();
            let answer = InstitutionAnswer::Unanswered { detail };
            return self.institution_answered(transaction_id, answer);
        }
        let is_request_due = !open.is_background() && open.expire(Timer::NextRequest, now);
        if open.expire(Timer::Working, now) {
            open.restart_working(now, &self.settings);
            if let Some(phone) = open.payer {
                let message = FromTerminal::Working;
                self.after_record(transaction_id, Effect::Send { phone, message });
            }
        }
        if is_request_due {
            self.send_request(transaction_id);
        }
    }
}
