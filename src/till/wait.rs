//! What a reader of a payment waits for.

use axum::http::{HeaderMap, header};

use super::problem::Problem;
use super::query::{Query, shortened};
use super::view::PaymentJson;
use crate::domain::Outcome;
use crate::terminal::{PaymentState, PaymentView};

/// The longest `wait_s`, in seconds: below the idle time after which proxies and HTTP libraries
/// give up.
pub const WAIT_S_MAX: u32 = 60;

/// Until what a reader waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Until {
    /// The till knows whether to release: yes, no, or pending.
    Decided,
    Final,
    /// Something differs from the view with this entity tag.
    Changed(String),
}

impl Until {
    /// Reads what the request waits for, and for how many seconds; 0 if it does not wait.
    pub(super) fn read(query: &Query, headers: &HeaderMap) -> Result<(Self, u32), Problem> {
        let wait_s = query.number("wait_s", 0..=WAIT_S_MAX)?;
        let entity_tag = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
        let until = match (query.text("until"), entity_tag) {
            (Some("decided"), _) => Self::Decided,
            (Some("final"), _) => Self::Final,
            (Some(other), _) => {
                let other = shortened(other);
                let detail = format!("expected `decided` or `final`, got `{other}`");
                return Err(Problem::invalid("until", detail));
            }
            (None, Some(entity_tag)) => Self::Changed(entity_tag.to_owned()),
            (None, None) if wait_s.is_none() => Self::Changed(String::new()),
            (None, None) => {
                return Err(Problem::invalid(
                    "until",
                    "is missing; expected `decided` or `final` with `wait_s`, or the header \
                     If-None-Match",
                ));
            }
        };
        Ok((until, wait_s.unwrap_or(0)))
    }

    pub(super) fn is_reached(&self, view: &PaymentView, json: &PaymentJson) -> bool {
        match self {
            Self::Decided => is_decided(view),
            Self::Final => view.state.is_final(),
            Self::Changed(entity_tag) => *entity_tag != json.entity_tag(),
        }
    }
}

/// Whether the till knows that it may release, that it may not, or that the payment is pending.
fn is_decided(view: &PaymentView) -> bool {
    let will_not_release = match view.state {
        PaymentState::Reversing(_) => true,
        // An approved payment becomes `release` in a moment.
        PaymentState::Offered
        | PaymentState::Authorising
        | PaymentState::Approved
        | PaymentState::Capturing
        | PaymentState::Captured
        | PaymentState::Unresolved
        | PaymentState::Reversed(_)
        | PaymentState::Declined(_)
        | PaymentState::Cancelled
        | PaymentState::Expired => false,
    };
    view.release
        || view.state.is_final()
        || view.state.outcome() == Some(Outcome::Pending)
        || will_not_release
}
