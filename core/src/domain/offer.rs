//! One payment as the person is asked for it.

use std::fmt;

use super::{Amount, TerminalId, TransactionId};

/// How long an offer may be good for, in seconds: an hour. Longer, and a person forgets what was
/// ordered.
pub const VALID_FOR_S_MAX: u32 = 3600;
/// How many line items an offer may have: what a phone's screen can scroll, and what fits the
/// message bound.
pub const LINE_ITEMS_MAX: usize = 32;
/// How long a reference or a line item's name may be, in octets of UTF-8.
pub const TEXT_OCTETS_MAX: usize = 64;
/// How long a merchant's name may be, in octets of UTF-8.
const MERCHANT_NAME_OCTETS_MAX: usize = 40;
/// The largest quantity of one line.
pub const QUANTITY_MAX: u32 = 10_000;

/// One line of what is paid for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineItem {
    /// At most [`TEXT_OCTETS_MAX`] octets.
    pub name: String,
    /// 1 to 10,000.
    pub quantity: u32,
    /// For the whole line, in minor units of the offer's currency.
    pub amount_minor: u64,
}

/// What the terminal offers and the card signs by its digest (patent claim 1: the transaction
/// information).
///
/// An `Offer` in hand has passed [`Offer::check`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Which payment.
    pub transaction_id: TransactionId,
    /// Whose machine.
    pub terminal_id: TerminalId,
    /// Who is paid, 1 to 40 octets.
    pub merchant_name: String,
    /// How much.
    pub amount: Amount,
    /// How long it is good for from when it was made, in seconds, 1 to [`VALID_FOR_S_MAX`].
    pub valid_for_s: u32,
    /// Random, new for each offer.
    pub nonce: [u8; 16],
    /// The till's reference, at most [`TEXT_OCTETS_MAX`] octets; may be empty.
    pub reference: String,
    /// At most [`LINE_ITEMS_MAX`]. Their amounts need not add up: a till may list before
    /// discounts.
    pub items: Vec<LineItem>,
    /// Reserve now and take when the goods were released; else both at once.
    pub capture_after_dispense: bool,
}

/// What is wrong with an offer, by the name of its field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {expected}")]
pub struct OfferError {
    /// The field's name.
    pub field: &'static str,
    /// What it should have been.
    pub expected: String,
}

impl Offer {
    /// Returns the offer if every field is in its range.
    ///
    /// # Errors
    /// [`OfferError`], naming the first field that is not.
    pub fn check(self) -> Result<Self, OfferError> {
        let fault = |field, expected: String| Err(OfferError { field, expected });
        if self.merchant_name.is_empty() || !is_line(&self.merchant_name, MERCHANT_NAME_OCTETS_MAX)
        {
            return fault(
                "merchant_name",
                format!("1 to {MERCHANT_NAME_OCTETS_MAX} octets on one line"),
            );
        }
        if !(1..=VALID_FOR_S_MAX).contains(&self.valid_for_s) {
            return fault("valid_for_s", format!("1 to {VALID_FOR_S_MAX} seconds"));
        }
        if !is_line(&self.reference, TEXT_OCTETS_MAX) {
            return fault("reference", format!("at most {TEXT_OCTETS_MAX} octets on one line"));
        }
        if self.items.len() > LINE_ITEMS_MAX {
            return fault("items", format!("at most {LINE_ITEMS_MAX}"));
        }
        for item in &self.items {
            if item.name.is_empty() || !is_line(&item.name, TEXT_OCTETS_MAX) {
                return fault("items.name", format!("1 to {TEXT_OCTETS_MAX} octets on one line"));
            }
            if !(1..=QUANTITY_MAX).contains(&item.quantity) {
                return fault("items.quantity", format!("1 to {QUANTITY_MAX}"));
            }
            if item.amount_minor > super::MINOR_UNITS_MAX {
                return fault("items.amount_minor", format!("at most {}", super::MINOR_UNITS_MAX));
            }
        }
        Ok(self)
    }
}

/// Text that a small screen can show: no control characters, and nothing that breaks a line, turns
/// the direction of writing or is not seen (Unicode Standard Annex 9), so nobody can paint over an
/// amount. Joiners (U+200C, U+200D) stay: Persian and emoji need them.
fn is_line(text: &str, octets_max: usize) -> bool {
    let misleads = |character: char| {
        character.is_control()
            || matches!(character, '\u{061c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    text.len() <= octets_max && !text.chars().any(misleads)
}

/// SHA-256 over the octets of an offer as they were sent: what the card signs.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct OfferDigest(pub [u8; 32]);

impl fmt::Debug for OfferDigest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

/// How the card's holder was verified on the phone, weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HolderVerification {
    /// Nobody was asked.
    None,
    /// The person consented on the screen.
    Consent,
    /// A passcode, checked by the phone.
    Passcode,
    /// A biometric trait, checked by the phone.
    Biometric,
}
