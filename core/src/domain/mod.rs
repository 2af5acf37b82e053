//! Values that cannot be wrong: a value that exists is in its range.
//!
//! Constructors parse and return an error that says what was expected. Nothing here reads a clock,
//! draws randomness, or does input or output, and nothing knows how a value is encoded on the wire.

mod amount;
mod currency;
mod decline_reason;
mod displayed_text;
mod holder_verification;
mod idempotency_key;
mod identifiers;
mod moment;
mod offer;
mod outcome;
mod receipt;
mod transaction_state;
mod typed_amount;

pub use amount::{Amount, AmountError, MINOR_UNITS_MAX};
pub use currency::{Currency, CurrencyError};
pub use decline_reason::DeclineReason;
pub use displayed_text::{
    CharacterFault, DisplayedTextError, MARKS_PER_BASE_MAX, check_displayed_text, displayable,
};
pub use holder_verification::HolderVerification;
pub use idempotency_key::{IdempotencyKey, IdempotencyKeyError};
pub use identifiers::{CardId, IdentifierError, TerminalId, TransactionId};
pub use moment::{Moment, UnixTime, UnixTimeError};
pub use offer::{
    LINE_ITEMS_MAX, LineItem, Offer, OfferDigest, OfferError, OfferParts, QUANTITY_MAX,
    TEXT_OCTETS_MAX, VALID_FOR_S_MAX, check_merchant_name,
};
pub use outcome::{Outcome, ReversalReason};
pub use receipt::{
    CommandDigest, Exclusion, Receipt, ReceiptMismatch, ReceiptStatus, ReceiptSubject,
};
pub use transaction_state::TransactionState;
pub use typed_amount::TypedAmountError;
