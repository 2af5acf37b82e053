//! Receipts: the institution signs them, phone and terminal verify them.

use prost::Message;

use super::{
    CredentialError, KeyPurpose, Keyring, PayloadType, Signed, SigningKey, generated, malformed,
};
use crate::domain::{
    Amount, DeclineReason, OfferDigest, Receipt, ReceiptStatus, TransactionId, UnixTime,
};

const WHAT: &str = "receipt";

/// Signs a receipt with the institution's receipt key.
pub fn sign_receipt(receipt: &Receipt, institution_key: &SigningKey) -> Signed {
    let (status, decline_reason, approval_code) = match &receipt.status {
        ReceiptStatus::Approved { approval_code } => {
            (generated::ReceiptStatus::Approved, 0, approval_code.clone())
        }
        ReceiptStatus::Declined(reason) => {
            (generated::ReceiptStatus::Declined, reason.code(), String::new())
        }
        ReceiptStatus::Reversed => (generated::ReceiptStatus::Reversed, 0, String::new()),
    };
    let body = generated::Receipt {
        transaction_id: receipt.transaction_id.as_octets().to_vec(),
        offer_digest: receipt.offer_digest.0.to_vec(),
        status: status.into(),
        decline_reason,
        amount_minor: receipt.amount.minor(),
        currency: receipt.amount.currency().to_string(),
        terminal_id: receipt.terminal_id.to_string(),
        approval_code,
        decided_at_unix_s: receipt.decided_at.seconds,
        card_hint: receipt.card_hint.clone(),
    }
    .encode_to_vec();
    institution_key.sign(PayloadType::Receipt, body)
}

/// Verifies a receipt against the institution's keyring and reads it.
///
/// The caller still has to compare its transaction id and offer digest with the payment it is for.
///
/// # Errors
/// [`CredentialError`]: an unknown key, a bad signature, or a malformed body.
pub fn verify_receipt(signed: &Signed, keyring: &Keyring) -> Result<Receipt, CredentialError> {
    keyring
        .verifying_key(KeyPurpose::Receipt, signed, WHAT)?
        .verify(PayloadType::Receipt, signed)?;
    let message = generated::Receipt::decode(signed.body.as_slice())
        .map_err(|error| malformed(WHAT, error))?;
    let status = match message.status() {
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
        generated::ReceiptStatus::Unspecified => {
            return Err(malformed(WHAT, "no (or an unknown) status"));
        }
    };
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
        status,
        amount: Amount::new(message.amount_minor, currency)
            .map_err(|error| malformed(WHAT, error))?,
        terminal_id: message.terminal_id.parse().map_err(|error| malformed(WHAT, error))?,
        decided_at: UnixTime { seconds: message.decided_at_unix_s },
        card_hint: message.card_hint,
    })
}
