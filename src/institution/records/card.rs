//! Cards that the institution has issued.

use super::{AccountId, EnrolmentState};
use crate::credential::VerifyingKey;
use crate::domain::{CardId, Currency, UnixTime};

/// One card as the institution knows it. (The wallet's own card, with its private key, is
/// `florin_core::wallet::Card`.)
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuedCard {
    /// Its `Debug` form shows only the hint.
    pub id: CardId,
    /// The account that it pays from.
    pub account: AccountId,
    pub currency: Currency,
    pub state: EnrolmentState,
    /// The most it may pay at once, in minor units.
    pub payment_limit_minor: u64,
    /// Above this amount the phone has to ask for a passcode or a biometric trait; in minor units.
    pub verification_limit_minor: u64,
    /// The highest counter of a command with a good signature; 0 before the first.
    pub counter: u64,
    /// Verifies the card's commands; none before enrolment.
    pub public_key: Option<VerifyingKey>,
    /// The last second in which it may pay; none before enrolment.
    pub not_after: Option<UnixTime>,
}

/// A card to be issued. The wallet adds the key when it enrols.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewCard {
    pub id: CardId,
    pub account: AccountId,
    pub payment_limit_minor: u64,
    pub verification_limit_minor: u64,
    pub issued_at: UnixTime,
}

/// What a card's enrolment adds to its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CardKey {
    pub public_key: VerifyingKey,
    /// The last second in which the card may pay.
    pub not_after: UnixTime,
}
