//! A payment and the terminal's state as JSON. docs/till-api.md says what each field means.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::TillStatus;
use crate::protocol::EngagementLink;
use crate::terminal::PaymentView;

/// A payment as the till API shows it. The command line reads the same type back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentJson {
    pub transaction_id: String,
    /// The id by which phone and institution know it.
    pub current_transaction_id: String,
    /// The name of the state.
    pub state: String,
    /// Why it is in this state; most states have no reason.
    pub reason: Option<String>,
    /// Release the goods, if you have not yet.
    pub release: bool,
    /// The terminal does not know whether the goods were released: tell it.
    pub dispense_unknown: bool,
    /// The institution's answer contradicts the journal or proves nothing: an operator has to look.
    pub disputed: bool,
    /// Goods were released, and the money for them was given back or never taken.
    pub given_away: bool,
    /// Nothing more happens to it.
    #[serde(rename = "final")]
    pub is_final: bool,
    /// In minor units of `currency`.
    pub amount_minor: u64,
    /// ISO 4217.
    pub currency: String,
    /// For people: `2.50 EUR`.
    pub amount: String,
    /// The till's reference; may be empty.
    pub reference: String,
    /// `at_once` or `after_dispense`.
    pub capture: String,
    /// Six digits for each phone that sees the offer now.
    pub matching_codes: Vec<String>,
    /// For a QR code on a screen.
    pub engagement_link: String,
    /// In the form of RFC 3339, by the terminal's clock.
    pub created_at: String,
    /// In the form of RFC 3339, by the terminal's clock.
    pub updated_at: String,
}

impl PaymentJson {
    /// Shows a payment. `sticker` is the engagement link of the terminal.
    pub fn of(view: &PaymentView, sticker: &EngagementLink) -> Self {
        let current = view.current_transaction_id;
        let link = EngagementLink { transaction_id: Some(current), ..sticker.clone() };
        Self {
            transaction_id: view.transaction_id.to_string(),
            current_transaction_id: current.to_string(),
            state: view.state.name().to_owned(),
            reason: Some(view.state.reason())
                .filter(|reason| !reason.is_empty())
                .map(str::to_owned),
            release: view.release,
            dispense_unknown: view.dispense_unknown,
            disputed: view.disputed,
            given_away: view.given_away,
            is_final: view.state.is_final(),
            amount_minor: view.amount.minor(),
            currency: view.amount.currency().to_string(),
            amount: view.amount.to_string(),
            reference: view.reference.clone(),
            capture: if view.capture_after_dispense { "after_dispense" } else { "at_once" }
                .to_owned(),
            matching_codes: view.matching_codes.clone(),
            engagement_link: link.to_string(),
            created_at: view.created_at.to_string(),
            updated_at: view.updated_at.to_string(),
        }
    }

    /// The entity tag (RFC 9110, 8.8.3): it changes if and only if something that the till can see
    /// changes.
    pub(super) fn entity_tag(&self) -> String {
        let octets = serde_json::to_vec(self).unwrap_or_default();
        format!("\"{}\"", data_encoding::HEXLOWER.encode(&Sha256::digest(octets)[..8]))
    }
}

/// `GET /v1/payments`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentsJson {
    /// Newest first; oldest first if only open ones were asked for.
    pub payments: Vec<PaymentJson>,
    /// How many more are open; only if only open ones were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub more: Option<usize>,
}

/// `GET /v1/status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusJson {
    pub terminal_id: String,
    /// The last four characters of the terminal id, as printed on the machine and advertised.
    pub short_code: String,
    /// Whether it can take payments now.
    pub in_service: bool,
    /// Why it cannot, and what to do.
    pub reason: Option<String>,
    /// For a QR code on a sticker.
    pub engagement_link: String,
    /// How many payments are not final.
    pub open_payments: usize,
    /// The age of the oldest of them, in seconds.
    pub oldest_open_s: u64,
    /// The oldest 5 of the payments that were escalated to an operator: they are old or disputed.
    pub escalated: Vec<String>,
    /// The version of the service.
    pub version: String,
}

impl StatusJson {
    /// Shows the terminal's state. `sticker` is its engagement link.
    pub fn of(status: TillStatus, sticker: &EngagementLink) -> Self {
        Self {
            terminal_id: sticker.terminal_id.to_string(),
            short_code: sticker.terminal_id.short_code().to_owned(),
            in_service: status.out_of_service.is_none(),
            reason: status.out_of_service,
            engagement_link: sticker.to_string(),
            open_payments: status.open_payments,
            oldest_open_s: status.oldest_open_s,
            escalated: status.escalated.iter().map(ToString::to_string).collect(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}
