//! Reads what a till sends in JSON, and says which field is wrong and what it should be.
//!
//! The engine checks ranges too; here they are checked so that the answer can name the field.

use super::json::{Fields, Json};
use super::problem::Problem;
use super::query::shortened;
use crate::domain::{
    Amount, Currency, IdempotencyKey, LINE_ITEMS_MAX, LineItem, MINOR_UNITS_MAX, QUANTITY_MAX,
    TEXT_OCTETS_MAX, VALID_FOR_S_MAX, check_displayed_text,
};
use crate::terminal::PaymentRequest;

const PAYMENT_FIELDS: [&str; 6] =
    ["amount_minor", "currency", "reference", "items", "capture", "valid_for_s"];
const ITEM_FIELDS: [&str; 3] = ["name", "quantity", "amount_minor"];

/// The body of `POST /v1/payments`.
///
/// # Errors
/// A [`Problem`]: a field that is missing, unknown, repeated, of the wrong kind or out of its
/// range, or no JSON object at all.
pub fn read_create(
    body: &[u8],
    idempotency_key: Option<IdempotencyKey>,
) -> Result<PaymentRequest, Problem> {
    let mut fields = Fields::of(Json::parse(body)?, "", &PAYMENT_FIELDS)?;
    let currency = text(&mut fields, "currency", "an ISO 4217 code such as \"EUR\"")?;
    let currency = required(&fields, "currency", currency, "an ISO 4217 code such as \"EUR\"")?;
    let currency: Currency =
        currency.parse().map_err(|error| Problem::invalid("currency", error))?;
    let expected = format!(
        "a whole number of minor units (such as cents) from 1 to {MINOR_UNITS_MAX}: 250 is 2.50 EUR"
    );
    let amount_minor = whole_number(&mut fields, "amount_minor", 1, MINOR_UNITS_MAX, &expected)?;
    let amount_minor = required(&fields, "amount_minor", amount_minor, &expected)?;
    let amount = Amount::new(amount_minor, currency)
        .map_err(|error| Problem::invalid("amount_minor", error))?;
    let reference = line(&mut fields, "reference", 0)?.unwrap_or_default();
    Ok(PaymentRequest {
        amount,
        reference,
        items: items(&mut fields)?,
        capture_after_dispense: capture_after_dispense(&mut fields)?,
        valid_for_s: valid_for_s(&mut fields)?,
        idempotency_key,
    })
}

fn capture_after_dispense(fields: &mut Fields) -> Result<bool, Problem> {
    let expected = "\"at_once\" or \"after_dispense\"";
    match text(fields, "capture", expected)?.as_deref() {
        None | Some("at_once") => Ok(false),
        Some("after_dispense") => Ok(true),
        Some(other) => {
            let got = Json::Text(other.to_owned());
            Err(unexpected(&fields.path("capture"), expected, &got))
        }
    }
}

fn valid_for_s(fields: &mut Fields) -> Result<Option<u32>, Problem> {
    let max = u64::from(VALID_FOR_S_MAX);
    let expected = format!("a whole number of seconds from 1 to {max}");
    let seconds = whole_number(fields, "valid_for_s", 1, max, &expected)?;
    Ok(seconds.and_then(|seconds| u32::try_from(seconds).ok()))
}

fn items(fields: &mut Fields) -> Result<Vec<LineItem>, Problem> {
    let items = match fields.take("items") {
        None => Vec::new(),
        Some(Json::Array(items)) => items,
        Some(other) => return Err(unexpected("items", "an array of items", &other)),
    };
    if items.len() > LINE_ITEMS_MAX {
        return Err(Problem::invalid(
            "items",
            format!("expected at most {LINE_ITEMS_MAX} items, got {}", items.len()),
        ));
    }
    items.into_iter().enumerate().map(|(index, item)| read_item(index, item)).collect()
}

fn read_item(index: usize, item: Json) -> Result<LineItem, Problem> {
    let mut fields = Fields::of(item, &format!("items[{index}]"), &ITEM_FIELDS)?;
    let name = line(&mut fields, "name", 1)?;
    let name = required(&fields, "name", name, "what it is, such as \"Coffee\"")?;
    let quantity_max = u64::from(QUANTITY_MAX);
    let expected = format!("a whole number from 1 to {quantity_max}");
    let quantity = whole_number(&mut fields, "quantity", 1, quantity_max, &expected)?;
    let quantity = quantity.and_then(|quantity| u32::try_from(quantity).ok()).unwrap_or(1);
    let expected = format!(
        "the amount of the whole line, a whole number of minor units from 0 to {MINOR_UNITS_MAX}"
    );
    let amount_minor = whole_number(&mut fields, "amount_minor", 0, MINOR_UNITS_MAX, &expected)?;
    let amount_minor = required(&fields, "amount_minor", amount_minor, &expected)?;
    Ok(LineItem { name, quantity, amount_minor })
}

/// The body of `POST /v1/payments/{id}/complete`: were the goods released?
///
/// # Errors
/// A [`Problem`]: `dispensed` is missing or not a boolean, or there is another field.
pub fn read_complete(body: &[u8]) -> Result<bool, Problem> {
    let mut fields = Fields::of(Json::parse(body)?, "", &["dispensed"])?;
    let expected = "true (the goods were released) or false";
    match fields.take("dispensed") {
        Some(Json::Boolean(dispensed)) => Ok(dispensed),
        Some(other) => Err(unexpected("dispensed", expected, &other)),
        None => required(&fields, "dispensed", None, expected),
    }
}

/// The body of `POST /v1/payments/{id}/cancel`: nothing, or an empty object.
///
/// # Errors
/// A [`Problem`]: anything but an empty object.
pub fn read_cancel(body: &[u8]) -> Result<(), Problem> {
    if body.is_empty() {
        return Ok(());
    }
    Fields::of(Json::parse(body)?, "", &[]).map(drop)
}

/// The `Idempotency-Key` of a request.
///
/// # Errors
/// A [`Problem`]: longer than 64 octets, empty, or with what is not visible ASCII.
pub fn read_idempotency_key(text: &str) -> Result<IdempotencyKey, Problem> {
    text.parse().map_err(|error| {
        Problem::invalid("Idempotency-Key", format!("{error}; got `{}`", shortened(text)))
    })
}

fn required<T>(
    fields: &Fields,
    name: &str,
    value: Option<T>,
    expected: &str,
) -> Result<T, Problem> {
    value.ok_or_else(|| {
        Problem::invalid(&fields.path(name), format!("is missing; expected {expected}"))
    })
}

fn unexpected(field: &str, expected: &str, got: &Json) -> Problem {
    Problem::invalid(field, format!("expected {expected}; got {}", got.description()))
}

fn text(fields: &mut Fields, name: &str, expected: &str) -> Result<Option<String>, Problem> {
    match fields.take(name) {
        None => Ok(None),
        Some(Json::Text(text)) => Ok(Some(text)),
        Some(other) => Err(unexpected(&fields.path(name), expected, &other)),
    }
}

fn whole_number(
    fields: &mut Fields,
    name: &str,
    min: u64,
    max: u64,
    expected: &str,
) -> Result<Option<u64>, Problem> {
    let Some(value) = fields.take(name) else { return Ok(None) };
    let number = match &value {
        Json::Number(number) => number.as_u64().filter(|number| (min..=max).contains(number)),
        Json::Null | Json::Boolean(_) | Json::Text(_) | Json::Array(_) | Json::Object(_) => None,
    };
    let problem = || unexpected(&fields.path(name), expected, &value);
    number.map(Some).ok_or_else(problem)
}

/// A text that people are shown, of `octets_min` to [`TEXT_OCTETS_MAX`] octets.
fn line(fields: &mut Fields, name: &str, octets_min: usize) -> Result<Option<String>, Problem> {
    let expected = format!("a text of {octets_min} to {TEXT_OCTETS_MAX} octets of UTF-8");
    let Some(line) = text(fields, name, &expected)? else { return Ok(None) };
    check_displayed_text(&line, octets_min..=TEXT_OCTETS_MAX)
        .map_err(|error| Problem::invalid(&fields.path(name), error))?;
    Ok(Some(line))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_full_request_reads() {
        let body = br#"{"amount_minor":250,"currency":"EUR","reference":"Order 7",
            "capture":"after_dispense","valid_for_s":60,
            "items":[{"name":"Coffee","quantity":2,"amount_minor":250}]}"#;
        let request = read_create(body, "k".parse().ok()).unwrap();
        assert_eq!(request.amount.to_string(), "2.50 EUR");
        assert_eq!((request.reference.as_str(), request.capture_after_dispense), ("Order 7", true));
        assert_eq!(
            request.items[0],
            LineItem { name: "Coffee".into(), quantity: 2, amount_minor: 250 }
        );
        assert_eq!(request.valid_for_s, Some(60));
        let least = read_create(br#"{"amount_minor":1,"currency":"JPY"}"#, None).unwrap();
        assert!(
            !least.capture_after_dispense && least.items.is_empty() && least.valid_for_s.is_none()
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (body, field) in [
            (r#"{"currency":"EUR"}"#, "amount_minor"),
            (r#"{"amount_minor":250}"#, "currency"),
            (r#"{"amount_minor":2.5,"currency":"EUR"}"#, "amount_minor"),
            (r#"{"amount_minor":"250","currency":"EUR"}"#, "amount_minor"),
            (r#"{"amount_minor":-1,"currency":"EUR"}"#, "amount_minor"),
            (r#"{"amount_minor":0,"currency":"EUR"}"#, "amount_minor"),
            (r#"{"amount_minor":1000000000000,"currency":"EUR"}"#, "amount_minor"),
            (r#"{"amount_minor":250,"currency":"eur"}"#, "currency"),
            (r#"{"amount_minor":250,"amount_minor":1,"currency":"EUR"}"#, "amount_minor"),
            (r#"{"amount_minor":250,"currency":"EUR","amuont":1}"#, "amuont"),
            (r#"{"amount_minor":250,"currency":"EUR","reference":"a\nb"}"#, "reference"),
            (
                "{\"amount_minor\":250,\"currency\":\"EUR\",\"reference\":\"a\u{202e}b\"}",
                "reference",
            ),
            (r#"{"amount_minor":250,"currency":"EUR","capture":"later"}"#, "capture"),
            (r#"{"amount_minor":250,"currency":"EUR","valid_for_s":0}"#, "valid_for_s"),
            (r#"{"amount_minor":250,"currency":"EUR","valid_for_s":3601}"#, "valid_for_s"),
            (
                r#"{"amount_minor":250,"currency":"EUR","items":[{"amount_minor":1}]}"#,
                "items[0].name",
            ),
            (
                r#"{"amount_minor":250,"currency":"EUR","items":[{"name":"","amount_minor":1}]}"#,
                "items[0].name",
            ),
            (
                r#"{"amount_minor":250,"currency":"EUR","items":[{"name":"a","price":1}]}"#,
                "items[0].price",
            ),
        ] {
            let problem = read_create(body.as_bytes(), None).unwrap_err();
            let json = serde_json::to_value(&problem).unwrap();
            assert_eq!(json["field"], field, "{body} gave {json}");
            assert!(
                json["detail"].as_str().unwrap().contains(field.rsplit('.').next().unwrap()),
                "{json}"
            );
        }
    }

    #[test]
    fn details_say_what_was_got_and_what_is_expected_in_words_of_the_api() {
        for (body, detail) in [
            (
                r#"{"amount_minor":"250","currency":"EUR"}"#,
                "amount_minor: expected a whole number of minor units (such as cents) from 1 to \
                 999999999999: 250 is 2.50 EUR; got the text \"250\"",
            ),
            (
                r#"{"amount_minor":2.5,"currency":"EUR"}"#,
                "amount_minor: expected a whole number of minor units (such as cents) from 1 to \
                 999999999999: 250 is 2.50 EUR; got 2.5",
            ),
            (
                r#"{"amount_minor":250,"currency":"eur"}"#,
                "currency: `eur` is not a currency of ISO 4217 that money is paid in; expected \
                 capital letters: EUR",
            ),
            (
                r#"{"amount_minor":250,"currency":7}"#,
                "currency: expected an ISO 4217 code such as \"EUR\"; got 7",
            ),
            (
                r#"{"amount_minor":250,"currency":"EUR","items":"Coffee"}"#,
                "items: expected an array of items; got the text \"Coffee\"",
            ),
            (
                r#"{"amount_minor":250,"currency":"EUR","items":[1]}"#,
                "items[0]: expected an object with the fields name, quantity, amount_minor, got 1",
            ),
            (
                r#"{"amount_minor":250,"currency":"EUR","capture":"later"}"#,
                "capture: expected \"at_once\" or \"after_dispense\"; got the text \"later\"",
            ),
            (
                r#"{"amount_minor":250,"currency":"EUR","valid_for_s":"60s"}"#,
                "valid_for_s: expected a whole number of seconds from 1 to 3600; got the text \
                 \"60s\"",
            ),
            (
                r#"{"amount_minor":250,"amuont":1}"#,
                "amuont: is not known; expected only amount_minor, currency, reference, items, \
                 capture, valid_for_s",
            ),
            (
                r#"{"amount_minor":250,"currency":"EUR","items":[{"name":"a","amount_minor":1},
                    {"name":"2\u200b50","amount_minor":1}]}"#,
                "items[1].name: U+200B (character 2) is invisible or changes how the text around \
                 it is shown",
            ),
            (
                "[]",
                "the body: expected an object with the fields amount_minor, currency, reference, \
                 items, capture, valid_for_s, got an array",
            ),
        ] {
            let problem = read_create(body.as_bytes(), None).unwrap_err();
            assert_eq!(serde_json::to_value(&problem).unwrap()["detail"], detail, "{body}");
        }
        let problem = read_complete(br#"{"dispensed":"true"}"#).unwrap_err();
        assert_eq!(
            serde_json::to_value(&problem).unwrap()["detail"],
            "dispensed: expected true (the goods were released) or false; got the text \"true\""
        );
    }

    #[test]
    fn only_a_boolean_completes() {
        assert_eq!(read_complete(br#"{"dispensed":true}"#), Ok(true));
        for body in ["{}", r#"{"dispensed":"true"}"#, r#"{"dispensed":1}"#, "", "[]", "true"] {
            assert!(read_complete(body.as_bytes()).is_err(), "{body}");
        }
        assert_eq!(read_cancel(b""), Ok(()));
        assert_eq!(read_cancel(b"{}"), Ok(()));
        assert!(read_cancel(br#"{"why":1}"#).is_err());
    }

    proptest! {
        #[test]
        fn any_octets_are_a_named_problem_at_worst(octets: Vec<u8>, text: String) {
            let _ = read_create(&octets, None);
            let _ = read_create(text.as_bytes(), None);
            let _ = read_complete(&octets);
            let _ = read_cancel(&octets);
            let _ = read_idempotency_key(&text);
        }
    }
}
