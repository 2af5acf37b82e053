//! What operators of the institution do to payments, and the log of it.

use std::fmt;

use super::TransactionKey;
use crate::domain::{Amount, TransactionState, UnixTime};

/// The id of a refund, a UUID. The operator may give it, so that a repeat gives nothing back twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RefundId(pub [u8; 16]);

impl RefundId {
    /// A UUID of version 4 from random octets.
    pub fn from_random(octets: [u8; 16]) -> Self {
        Self(uuid::Builder::from_random_bytes(octets).into_uuid().into_bytes())
    }

    /// Reads a UUID as people write it.
    pub fn parse(text: &str) -> Option<Self> {
        uuid::Uuid::try_parse(text.trim()).ok().map(|id| Self(id.into_bytes()))
    }
}

impl fmt::Display for RefundId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        uuid::Uuid::from_bytes(self.0).hyphenated().fmt(formatter)
    }
}

impl fmt::Debug for RefundId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// What an operator does to one payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperatorAction {
    /// Takes what is reserved.
    Capture,
    /// Gives back what is reserved.
    Reverse,
    /// Gives back captured money, a part of it or all.
    Refund { id: RefundId, amount: Amount },
    /// Gives back what is reserved, and pays the merchant out of the institution's own pocket.
    WriteOff,
}

impl OperatorAction {
    /// A stable name for programs: lower case, with an underscore between words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Capture => "capture",
            Self::Reverse => "reverse",
            Self::Refund { .. } => "refund",
            Self::WriteOff => "write_off",
        }
    }

    /// The action of that name; a refund needs its id and its amount.
    pub(in crate::institution) fn from_parts(
        name: &str,
        refund: Option<(RefundId, Amount)>,
    ) -> Option<Self> {
        match (name, refund) {
            ("capture", None) => Some(Self::Capture),
            ("reverse", None) => Some(Self::Reverse),
            ("write_off", None) => Some(Self::WriteOff),
            ("refund", Some((id, amount))) => Some(Self::Refund { id, amount }),
            (_, _) => None,
        }
    }

    /// The id and the amount of a refund.
    pub fn refund(self) -> Option<(RefundId, Amount)> {
        match self {
            Self::Refund { id, amount } => Some((id, amount)),
            Self::Capture | Self::Reverse | Self::WriteOff => None,
        }
    }
}

/// How a payment stood before or after an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    pub state: TransactionState,
    /// What was given back of a captured amount, in minor units.
    pub refunded_minor: u64,
}

/// One entry of the audit log. It is never changed or deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// By the institution's clock.
    pub made_at: UnixTime,
    /// Who did it, by name.
    pub operator: String,
    /// The second person, where two are needed.
    pub approved_by: Option<String>,
    pub key: TransactionKey,
    pub action: OperatorAction,
    /// Why, in the operator's words.
    pub reason: String,
    pub before: Standing,
    pub after: Standing,
    /// The request that this carries out, where two people are needed.
    pub request: Option<i64>,
}

/// What one person has asked for and a second one has to confirm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewOperationRequest {
    /// By the institution's clock.
    pub requested_at: UnixTime,
    /// Who asked for it, by name.
    pub operator: String,
    pub key: TransactionKey,
    pub action: OperatorAction,
    /// Why, in the operator's words.
    pub reason: String,
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestDecision {
    /// By the institution's clock.
    pub decided_at: UnixTime,
    /// The second person, by name.
    pub decided_by: String,
    /// Whether it was carried out; otherwise it was refused.
    pub is_confirmed: bool,
}

/// A request for a second person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationRequest {
    /// From 1, in the order in which they were made.
    pub number: i64,
    pub request: NewOperationRequest,
    /// None while it waits.
    pub decision: Option<RequestDecision>,
}
