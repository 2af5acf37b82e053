//! What people type on a command line, beside amounts: whole numbers, times in seconds or
//! milliseconds, identifiers, yes and no. The programs share it, so that the same slip gets the
//! same answer everywhere.

use std::ops::RangeInclusive;

use clap::builder::{StringValueParser, TypedValueParser};

use crate::domain::{IdentifierError, TransactionId};

/// Why a text is not the number that is expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a whole number{unit} from {min} to {max}, digits only", unit = unit(.of))]
pub struct NumberError {
    of: &'static str,
    min: u64,
    max: u64,
}

fn unit(of: &str) -> String {
    if of.is_empty() { String::new() } else { format!(" of {of}") }
}

/// For clap: a whole number in this range. `of` says what is counted where the option's name does
/// not, such as `seconds`; else it is empty.
pub fn whole_number<N>(
    of: &'static str,
    range: RangeInclusive<u64>,
) -> impl TypedValueParser<Value = N>
where
    N: TryFrom<u64> + Clone + Send + Sync + 'static,
{
    StringValueParser::new().try_map(move |text| {
        let error = NumberError { of, min: *range.start(), max: *range.end() };
        let number = text.trim().parse().ok().filter(|number| range.contains(number));
        number.and_then(|number| N::try_from(number).ok()).ok_or(error)
    })
}

/// For clap: a payment's id, in upper or lower case, with or without hyphens.
///
/// # Errors
/// [`IdentifierError`] if it is not one, or only a part of one.
pub fn transaction_id(text: &str) -> Result<TransactionId, IdentifierError> {
    text.trim().parse()
}

/// A person's answer to a question: yes, no, or neither.
pub fn yes_or_no(answer: &str) -> Option<bool> {
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Some(true),
        "n" | "no" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use clap::Command;
    use clap::builder::ValueParser;
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<u32, String> {
        let parser = ValueParser::new(whole_number::<u32>("seconds", 1..=3600));
        let argument = clap::Arg::new("wait").long("wait-s").value_name("SECONDS");
        let command = Command::new("test").arg(argument.value_parser(parser));
        match command.try_get_matches_from(["test", &format!("--wait-s={text}")]) {
            Ok(matches) => Ok(*matches.get_one("wait").unwrap()),
            Err(error) => Err(error.to_string().lines().next().unwrap_or_default().to_owned()),
        }
    }

    #[test]
    fn a_number_is_taken_or_told_its_range_and_unit() {
        assert_eq!(read("60"), Ok(60));
        assert_eq!(read(" 60 "), Ok(60));
        for text in ["60s", "1m", "1.5", "-1", "0", "3601", "99999999999999999999999", "x"] {
            let expected = format!(
                "error: invalid value '{text}' for '--wait-s <SECONDS>': expected a whole number \
                 of seconds from 1 to 3600, digits only"
            );
            assert_eq!(read(text), Err(expected), "{text}");
        }
    }

    #[test]
    fn a_transaction_id_is_taken_in_every_common_form() {
        let id = "2f6e6cf0-31c1-4d4c-9c3c-2f1f0d9a7f11";
        for text in [
            id,
            "2F6E6CF0-31C1-4D4C-9C3C-2F1F0D9A7F11",
            "2f6e6cf031c14d4c9c3c2f1f0d9a7f11",
            " 2f6e6cf0-31c1-4d4c-9c3c-2f1f0d9a7f11\n",
        ] {
            assert_eq!(transaction_id(text).unwrap().to_string(), id);
        }
        assert_eq!(
            transaction_id("2f6e6cf0").unwrap_err().to_string(),
            "`2f6e6cf0` is not a transaction id; expected a whole UUID, such as \
             2f6e6cf0-31c1-4d4c-9c3c-2f1f0d9a7f11, of version 4"
        );
    }

    #[test]
    fn yes_and_no_are_read_in_any_case_and_nothing_else_is() {
        for (answer, is_yes) in [("y\n", true), ("YES", true), ("Yes ", true), ("n", false)] {
            assert_eq!(yes_or_no(answer), Some(is_yes), "{answer}");
        }
        for answer in ["", "yep", "ja", "1"] {
            assert_eq!(yes_or_no(answer), None, "{answer}");
        }
    }

    proptest! {
        #[test]
        fn every_number_in_its_range_reads_back(number in 1..=3600_u32) {
            prop_assert_eq!(read(&number.to_string()), Ok(number));
        }
    }
}
