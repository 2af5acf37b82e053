//! The terminal's replies to phones: to a hello, to a question, and on a change of state.
//!
//! Pure functions. They change no state and send nothing; both are the engine's business.

use super::{Payment, PaymentState, PhoneQuestion};
use crate::domain::{CommandDigest, Outcome, TransactionId};
use crate::protocol::{FromTerminal, ProtocolError, WireError};

/// The answer to a hello, and the offer that it shows. `wanted` is the only offer that the phone
/// accepts, `waiting` the one that waits for a phone with its octets, if they are durable.
pub(super) fn reply_to_hello(
    wanted: Option<TransactionId>,
    waiting: Option<(TransactionId, Vec<u8>)>,
    is_open: impl FnOnce(TransactionId) -> bool,
) -> (FromTerminal, Option<TransactionId>) {
    let accepts = |id: TransactionId| wanted.is_none_or(|wanted| wanted == id);
    if let Some((id, offer)) = waiting.filter(|(id, _)| accepts(*id)) {
        return (FromTerminal::Offer(offer), Some(id));
    }
    let message = match wanted {
        None => FromTerminal::NothingToPay,
        Some(wanted) if is_open(wanted) => FromTerminal::Taken(wanted),
        Some(wanted) => {
            error(WireError::TransactionUnknown, format!("no offer {wanted} waits here"))
        }
    };
    (message, None)
}

/// Did the phone that asks send the command?
pub(super) fn is_payer(payment: &Payment, question: &PhoneQuestion) -> bool {
    payment.command_digest() == Some(question.command_digest)
}

/// The answer to a phone that inquires about a payment, or that sent a command for one that it can
/// no longer pay: the proof, or for the time being the terminal's word.
pub(super) fn reply_to_question(payment: &Payment, question: &PhoneQuestion) -> FromTerminal {
    if let Some(proof) = proof_of_no_use(payment, question.command_digest) {
        return proof;
    }
    if is_payer(payment, question) {
        return reply_to_payer(payment).unwrap_or_else(unknown_payment);
    }
    if never_came(payment, question) {
        return unknown_payment();
    }
    reply_to_bystander(payment.transaction_id, payment.state)
}

/// The phone asks about a command that did not arrive, and the offer still stands: the same command
/// can still be sent.
pub(super) fn never_came(payment: &Payment, question: &PhoneQuestion) -> bool {
    payment.state == PaymentState::Offered && !question.is_command
}

/// The institution's proof that this command was not used, if the terminal has it.
pub(super) fn proof_of_no_use(
    payment: &Payment,
    command_digest: CommandDigest,
) -> Option<FromTerminal> {
    let exclusion = payment.exclusion.clone()?;
    payment
        .is_excluded(command_digest)
        .then_some(FromTerminal::NotUsed { transaction_id: payment.transaction_id, exclusion })
}

/// The answer to a question about a payment that the terminal does not have for this phone.
pub(super) fn unknown_payment() -> FromTerminal {
    error(WireError::TransactionUnknown, "no such payment of this phone")
}

/// The message that tells the phone that sent the command how the payment stands. None if no
/// command was accepted.
fn reply_to_payer(payment: &Payment) -> Option<FromTerminal> {
    let transaction_id = payment.transaction_id;
    if let Some(proof) =
        payment.command_digest().and_then(|digest| proof_of_no_use(payment, digest))
    {
        return Some(proof);
    }
    if let Some(outcome) = payment.state.outcome() {
        // Without the receipt that proves it, an outcome is only the terminal's word: the phone is
        // told to ask again. A payment that is about to be reversed may hold the receipt of its
        // approval: nobody must take it for paid.
        let receipt = payment.receipt.clone().filter(|_| outcome != Outcome::Pending);
        let outcome = if receipt.is_some() { outcome } else { Outcome::Pending };
        return Some(FromTerminal::Result { transaction_id, outcome, receipt });
    }
    (payment.state == PaymentState::Authorising).then_some(FromTerminal::Working)
}

/// The message to the phone that sent the command when the payment enters its state; none where
/// that is no news.
pub(super) fn reply_on_state(payment: &Payment) -> Option<FromTerminal> {
    match payment.state {
        // The phone was told "approved", and "given back" is not true yet.
        PaymentState::Reversing(_) | PaymentState::Authorising => None,
        // The phone was told "approved" at the approval.
        PaymentState::Capturing if payment.capture_after_dispense => None,
        // What the phone was told at the approval is all that it waits for.
        PaymentState::Captured if !payment.capture_after_dispense => None,
        PaymentState::Offered
        | PaymentState::Unresolved
        | PaymentState::Approved
        | PaymentState::Capturing
        | PaymentState::Captured
        | PaymentState::Reversed(_)
        | PaymentState::Declined(_)
        | PaymentState::Cancelled
        | PaymentState::Expired => reply_to_payer(payment),
    }
}

/// The terminal's word to a phone that did not pay an offer, when the payment is in `next`.
pub(super) fn reply_to_bystander(
    transaction_id: TransactionId,
    next: PaymentState,
) -> FromTerminal {
    match next {
        PaymentState::Cancelled => FromTerminal::Withdrawn(transaction_id),
        PaymentState::Expired | PaymentState::Offered => FromTerminal::Expired(transaction_id),
        PaymentState::Authorising
        | PaymentState::Unresolved
        | PaymentState::Approved
        | PaymentState::Capturing
        | PaymentState::Captured
        | PaymentState::Reversing(_)
        | PaymentState::Reversed(_)
        | PaymentState::Declined(_) => FromTerminal::Taken(transaction_id),
    }
}

/// An error as a message. The detail is for a developer.
pub(super) fn error(wire: WireError, detail: impl ToString) -> FromTerminal {
    FromTerminal::Error(ProtocolError::new(wire, detail))
}
