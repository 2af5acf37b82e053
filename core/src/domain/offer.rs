//! One payment as the terminal offers it to a person.

use std::fmt;

use super::{Amount, MINOR_UNITS_MAX, TerminalId, TransactionId};

/// The longest validity of an offer, in seconds: an hour. After that a person has forgotten what
/// was ordered.
pub const VALID_FOR_S_MAX: u32 = 3600;
/// The most line items of an offer: a phone's screen can scroll through them, and they fit into a
/// message.
pub const LINE_ITEMS_MAX: usize = 32;
/// The longest reference, and the longest name of a line item, in octets of UTF-8.
pub const TEXT_OCTETS_MAX: usize = 64;
/// The longest merchant name, in octets of UTF-8.
const MERCHANT_NAME_OCTETS_MAX: usize = 40;
/// The largest quantity of one line.
pub const QUANTITY_MAX: u32 = 10_000;

/// One line of what is paid for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineItem {
    /// 1 to [`TEXT_OCTETS_MAX`] octets.
    pub name: String,
    /// 1 to 10,000.
    pub quantity: u32,
    /// For the whole line, in minor units of the offer's currency.
    pub amount_minor: u64,
}

/// What the terminal offers and the card signs by its digest (patent claim 1: the transaction
/// information). Every field is in its range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer(OfferParts);

/// The fields of an offer, in their ranges or not. [`Offer::new`] finds out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfferParts {
    pub transaction_id: TransactionId,
    pub terminal_id: TerminalId,
    /// 1 to 40 octets.
    pub merchant_name: String,
    pub amount: Amount,
    /// How long the offer is good for, in seconds after it was made, 1 to [`VALID_FOR_S_MAX`].
    pub valid_for_s: u32,
    /// Random, new for each offer.
    pub nonce: [u8; 16],
    /// The till's reference, at most [`TEXT_OCTETS_MAX`] octets; may be empty.
    pub reference: String,
    /// At most [`LINE_ITEMS_MAX`]. Their amounts need not add up to the offer's amount: a till may
    /// list prices before discounts.
    pub items: Vec<LineItem>,
    /// Reserve the amount now and take it when the goods were released; otherwise do both at once.
    pub capture_after_dispense: bool,
}

/// What is wrong with a field of an offer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {expected}")]
pub struct OfferError {
    pub field: &'static str,
    pub expected: String,
}

impl Offer {
    /// Makes an offer of its parts.
    ///
    /// # Errors
    /// [`OfferError`], naming the first field that is out of its range.
    pub fn new(parts: OfferParts) -> Result<Self, OfferError> {
        let out_of_range = |field, expected: String| Err(OfferError { field, expected });
        let name = &parts.merchant_name;
        if name.is_empty() || !is_line(name, MERCHANT_NAME_OCTETS_MAX) {
            return out_of_range(
                "merchant_name",
                format!("1 to {MERCHANT_NAME_OCTETS_MAX} octets on one line"),
            );
        }
        if !(1..=VALID_FOR_S_MAX).contains(&parts.valid_for_s) {
            return out_of_range("valid_for_s", format!("1 to {VALID_FOR_S_MAX} seconds"));
        }
        if !is_line(&parts.reference, TEXT_OCTETS_MAX) {
            return out_of_range(
                "reference",
                format!("at most {TEXT_OCTETS_MAX} octets on one line"),
            );
        }
        if parts.items.len() > LINE_ITEMS_MAX {
            return out_of_range("items", format!("at most {LINE_ITEMS_MAX}"));
        }
        for item in &parts.items {
            if item.name.is_empty() || !is_line(&item.name, TEXT_OCTETS_MAX) {
                return out_of_range(
                    "items.name",
                    format!("1 to {TEXT_OCTETS_MAX} octets on one line"),
                );
            }
            if !(1..=QUANTITY_MAX).contains(&item.quantity) {
                return out_of_range("items.quantity", format!("1 to {QUANTITY_MAX}"));
            }
            if item.amount_minor > MINOR_UNITS_MAX {
                return out_of_range("items.amount_minor", format!("at most {MINOR_UNITS_MAX}"));
            }
        }
        Ok(Self(parts))
    }

    /// The parts, to make another offer of them.
    pub fn into_parts(self) -> OfferParts {
        self.0
    }

    pub fn transaction_id(&self) -> TransactionId {
        self.0.transaction_id
    }

    pub fn terminal_id(&self) -> TerminalId {
        self.0.terminal_id
    }

    pub fn merchant_name(&self) -> &str {
        &self.0.merchant_name
    }

    pub fn amount(&self) -> Amount {
        self.0.amount
    }

    /// How long the offer is good for, in seconds after it was made.
    pub fn valid_for_s(&self) -> u32 {
        self.0.valid_for_s
    }

    pub fn nonce(&self) -> &[u8; 16] {
        &self.0.nonce
    }

    /// The till's reference; may be empty.
    pub fn reference(&self) -> &str {
        &self.0.reference
    }

    pub fn items(&self) -> &[LineItem] {
        &self.0.items
    }

    /// Reserve the amount now and take it when the goods were released; otherwise do both at once.
    pub fn capture_after_dispense(&self) -> bool {
        self.0.capture_after_dispense
    }
}

/// Is this text that a small screen can show? It has no control characters, and no characters that
/// break a line, turn the direction of writing or are invisible (Unicode Standard Annex 9), so
/// nobody can paint over an amount. Joiners (U+200C, U+200D) are allowed: Persian and emoji need
/// them.
fn is_line(text: &str, octets_max: usize) -> bool {
    let misleads = |character: char| {
        character.is_control()
            || matches!(
                character,
                '\u{061c}'
                    | '\u{200b}'
                    | '\u{200e}'
                    | '\u{200f}'
                    | '\u{2028}'..='\u{202e}'
                    | '\u{2060}'..='\u{206f}'
                    | '\u{feff}'
            )
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

#[cfg(test)]
mod tests {
    use super::*;

    fn parts() -> OfferParts {
        OfferParts {
            transaction_id: TransactionId::from_random([1; 16]),
            terminal_id: "0123456789".parse().unwrap(),
            merchant_name: "Kiosk".into(),
            amount: "2.50 EUR".parse().unwrap(),
            valid_for_s: 60,
            nonce: [2; 16],
            reference: "7".into(),
            items: vec![item("Coffee", 1, 250)],
            capture_after_dispense: true,
        }
    }

    fn item(name: &str, quantity: u32, amount_minor: u64) -> LineItem {
        LineItem { name: name.into(), quantity, amount_minor }
    }

    #[test]
    fn no_offer_has_a_field_out_of_its_range() {
        let items = |items| OfferParts { items, ..parts() };
        for (parts, field) in [
            (OfferParts { merchant_name: String::new(), ..parts() }, "merchant_name"),
            (OfferParts { merchant_name: "x".repeat(41), ..parts() }, "merchant_name"),
            (OfferParts { merchant_name: "a\u{7}b".into(), ..parts() }, "merchant_name"),
            (OfferParts { valid_for_s: 0, ..parts() }, "valid_for_s"),
            (OfferParts { valid_for_s: 3_601, ..parts() }, "valid_for_s"),
            (OfferParts { reference: "x".repeat(65), ..parts() }, "reference"),
            (OfferParts { reference: "2.50 \u{202e}50".into(), ..parts() }, "reference"),
            (items(vec![item("Coffee", 1, 250); 33]), "items"),
            (items(vec![item("", 1, 250)]), "items.name"),
            (items(vec![item("Coffee", 0, 250)]), "items.quantity"),
            (items(vec![item("Coffee", 10_001, 250)]), "items.quantity"),
            (items(vec![item("Coffee", 1, 1_000_000_000_000)]), "items.amount_minor"),
        ] {
            assert_eq!(Offer::new(parts).unwrap_err().field, field);
        }
    }

    #[test]
    fn an_offer_within_its_ranges_keeps_its_parts() {
        let largest = OfferParts {
            merchant_name: "x".repeat(40),
            valid_for_s: VALID_FOR_S_MAX,
            reference: "x".repeat(64),
            items: vec![item(&"x".repeat(64), 10_000, MINOR_UNITS_MAX); 32],
            ..parts()
        };
        for parts in [parts(), OfferParts { reference: String::new(), ..parts() }, largest] {
            assert_eq!(Offer::new(parts.clone()).unwrap().into_parts(), parts);
        }
    }
}
