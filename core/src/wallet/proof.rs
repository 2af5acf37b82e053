//! What proves to a wallet how a payment stands: receipts and exclusions that the institution
//! signed about this wallet's own command, whoever handed them over.

use super::{PaymentRecord, PaymentStatus, ReceiptFault, SessionEnd};
use crate::credential::{Keyring, Signed, verify_exclusion, verify_receipt};
use crate::domain::{DeclineReason, Exclusion, Receipt, ReceiptStatus, UnixTime};

/// Does this prove something about the payment of the record, and nothing older than what the
/// record has?
///
/// # Errors
/// [`ReceiptFault`], naming what does not fit.
pub fn check_receipt(
    record: &PaymentRecord,
    octets: &[u8],
    keyring: &Keyring,
    now: UnixTime,
) -> Result<Receipt, ReceiptFault> {
    let receipt = Signed::decode(octets)
        .and_then(|signed| verify_receipt(&signed, keyring, now))
        .map_err(ReceiptFault::Credential)?;
    // Where the terminal showed the institution another offer than the person, the institution
    // declines, and its receipt names the other offer. That is proof enough: the transaction is
    // declined whatever was offered.
    let may_differ = matches!(
        receipt.status,
        ReceiptStatus::Declined(DeclineReason::OfferMismatch | DeclineReason::MalformedCommand)
    );
    if receipt.transaction_id != record.transaction_id() {
        Err(ReceiptFault::OtherTransaction)
    } else if receipt.terminal_id != record.offer().terminal_id() {
        Err(ReceiptFault::OtherTerminal)
    } else if receipt.offer_digest != record.offer_digest() && !may_differ {
        Err(ReceiptFault::OtherOffer)
    } else if receipt.amount != record.offer().amount() && !may_differ {
        Err(ReceiptFault::OtherAmount)
    } else if receipt.command_digest != record.command_digest() {
        Err(ReceiptFault::OtherCommand)
    } else if is_outdated(&receipt, record, keyring) {
        Err(ReceiptFault::Outdated)
    } else {
        Ok(receipt)
    }
}

/// Does this prove that the command of the record was not used and never will be?
///
/// # Errors
/// [`ReceiptFault`], naming what does not fit.
pub fn check_exclusion(
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

/// Puts a receipt that was checked into the record; how the payment stands by it.
pub fn settle(record: &mut PaymentRecord, receipt: Receipt, octets: Vec<u8>) -> SessionEnd {
    record.status = match receipt.status {
        ReceiptStatus::Approved { .. } => PaymentStatus::Approved,
        ReceiptStatus::Captured { .. } => PaymentStatus::Captured,
        ReceiptStatus::Declined(_) => PaymentStatus::Declined,
        ReceiptStatus::Reversed => PaymentStatus::Reversed,
    };
    record.receipt = Some(octets);
    if record.is_reserved() { SessionEnd::Reserved(receipt) } else { SessionEnd::Settled(receipt) }
}

/// Puts an exclusion that was checked into the record; how the payment stands by it.
pub fn exclude(record: &mut PaymentRecord, exclusion: Exclusion, octets: Vec<u8>) -> SessionEnd {
    record.status = PaymentStatus::NotCharged;
    record.exclusion = Some(octets);
    SessionEnd::NotCharged(exclusion)
}

/// Given back and taken are last words, and what was refunded is never taken again: a receipt of an
/// earlier state is an old one.
fn is_outdated(receipt: &Receipt, record: &PaymentRecord, keyring: &Keyring) -> bool {
    let refunded = |receipt: &Receipt| match receipt.status {
        ReceiptStatus::Captured { refunded_minor, .. } => Some(refunded_minor),
        ReceiptStatus::Approved { .. } | ReceiptStatus::Declined(_) | ReceiptStatus::Reversed => {
            None
        }
    };
    match record.status {
        PaymentStatus::Reversed => receipt.status != ReceiptStatus::Reversed,
        PaymentStatus::Captured => {
            let known = record.verified_receipt(keyring).ok().flatten();
            refunded(receipt) < known.as_ref().and_then(refunded).or(Some(0))
        }
        PaymentStatus::Pending
        | PaymentStatus::NotSent
        | PaymentStatus::Approved
        | PaymentStatus::Declined
        | PaymentStatus::NotCharged
        | PaymentStatus::NotProven => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::sign_exclusion;
    use crate::protocol::encode_offer;
    use crate::wallet::fixtures::{
        NOW, card, offer, receipt, receipt_key, signed_receipt, terminal_id, transaction_id,
    };

    fn record() -> PaymentRecord {
        let (name, hint) = (card().name().clone(), card().card_id().hint());
        PaymentRecord::new(encode_offer(&offer()), name, hint, vec![1, 2, 3], NOW).unwrap()
    }

    fn captured(record: &PaymentRecord, refunded_minor: u64) -> Receipt {
        let status = ReceiptStatus::Captured { approval_code: "123456".into(), refunded_minor };
        Receipt { status, ..receipt(record.command_digest()) }
    }

    #[test]
    fn what_was_refunded_only_grows_and_what_was_taken_stays_taken() {
        let mut record = record();
        let check = |record: &PaymentRecord, receipt: &Receipt| {
            check_receipt(record, &signed_receipt(receipt), card().keyring(), NOW)
        };
        let half = captured(&record, 125);
        check(&record, &half).unwrap();
        settle(&mut record, half.clone(), signed_receipt(&half));
        assert_eq!(record.standing(), "paid");
        assert_eq!(check(&record, &half), Ok(half));
        let all = captured(&record, 250);
        assert_eq!(check(&record, &all), Ok(all));
        let approved = receipt(record.command_digest());
        let reversed = Receipt { status: ReceiptStatus::Reversed, ..approved.clone() };
        for older in [captured(&record, 0), captured(&record, 124), approved, reversed] {
            assert_eq!(check(&record, &older), Err(ReceiptFault::Outdated));
        }
    }

    #[test]
    fn an_exclusion_takes_nothing_back_that_a_receipt_proves() {
        let mut record = record();
        let exclusion = Exclusion {
            transaction_id: transaction_id(),
            terminal_id: terminal_id(),
            command_digest: None,
            decided_at: NOW,
        };
        let octets = sign_exclusion(&exclusion, &receipt_key()).encode();
        assert_eq!(check_exclusion(&record, &octets, card().keyring(), NOW), Ok(exclusion));
        let approved = receipt(record.command_digest());
        settle(&mut record, approved.clone(), signed_receipt(&approved));
        assert_eq!(
            check_exclusion(&record, &octets, card().keyring(), NOW),
            Err(ReceiptFault::NoExclusion)
        );
    }
}
