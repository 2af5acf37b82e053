//! One payment as the journal keeps it, and the states it goes through.
//!
//! Which state follows which is decided in `transition.rs`.

use super::StoreGeneration;
use crate::credential::SealedCommand;
use crate::domain::{
    Amount, CommandDigest, DeclineReason, Outcome, ReversalReason, TransactionId, UnixTime,
};

/// Where a payment stands. The engine's transition tables alone decide on a change.
///
/// ```text
/// Offered ─ command ─> Authorising ─ approved ─> Approved ─ dispensed ─> Capturing ─> Captured
///    │                    │   │                     └─ failed, cancelled ─> Reversing ─> Reversed
///    │                    │   └─ no answer ─> Unresolved ─ approved or never seen ─> Reversing
///    │                    │                        └─ declined ─> Declined
///    │                    └─ declined ─> Declined
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
    /// Final: the till withdrew the offer before any command.
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
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        }
    }

    /// The name of the state's reason; empty for a state without one.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Reversing(reason) | Self::Reversed(reason) => reason.name(),
            Self::Declined(reason) => reason.name(),
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
            Self::Approved | Self::Capturing => Some(Outcome::Approved),
            Self::Captured => Some(Outcome::Captured),
            // The institution has not acknowledged the reversal: nobody may say "given back" yet.
            Self::Reversing(_) => Some(Outcome::Approved),
            Self::Reversed(_) => Some(Outcome::Reversed),
            Self::Declined(reason) => Some(Outcome::Declined(reason)),
            Self::Offered | Self::Authorising | Self::Cancelled | Self::Expired => None,
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
    /// The sealed command, once there is one.
    pub command: Option<JournalledCommand>,
    /// The number of its authorisation among those of this terminal, from 1; 0 before there is a
    /// command. It tells the institution whether two machines share one identity.
    pub sequence: u64,
    /// The octets of the newest signed receipt.
    pub receipt: Option<Vec<u8>>,
    /// The octets of the signed exclusion: on which command the institution decided, or that it
    /// will decide on none.
    pub exclusion: Option<Vec<u8>>,
    /// Which life of the institution's store said last how the transaction stands.
    pub confirmed_generation: Option<StoreGeneration>,
    /// The till was told to release the goods, and nobody has reported that it did not.
    pub released: bool,
    /// How often the terminal was restarted while the till had yet to report on the goods.
    pub dispense_restarts: u32,
    /// The till's idempotency key, and the SHA-256 of what it requested under it.
    pub idempotency: Option<(String, [u8; 32])>,
    /// By the terminal's wall clock, for people.
    pub created_at: UnixTime,
    /// When the state last changed, by the terminal's wall clock, for people.
    pub updated_at: UnixTime,
}

/// The sealed command as the journal keeps it.
#[derive(Clone, PartialEq, Eq)]
pub enum JournalledCommand {
    /// The octets, as the phone sent them.
    Full(Vec<u8>),
    /// Its digest, where the octets are needed no more, or where only the institution had them.
    Digest(CommandDigest),
}

impl JournalledCommand {
    /// SHA-256 over the octets.
    pub fn digest(&self) -> CommandDigest {
        match self {
            Self::Full(octets) => SealedCommand::digest_of_encoded(octets),
            Self::Digest(digest) => *digest,
        }
    }

    /// The octets, if they are kept.
    pub fn octets(&self) -> Option<&[u8]> {
        match self {
            Self::Full(octets) => Some(octets),
            Self::Digest(_) => None,
        }
    }
}

impl Payment {
    /// The digest of the command, if the terminal knows of one.
    pub fn command_digest(&self) -> Option<CommandDigest> {
        self.command.as_ref().map(JournalledCommand::digest)
    }

    /// Does the exclusion say that this command was not used and never will be? The engine keeps
    /// only an exclusion that fits the payment: it names the payment's own command, or none.
    pub fn is_excluded(&self, command_digest: CommandDigest) -> bool {
        let is_tombstone = self.receipt.is_none()
            && matches!(
                self.state,
                PaymentState::Reversed(_) | PaymentState::Expired | PaymentState::Cancelled
            );
        self.exclusion.is_some() && (is_tombstone || self.command_digest() != Some(command_digest))
    }

    /// Goods were released, and the money for them was given back or never taken.
    pub fn is_given_away(&self) -> bool {
        self.released && matches!(self.state, PaymentState::Reversed(_) | PaymentState::Declined(_))
    }

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
