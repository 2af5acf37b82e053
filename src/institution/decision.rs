//! Whether to approve: one pure function.
//!
//! It gets everything that the decision rests on and returns the decision. It looks up, stores and
//! signs nothing.

use super::presented_payment::PresentedPayment;
use super::records::{AccountId, EnrolmentState, IssuedCard};
use super::standing::in_good_standing;
use super::store::AuthorisationFacts;
use crate::credential::CardCommand;
use crate::domain::{DeclineReason, HolderVerification, UnixTime};

/// How much older than it is good for an offer may be when the terminal asks, in milliseconds: what
/// the command takes over the air at its slowest.
pub const OFFER_AGE_GRACE_MS: u64 = 2_000;

/// The decision on an authorisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Decision {
    /// The account that pays, or why not.
    pub verdict: Result<AccountId, DeclineReason>,
    /// The counter of the command, if signature and counter were good: it is used up, whatever the
    /// verdict.
    pub accepted_counter: Option<u64>,
}

/// Decides. The checks come in the order of docs/institution.md: who asks, whether the card said
/// so, and whether it may.
pub(super) fn decide(
    payment: &PresentedPayment,
    facts: &AuthorisationFacts,
    now: UnixTime,
) -> Decision {
    match accept_command(payment, facts) {
        Ok((command, card)) => Decision {
            verdict: check_payment(payment, facts, command, card, now).map(|()| card.account),
            accepted_counter: Some(command.counter),
        },
        Err(reason) => Decision { verdict: Err(reason), accepted_counter: None },
    }
}

/// Whether the card gave this command, for the first time, to a terminal of this institution.
fn accept_command<'a>(
    payment: &'a PresentedPayment,
    facts: &'a AuthorisationFacts,
) -> Result<(&'a CardCommand, &'a IssuedCard), DeclineReason> {
    let terminal =
        in_good_standing(facts.terminal.as_ref()).map_err(|_| DeclineReason::TerminalUnknown)?;
    if payment.merchant_name != terminal.merchant_name {
        return Err(DeclineReason::OfferMismatch);
    }
    let opened = payment.command.as_ref().map_err(|reason| *reason)?;
    let card = facts.card.as_ref().ok_or(DeclineReason::UnknownCard)?;
    let public_key = card.public_key.as_ref().ok_or(DeclineReason::UnknownCard)?;
    CardCommand::verify(&opened.signed, public_key).map_err(|_| DeclineReason::BadSignature)?;
    if opened.command.counter <= card.counter {
        return Err(DeclineReason::CounterReplayed);
    }
    Ok((&opened.command, card))
}

/// Whether the card may pay this offer now.
fn check_payment(
    payment: &PresentedPayment,
    facts: &AuthorisationFacts,
    command: &CardCommand,
    card: &IssuedCard,
    now: UnixTime,
) -> Result<(), DeclineReason> {
    let amount = payment.subject.amount;
    if command.offer_digest != payment.offer_digest {
        return Err(DeclineReason::OfferMismatch);
    }
    if payment.offer_age_ms > payment.valid_for_ms.saturating_add(OFFER_AGE_GRACE_MS) {
        return Err(DeclineReason::OfferExpired);
    }
    if card.state == EnrolmentState::Blocked {
        return Err(DeclineReason::CardBlocked);
    }
    if card.not_after.is_none_or(|not_after| now > not_after) {
        return Err(DeclineReason::CardExpired);
    }
    if card.currency != amount.currency() {
        return Err(DeclineReason::CurrencyMismatch);
    }
    if amount.minor() > card.payment_limit_minor {
        return Err(DeclineReason::OverLimit);
    }
    if amount.minor() > card.verification_limit_minor
        && command.holder_verification < HolderVerification::Passcode
    {
        return Err(DeclineReason::VerificationRequired);
    }
    if !facts.has_funds {
        return Err(DeclineReason::InsufficientFunds);
    }
    Ok(())
}
