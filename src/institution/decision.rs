//! Whether to approve: one pure function.
//!
//! Everything that the decision rests on comes in, the decision comes out. Nothing is looked up,
//! stored or signed here.

use super::store::{Card, CardState, Terminal, TerminalState};
use crate::credential::{CardCommand, CredentialError, SealedCommand, SealingKey, Signed};
use crate::domain::{DeclineReason, HolderVerification, Offer, OfferDigest, UnixTime};

/// How much older than it is good for an offer may be when the terminal asks, in milliseconds: the
/// command's way over the air, at its slowest.
pub const OFFER_AGE_GRACE_MS: u64 = 2_000;

/// A command out of its seal, not yet verified.
#[derive(Debug)]
pub(super) struct OpenedCommand {
    pub signed: Signed,
    pub command: CardCommand,
}

/// Opens and reads a sealed command.
///
/// A command that a known key does not open was sealed for another offer than the terminal
/// presents, or altered on its way: either way the phone should hear of it.
pub(super) fn open_command(
    sealing_key: &SealingKey,
    sealed_command: &[u8],
    offer_digest: &OfferDigest,
) -> Result<OpenedCommand, DeclineReason> {
    let malformed = |_| DeclineReason::MalformedCommand;
    let sealed = SealedCommand::decode(sealed_command).map_err(malformed)?;
    if sealed.key_id != sealing_key.public_key().key_id() {
        return Err(DeclineReason::MalformedCommand);
    }
    let plaintext = sealing_key.open(&sealed, offer_digest).map_err(|error| match error {
        CredentialError::DoesNotOpen => DeclineReason::OfferMismatch,
        CredentialError::Malformed { .. }
        | CredentialError::BadSignature(_)
        | CredentialError::UnknownKey(_)
        | CredentialError::OutOfTime { .. }
        | CredentialError::BadKey(_) => DeclineReason::MalformedCommand,
    })?;
    let signed = Signed::decode(&plaintext).map_err(malformed)?;
    let command = CardCommand::read_unverified(&signed).map_err(malformed)?;
    // The store counts to 2^63 - 1; no card gets there one by one.
    if i64::try_from(command.counter).is_err() {
        return Err(DeclineReason::MalformedCommand);
    }
    Ok(OpenedCommand { signed, command })
}

/// What a decision rests on.
#[derive(Debug)]
pub(super) struct Question<'a> {
    /// The terminal as the registry has it.
    pub terminal: Option<&'a Terminal>,
    pub offer: &'a Offer,
    pub offer_digest: OfferDigest,
    /// By the terminal's monotonic clock.
    pub offer_age_ms: u64,
    pub command: Result<&'a OpenedCommand, DeclineReason>,
    /// The card that the command names, if there is one.
    pub card: Option<&'a Card>,
    /// What the card's account can spend, in minor units of its currency.
    pub available_minor: i64,
    pub now: UnixTime,
}

/// What is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Decision {
    pub verdict: Result<(), DeclineReason>,
    /// The command's counter where signature and counter were good: it is used up, whatever the
    /// verdict.
    pub accepted_counter: Option<u64>,
}

/// Decides. The order of the checks is the order of docs/institution.md: first who asks, then whether
/// the card said so, then whether it may.
pub(super) fn decide(question: &Question<'_>) -> Decision {
    match accept_command(question) {
        Ok((command, card)) => Decision {
            verdict: check_payment(question, command, card),
            accepted_counter: Some(command.counter),
        },
        Err(reason) => Decision { verdict: Err(reason), accepted_counter: None },
    }
}

/// Whether the card gave this command, for the first time, to a terminal of ours.
fn accept_command<'a>(
    question: &Question<'a>,
) -> Result<(&'a CardCommand, &'a Card), DeclineReason> {
    let terminal = question
        .terminal
        .filter(|terminal| terminal.state == TerminalState::Active)
        .ok_or(DeclineReason::TerminalUnknown)?;
    if question.offer.merchant_name() != terminal.merchant_name {
        return Err(DeclineReason::OfferMismatch);
    }
    let opened = question.command?;
    let card = question.card.ok_or(DeclineReason::UnknownCard)?;
    let public_key = card.public_key.as_ref().ok_or(DeclineReason::UnknownCard)?;
    CardCommand::verify(&opened.signed, public_key).map_err(|_| DeclineReason::BadSignature)?;
    if opened.command.counter <= card.counter {
        return Err(DeclineReason::CounterReplayed);
    }
    Ok((&opened.command, card))
}

/// Whether the card may pay this offer now.
fn check_payment(
    question: &Question<'_>,
    command: &CardCommand,
    card: &Card,
) -> Result<(), DeclineReason> {
    let amount = question.offer.amount();
    if command.offer_digest != question.offer_digest {
        return Err(DeclineReason::OfferMismatch);
    }
    let good_for_ms = u64::from(question.offer.valid_for_s()) * 1_000 + OFFER_AGE_GRACE_MS;
    if question.offer_age_ms > good_for_ms {
        return Err(DeclineReason::OfferExpired);
    }
    if card.state == CardState::Blocked {
        return Err(DeclineReason::CardBlocked);
    }
    if card.not_after.is_none_or(|not_after| question.now > not_after) {
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
    if i64::try_from(amount.minor()).map_or(true, |minor| minor > question.available_minor) {
        return Err(DeclineReason::InsufficientFunds);
    }
    Ok(())
}
