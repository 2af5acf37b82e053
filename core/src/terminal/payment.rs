//! One payment as the journal keeps it, and the states it goes through.

use crate::domain::{Amount, DeclineReason, Outcome, ReversalReason, TransactionId, UnixTime};
use crate::protocol::WireError;

/// Where a payment stands. The engine's transition table is the only place that changes it.
///
/// ```text
/// Offered ── command ──> Authorising ── approved ──> Approved ── dispensed ──> Capturing ──> Captured
///    │                        │  │                      └── failed, cancelled ──> Reversing ──> Reversed
///    │                        │  └── no answer ──> Unresolved ── approved or never seen ──> Reversing
///    │                        │                        └── declined ──> Declined
///    │                        └── declined ──> Declined, never sent ──> NotCharged
///    └── Cancelled, Expired
/// ```
/// Where the amount is captured at once, an approval leads from `Authorising` to `Capturing`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PaymentState {
    /// Waiting for a phone's command.
    Offered,
    /// A command is journalled; a request may have left.
    Authorising,
    /// No answer came in time; the institution is asked what it knows.
    Unresolved,
    /// Approved; the goods are being released; the till's word is awaited.
    Approved,
    /// The goods were released; the institution is told until it acknowledges.
    Capturing,
    /// Final: paid.
    Captured,
    /// To be given back; the institution is told until it acknowledges.
    Reversing(ReversalReason),
    /// Final: not charged, or given back.
    Reversed(ReversalReason),
    /// Final: the institution refused the card's command.
    Declined(DeclineReason),
    /// Final: nothing was sent to the institution; it holds nothing.
    NotCharged(WireError),
    /// Final: the till took the offer back before any command.
    Cancelled,
    /// Final: no command came in time.
    Expired,
}

impl PaymentState {
    /// A stable name for programs and the journal: lower case, words joined by underscores.
    pub fn name(self) -> &'static str {
        match self {
            Self::Offered => "offered",
            Self::Authorising => "authorising",
            Self::Unresolved => "unresolved",
            Self::Approved => "approved",
            Self::Capturing => "capturing",
            Self::Captured => "captured",
            Self::Reversing(_) => "reversing",
            Self::Reversed(_) => "reversed",
            Self::Declined(_) => "declined",
            Self::NotCharged(_) => "not_charged",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        }
    }

    /// The name of what goes with the state: a reason. Empty where there is none.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Reversing(reason) | Self::Reversed(reason) => reason.name(),
            Self::Declined(reason) => reason.name(),
            Self::NotCharged(error) => error.name(),
            Self::Offered
            | Self::Authorising
            | Self::Unresolved
            | Self::Approved
            | Self::Capturing
            | Self::Captured
            | Self::Cancelled
            | Self::Expired => "",
        }
    }

    /// The state with these two names, as the journal holds them.
    pub fn from_names(name: &str, reason: &str) -> Option<Self> {
        let state = match name {
            "offered" => Self::Offered,
            "authorising" => Self::Authorising,
            "unresolved" => Self::Unresolved,
            "approved" => Self::Approved,
            "capturing" => Self::Capturing,
            "captured" => Self::Captured,
            "reversing" => Self::Reversing(ReversalReason::from_name(reason)?),
            "reversed" => Self::Reversed(ReversalReason::from_name(reason)?),
            "declined" => Self::Declined(
                DeclineReason::ALL.into_iter().find(|decline| decline.name() == reason)?,
            ),
            "not_charged" => {
                Self::NotCharged(WireError::ALL.into_iter().find(|error| error.name() == reason)?)
            }
            "cancelled" => Self::Cancelled,
            "expired" => Self::Expired,
            _ => return None,
        };
        Some(state)
    }

    /// Nothing more happens to it.
    pub fn is_final(self) -> bool {
        match self {
            Self::Captured
            | Self::Reversed(_)
            | Self::Declined(_)
            | Self::NotCharged(_)
            | Self::Cancelled
            | Self::Expired => true,
            Self::Offered
            | Self::Authorising
            | Self::Unresolved
            | Self::Approved
            | Self::Capturing
            | Self::Reversing(_) => false,
        }
    }

    /// The amount is reserved for the goods, or taken.
    pub fn is_paid(self) -> bool {
        match self {
            Self::Approved | Self::Capturing | Self::Captured => true,
            Self::Offered
            | Self::Authorising
            | Self::Unresolved
            | Self::Reversing(_)
            | Self::Reversed(_)
            | Self::Declined(_)
            | Self::NotCharged(_)
            | Self::Cancelled
            | Self::Expired => false,
        }
    }

    /// What the phone that sent the command is told; none while its authorisation runs, and where
    /// there was none.
    pub fn outcome(self) -> Option<Outcome> {
        match self {
            Self::Unresolved | Self::Reversing(ReversalReason::Unanswered) => {
                Some(Outcome::Pending)
            }
            Self::Approved | Self::Capturing | Self::Captured => Some(Outcome::Approved),
            // Still approved: the institution has not acknowledged, so nobody may say "given back"
            // yet.
            Self::Reversing(_) => Some(Outcome::Approved),
            Self::Reversed(_) => Some(Outcome::Reversed),
            Self::Declined(reason) => Some(Outcome::Declined(reason)),
            Self::Offered
            | Self::Authorising
            | Self::NotCharged(_)
            | Self::Cancelled
            | Self::Expired => None,
        }
    }
}

/// One payment: what the journal holds of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Payment {
    /// The idempotency key of everything.
    pub transaction_id: TransactionId,
    /// Where it stands.
    pub state: PaymentState,
    /// How much.
    pub amount: Amount,
    /// The till's reference; may be empty.
    pub reference: String,
    /// Reserve now, take after the till's word.
    pub capture_after_dispense: bool,
    /// The octets of the offer.
    pub offer: Vec<u8>,
    /// The octets of the sealed command, once there is one.
    pub sealed_command: Option<Vec<u8>>,
    /// The octets of the newest signed receipt.
    pub receipt: Option<Vec<u8>>,
    /// The till was told to release the goods.
    pub released: bool,
    /// The till's own key for this request, and what it asked for under it (SHA-256).
    pub idempotency: Option<(String, [u8; 32])>,
    /// By the terminal's wall clock, for people.
    pub created_at: UnixTime,
    /// Of the last change, likewise.
    pub updated_at: UnixTime,
}

impl Payment {
    /// How long ago it was made, in seconds, by the wall clock; 0 for a clock that was set back
    /// since.
    pub fn age_s(&self, now: UnixTime) -> u64 {
        now.seconds.saturating_sub(self.created_at.seconds)
    }
}

impl std::fmt::Debug for Payment {
    /// Leaves the octets out: they are long, and the command is the card's.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Payment")
            .field("transaction_id", &self.transaction_id)
            .field("state", &self.state)
            .field("amount", &self.amount)
            .finish_non_exhaustive()
    }
}
