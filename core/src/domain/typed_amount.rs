//! Amounts as people type them: `2.50 EUR`, `eur 2,5`, `€2.50`, `1'000.00 CHF`.
//!
//! A text with one possible reading is taken. A text with two, such as `1,234`, is refused, and the
//! error names both: an amount is never guessed. `Amount::from_str` reads what programs write, and
//! is stricter.

use super::{Amount, Currency, CurrencyError, MINOR_UNITS_MAX};

/// The longest text that is read, in characters.
const CHARACTERS_MAX: usize = 64;
/// How much of a text an error repeats, in characters.
const QUOTED_CHARACTERS_MAX: usize = 24;

/// Signs and words that stand for one currency.
const NAMES: [(&str, &str); 3] = [("€", "EUR"), ("euro", "EUR"), ("euros", "EUR")];
/// Signs that stand for several currencies, with the codes that people most often mean.
const SHARED_SIGNS: [(&str, &str); 6] = [
    ("$", "USD, CAD or AUD"),
    ("£", "GBP or EGP"),
    ("¥", "JPY or CNY"),
    ("￥", "JPY or CNY"),
    ("kr", "SEK, NOK or DKK"),
    ("₩", "KRW or KPW"),
];

/// Why a text that a person typed is not an amount, and what to type instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TypedAmountError {
    /// No number with a currency before or behind it.
    #[error("`{0}` is not an amount; expected a number and a currency, such as `2.50 EUR`")]
    Malformed(String),
    /// Thousands that are not grouped in threes.
    #[error("`{0}` groups its digits neither in threes nor as decimals; write it like `1234.50`")]
    Grouping(String),
    /// The number may have a thousands separator or a decimal sign.
    #[error("`{text}` can be read as {whole} or as {decimal}; {advice}")]
    Ambiguous {
        text: String,
        /// If the sign separates thousands.
        whole: String,
        /// If the sign is a decimal sign.
        decimal: String,
        /// What to write for the one or the other.
        advice: String,
    },
    /// The number has a minus sign.
    #[error("`{0}` has a minus sign; an amount cannot be negative")]
    Negative(String),
    /// Nothing is to be paid.
    #[error("an amount is more than 0; the smallest is {smallest}")]
    Zero { smallest: String },
    /// More than twelve digits of minor units.
    #[error("`{text}` is too much; the largest amount is {largest}")]
    TooMuch { text: String, largest: String },
    /// More decimals than the currency has.
    #[error("`{text}` has too many decimals: {currency} has {}{advice}", decimals(*.currency))]
    Decimals {
        text: String,
        currency: Currency,
        /// What to write instead, where that is clear; else empty.
        advice: String,
    },
    #[error("`{0}` has no currency; write it behind the amount, such as `{0} EUR`")]
    CurrencyMissing(String),
    #[error(transparent)]
    Currency(#[from] CurrencyError),
    /// A sign of several currencies.
    #[error("`{sign}` is the sign of several currencies; write the code of one, such as {codes}")]
    SharedSign {
        sign: String,
        /// Some of the currencies that have it.
        codes: &'static str,
    },
    /// Another currency than the one that must be.
    #[error("`{text}` is in {found}; expected an amount in {expected}")]
    OtherCurrency { text: String, found: Currency, expected: Currency },
}

impl Amount {
    /// Reads an amount with its currency, as a person types it: `2.50 EUR`, `€2,50`, `eur 2.5`.
    ///
    /// # Errors
    /// [`TypedAmountError`], which says what to type instead.
    pub fn parse_typed(text: &str) -> Result<Self, TypedAmountError> {
        let (minor, currency) = read(text, None)?;
        positive(minor, currency)
    }

    /// Reads an amount in major units of a currency, as a person types it: `2.50`. The text may
    /// name the currency too; it must be the same.
    ///
    /// # Errors
    /// [`TypedAmountError`], which says what to type instead.
    pub fn parse_major(text: &str, currency: Currency) -> Result<Self, TypedAmountError> {
        let (minor, currency) = read(text, Some(currency))?;
        positive(minor, currency)
    }
}

impl Currency {
    /// Reads a number of major units, as a person types it, and returns the minor units. 0 is
    /// allowed: an item can cost nothing.
    ///
    /// # Errors
    /// [`TypedAmountError`], which says what to type instead.
    pub fn parse_minor_units(self, text: &str) -> Result<u64, TypedAmountError> {
        read(text, Some(self)).map(|(minor, _)| minor)
    }
}

fn positive(minor: u64, currency: Currency) -> Result<Amount, TypedAmountError> {
    Amount::new(minor, currency)
        .map_err(|_| TypedAmountError::Zero { smallest: currency.format_minor(1) })
}

/// The minor units, at most [`MINOR_UNITS_MAX`], and the currency: the text's own, or `expected`.
fn read(text: &str, expected: Option<Currency>) -> Result<(u64, Currency), TypedAmountError> {
    let text = text.trim();
    let malformed = || TypedAmountError::Malformed(quoted(text));
    if text.chars().count() > CHARACTERS_MAX {
        return Err(malformed());
    }
    let Parts { number, currency, is_negative } = Parts::of(text).ok_or_else(malformed)?;
    let found = if currency.is_empty() { None } else { Some(named(currency)?) };
    if let (Some(found), Some(expected)) = (found, expected)
        && found != expected
    {
        return Err(TypedAmountError::OtherCurrency { text: quoted(text), found, expected });
    }
    if is_negative {
        return Err(TypedAmountError::Negative(quoted(text)));
    }
    let currency = found.or(expected);
    let decimal = Decimal::read(number, currency)?;
    let currency = currency.ok_or_else(|| TypedAmountError::CurrencyMissing(quoted(number)))?;
    Ok((decimal.minor_units(number, currency)?, currency))
}

/// The parts of a typed amount.
struct Parts<'text> {
    /// At least one digit, with separators.
    number: &'text str,
    /// Empty if none is named.
    currency: &'text str,
    is_negative: bool,
}

impl<'text> Parts<'text> {
    /// Takes `2.50 EUR`, `€2.50` or `EUR -2.50` apart; none if the text has another form.
    fn of(text: &'text str) -> Option<Self> {
        let minus = ['-', '−'];
        let is_edge = |character: char| character.is_ascii_digit() || ".,".contains(character);
        let unsigned = text.strip_prefix(minus);
        let rest = unsigned.unwrap_or(text);
        let (leading, rest) = rest.split_at(rest.find(is_edge)?);
        let (number, trailing) = rest.split_at(rest.rfind(is_edge)? + 1);
        let leading = leading.trim();
        let without_minus = leading.strip_suffix(minus);
        let currency = match (without_minus.unwrap_or(leading).trim(), trailing.trim()) {
            (currency, "") | ("", currency) => currency,
            (_, _) => return None,
        };
        let is_named =
            |character: char| character.is_alphabetic() || ".,-+()_".find(character).is_none();
        let has_digits = number.bytes().any(|octet| octet.is_ascii_digit());
        let is_number = has_digits && !number.chars().any(char::is_alphabetic);
        (is_number && currency.chars().all(is_named)).then_some(Self {
            number,
            currency,
            is_negative: unsigned.is_some() || without_minus.is_some(),
        })
    }
}

/// The currency that a code, a sign or a word stands for.
fn named(text: &str) -> Result<Currency, TypedAmountError> {
    let lower = text.to_lowercase();
    if let Some((_, codes)) = SHARED_SIGNS.iter().find(|(sign, _)| *sign == lower) {
        return Err(TypedAmountError::SharedSign { sign: text.to_owned(), codes });
    }
    let code = NAMES.iter().find(|(name, _)| *name == lower).map(|(_, code)| *code);
    let upper = text.to_ascii_uppercase();
    // The error repeats what was typed.
    Ok(code.unwrap_or(&upper).parse().map_err(|_| CurrencyError(quoted(text)))?)
}

/// A number without its separators.
struct Decimal {
    whole: String,
    decimals: String,
}

impl Decimal {
    fn read(number: &str, currency: Option<Currency>) -> Result<Self, TypedAmountError> {
        let grouping = || TypedAmountError::Grouping(quoted(number));
        let decimal_sign = decimal_sign(number, currency)?;
        let (whole, decimals) = match decimal_sign {
            Some(at) => (&number[..at], &number[at + 1..]),
            None => (number, ""),
        };
        let is_digits = decimals.bytes().all(|octet| octet.is_ascii_digit());
        if !is_digits || (decimal_sign.is_some() && decimals.is_empty()) {
            return Err(grouping());
        }
        let whole = ungrouped(whole).ok_or_else(grouping)?;
        Ok(Self { whole, decimals: decimals.to_owned() })
    }

    /// Never goes through a float.
    fn minor_units(&self, typed: &str, currency: Currency) -> Result<u64, TypedAmountError> {
        let exponent = usize::from(currency.exponent());
        let (decimals, more) = self.decimals.split_at(exponent.min(self.decimals.len()));
        let minor = format!("{}{decimals:0<exponent$}", self.whole).parse().unwrap_or(u64::MAX);
        if minor > MINOR_UNITS_MAX {
            return Err(TypedAmountError::TooMuch {
                text: quoted(typed),
                largest: currency.format_minor(MINOR_UNITS_MAX),
            });
        }
        if more.is_empty() {
            return Ok(minor);
        }
        let are_zeros = more.bytes().all(|octet| octet == b'0');
        let advice = format!("; write `{}`", currency.format_minor(minor));
        Err(TypedAmountError::Decimals {
            text: quoted(typed),
            currency,
            advice: if are_zeros { advice } else { String::new() },
        })
    }
}

/// Where the decimal sign stands, if there is one.
fn decimal_sign(
    number: &str,
    currency: Option<Currency>,
) -> Result<Option<usize>, TypedAmountError> {
    let count = |sign| number.matches(sign).count();
    let (points, commas) = (count('.'), count(','));
    let Some(last) = number.rfind(['.', ',']) else { return Ok(None) };
    let is_point = number[last..].starts_with('.');
    match (points, commas) {
        (1, 0) | (0, 1) => {
            let is_decimal = is_point && currency.is_some_and(|currency| currency.exponent() == 3);
            match number.split_at(last) {
                (before, after) if may_be_thousands(before, &after[1..]) && !is_decimal => {
                    Err(ambiguous(number, before, &after[1..], currency))
                }
                (_, _) => Ok(Some(last)),
            }
        }
        // `1.000.000` and `1,000,000`: only thousands are separated more than once.
        (_, 0) | (0, _) => Ok(None),
        (1, _) if is_point => Ok(Some(last)),
        (_, 1) if !is_point => Ok(Some(last)),
        (_, _) => Err(TypedAmountError::Grouping(quoted(number))),
    }
}

/// Whether a single separator between these digits may separate thousands: `1,234`, `12.345`.
fn may_be_thousands(before: &str, after: &str) -> bool {
    let is_group = (1..=3).contains(&before.len()) && after.len() == 3;
    let is_digits = |digits: &str| digits.bytes().all(|octet| octet.is_ascii_digit());
    is_group && is_digits(before) && is_digits(after) && !before.starts_with('0')
}

fn ambiguous(
    number: &str,
    before: &str,
    after: &str,
    currency: Option<Currency>,
) -> TypedAmountError {
    let (whole, decimal) = (format!("{before}{after}"), format!("{before}.{after}"));
    let advice = match currency {
        Some(currency) if currency.exponent() == 3 => {
            format!("write `{whole} {currency}` or `{decimal} {currency}`")
        }
        Some(currency) => {
            format!(
                "write `{whole} {currency}` for the first; {currency} has {}",
                decimals(currency)
            )
        }
        None => format!("write it without a thousands separator, such as `{whole} EUR`"),
    };
    TypedAmountError::Ambiguous { text: quoted(number), whole, decimal, advice }
}

/// The digits of a whole number; none if they are grouped otherwise than in threes.
fn ungrouped(whole: &str) -> Option<String> {
    let Some(separator) = whole.chars().find(|character| !character.is_ascii_digit()) else {
        return Some(whole.to_owned());
    };
    let is_separator = separator.is_whitespace() || ".,'’".contains(separator);
    let groups: Vec<&str> = whole.split(separator).collect();
    let (first, others) = groups.split_first()?;
    let is_digits = |group: &str| group.bytes().all(|octet| octet.is_ascii_digit());
    let is_grouped = is_separator
        && (1..=3).contains(&first.len())
        && !first.starts_with('0')
        && is_digits(first)
        && others.iter().all(|group| group.len() == 3 && is_digits(group));
    is_grouped.then(|| groups.concat())
}

fn decimals(currency: Currency) -> &'static str {
    match currency.exponent() {
        0 => "no decimals",
        2 => "2 decimals",
        _ => "3 decimals",
    }
}

/// As much of a text as an error repeats.
fn quoted(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(QUOTED_CHARACTERS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_can_be_read_in_one_way_is_taken() {
        for (text, amount) in [
            ("2.50 EUR", "2.50 EUR"),
            ("2.50EUR", "2.50 EUR"),
            ("2.50 eur", "2.50 EUR"),
            ("EUR 2.50", "2.50 EUR"),
            ("EUR2.50", "2.50 EUR"),
            ("  2.50   EUR ", "2.50 EUR"),
            ("2,50 EUR", "2.50 EUR"),
            ("2.5 EUR", "2.50 EUR"),
            ("2,5 EUR", "2.50 EUR"),
            ("2 EUR", "2.00 EUR"),
            (".50 EUR", "0.50 EUR"),
            ("€2.50", "2.50 EUR"),
            ("2,50 €", "2.50 EUR"),
            ("2.50 Euro", "2.50 EUR"),
            ("1'000.00 CHF", "1000.00 CHF"),
            ("1’000 CHF", "1000.00 CHF"),
            ("1,000.00 USD", "1000.00 USD"),
            ("1.000,00 EUR", "1000.00 EUR"),
            ("1 000,00 EUR", "1000.00 EUR"),
            ("1\u{a0}000,00\u{a0}EUR", "1000.00 EUR"),
            ("1,000,000 EUR", "1000000.00 EUR"),
            ("1.000.000 EUR", "1000000.00 EUR"),
            ("1,000.234 KWD", "1000.234 KWD"),
            ("1.234 KWD", "1.234 KWD"),
            ("0,500 KWD", "0.500 KWD"),
            ("250 JPY", "250 JPY"),
            ("12345 JPY", "12345 JPY"),
            ("9999999999.99 EUR", "9999999999.99 EUR"),
        ] {
            assert_eq!(Amount::parse_typed(text).unwrap().to_string(), amount, "{text}");
        }
    }

    #[test]
    fn what_is_refused_says_what_to_type() {
        for (text, answer) in [
            (
                "1,234 EUR",
                "`1,234` can be read as 1234 or as 1.234; write `1234 EUR` for the first; EUR has \
                 2 decimals",
            ),
            (
                "1.234 EUR",
                "`1.234` can be read as 1234 or as 1.234; write `1234 EUR` for the first; EUR has \
                 2 decimals",
            ),
            (
                "1,234 JPY",
                "`1,234` can be read as 1234 or as 1.234; write `1234 JPY` for the first; JPY has \
                 no decimals",
            ),
            (
                "1,234 KWD",
                "`1,234` can be read as 1234 or as 1.234; write `1234 KWD` or `1.234 KWD`",
            ),
            (
                "1,234",
                "`1,234` can be read as 1234 or as 1.234; write it without a thousands separator, \
                 such as `1234 EUR`",
            ),
            ("2.50", "`2.50` has no currency; write it behind the amount, such as `2.50 EUR`"),
            ("2,50", "`2,50` has no currency; write it behind the amount, such as `2,50 EUR`"),
            ("-2.50 EUR", "`-2.50 EUR` has a minus sign; an amount cannot be negative"),
            ("EUR -2.50", "`EUR -2.50` has a minus sign; an amount cannot be negative"),
            ("−€2.50", "`−€2.50` has a minus sign; an amount cannot be negative"),
            ("0 EUR", "an amount is more than 0; the smallest is 0.01 EUR"),
            ("0.00 EUR", "an amount is more than 0; the smallest is 0.01 EUR"),
            ("0 JPY", "an amount is more than 0; the smallest is 1 JPY"),
            ("2.5051 EUR", "`2.5051` has too many decimals: EUR has 2 decimals"),
            ("2.5 JPY", "`2.5` has too many decimals: JPY has no decimals"),
            ("250.00 JPY", "`250.00` has too many decimals: JPY has no decimals; write `250 JPY`"),
            (
                "2.50 XYZ",
                "`XYZ` is not a currency of ISO 4217 that money is paid in; expected a code such \
                 as EUR",
            ),
            (
                "10000000000.00 EUR",
                "`10000000000.00` is too much; the largest amount is 9999999999.99 EUR",
            ),
            (
                "99999999999999999999999 EUR",
                "`99999999999999999999999` is too much; the largest amount is 9999999999.99 EUR",
            ),
        ] {
            assert_eq!(Amount::parse_typed(text).unwrap_err().to_string(), answer, "{text}");
        }
        for (text, sign, codes) in [
            ("$2.50", "$", "USD, CAD or AUD"),
            ("£2.50", "£", "GBP or EGP"),
            ("¥250", "¥", "JPY or CNY"),
            ("20 kr", "kr", "SEK, NOK or DKK"),
        ] {
            let answer = format!(
                "`{sign}` is the sign of several currencies; write the code of one, such as {codes}"
            );
            assert_eq!(Amount::parse_typed(text).unwrap_err().to_string(), answer, "{text}");
        }
    }

    #[test]
    fn what_has_no_form_of_an_amount_is_told_the_form() {
        for text in ["", "EUR", "1e3 EUR", "+1 EUR", "EUR 2.50 EUR", "2.50 EURO2", "EUR ."] {
            let answer = format!(
                "`{text}` is not an amount; expected a number and a currency, such as `2.50 EUR`"
            );
            assert_eq!(Amount::parse_typed(text).unwrap_err().to_string(), answer, "{text}");
        }
        for (text, number) in [
            ("1,00,000 EUR", "1,00,000"),
            ("1,000.00.00 EUR", "1,000.00.00"),
            ("2. EUR", "2."),
            ("2 50 EUR", "2 50"),
        ] {
            let answer = format!(
                "`{number}` groups its digits neither in threes nor as decimals; write it like \
                 `1234.50`"
            );
            assert_eq!(Amount::parse_typed(text).unwrap_err().to_string(), answer, "{text}");
        }
    }

    #[test]
    fn a_currency_that_is_known_need_not_be_typed_and_must_not_be_another() {
        let euro: Currency = "EUR".parse().unwrap();
        assert_eq!(Amount::parse_major("2,50", euro).unwrap().minor(), 250);
        assert_eq!(Amount::parse_major("2.50 €", euro).unwrap().minor(), 250);
        assert_eq!(
            Amount::parse_major("2.50 USD", euro).unwrap_err().to_string(),
            "`2.50 USD` is in USD; expected an amount in EUR"
        );
        assert_eq!(euro.parse_minor_units("0"), Ok(0));
        assert!(Amount::parse_major("0", euro).is_err());
    }

    /// The whole part with a separator between thousands.
    fn grouped(whole: u64, separator: &str) -> String {
        let digits = whole.to_string();
        let mut text = String::new();
        for (index, digit) in digits.char_indices() {
            if index > 0 && (digits.len() - index).is_multiple_of(3) {
                text.push_str(separator);
            }
            text.push(digit);
        }
        text
    }

    proptest! {
        #[test]
        fn every_way_of_grouping_reads_the_same(
            minor in 1..=MINOR_UNITS_MAX,
            (separator, decimal_sign) in prop::sample::select(vec![
                ("", "."), ("", ","), (",", "."), (".", ","), ("'", "."), ("’", "."), (" ", ","),
                ("\u{202f}", ","),
            ]),
        ) {
            let text =
                format!("{}{decimal_sign}{:02} eur", grouped(minor / 100, separator), minor % 100);
            prop_assert_eq!(Amount::parse_typed(&text).unwrap().minor(), minor);
        }

        #[test]
        fn what_is_printed_reads_back(
            minor in 1..=MINOR_UNITS_MAX,
            code in prop::sample::select(vec!["EUR", "JPY", "KWD"]),
        ) {
            let amount = Amount::new(minor, code.parse().unwrap()).unwrap();
            prop_assert_eq!(Amount::parse_typed(&amount.to_string()), Ok(amount));
        }

        #[test]
        fn no_digit_is_lost_or_made_up(
            text in "[0-9.,' €-]{0,12}( ?(EUR|eur|JPY|KWD))?",
            any: String,
        ) {
            let _ = Amount::parse_typed(&any);
            if let Ok(amount) = Amount::parse_typed(&text) {
                let typed: String = text.chars().filter(char::is_ascii_digit).collect();
                let typed: u64 = typed.parse().unwrap();
                let exponent = u32::from(amount.currency().exponent());
                prop_assert!(
                    (0..=exponent).any(|zeros| typed * 10_u64.pow(zeros) == amount.minor()),
                    "{} read as {}", text, amount
                );
            }
        }
    }
}
