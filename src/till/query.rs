//! The query of a request, such as `?open=true&limit=50`: what is wrong is named by its parameter.

use std::ops::RangeInclusive;

use axum::extract;
use axum::http::Uri;

use super::problem::Problem;

/// The parameters of a request.
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads the query, if all parameters are `known` and none is given twice.
    pub(super) fn read(uri: &Uri, known: &[&str]) -> Result<Self, Problem> {
        let extract::Query(parameters) = extract::Query::<Vec<(String, String)>>::try_from_uri(uri)
            .map_err(|_| Problem::malformed("the query cannot be read"))?;
        for (index, (name, _)) in parameters.iter().enumerate() {
            let shown: String = name.chars().take(64).collect();
            if !known.contains(&name.as_str()) {
                let expected = known.join(", ");
                let detail = format!("is not known; expected only {expected}");
                return Err(Problem::malformed_parameter(&shown, detail));
            }
            if parameters.iter().take(index).any(|(earlier, _)| earlier == name) {
                return Err(Problem::malformed_parameter(&shown, "is given twice; expected once"));
            }
        }
        Ok(Self(parameters))
    }

    /// The value as it was written.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// A whole number in this range.
    pub(super) fn number(
        &self,
        name: &str,
        range: RangeInclusive<u32>,
    ) -> Result<Option<u32>, Problem> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let detail = format!(
            "expected a whole number from {} to {}, got `{}`",
            range.start(),
            range.end(),
            shortened(text)
        );
        match text.parse() {
            Ok(number) if range.contains(&number) => Ok(Some(number)),
            Ok(_) => Err(Problem::invalid(name, detail)),
            Err(_) => Err(Problem::malformed_parameter(name, detail)),
        }
    }

    /// `true` or `false`.
    pub(super) fn boolean(&self, name: &str) -> Result<Option<bool>, Problem> {
        match self.text(name) {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(text) => {
                let detail = format!("expected `true` or `false`, got `{}`", shortened(text));
                Err(Problem::malformed_parameter(name, detail))
            }
        }
    }
}

pub(super) fn shortened(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(24).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_parameter_is_named_with_what_was_got_and_what_is_expected() {
        let read = |query: &str| -> Result<(), Problem> {
            let uri = format!("/v1/payments?{query}").parse().unwrap();
            let query = Query::read(&uri, &["open", "limit"])?;
            query.boolean("open")?;
            query.number("limit", 1..=1000)?;
            Ok(())
        };
        read("open=true&limit=50").unwrap();
        for (query, field, status, detail) in [
            ("limit=many", "limit", 400, "expected a whole number from 1 to 1000, got `many`"),
            ("limit=-1", "limit", 400, "expected a whole number from 1 to 1000, got `-1`"),
            ("limit=0", "limit", 422, "expected a whole number from 1 to 1000, got `0`"),
            ("open=yes", "open", 400, "expected `true` or `false`, got `yes`"),
            ("opne=true", "opne", 400, "is not known; expected only open, limit"),
            ("limit=1&limit=2", "limit", 400, "is given twice; expected once"),
        ] {
            let json = serde_json::to_value(read(query).unwrap_err()).unwrap();
            assert_eq!(
                (&json["field"], &json["status"]),
                (&field.into(), &status.into()),
                "{json}"
            );
            assert_eq!(json["detail"], format!("{field}: {detail}"));
        }
    }
}
