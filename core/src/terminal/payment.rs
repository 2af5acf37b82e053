//! One payment as the journal keeps it, and the states it goes through.
//!
//! Which state follows which is decided in `transition.rs`.

use crate::domain::{Amount, DeclineReason, Outcome, ReversalReason, TransactionId, UnixTime};

/// Where a payment stands. The engine's transition tables alone decide on a change.
///
/// ```text
/// Offered ─ command ─> Authorising ─ approved ─> Approved ─ dispensed ─> Capturing ─> Captured
///    │                    │   │                     └─ failed, cancelled ─> Reversing ─> Reversed
///    │                    │   └─ no answer ─> Unresolved ─ approved or never seen ─> Reversing
///    │                    │                        └─ declined ─> Declined
///    │                    └─ declined ─> Declined; never sent ─> NotCharged
///    └─ Cancelled, Expired
/// ```
/// Where the amount is captured at once, an approval leads from `Authorising` to `Capturing`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PaymentState {
    /// The offer waits for a phone's command.
    Offered,
    /// The command is in the journal; a request to the institution may have left.
    Authorising,
    /// The institution did not answer in time; the terminal inquires what it knows.
    Unresolved,
    /// The institution has approved. The till releases the goods and reports what became of them.
    Approved,
    /// The goods were released. The capture is sent until the institution acknowledges it.
    Capturing,
    Captured,
    /// The amount is to be given back. The reversal is sent until the institution acknowledges it.
    Reversing(ReversalReason),
    /// Final: not charged, or given back.
    Reversed(ReversalReason),
    /// Final: the institution declined the payment.
    Declined(DeclineReason),
    /// Final: nothing was sent to the institution, so it holds nothing.
    NotCharged(NotChargedReason),
    /// Final: the till withdrew the offer before any command.
    Cancelled,
    /// Final: no command came in time.
    Expired,
}

/// Why a payment ended with nothing sent to the institution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NotChargedReason {
    /// No authorisation could be sent in time.
    InstitutionUnreachable,
}

impl NotChargedReason {
    /// A stable name for programs and the journal: lower case, words joined by underscores.
    pub fn name(self) -> &'static str {
        match self {
            Self::InstitutionUnreachable => "institution_unreachable",
        }
    }

    /// The reason with this name, if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::InstitutionUnreachable].into_iter().find(|reason| reason.name() == name)
    }
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

    /// The name of the state's reason; empty for a state without one.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Reversing(reason) | Self::Reversed(reason) => reason.name(),
            Self::Declined(reason) => reason.name(),
            Self::NotCharged(reason) => reason.name(),
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
            "not_charged" => Self::NotCharged(NotChargedReason::from_name(reason)?),
            "cancelled" => Self::Cancelled,
            "expired" => Self::Expired,
            _ => return None,
        };
        Some(state)
    }

    /// Nothing more happens to the payment.
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
        matches!(self, Self::Approved | Self::Capturing | Self::Captured)
    }

    /// How the payment stands for the phone that sent the command. None while the authorisation is
    /// under way, and where no authorisation was sent.
    pub fn outcome(self) -> Option<Outcome> {
        match self {
            Self::Unresolved | Self::Reversing(ReversalReason::Unanswered) => {
                Some(Outcome::Pending)
            }
            Self::Approved | Self::Capturing | Self::Captured => Some(Outcome::Approved),
            // The institution has not acknowledged the reversal: nobody may say "given back" yet.
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
    /// Every request that concerns the payment is idempotent by it.
    pub transaction_id: TransactionId,
    /// The till's sale, by the id of its first transaction. An offer that ended over a command
    /// without a card is made again, as another transaction of the same sale.
    pub sale_id: TransactionId,
    pub state: PaymentState,
    pub amount: Amount,
    /// The till's reference; may be empty.
    pub reference: String,
    /// Reserve the amount at authorisation and take it after the till has reported the release.
    pub capture_after_dispense: bool,
    /// The octets of the offer.
    pub offer: Vec<u8>,
    /// The octets of the sealed command, once there is one.
    pub sealed_command: Option<Vec<u8>>,
    /// The number of its authorisation among those of this terminal, from 1; 0 before there is a
    /// command. It tells the institution whether two machines share one identity.
    pub sequence: u64,
    /// The octets of the newest signed receipt.
    pub receipt: Option<Vec<u8>>,
    /// The till was told to release the goods.
    pub released: bool,
    /// The till's idempotency key, and the SHA-256 of what it requested under it.
    pub idempotency: Option<(String, [u8; 32])>,
    /// By the terminal's wall clock, for people.
    pub created_at: UnixTime,
    /// When the state last changed, by the terminal's wall clock, for people.
    pub updated_at: UnixTime,
}

impl Payment {
    /// The age in seconds by the wall clock; 0 if the clock was set back since.
    pub fn age_s(&self, now: UnixTime) -> u64 {
        now.seconds.saturating_sub(self.created_at.seconds)
    }
}

impl std::fmt::Debug for Payment {
    /// Leaves out the octets: they are long, and the command is card data.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Payment")
            .field("transaction_id", &self.transaction_id)
            .field("state", &self.state)
            .field("amount", &self.amount)
            .finish_non_exhaustive()
    }
}
