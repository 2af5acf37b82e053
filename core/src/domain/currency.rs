//! ISO 4217 currencies and how many decimals each has.

use std::fmt;
use std::str::FromStr;

/// A currency of ISO 4217 list one, by its alphabetic code.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency {
    code: [u8; 3],
    exponent: u8,
}

/// Why a text is not a currency.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a currency of ISO 4217 that money is paid in; expected {expected}",
    text = .0,
    expected = expected(.0)
)]
pub struct CurrencyError(pub String);

/// The code in capital letters, if the text is one; else an example.
fn expected(text: &str) -> String {
    match text.to_ascii_uppercase().parse::<Currency>() {
        Ok(currency) => format!("capital letters: {currency}"),
        Err(_) => "a code such as EUR".to_owned(),
    }
}

/// Codes whose minor unit is not a hundredth, with their exponent (ISO 4217 list one).
const OTHER_EXPONENTS: [(&[u8; 3], u8); 24] = [
    (b"BIF", 0),
    (b"CLP", 0),
    (b"DJF", 0),
    (b"GNF", 0),
    (b"ISK", 0),
    (b"JPY", 0),
    (b"KMF", 0),
    (b"KRW", 0),
    (b"PYG", 0),
    (b"RWF", 0),
    (b"UGX", 0),
    (b"UYI", 0),
    (b"VND", 0),
    (b"VUV", 0),
    (b"XAF", 0),
    (b"XOF", 0),
    (b"XPF", 0),
    (b"BHD", 3),
    (b"IQD", 3),
    (b"JOD", 3),
    (b"KWD", 3),
    (b"LYD", 3),
    (b"OMR", 3),
    (b"TND", 3),
];

/// Codes whose minor unit is a hundredth (ISO 4217 list one; funds codes, metals and test codes are
/// left out).
const HUNDREDTHS: &str = "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF \
    CHF CNY COP CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR \
    ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR \
    MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP \
    STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD UYU UZS VED VES WST XCD XCG YER ZAR ZMW ZWG";

impl Currency {
    /// The three capital letters.
    pub fn code(&self) -> &str {
        // The letters come from the tables above, which are ASCII.
        std::str::from_utf8(&self.code).unwrap_or_default()
    }

    /// How many decimals the major unit has: 0, 2 or 3.
    pub fn exponent(&self) -> u8 {
        self.exponent
    }

    /// So many minor units as people write them: `2.50 EUR`, `250 JPY`.
    pub fn format_minor(self, minor: u64) -> String {
        let exponent = usize::from(self.exponent);
        let digits = format!("{minor:0>width$}", width = exponent + 1);
        let (whole, decimals) = digits.split_at(digits.len() - exponent);
        let point = if exponent == 0 { "" } else { "." };
        format!("{whole}{point}{decimals} {self}")
    }
}

impl FromStr for Currency {
    type Err = CurrencyError;

    fn from_str(text: &str) -> Result<Self, CurrencyError> {
        let unknown = || CurrencyError(text.chars().take(12).collect());
        let code: [u8; 3] = text.as_bytes().try_into().map_err(|_| unknown())?;
        if let Some((_, exponent)) = OTHER_EXPONENTS.iter().find(|(other, _)| **other == code) {
            return Ok(Self { code, exponent: *exponent });
        }
        if HUNDREDTHS.split_ascii_whitespace().any(|hundredths| hundredths.as_bytes() == code) {
            return Ok(Self { code, exponent: 2 });
        }
        Err(unknown())
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.code())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_of_the_tables_parses_and_prints_itself() {
        let others = OTHER_EXPONENTS.iter().map(|(code, _)| std::str::from_utf8(*code).unwrap());
        for code in HUNDREDTHS.split_ascii_whitespace().chain(others) {
            assert_eq!(code.parse::<Currency>().unwrap().to_string(), code);
        }
    }

    #[test]
    fn exponents_are_those_of_iso_4217() {
        for (code, exponent) in [("EUR", 2), ("JPY", 0), ("KWD", 3), ("ISK", 0), ("CHF", 2)] {
            assert_eq!(code.parse::<Currency>().unwrap().exponent(), exponent);
        }
    }

    #[test]
    fn what_is_no_currency_is_refused_by_name() {
        for text in ["", "eur", "EU", "EURO", "XXX", "XAU", "€€€"] {
            let error = text.parse::<Currency>().unwrap_err();
            assert!(error.to_string().contains("ISO 4217"), "{error}");
        }
        let error = "eur".parse::<Currency>().unwrap_err().to_string();
        assert!(error.ends_with("expected capital letters: EUR"), "{error}");
    }
}
