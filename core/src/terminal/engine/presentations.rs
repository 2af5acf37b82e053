//! Payments that are presented again to an institution whose store was restored from a copy.
//!
//! Every answer says which life of the store gave it. A payment that ended under another life may
//! be lost there. The terminal has the offer, the command and the institution's own signature, and
//! presents them, the newest first, a few at a time. Open payments are presented by their own
//! requests.

use super::super::answer_check::CheckedAnswer;
use super::super::open_payment::{OpenPayment, ProofStep};
use super::super::presentation_search::PresentationSearch;
use super::super::{Output, Payment, PaymentState, StoreGeneration, TransactionState};
use super::{Terminal, must_be_open};
use crate::domain::TransactionId;

/// How many payments are presented at once.
const PRESENTED_AT_ONCE: usize = 4;

impl Terminal {
    /// An answer came from this life of the institution's store.
    pub(super) fn heard_generation(&mut self, generation: StoreGeneration) {
        if self.generation == Some(generation) {
            return;
        }
        if self.generation.is_some() {
            tracing::warn!(
                "the institution's store has another life: what it may have lost is presented again"
            );
        }
        self.generation = Some(generation);
        self.presenting = Some(PresentationSearch::default());
        self.search_unconfirmed();
    }

    /// Searches for more payments to present, once those that were found are presented.
    pub(super) fn search_unconfirmed(&mut self) {
        let is_under_way =
            self.open.values().any(|open| open.proof == Some(ProofStep::Presentation));
        let Some((presenting, generation)) = self.presenting.as_mut().zip(self.generation) else {
            return;
        };
        if presenting.is_searching || is_under_way {
            return;
        }
        presenting.is_searching = true;
        let (before, limit) = (presenting.before, PRESENTED_AT_ONCE);
        self.outputs.push(Output::FindUnconfirmed { generation, before, limit });
    }

    /// Presents what the journal found.
    pub(super) fn found_unconfirmed(
        &mut self,
        generation: StoreGeneration,
        payments: Vec<Payment>,
    ) {
        let Some(presenting) = &mut self.presenting else { return };
        presenting.is_searching = false;
        if self.generation == Some(generation) {
            let Some(oldest) = payments.last() else {
                self.presenting = None;
                return;
            };
            presenting.before = Some(oldest.transaction_id);
            let now = self.now.moment;
            for payment in payments.into_iter().filter(|payment| payment.state.is_final()) {
                let transaction_id = payment.transaction_id;
                let resumed = || OpenPayment::resumed(payment, now);
                let open = self.open.entry(transaction_id).or_insert_with(resumed);
                if open.payment.state.is_final() && open.proof.is_none() {
                    open.start_proof(ProofStep::Presentation, now);
                }
            }
        }
        self.search_unconfirmed();
    }

    /// Acts on the answer to a presentation.
    pub(super) fn presentation_answered(
        &mut self,
        transaction_id: TransactionId,
        answer: &CheckedAnswer,
    ) {
        let Some(open) = must_be_open(&mut self.open, transaction_id) else { return };
        let held = match answer {
            CheckedAnswer::NotSent { .. } | CheckedAnswer::Unanswered { .. } => {
                self.retry_later(transaction_id);
                return;
            }
            CheckedAnswer::Proven(proven) => Some(proven),
            CheckedAnswer::Refused { .. } | CheckedAnswer::Unproven(_) => None,
        };
        match held.filter(|held| is_held_as(open.payment.state, held.state)) {
            Some(held) => {
                open.payment.confirmed_generation = held.store_generation;
                self.append(transaction_id);
            }
            None => tracing::error!(
                %transaction_id, state = open.payment.state.name(), %answer,
                "the institution has lost this payment and does not take it back; run `florin \
                 reconcile`, and give the institution what `florin journal export` writes"
            ),
        }
        self.end_proof(transaction_id);
        self.search_unconfirmed();
    }
}

/// Does the institution hold a payment as it ended here?
fn is_held_as(here: PaymentState, there: TransactionState) -> bool {
    match there {
        TransactionState::Captured => here == PaymentState::Captured,
        TransactionState::Declined(_) => matches!(here, PaymentState::Declined(_)),
        TransactionState::Reversed => matches!(
            here,
            PaymentState::Reversed(_) | PaymentState::Cancelled | PaymentState::Expired
        ),
        TransactionState::Unknown | TransactionState::Approved => false,
    }
}
