//! `florin-wallet receipts`: the payments of this wallet, with their receipts verified again.

use florin::domain::displayable;
use florin::wallet::{PaymentStatus, WalletDirectory};
use serde_json::json;

use crate::screen::{self, Screen, Style};

/// Lists the payments of this wallet.
pub fn list(directory: &WalletDirectory, screen: &Screen) -> anyhow::Result<u8> {
    let records = directory.records()?;
    if records.is_empty() {
        screen.say("Nothing paid yet.");
    }
    for record in records {
        let card = directory.card(record.card_name()).ok();
        let receipt =
            card.as_ref().and_then(|card| record.verified_receipt(card.keyring()).ok().flatten());
        let approval_code = receipt.as_ref().and_then(screen::approval_code);
        let refunded_minor = receipt.as_ref().and_then(screen::refunded_minor);
        let offer = record.offer();
        screen.event(json!({
            "event": "receipt",
            "transaction_id": record.transaction_id().to_string(),
            "outcome": record.status.name(),
            "standing": record.standing(),
            "refunded_minor": refunded_minor,
            "amount_minor": offer.amount().minor(),
            "currency": offer.amount().currency().to_string(),
            "merchant": offer.merchant_name(),
            "terminal_id": offer.terminal_id().to_string(),
            "reference": offer.reference(),
            "card": record.card_name().as_str(),
            "approval_code": approval_code,
            "receipt_verified": receipt.is_some(),
            "created_at": record.created_at().to_string(),
            "decided_at": receipt.as_ref().map(|receipt| receipt.decided_at.to_string()),
        }));
        let style = match record.status {
            PaymentStatus::Approved if record.is_reserved() => Style::Doubtful,
            PaymentStatus::Approved | PaymentStatus::Captured => Style::Good,
            PaymentStatus::Declined => Style::Bad,
            PaymentStatus::Pending | PaymentStatus::NotProven => Style::Doubtful,
            PaymentStatus::NotSent | PaymentStatus::Reversed | PaymentStatus::NotCharged => {
                Style::Faint
            }
        };
        let proof = match (&receipt, &record.receipt) {
            (Some(_), _) => format!(
                "verified {}{}",
                approval_code.unwrap_or_default(),
                screen::refund_words(offer.amount().currency(), refunded_minor),
            ),
            (None, Some(_)) => "NOT VERIFIED".to_owned(),
            (None, None) => String::new(),
        };
        screen.say(&format!(
            "{}  {:>14}  {}  {}  {}  {}",
            record.created_at(),
            offer.amount().to_string(),
            screen.styled(style, &format!("{:<11}", record.standing().replace('_', " "))),
            record.transaction_id(),
            displayable(offer.merchant_name()),
            proof.trim_end(),
        ));
    }
    Ok(0)
}
