//! Money as an integer of minor units.

use std::fmt;
use std::str::FromStr;

use super::{Currency, CurrencyError};

/// The largest amount of one payment, in minor units. Twelve digits, as the amount field of EMV
/// book 3 (tag 9F02).
pub const MINOR_UNITS_MAX: u64 = 999_999_999_999;

/// An amount of money to be paid: 1 to [`MINOR_UNITS_MAX`] minor units of a currency.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Amount {
    minor: u64,
    currency: Currency,
}

/// Why something is not an amount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AmountError {
    /// The number of minor units is 0 or has more than twelve digits.
    #[error("an amount is 1 to {MINOR_UNITS_MAX} minor units, got {0}")]
    Range(u64),
    /// The text is not digits with at most one decimal point.
    #[error("`{0}` is not an amount; expected one such as `2.50 EUR`")]
    Malformed(String),
    /// More decimals than the currency has.
    #[error("`{text}` has too many decimals; {currency} has {}", currency.exponent())]
    Decimals { text: String, currency: Currency },
    /// The currency is not one.
    #[error(transparent)]
    Currency(#[from] CurrencyError),
}

impl Amount {
    /// An amount of `minor` minor units.
    ///
    /// # Errors
    /// [`AmountError::Range`] unless `minor` is 1 to [`MINOR_UNITS_MAX`].
    pub fn new(minor: u64, currency: Currency) -> Result<Self, AmountError> {
        if (1..=MINOR_UNITS_MAX).contains(&minor) {
            Ok(Self { minor, currency })
        } else {
            Err(AmountError::Range(minor))
        }
    }

    /// The number of minor units.
    pub fn minor(&self) -> u64 {
        self.minor
    }

    /// The currency.
    pub fn currency(&self) -> Currency {
        self.currency
    }
}

impl FromStr for Amount {
    type Err = AmountError;

    /// Reads `2.50 EUR`, as programs write it. [`Amount::parse_typed`] reads what people type.
    /// Never goes through a float.
    fn from_str(text: &str) -> Result<Self, AmountError> {
        let malformed = || AmountError::Malformed(text.chars().take(24).collect());
        let (number, currency) = text.split_once(' ').ok_or_else(malformed)?;
        let currency: Currency = currency.trim().parse()?;
        let (whole, decimals) = match number.split_once('.') {
            Some((_, "")) => return Err(malformed()),
            Some(parts) => parts,
            None => (number, ""),
        };
        let is_digits = |part: &str| part.bytes().all(|octet| octet.is_ascii_digit());
        if whole.is_empty() || !is_digits(whole) || !is_digits(decimals) {
            return Err(malformed());
        }
        let exponent = usize::from(currency.exponent());
        if decimals.len() > exponent {
            return Err(AmountError::Decimals {
                text: number.chars().take(24).collect(),
                currency,
            });
        }
        let minor = format!("{whole}{decimals:0<exponent$}").parse::<u64>();
        Self::new(minor.map_err(|_| AmountError::Range(u64::MAX))?, currency)
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.currency.format_minor(self.minor))
    }
}

impl fmt::Debug for Amount {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn amounts_read_as_people_write_them() {
        for (text, minor) in [
            ("2.50 EUR", 250),
            ("2.5 EUR", 250),
            ("2 EUR", 200),
            ("0.01 EUR", 1),
            ("250 JPY", 250),
            ("1.234 KWD", 1234),
        ] {
            assert_eq!(text.parse::<Amount>().unwrap().minor(), minor, "{text}");
        }
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for text in [
            "",
            "EUR",
            "2.50",
            ".5 EUR",
            "2. EUR",
            "-1 EUR",
            "+1 EUR",
            "1,5 EUR",
            "1e3 EUR",
            "0 EUR",
            "2.505 EUR",
            "1.0 JPY",
            "99999999999999999999 EUR",
            "10000000000.00 EUR",
            "2.50 eur",
        ] {
            assert!(text.parse::<Amount>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(
            minor in 1..=MINOR_UNITS_MAX,
            code in prop::sample::select(vec!["EUR", "JPY", "KWD"]),
        ) {
            let amount = Amount::new(minor, code.parse().unwrap()).unwrap();
            prop_assert_eq!(amount.to_string().parse::<Amount>().unwrap(), amount);
        }
    }
}
