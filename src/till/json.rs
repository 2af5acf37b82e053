//! JSON as a till sends it: every field in its order, repeated ones too, so that what is wrong can
//! be named by its field.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Number;
use serde_json::error::Category;

use super::problem::Problem;

/// How much of a text a message repeats, in characters.
const QUOTED_CHARACTERS_MAX: usize = 24;

/// A JSON value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Json {
    Null,
    Boolean(bool),
    Number(Number),
    Text(String),
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    /// Reads the body of a request.
    pub(super) fn parse(body: &[u8]) -> Result<Self, Problem> {
        serde_json::from_slice(body).map_err(|error| {
            let line = body.split(|octet| *octet == b'\n').nth(error.line().saturating_sub(1));
            let at = error.column().saturating_sub(1);
            let rest = line.and_then(|line| line.get(at..)).unwrap_or_default();
            let place = format!("line {}, column {}", error.line(), error.column());
            Problem::malformed(match error.classify() {
                _ if body.iter().all(u8::is_ascii_whitespace) => {
                    "the body is empty; expected a JSON object".to_owned()
                }
                Category::Eof => format!("the body ends in the middle of its JSON ({place})"),
                Category::Syntax | Category::Data | Category::Io => {
                    let rest = quoted(&String::from_utf8_lossy(rest));
                    format!("the body is not JSON from {place} on: {rest}")
                }
            })
        })
    }

    /// What it is, in words, for a message.
    pub(super) fn description(&self) -> String {
        match self {
            Self::Null => "null".to_owned(),
            Self::Boolean(value) => value.to_string(),
            Self::Number(number) => number.to_string(),
            Self::Text(text) => format!("the text {}", quoted(text)),
            Self::Array(_) => "an array".to_owned(),
            Self::Object(_) => "an object".to_owned(),
        }
    }
}

/// A text in quotation marks, shortened, with control characters escaped.
fn quoted(text: &str) -> String {
    let shown: String = text.chars().take(QUOTED_CHARACTERS_MAX).collect();
    let more = if shown.len() < text.len() { "…" } else { "" };
    format!("{:?}", format!("{shown}{more}"))
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Boolean(value))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Json, E> {
        Ok(Json::Number(number.into()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Json, E> {
        Ok(Json::Number(number.into()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Json, E> {
        Ok(Number::from_f64(number).map_or(Json::Null, Json::Number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Json, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = sequence.next_element()? {
            values.push(value);
        }
        Ok(Json::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = map.next_entry()? {
            fields.push(field);
        }
        Ok(Json::Object(fields))
    }
}

/// The fields of one object of a request.
pub(super) struct Fields {
    /// Before the names of the fields: `items[0].`, or nothing.
    prefix: String,
    fields: Vec<(String, Json)>,
}

impl Fields {
    /// The fields of `json` at `path` (empty for the whole body), if they are all `known` and none
    /// is given twice.
    pub(super) fn of(json: Json, path: &str, known: &[&str]) -> Result<Self, Problem> {
        let Json::Object(fields) = json else {
            let names = if known.is_empty() {
                "without fields".to_owned()
            } else {
                format!("with the fields {}", known.join(", "))
            };
            let expected = format!("expected an object {names}, got {}", json.description());
            return Err(if path.is_empty() {
                Problem::malformed(format!("the body: {expected}"))
            } else {
                Problem::invalid(path, expected)
            });
        };
        let prefix = if path.is_empty() { String::new() } else { format!("{path}.") };
        for (index, (name, _)) in fields.iter().enumerate() {
            let path = || format!("{prefix}{}", name.chars().take(64).collect::<String>());
            if !known.contains(&name.as_str()) {
                let expected = match known {
                    [] => "expected no fields".to_owned(),
                    [one] => format!("expected only {one}"),
                    known => format!("expected only {}", known.join(", ")),
                };
                return Err(Problem::invalid(&path(), format!("is not known; {expected}")));
            }
            if fields.iter().take(index).any(|(earlier, _)| earlier == name) {
                return Err(Problem::invalid(&path(), "is given twice; expected once"));
            }
        }
        Ok(Self { prefix, fields })
    }

    /// The whole name of a field: `items[0].name`.
    pub(super) fn path(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// A field's value; none if it is missing or null.
    pub(super) fn take(&mut self, name: &str) -> Option<Json> {
        let index = self.fields.iter().position(|(field, _)| field == name)?;
        Some(self.fields.swap_remove(index).1).filter(|value| *value != Json::Null)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detail(problem: &Problem) -> String {
        serde_json::to_value(problem).unwrap()["detail"].as_str().unwrap().to_owned()
    }

    #[test]
    fn what_is_not_json_is_told_where_and_no_words_of_a_library() {
        for (body, expected) in [
            ("", "the body is empty; expected a JSON object"),
            (" \n", "the body is empty; expected a JSON object"),
            ("{\"a\":", "the body ends in the middle of its JSON (line 1, column 5)"),
            ("{'a':1}", "the body is not JSON from line 1, column 2 on: \"'a':1}\""),
            ("{\"a\":1}\n}", "the body is not JSON from line 2, column 1 on: \"}\""),
            ("amount=250", "the body is not JSON from line 1, column 1 on: \"amount=250\""),
        ] {
            assert_eq!(detail(&Json::parse(body.as_bytes()).unwrap_err()), expected, "{body}");
        }
    }

    #[test]
    fn repeated_fields_are_kept_and_refused() {
        let json = Json::parse(br#"{"a":1,"a":2}"#).unwrap();
        let problem = Fields::of(json, "", &["a"]).err().unwrap();
        assert_eq!(detail(&problem), "a: is given twice; expected once");
    }
}
