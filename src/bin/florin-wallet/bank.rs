//! What the command line asks the bank itself, over the network.

use std::sync::Arc;

use florin::domain::displayable;
use florin::wallet::{
    Card, ListedPayment, Online, OnlineError, PaymentRecord, PendingReason, SessionEnd,
    WalletDirectory, ask_online,
};
use serde_json::json;

use crate::screen::{self, Screen, SessionContext, Style, wall_clock};

/// How long the bank may take before the machine is asked, in milliseconds.
const RESULT_MS_MAX: u64 = 10_000;
/// How many payments are listed.
const LISTED_MAX: usize = 1_000;

/// Asks the bank what became of a payment, and shows it; returns the exit code. None if the bank
/// has not seen the payment.
pub async fn ask_about(
    directory: &WalletDirectory,
    screen: &Screen,
    record: &PaymentRecord,
) -> Result<Option<u8>, OnlineError> {
    screen.event(json!({ "event": "asking_bank" }));
    screen.say(&screen.styled(Style::Faint, "Asking your bank ..."));
    let card = Arc::new(directory.card(record.card_name())?);
    let end = ask_online(directory, card, record, wall_clock(), RESULT_MS_MAX).await?;
    if matches!(end, SessionEnd::Pending(_)) {
        return Ok(None);
    }
    let context = SessionContext { offer: Some(record.offer()), matching_code: None };
    Ok(Some(screen.end(&end, &context)))
}

/// Shows that the bank has not seen a payment; returns the exit code.
pub fn not_seen(screen: &Screen, record: &PaymentRecord) -> u8 {
    let context = SessionContext { offer: Some(record.offer()), matching_code: None };
    screen.end(&SessionEnd::Pending(PendingReason::NotSeen), &context)
}

/// Lists the payments that the bank decided on a card's commands, newest first.
pub async fn list(directory: &WalletDirectory, screen: &Screen, card: Card) -> anyhow::Result<u8> {
    let mut online = Online::connect(directory, Arc::new(card), wall_clock()).await?;
    let payments = online.payments(LISTED_MAX).await?;
    if payments.is_empty() {
        screen.say("Your bank has no payment of this card.");
    }
    for payment in payments {
        let ListedPayment { transaction_id, standing, amount, .. } = payment;
        let style = match standing {
            "paid" => Style::Good,
            "declined" => Style::Bad,
            "reserved" => Style::Doubtful,
            _ => Style::Faint,
        };
        let receipt = payment.receipt.as_ref();
        let refunded_minor = receipt.and_then(screen::refunded_minor);
        let approval_code = receipt.and_then(screen::approval_code);
        screen.event(json!({
            "event": "payment",
            "transaction_id": transaction_id.to_string(),
            "standing": standing,
            "amount_minor": amount.minor(),
            "refunded_minor": refunded_minor,
            "currency": amount.currency().to_string(),
            "merchant": payment.merchant_name,
            "terminal_id": receipt.map(|receipt| receipt.terminal_id.to_string()),
            "approval_code": approval_code,
            "receipt_verified": receipt.is_some(),
            "created_at": payment.created_at.to_string(),
        }));
        screen.say(&format!(
            "{}  {:>14}  {}  {transaction_id}  {}  {}{}",
            payment.created_at,
            amount.to_string(),
            screen.styled(style, &format!("{:<11}", standing.replace('_', " "))),
            displayable(&payment.merchant_name),
            approval_code.unwrap_or_default(),
            screen::refund_words(amount.currency(), refunded_minor),
        ));
    }
    Ok(0)
}

/// Renews a card: keys, limits, and the counter after a wallet was restored from a copy.
pub async fn refresh(
    directory: &WalletDirectory,
    screen: &Screen,
    card: Card,
) -> anyhow::Result<u8> {
    let name = card.name().clone();
    let mut online = Online::connect(directory, Arc::new(card), wall_clock()).await?;
    let standing = online.standing().await?;
    screen.event(json!({
        "event": "refreshed",
        "card": name.as_str(),
        "counter": standing.counter,
        "counter_before": standing.counter_before,
        "is_keyring_new": standing.is_keyring_new,
        "payment_limit_minor": standing.payment_limit.minor(),
        "currency": standing.payment_limit.currency().to_string(),
        "not_after": standing.not_after.to_string(),
        "is_blocked": standing.is_blocked,
    }));
    screen.say(&format!(
        "{} Card {name}, up to {} at once, good until {}.",
        screen.styled(Style::Good, "Renewed."),
        standing.payment_limit,
        standing.not_after,
    ));
    if let Some(before) = standing.counter_before {
        let (counter, words) = (standing.counter, "This wallet was restored from a copy");
        screen.say(&format!(
            "{words}: the card's counter was {before}, your bank has seen {counter}. It goes on \
             after that."
        ));
    }
    if standing.is_blocked {
        screen.say(&screen.styled(Style::Bad, "Your bank has blocked this card; ask your bank."));
    }
    Ok(0)
}
