//! A payment and the terminal's state as JSON. docs/till-api.md says what each field means.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::TillStatus;
use crate::protocol::EngagementLink;
use crate::terminal::PaymentView;

/// A payment as the till API shows it. The command line reads the same type back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentJson {
    /// Which payment.
    pub transaction_id: String,
    /// The state's name.
    pub state: String,
    /// What goes with the state; none for most.
    pub reason: Option<String>,
    /// Release the goods, if you have not yet.
    pub release: bool,
    /// Nobody knows what became of the goods: say it.
    pub dispense_unknown: bool,
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
    /// What a QR code on the screen says.
    pub engagement_link: String,
    /// RFC 3339, by the terminal's clock.
    pub created_at: String,
    /// Likewise.
    pub updated_at: String,
}

impl PaymentJson {
    /// The payment, with the link that leads a phone to it.
    pub fn of(view: &PaymentView, sticker: &EngagementLink) -> Self {
        let link = EngagementLink { transaction_id: Some(view.transaction_id), ..sticker.clone() };
        Self {
            transaction_id: view.transaction_id.to_string(),
            state: view.state.name().to_owned(),
            reason: Some(view.state.reason())
                .filter(|reason| !reason.is_empty())
                .map(str::to_owned),
            release: view.release,
            dispense_unknown: view.dispense_unknown,
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

    /// The entity tag (RFC 9110, 8.8.3): equal exactly where nothing that the till can see has
    /// changed.
    pub(super) fn entity_tag(&self) -> String {
        let octets = serde_json::to_vec(self).unwrap_or_default();
        format!("\"{}\"", data_encoding::HEXLOWER.encode(&Sha256::digest(octets)[..8]))
    }
}

/// `GET /v1/payments`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentsJson {
    /// Newest first; where only open ones were asked for, oldest first.
    pub payments: Vec<PaymentJson>,
    /// How many are open beyond these; only where only open ones were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub more: Option<usize>,
}

/// `GET /v1/status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusJson {
    /// Which terminal.
    pub terminal_id: String,
    /// The last four characters of it: on the machine, and in the advertised name.
    pub short_code: String,
    /// Can it take payments now?
    pub in_service: bool,
    /// Why not, and what to do.
    pub reason: Option<String>,
    /// What a sticker on the machine says.
    pub engagement_link: String,
    /// How many payments are not final.
    pub open_payments: usize,
    /// The age of the oldest of them, in seconds.
    pub oldest_open_s: u64,
    /// Those that are open for so long that a person should look; the oldest 5.
    pub escalated: Vec<String>,
    /// Of the service.
    pub version: String,
}

impl StatusJson {
    /// The terminal's state.
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
