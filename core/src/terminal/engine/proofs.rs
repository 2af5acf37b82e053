//! Proofs for phones whose command was not used: who waits for one, and how the terminal gets it.
//!
//! The terminal's word that an offer was taken, withdrawn or expired proves nothing to a phone that
//! has sent a command. The institution's exclusion does. A payment that was authorised brings it
//! along. For an offer that ended without a command the terminal inquires first, because its
//! journal may be older than the payment, and then has the institution leave a tombstone.

use super::super::answer_check::{CheckedAnswer, ProvenTransaction};
use super::super::open_payment::{OpenPayment, ProofStep};
use super::super::replies::proof_of_no_use;
use super::super::{Payment, PaymentState, PhoneId, TransactionState};
use super::{Effect, Terminal, must_be_open};
use crate::domain::{CommandDigest, TransactionId};

/// The most payments that have ended and are proven to phones at once. A phone that finds no room
/// asks again.
const PROOFS_MAX: usize = 16;
/// After how many attempts a proof is given up if no phone waits for it any more.
const ATTEMPTS_WITHOUT_PHONE_MAX: u32 = 3;

impl Terminal {
    /// Notes that a phone waits for the proof that its command was not used. `stored` is what the
    /// journal holds, where the payment is not open.
    pub(super) fn claim(
        &mut self,
        phone: PhoneId,
        transaction_id: TransactionId,
        command_digest: CommandDigest,
        stored: Option<&Payment>,
    ) {
        let under_way = self.open.values().filter(|open| open.proof.is_some()).count();
        let (now, room) = (self.now.moment, under_way < PROOFS_MAX);
        if let Some(payment) = stored.filter(|payment| room && payment.state.is_final()) {
            let resumed = || OpenPayment::resumed(payment.clone(), now);
            self.open.entry(transaction_id).or_insert_with(resumed);
        }
        let Some(open) = self.open.get_mut(&transaction_id) else { return };
        if open.payment.state.is_final() && open.proof.is_none() {
            if !room {
                return;
            }
            open.start_proof(ProofStep::Inquiry, now);
        }
        open.claimants.insert(phone, command_digest);
    }

    /// Sends the proof to the phones that wait for it, as soon as it is durable.
    pub(super) fn tell_claimants(&mut self, transaction_id: TransactionId) {
        let Some(open) = self.open.get_mut(&transaction_id) else { return };
        let mut proven = Vec::new();
        open.claimants.retain(|phone, command_digest| {
            let proof = proof_of_no_use(&open.payment, *command_digest);
            let waits = proof.is_none();
            proven.extend(proof.map(|message| (*phone, message)));
            waits
        });
        for (phone, message) in proven {
            self.after_record(transaction_id, Effect::Send { phone, message });
        }
    }

    /// Acts on the answer to a request for a proof.
    pub(super) fn proof_answered(&mut self, transaction_id: TransactionId, answer: CheckedAnswer) {
        let Some(open) = must_be_open(&mut self.open, transaction_id) else { return };
        if open.proof == Some(ProofStep::Presentation) {
            return self.presentation_answered(transaction_id, &answer);
        }
        let proven = match answer {
            CheckedAnswer::Proven(proven) => proven,
            CheckedAnswer::Unproven(_)
            | CheckedAnswer::NotSent { .. }
            | CheckedAnswer::Refused { .. }
            | CheckedAnswer::Unanswered { .. } => {
                tracing::info!(%transaction_id, %answer, "no proof for a late command yet");
                if open.claimants.is_empty() && open.attempts >= ATTEMPTS_WITHOUT_PHONE_MAX {
                    return self.end_proof(transaction_id);
                }
                self.retry_later(transaction_id);
                return;
            }
        };
        let never_paid =
            matches!(open.payment.state, PaymentState::Expired | PaymentState::Cancelled);
        if never_paid && proven.state == TransactionState::Unknown {
            open.start_proof(ProofStep::Tombstone, self.now.moment);
        } else if never_paid && (proven.receipt.is_some() || proven.exclusion.is_none()) {
            self.adopt(transaction_id, proven);
        } else {
            // A payment that was decided here keeps its receipt.
            if let Some(exclusion) = proven.exclusion {
                open.payment.exclusion = Some(exclusion);
                open.payment.confirmed_generation = proven.store_generation;
                self.append(transaction_id);
                self.tell_claimants(transaction_id);
            }
            self.end_proof(transaction_id);
        }
    }

    /// The institution knows a payment that ended here before any command: the journal is older
    /// than the payment.
    fn adopt(&mut self, transaction_id: TransactionId, proven: ProvenTransaction) {
        tracing::error!(
            %transaction_id, state = proven.state.name(),
            "the institution knows a payment that the journal calls never paid: an older journal \
             was put back. The terminal goes on from what the institution knows"
        );
        self.move_to(transaction_id, PaymentState::Unresolved, None);
        self.payment_answered(transaction_id, CheckedAnswer::Proven(proven));
    }

    pub(super) fn end_proof(&mut self, transaction_id: TransactionId) {
        let Some(open) = must_be_open(&mut self.open, transaction_id) else { return };
        open.end_proof();
        self.after_record(transaction_id, Effect::Forget(transaction_id));
    }
}
