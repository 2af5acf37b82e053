//! What a wallet checks before it shows, sends or believes something. Each check names what it
//! found.

use super::exchange::SessionSettings;
use crate::credential::{Keyring, Signed, TerminalCertificate, verify_receipt};
use crate::domain::{
    Offer, Outcome, Receipt, ReceiptMismatch, ReceiptStatus, ReceiptSubject, TerminalId, UnixTime,
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

/// Does the receipt prove what the terminal says? `None` where there need be none: reversed before
/// any approval.
pub(super) fn check_result(
    record: &PaymentRecord,
    outcome: Outcome,
    receipt: Option<&[u8]>,
    keyring: &Keyring,
) -> Result<Option<Receipt>, ReceiptFault> {
    let Some(octets) = receipt else {
        let was_approved = record.receipt.is_some();
        return if outcome == Outcome::Reversed && !was_approved {
            Ok(None)
        } else {
            Err(ReceiptFault::Missing)
        };
    };
    let receipt = Signed::decode(octets)
        .and_then(|signed| verify_receipt(&signed, keyring))
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
    let mismatch = receipt.mismatch(&ReceiptSubject {
        transaction_id: record.transaction_id(),
        terminal_id: record.offer().terminal_id(),
        offer_digest: record.offer_digest(),
        amount: record.offer().amount(),
        command_digest: Some(record.command_digest()),
    });
    let fault = if let Some(mismatch) = mismatch {
        match mismatch {
            ReceiptMismatch::Transaction => ReceiptFault::OtherTransaction,
            ReceiptMismatch::Terminal => ReceiptFault::OtherTerminal,
            ReceiptMismatch::Offer => ReceiptFault::OtherOffer,
            ReceiptMismatch::Amount => ReceiptFault::OtherAmount,
            ReceiptMismatch::Command => ReceiptFault::OtherCommand,
        }
    } else if !is_status_told {
        ReceiptFault::OtherStatus
    } else if record.status == PaymentStatus::Reversed && receipt.status != ReceiptStatus::Reversed
    {
        // Given back is the last word; an approval after it is an old receipt.
        ReceiptFault::Outdated
    } else {
        return Ok(Some(receipt));
    };
    Err(fault)
}
