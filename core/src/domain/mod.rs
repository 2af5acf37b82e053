//! Values that cannot be wrong: once one of these exists, it is in its range.
//!
//! Nothing here reads a clock, draws randomness, or does input or output; nothing here knows how a
//! value is encoded on the wire.

mod amount;
mod currency;
mod decline_reason;
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
pub use identifiers::{CardId, IdentifierError, TerminalId, TransactionId};
pub use moment::{Moment, UnixTime, UnixTimeError};
pub use offer::{
    HolderVerification, LINE_ITEMS_MAX, LineItem, Offer, OfferDigest, OfferError, QUANTITY_MAX,
    TEXT_OCTETS_MAX, VALID_FOR_S_MAX,
};
pub use outcome::{Outcome, ReversalReason};
pub use receipt::{Receipt, ReceiptStatus};
pub use transaction_state::TransactionState;
pub use typed_amount::TypedAmountError;
