//! Reads what a till sends in JSON, and says which field is wrong and what it should be.
//!
//! Ranges that the engine checks too are checked here only where a name for the field would
//! otherwise be lost.

use serde::Deserialize;
use serde_json::Value;

use super::problem::Problem;
use crate::domain::{
    Amount, Currency, IdempotencyKey, LINE_ITEMS_MAX, LineItem, MINOR_UNITS_MAX, TEXT_OCTETS_MAX,
    VALID_FOR_S_MAX,
};
use crate::terminal::PaymentRequest;

/// How much of an unknown field's name a problem repeats, in characters.
const FIELD_NAME_CHARACTERS_MAX: usize = 64;

/// Every field as whatever it is, so that unknown and repeated ones are refused by name and wrong
/// ones below.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CreateBody {
    amount_minor: Option<Value>,
    currency: Option<Value>,
    reference: Option<Value>,
    items: Option<Vec<ItemBody>>,
    capture: Option<Value>,
    valid_for_s: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ItemBody {
    name: Option<Value>,
    quantity: Option<Value>,
    amount_minor: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CompleteBody {
    dispensed: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CancelBody {}

/// The body of `POST /v1/payments`.
///
/// # Errors
/// A [`Problem`]: a field that is missing, unknown, of the wrong kind or out of its range, or no
/// JSON object at all.
pub fn read_create(
    body: &[u8],
    idempotency_key: Option<IdempotencyKey>,
) -> Result<PaymentRequest, Problem> {
    let body: CreateBody = parse(body)?;
    let currency =
        required(text("currency", body.currency)?, "currency", "an ISO 4217 code such as \"EUR\"")?;
    let currency: Currency =
        currency.parse().map_err(|error| Problem::invalid("currency", error))?;
    let amount_minor = required(
        whole_number("amount_minor", body.amount_minor, MINOR_UNITS_MAX)?,
        "amount_minor",
        "the amount in minor units (cents), such as 250",
    )?;
    let amount = Amount::new(amount_minor, currency)
        .map_err(|error| Problem::invalid("amount_minor", error))?;
    let reference = text("reference", body.reference)?.unwrap_or_default();
    check_line("reference", &reference)?;
    let capture_after_dispense = match text("capture", body.capture)?.as_deref() {
        None | Some("at_once") => false,
        Some("after_dispense") => true,
        Some(_) => {
            return Err(Problem::invalid("capture", "expected \"at_once\" or \"after_dispense\""));
        }
    };
    let valid_for_s =
        match whole_number("valid_for_s", body.valid_for_s, u64::from(VALID_FOR_S_MAX))? {
            None => None,
            Some(0) => {
                return Err(Problem::invalid(
                    "valid_for_s",
                    format!("expected 1 to {VALID_FOR_S_MAX} seconds"),
                ));
            }
            Some(seconds) => u32::try_from(seconds).ok(),
        };
    let items = body.items.unwrap_or_default();
    if items.len() > LINE_ITEMS_MAX {
        return Err(Problem::invalid(
            "items",
            format!("expected at most {LINE_ITEMS_MAX}, got {}", items.len()),
        ));
    }
    let items = items.into_iter().enumerate().map(read_item).collect::<Result<_, _>>()?;
    Ok(PaymentRequest {
        amount,
        reference,
        items,
        capture_after_dispense,
        valid_for_s,
        idempotency_key,
    })
}

/// The body of `POST /v1/payments/{id}/complete`: were the goods released?
///
/// # Errors
/// A [`Problem`]: no boolean `dispensed`, or anything else beside it.
pub fn read_complete(body: &[u8]) -> Result<bool, Problem> {
    let body: CompleteBody = parse(body)?;
    match body.dispensed {
        Some(Value::Bool(dispensed)) => Ok(dispensed),
        Some(_) | None => {
            Err(Problem::invalid("dispensed", "expected true or false: were the goods released?"))
        }
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
    parse::<CancelBody>(body).map(|CancelBody {}| ())
}

/// Reads the value of the header `Idempotency-Key`.
///
/// # Errors
/// A [`Problem`]: longer than 64 octets, empty, or with what is not visible ASCII.
pub fn read_idempotency_key(text: &str) -> Result<IdempotencyKey, Problem> {
    text.parse().map_err(|error| Problem::invalid("Idempotency-Key", error))
}

fn parse<T: for<'de> Deserialize<'de>>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| match error.classify() {
        // Right JSON that is not this object: the message names the field.
        serde_json::error::Category::Data => match quoted_name(&error.to_string()) {
            Some(field) => Problem::invalid(&field, error),
            None => Problem::malformed(format!(
                "expected a JSON object with the documented fields: {error}"
            )),
        },
        serde_json::error::Category::Syntax
        | serde_json::error::Category::Eof
        | serde_json::error::Category::Io => Problem::malformed(format!("not JSON: {error}")),
    })
}

/// The field that serde complains of: "unknown field `x`, …", "duplicate field `x` …".
fn quoted_name(message: &str) -> Option<String> {
    let rest = message
        .strip_prefix("unknown field `")
        .or_else(|| message.strip_prefix("duplicate field `"))?;
    rest.split_once('`').map(|(name, _)| name.chars().take(FIELD_NAME_CHARACTERS_MAX).collect())
}

fn read_item((index, item): (usize, ItemBody)) -> Result<LineItem, Problem> {
    let field = |name: &str| format!("items[{index}].{name}");
    let name_field = field("name");
    let name =
        required(text(&name_field, item.name)?, &name_field, "what it is, such as \"Coffee\"")?;
    check_line(&name_field, &name)?;
    if name.is_empty() {
        return Err(Problem::invalid(&name_field, "expected at least one character"));
    }
    let quantity_field = field("quantity");
    let quantity = whole_number(&quantity_field, item.quantity, 10_000)?.unwrap_or(1);
    if quantity == 0 {
        return Err(Problem::invalid(&quantity_field, "expected 1 to 10000"));
    }
    let quantity = u32::try_from(quantity)
        .map_err(|_| Problem::invalid(&quantity_field, "expected 1 to 10000"))?;
    let amount_field = field("amount_minor");
    let amount_minor = required(
        whole_number(&amount_field, item.amount_minor, MINOR_UNITS_MAX)?,
        &amount_field,
        "the amount of the whole line in minor units",
    )?;
    Ok(LineItem { name, quantity, amount_minor })
}

fn required<T>(value: Option<T>, field: &str, expected: &str) -> Result<T, Problem> {
    value.ok_or_else(|| Problem::invalid(field, format!("is missing; expected {expected}")))
}

fn text(field: &str, value: Option<Value>) -> Result<Option<String>, Problem> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => {
            Err(Problem::invalid(field, format!("expected a text, got {}", kind_of(&other))))
        }
    }
}

fn whole_number(field: &str, value: Option<Value>, max: u64) -> Result<Option<u64>, Problem> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_u64().filter(|number| *number <= max) {
            Some(number) => Ok(Some(number)),
            None => Err(Problem::invalid(
                field,
                format!("expected a whole number up to {max}, got {}", kind_of(&value)),
            )),
        },
    }
}

fn check_line(field: &str, text: &str) -> Result<(), Problem> {
    if text.len() > TEXT_OCTETS_MAX || text.chars().any(char::is_control) {
        return Err(Problem::invalid(
            field,
            format!(
                "expected at most {TEXT_OCTETS_MAX} octets of UTF-8 on one line, without control characters"
            ),
        ));
    }
    Ok(())
}

/// What a value is, in words; numbers are short enough to repeat, texts may not be.
fn kind_of(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(_) => "a text".into(),
        Value::Array(_) => "an array".into(),
        Value::Object(_) => "an object".into(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_full_request_reads() {
        let body = br#"{"amount_minor":250,"currency":"EUR","reference":"Order 7","capture":"after_dispense",
            "items":[{"name":"Coffee","quantity":2,"amount_minor":250}],"valid_for_s":60}"#;
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
            (r#"{"amount_minor":250,"currency":"EUR","capture":"later"}"#, "capture"),
            (r#"{"amount_minor":250,"currency":"EUR","valid_for_s":0}"#, "valid_for_s"),
            (r#"{"amount_minor":250,"currency":"EUR","valid_for_s":3601}"#, "valid_for_s"),
            (
                r#"{"amount_minor":250,"currency":"EUR","items":[{"amount_minor":1}]}"#,
                "items[0].name",
            ),
            (r#"{"amount_minor":250,"currency":"EUR","items":[{"name":"a","price":1}]}"#, "price"),
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
