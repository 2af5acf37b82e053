//! Amounts of the books, which may be zero or negative.

use florin::domain::Currency;

/// An amount of minor units in major units: `-2.50 EUR`.
pub fn money(minor: i128, currency: Currency) -> String {
    let exponent = usize::from(currency.exponent());
    let digits = format!("{:0>width$}", minor.unsigned_abs(), width = exponent + 1);
    let (whole, decimals) = digits.split_at(digits.len() - exponent);
    let sign = if minor < 0 { "-" } else { "" };
    let point = if exponent == 0 { "" } else { "." };
    format!("{sign}{whole}{point}{decimals} {currency}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_written_in_major_units() {
        for (minor, code, text) in [
            (0, "EUR", "0.00 EUR"),
            (-5, "EUR", "-0.05 EUR"),
            (12_345, "EUR", "123.45 EUR"),
            (250, "JPY", "250 JPY"),
            (-1_234, "KWD", "-1.234 KWD"),
        ] {
            assert_eq!(money(minor, code.parse().unwrap()), text);
        }
    }
}
