//! What a wallet checks before it shows, sends or believes something. Each check names what it
//! found.

use super::exchange::SessionSettings;
use crate::credential::{Keyring, Signed, TerminalCertificate, verify_exclusion, verify_receipt};
use crate::domain::{
    DeclineReason, Exclusion, Offer, Outcome, Receipt, ReceiptStatus, TerminalId, UnixTime,
};
use crate::protocol::{Fingerprint, ProtocolError, decode_offer};
use crate::wallet::{Card, PaymentRecord, PaymentStatus, ReceiptFault, Refusal};

/// How far the phone's clock may be behind the institution's, in seconds: a day covers wrong time
/// zones.
const CLOCK_BEHIND_S_MAX: u64 = 86_400;

/// Checks that the card can pay now.
pub(super) fn check_card(card: &Card, now: UnixTime) -> Result<(), Refusal> {
    let issued_at = card.keyring().issued_at;
    if now.seconds.saturating_add(CLOCK_BEHIND_S_MAX) < issued_at.seconds {
        return Err(Refusal::ClockBehind { now, issued_at });
    }
    if now > card.not_after() {
        return Err(Refusal::CardExpired(card.not_after()));
    }
    card.keyring().sealing_key(now).map(drop).map_err(Refusal::KeyringOutOfDate)
}

/// Checks that the institution vouches for the terminal, and that the person means it.
pub(super) fn check_terminal(
    certificate: &[u8],
    proven_key: &[u8; 32],
    expected: Option<TerminalId>,
    settings: &SessionSettings,
    keyring: &Keyring,
) -> Result<TerminalCertificate, Refusal> {
    // First the key itself: a look-alike is one whatever it shows.
    if settings.link.as_ref().is_some_and(|link| link.fingerprint != Fingerprint::of(proven_key)) {
        return Err(Refusal::LookAlike);
    }
    let signed = Signed::decode(certificate).map_err(Refusal::Certificate)?;
    let certificate = TerminalCertificate::verify(&signed, keyring, settings.wall_clock)
        .map_err(Refusal::Certificate)?;
    if certificate.channel_key != *proven_key {
        return Err(Refusal::CertificateOfAnotherKey);
    }
    let expected = settings.link.as_ref().map(|link| link.terminal_id).or(expected);
    match expected {
        Some(expected) if expected != certificate.terminal_id => {
            return Err(Refusal::OtherTerminal { expected, found: certificate.terminal_id });
        }
        Some(_) | None => {}
    }
    match &settings.short_code {
        Some(expected) if expected != certificate.terminal_id.short_code() => {
            Err(Refusal::OtherShortCode {
                expected: expected.clone(),
                found: certificate.terminal_id,
            })
        }
        Some(_) | None => Ok(certificate),
    }
}

/// Why an offer is not shown to the person.
pub(super) enum OfferFault {
    Malformed(ProtocolError),
    Refused(Refusal),
}

/// Checks that the offer is the terminal's own, that the person means it, and the limits.
pub(super) fn check_offer(
    octets: &[u8],
    certificate: &TerminalCertificate,
    settings: &SessionSettings,
    card: &Card,
) -> Result<Offer, OfferFault> {
    let offer = decode_offer(octets).map_err(OfferFault::Malformed)?;
    let link_transaction = settings.link.as_ref().and_then(|link| link.transaction_id);
    let card_limit = card.payment_limit();
    let limit = match settings.limit {
        Some(limit)
            if limit.currency() == card_limit.currency() && limit.minor() >= card_limit.minor() =>
        {
            card_limit
        }
        Some(limit) => limit,
        None => card_limit,
    };
    let refusal = if offer.terminal_id() != certificate.terminal_id {
        Refusal::OfferOfAnotherTerminal
    } else if offer.merchant_name() != certificate.merchant_name {
        Refusal::OfferOfAnotherMerchant
    } else if link_transaction.is_some_and(|id| id != offer.transaction_id()) {
        Refusal::OtherTransaction
    } else if offer.amount().currency() != card_limit.currency()
        || offer.amount().currency() != limit.currency()
    {
        Refusal::OtherCurrency { amount: offer.amount(), card: card_limit.currency() }
    } else if offer.amount().minor() > limit.minor() {
        Refusal::OverLimit { amount: offer.amount(), limit }
    } else {
        return Ok(offer);
    };
    Err(OfferFault::Refused(refusal))
}

/// Does the receipt prove what the terminal says?
pub(super) fn check_result(
    record: &PaymentRecord,
    outcome: Outcome,
    receipt: Option<&[u8]>,
    keyring: &Keyring,
    now: UnixTime,
) -> Result<Receipt, ReceiptFault> {
    let octets = receipt.ok_or(ReceiptFault::Missing)?;
    let receipt = Signed::decode(octets)
        .and_then(|signed| verify_receipt(&signed, keyring, now))
        .map_err(ReceiptFault::Credential)?;
    let is_status_told = match (&receipt.status, outcome) {
        (ReceiptStatus::Approved { .. }, Outcome::Approved)
        | (ReceiptStatus::Captured { .. }, Outcome::Captured)
        | (ReceiptStatus::Reversed, Outcome::Reversed) => true,
        (ReceiptStatus::Declined(proven), Outcome::Declined(told)) => *proven == told,
        (
            ReceiptStatus::Approved { .. }
            | ReceiptStatus::Captured { .. }
            | ReceiptStatus::Declined(_)
            | ReceiptStatus::Reversed,
            _,
        ) => false,
    };
    // Where the terminal showed the institution another offer than the person, the institution
    // declines, and its receipt names the other offer. That is proof enough: the transaction is
    // declined whatever was offered.
    let may_differ = matches!(
        receipt.status,
        ReceiptStatus::Declined(DeclineReason::OfferMismatch | DeclineReason::MalformedCommand)
    );
    let fault = if receipt.transaction_id != record.transaction_id() {
        ReceiptFault::OtherTransaction
    } else if receipt.terminal_id != record.offer().terminal_id() {
        ReceiptFault::OtherTerminal
    } else if receipt.offer_digest != record.offer_digest() && !may_differ {
        ReceiptFault::OtherOffer
    } else if receipt.amount != record.offer().amount() && !may_differ {
        ReceiptFault::OtherAmount
    } else if receipt.command_digest != record.command_digest() {
        ReceiptFault::OtherCommand
    } else if !is_status_told {
        ReceiptFault::OtherStatus
    } else if is_outdated(&receipt, record.status) {
        ReceiptFault::Outdated
    } else {
        return Ok(receipt);
    };
    Err(fault)
}

/// Given back and taken are last words: a receipt of an earlier state is an old one.
fn is_outdated(receipt: &Receipt, status: PaymentStatus) -> bool {
    match (status, &receipt.status) {
        (PaymentStatus::Reversed, ReceiptStatus::Reversed)
        | (PaymentStatus::Captured, ReceiptStatus::Captured { .. }) => false,
        (PaymentStatus::Reversed | PaymentStatus::Captured, _) => true,
        (
            PaymentStatus::Pending
            | PaymentStatus::NotSent
            | PaymentStatus::Approved
            | PaymentStatus::Declined
            | PaymentStatus::NotCharged
            | PaymentStatus::NotProven,
            _,
        ) => false,
    }
}

/// Does what the terminal shows prove that this wallet's command was not used?
pub(super) fn check_exclusion(
    record: &PaymentRecord,
    octets: &[u8],
    keyring: &Keyring,
    now: UnixTime,
) -> Result<Exclusion, ReceiptFault> {
    let exclusion = Signed::decode(octets)
        .and_then(|signed| verify_exclusion(&signed, keyring, now))
        .map_err(ReceiptFault::Credential)?;
    let (id, terminal) = (record.transaction_id(), record.offer().terminal_id());
    if record.receipt.is_none() && exclusion.excludes(id, terminal, record.command_digest()) {
        Ok(exclusion)
    } else {
        Err(ReceiptFault::NoExclusion)
    }
}
