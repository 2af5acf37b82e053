//! One payment as the terminal offers it to a person.

use std::fmt;

use super::{
    Amount, DisplayedTextError, MINOR_UNITS_MAX, TerminalId, TransactionId, check_displayed_text,
};

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
    /// 1 to 40 octets; see [`check_merchant_name`].
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
#[error("{field}: {problem}")]
pub struct OfferError {
    /// As tills name it, such as `items[2].name`.
    pub field: String,
    /// What is wrong with it, or what was expected.
    pub problem: String,
}

impl OfferError {
    fn new(field: impl Into<String>, problem: impl ToString) -> Self {
        Self { field: field.into(), problem: problem.to_string() }
    }
}

impl Offer {
    /// Makes an offer of its parts.
    ///
    /// # Errors
    /// [`OfferError`], naming the first field that is out of its range.
    pub fn new(parts: OfferParts) -> Result<Self, OfferError> {
        check_merchant_name(&parts.merchant_name)
            .map_err(|error| OfferError::new("merchant_name", error))?;
        if !(1..=VALID_FOR_S_MAX).contains(&parts.valid_for_s) {
            let problem = format!("expected 1 to {VALID_FOR_S_MAX} seconds");
            return Err(OfferError::new("valid_for_s", problem));
        }
        check_displayed_text(&parts.reference, 0..=TEXT_OCTETS_MAX)
            .map_err(|error| OfferError::new("reference", error))?;
        if parts.items.len() > LINE_ITEMS_MAX {
            return Err(OfferError::new("items", format!("expected at most {LINE_ITEMS_MAX}")));
        }
        for (index, item) in parts.items.iter().enumerate() {
            let wrong = |field, problem: String| {
                Err(OfferError::new(format!("items[{index}].{field}"), problem))
            };
            if let Err(error) = check_displayed_text(&item.name, 1..=TEXT_OCTETS_MAX) {
                return wrong("name", error.to_string());
            }
            if !(1..=QUANTITY_MAX).contains(&item.quantity) {
                return wrong("quantity", format!("expected 1 to {QUANTITY_MAX}"));
            }
            if item.amount_minor > MINOR_UNITS_MAX {
                return wrong("amount_minor", format!("expected at most {MINOR_UNITS_MAX}"));
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

/// Checks the name of a merchant, which every offer of the merchant shows. An institution refuses
/// another name before it stores it, a terminal and a phone when they read a certificate.
///
/// # Errors
/// [`DisplayedTextError`].
pub fn check_merchant_name(name: &str) -> Result<(), DisplayedTextError> {
    check_displayed_text(name, 1..=MERCHANT_NAME_OCTETS_MAX)
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
            (items(vec![item("", 1, 250)]), "items[0].name"),
            (items(vec![item("a", 1, 1), item(" ", 1, 1)]), "items[1].name"),
            (items(vec![item("a\u{200b}", 1, 1)]), "items[0].name"),
            (OfferParts { merchant_name: "\u{3164}".into(), ..parts() }, "merchant_name"),
            (items(vec![item("Coffee", 0, 250)]), "items[0].quantity"),
            (items(vec![item("Coffee", 10_001, 250)]), "items[0].quantity"),
            (items(vec![item("Coffee", 1, 1_000_000_000_000)]), "items[0].amount_minor"),
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
