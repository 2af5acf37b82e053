//! The terminal's replies to phones: to a hello, to a question, and on a change of state.
//!
//! Pure functions. They change no state and send nothing; both are the engine's business.

use super::{NotChargedReason, Payment, PaymentState, PhoneQuestion};
use crate::credential::SealedCommand;
use crate::domain::{Outcome, TransactionId};
use crate::protocol::{FromTerminal, ProtocolError, WireError};

impl From<NotChargedReason> for WireError {
    fn from(reason: NotChargedReason) -> Self {
        match reason {
            NotChargedReason::InstitutionUnreachable => Self::InstitutionUnreachable,
        }
    }
}

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
    payment
        .sealed_command
        .as_ref()
        .is_some_and(|command| SealedCommand::digest_of_encoded(command) == question.command_digest)
}

/// The answer to a phone that inquires about a payment, or that sent a command for one that it can
/// no longer pay.
pub(super) fn reply_to_question(payment: &Payment, question: &PhoneQuestion) -> FromTerminal {
    if is_payer(payment, question) {
        return reply_to_payer(payment).unwrap_or_else(unknown_payment);
    }
    if !question.is_command {
        return unknown_payment();
    }
    let transaction_id = payment.transaction_id;
    match payment.state {
        PaymentState::Cancelled => FromTerminal::Withdrawn(transaction_id),
        PaymentState::Expired | PaymentState::Offered => FromTerminal::Expired(transaction_id),
        PaymentState::Authorising
        | PaymentState::Unresolved
        | PaymentState::Approved
        | PaymentState::Capturing
        | PaymentState::Captured
        | PaymentState::Reversing(_)
        | PaymentState::Reversed(_)
        | PaymentState::Declined(_)
        | PaymentState::NotCharged(_) => FromTerminal::Taken(transaction_id),
    }
}

/// The answer to a question about a payment that the terminal does not have for this phone.
pub(super) fn unknown_payment() -> FromTerminal {
    error(WireError::TransactionUnknown, "no such payment of this phone")
}

/// The message that tells the phone that sent the command how the payment stands. None if no
/// command was accepted.
fn reply_to_payer(payment: &Payment) -> Option<FromTerminal> {
    let transaction_id = payment.transaction_id;
    if let Some(outcome) = payment.state.outcome() {
        // A payment that is about to be reversed may hold the receipt of its approval: nobody must
        // take it for paid.
        let receipt = payment.receipt.clone().filter(|_| outcome != Outcome::Pending);
        return Some(FromTerminal::Result { transaction_id, outcome, receipt });
    }
    if let PaymentState::NotCharged(reason) = payment.state {
        return Some(error(reason.into(), "nobody was charged"));
    }
    (payment.state == PaymentState::Authorising).then_some(FromTerminal::Working)
}

/// The message to the phone that sent the command when the payment enters its state; none where
/// that is no news.
pub(super) fn reply_on_state(payment: &Payment) -> Option<FromTerminal> {
    match payment.state {
        // The phone was told "approved", and "given back" is not true yet.
        PaymentState::Reversing(_) | PaymentState::Captured | PaymentState::Authorising => None,
        // The phone was told "approved" at the approval.
        PaymentState::Capturing if payment.capture_after_dispense => None,
        PaymentState::Offered
        | PaymentState::Unresolved
        | PaymentState::Approved
        | PaymentState::Capturing
        | PaymentState::Reversed(_)
        | PaymentState::Declined(_)
        | PaymentState::NotCharged(_)
        | PaymentState::Cancelled
        | PaymentState::Expired => reply_to_payer(payment),
    }
}

/// The message to a phone that shows an offer, and did not pay it, when the payment enters `next`.
pub(super) fn reply_to_bystander(
    transaction_id: TransactionId,
    next: PaymentState,
) -> FromTerminal {
    match next {
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
    }
}

/// An error as a message. The detail is for a developer.
pub(super) fn error(wire: WireError, detail: impl ToString) -> FromTerminal {
    FromTerminal::Error(ProtocolError::new(wire, detail))
}
