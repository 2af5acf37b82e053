//! Receipts: the institution signs them, phone and terminal verify them.

use prost::Message;

use super::{
    CredentialError, KeyPurpose, Keyring, PayloadType, Signed, SigningKey, enumeration, generated,
    malformed, number_of,
};
use crate::domain::{
    Amount, CommandDigest, DeclineReason, OfferDigest, Receipt, ReceiptStatus, TransactionId,
    UnixTime, check_displayed_text,
};

const WHAT: &str = "receipt";

/// Signs a receipt with the institution's receipt key.
pub fn sign_receipt(receipt: &Receipt, institution_key: &SigningKey) -> Signed {
    let mut body = generated::Receipt {
        transaction_id: receipt.transaction_id.as_octets().to_vec(),
        offer_digest: receipt.offer_digest.0.to_vec(),
        command_digest: receipt.command_digest.0.to_vec(),
        amount_minor: receipt.amount.minor(),
        currency: receipt.amount.currency().to_string(),
        terminal_id: receipt.terminal_id.to_string(),
        decided_at_unix_s: receipt.decided_at.seconds,
        ..Default::default()
    };
    match &receipt.status {
        ReceiptStatus::Approved { approval_code } => {
            body.status = number_of(generated::ReceiptStatus::Approved);
            body.approval_code.clone_from(approval_code);
        }
        ReceiptStatus::Declined(reason) => {
            body.status = number_of(generated::ReceiptStatus::Declined);
            body.decline_reason = reason.code().into();
        }
        ReceiptStatus::Reversed => body.status = number_of(generated::ReceiptStatus::Reversed),
        ReceiptStatus::Captured { approval_code, refunded_minor } => {
            body.status = number_of(generated::ReceiptStatus::Captured);
            body.approval_code.clone_from(approval_code);
            body.refunded_minor = *refunded_minor;
        }
    }
    institution_key.sign(PayloadType::Receipt, body.encode_to_vec())
}

/// Verifies a receipt against the institution's keyring, with a key whose time has not run out at
/// `now`, and reads it.
///
/// The caller still has to compare its transaction id and offer digest with the payment it is for.
///
/// # Errors
/// [`CredentialError`]: an unknown or ended key, a bad signature, or a malformed body.
pub fn verify_receipt(
    signed: &Signed,
    keyring: &Keyring,
    now: UnixTime,
) -> Result<Receipt, CredentialError> {
    keyring
        .verifying_key(KeyPurpose::Receipt, signed, WHAT, now)?
        .verify(PayloadType::Receipt, signed)?;
    let message = generated::Receipt::decode(signed.body.as_slice())
        .map_err(|error| malformed(WHAT, error))?;
    let status = match enumeration(message.status) {
        generated::ReceiptStatus::Approved => {
            ReceiptStatus::Approved { approval_code: message.approval_code.clone() }
        }
        generated::ReceiptStatus::Declined => {
            let reason = DeclineReason::heard(message.decline_reason);
            ReceiptStatus::Declined(
                reason.ok_or_else(|| malformed(WHAT, "declined for no reason"))?,
            )
        }
        generated::ReceiptStatus::Reversed => ReceiptStatus::Reversed,
        generated::ReceiptStatus::Captured => {
            if message.refunded_minor > message.amount_minor {
                return Err(malformed(WHAT, "more was given back than taken"));
            }
            ReceiptStatus::Captured {
                approval_code: message.approval_code.clone(),
                refunded_minor: message.refunded_minor,
            }
        }
        generated::ReceiptStatus::Unspecified => {
            return Err(malformed(WHAT, "no (or an unknown) status"));
        }
    };
    // Phones show it, and terminals may print it.
    if matches!(status, ReceiptStatus::Approved { .. } | ReceiptStatus::Captured { .. }) {
        check_displayed_text(&message.approval_code, 1..=usize::MAX)
            .map_err(|error| malformed(WHAT, format!("approval_code: {error}")))?;
    }
    let currency = message.currency.parse().map_err(|error| malformed(WHAT, error))?;
    Ok(Receipt {
        transaction_id: TransactionId::from_octets(&message.transaction_id)
            .map_err(|error| malformed(WHAT, error))?,
        offer_digest: OfferDigest(
            message
                .offer_digest
                .as_slice()
                .try_into()
                .map_err(|_| malformed(WHAT, "an offer digest that has not 32 octets"))?,
        ),
        command_digest: CommandDigest(
            message
                .command_digest
                .as_slice()
                .try_into()
                .map_err(|_| malformed(WHAT, "a command digest that has not 32 octets"))?,
        ),
        status,
        amount: Amount::new(message.amount_minor, currency)
            .map_err(|error| malformed(WHAT, error))?,
        terminal_id: message.terminal_id.parse().map_err(|error| malformed(WHAT, error))?,
        decided_at: UnixTime { seconds: message.decided_at_unix_s },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wallet::fixtures;

    #[test]
    fn an_approval_code_that_repaints_the_screen_is_malformed() {
        let receipt = fixtures::receipt(CommandDigest([1; 32]));
        let read = |code: &str| {
            let status = ReceiptStatus::Approved { approval_code: code.into() };
            let signed =
                sign_receipt(&Receipt { status, ..receipt.clone() }, &fixtures::receipt_key());
            verify_receipt(&signed, fixtures::card().keyring(), fixtures::NOW)
        };
        read("A1B2C3").unwrap();
        for code in ["", "12\u{202e}34", "\u{1b}[2J", "\u{3164}"] {
            let refused = read(code).unwrap_err().to_string();
            assert!(refused.contains("approval_code"), "{refused}");
        }
    }
}
