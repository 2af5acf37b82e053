//! Errors as the till API answers them: `application/problem+json` (RFC 9457).
//!
//! The one place that gives a refusal its HTTP status. A request that got no answer may have taken
//! effect: the till has to read the payment to know.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::TillPortError;
use crate::terminal::TillRefusal;

/// An error answer: what went wrong, whose turn it is, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// A stable name for programs, as a URI.
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    status: u16,
    detail: String,
    /// The field of the request that is wrong, if one is.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    /// The payment that is in the way, if one is.
    #[serde(skip_serializing_if = "Option::is_none")]
    transaction_id: Option<String>,
    /// After how many seconds the same request may succeed.
    #[serde(skip)]
    retry_after_s: Option<u16>,
}

impl Problem {
    pub(super) fn new(
        status: StatusCode,
        name: &str,
        title: &'static str,
        detail: impl ToString,
    ) -> Self {
        Self {
            kind: format!("urn:florin:problem:{name}"),
            title,
            status: status.as_u16(),
            detail: detail.to_string(),
            field: None,
            transaction_id: None,
            retry_after_s: None,
        }
    }

    /// A field of the request is missing, unknown, of the wrong kind or out of its range.
    pub(super) fn invalid(field: &str, expected: impl ToString) -> Self {
        let mut problem = Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "invalid-field",
            "A field of the request is not as it should be",
            format!("{field}: {}", expected.to_string()),
        );
        problem.field = Some(field.to_owned());
        problem
    }

    /// The request as a whole cannot be read.
    pub(super) fn malformed(detail: impl ToString) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "malformed-request",
            "The request cannot be read",
            detail,
        )
    }

    /// A parameter of the query is unknown, repeated, or cannot be read.
    pub(super) fn malformed_parameter(name: &str, detail: impl ToString) -> Self {
        let mut problem = Self::malformed(format!("{name}: {}", detail.to_string()));
        problem.field = Some(name.to_owned());
        problem
    }

    /// The request comes from a web page or another machine.
    pub(super) fn forbidden(detail: impl ToString) -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "foreign-origin",
            "Web pages may not use the till API",
            detail,
        )
    }

    /// Too many requests at once.
    pub(super) fn busy(detail: impl ToString) -> Self {
        let mut problem = Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "busy",
            "Too much at once; try again in a moment",
            detail,
        );
        problem.retry_after_s = Some(1);
        problem
    }

    /// The driver has not answered in time.
    pub(super) fn unanswered() -> Self {
        Self::new(
            StatusCode::GATEWAY_TIMEOUT,
            "no-answer",
            "The terminal has not answered in time",
            "it may still do what was asked: read the payment, or repeat the request with the same \
             Idempotency-Key",
        )
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

impl From<TillRefusal> for Problem {
    fn from(refusal: TillRefusal) -> Self {
        let detail = refusal.to_string();
        match refusal {
            TillRefusal::Invalid(error) => Self::invalid(&error.field, error.problem),
            TillRefusal::Unknown(transaction_id) => {
                let mut problem = Self::new(
                    StatusCode::NOT_FOUND,
                    "unknown-payment",
                    "There is no such payment",
                    detail,
                );
                problem.transaction_id = Some(transaction_id.to_string());
                problem
            }
            TillRefusal::OfferWaiting(transaction_id) => {
                let mut problem = Self::new(
                    StatusCode::CONFLICT,
                    "offer-waiting",
                    "Another payment is being offered",
                    detail,
                );
                problem.transaction_id = Some(transaction_id.to_string());
                problem
            }
            TillRefusal::KeyReused(transaction_id) => {
                let mut problem = Self::new(
                    StatusCode::UNPROCESSABLE_ENTITY,
                    "idempotency-key-reused",
                    "The idempotency key belongs to another request",
                    detail,
                );
                problem.transaction_id = Some(transaction_id.to_string());
                problem
            }
            TillRefusal::WrongState { .. } => Self::new(
                StatusCode::CONFLICT,
                "wrong-state",
                "The payment's state does not allow this",
                detail,
            ),
            TillRefusal::TooManyOpen(_) => {
                let mut problem = Self::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "too-many-open",
                    "Too many payments are unresolved",
                    detail,
                );
                problem.retry_after_s = Some(30);
                problem
            }
            TillRefusal::OutOfService(_) => {
                let mut problem = Self::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "out-of-service",
                    "The terminal cannot take payments now",
                    detail,
                );
                problem.retry_after_s = Some(5);
                problem
            }
        }
    }
}

impl From<TillPortError> for Problem {
    fn from(error: TillPortError) -> Self {
        match error {
            TillPortError::Full => Self::busy(error),
            TillPortError::Stopped => {
                let mut problem = Self::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "stopping",
                    "The terminal is stopping",
                    "it may have done what was asked: when it runs again, read the payment, or \
                     repeat the request with the same Idempotency-Key",
                );
                problem.retry_after_s = Some(5);
                problem
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.status();
        let retry_after_s = self.retry_after_s;
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response =
            (status, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response();
        if let Some(seconds) = retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
