//! One card: its identifier at the institution, its key, and the institution's keys that it trusts.
//!
//! The counter is not here: the wallet's files keep it, where it can be locked and synchronised.

use std::fmt;
use std::str::FromStr;

use crate::credential::{CredentialError, Keyring, Signed, SigningKey, VerifyingKey};
use crate::domain::{Amount, CardId, UnixTime};

/// What the person calls a card, and its directory: 1 to 32 lower-case letters, digits and hyphens.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CardName(String);

/// Why something is not a card.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CardError {
    #[error(
        "a card's name is 1 to 32 lower-case letters, digits and hyphens, and does not begin with \
         a hyphen"
    )]
    Name,
    /// A key or the keyring cannot be used.
    #[error("the card's keys are not usable: {0}")]
    Credential(#[from] CredentialError),
}

impl CardName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for CardName {
    type Err = CardError;

    fn from_str(text: &str) -> Result<Self, CardError> {
        let allowed =
            |octet: u8| octet.is_ascii_lowercase() || octet.is_ascii_digit() || octet == b'-';
        if (1..=32).contains(&text.len()) && text.bytes().all(allowed) && !text.starts_with('-') {
            Ok(Self(text.to_owned()))
        } else {
            Err(CardError::Name)
        }
    }
}

impl fmt::Display for CardName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A card as the wallet uses it, with a keyring that was verified with the root key. `Debug` prints
/// no key, and only the hint of the identifier.
#[derive(Clone)]
pub struct Card {
    name: CardName,
    card_id: CardId,
    key: SigningKey,
    payment_limit: Amount,
    not_after: UnixTime,
    root_key: VerifyingKey,
    signed_keyring: Signed,
    keyring: Keyring,
}

/// The parts of a card, for [`Card::new`].
#[derive(Debug)]
pub struct CardParts {
    /// What the person calls it.
    pub name: CardName,
    /// The institution's identifier of the card.
    pub card_id: CardId,
    pub key: SigningKey,
    /// The most it pays at once, in its account's currency.
    pub payment_limit: Amount,
    /// The last second in which it is valid.
    pub not_after: UnixTime,
    /// The institution's root key, pinned at enrolment.
    pub root_key: VerifyingKey,
    /// The institution's keys as its root signed them.
    pub signed_keyring: Signed,
}

impl Card {
    /// Makes a card of its parts.
    ///
    /// # Errors
    /// [`CardError::Credential`] if the keyring is not signed by the root key.
    pub fn new(parts: CardParts) -> Result<Self, CardError> {
        let keyring = Keyring::verify(&parts.signed_keyring, &parts.root_key)?;
        Ok(Self {
            name: parts.name,
            card_id: parts.card_id,
            key: parts.key,
            payment_limit: parts.payment_limit,
            not_after: parts.not_after,
            root_key: parts.root_key,
            signed_keyring: parts.signed_keyring,
            keyring,
        })
    }

    /// What the person calls it.
    pub fn name(&self) -> &CardName {
        &self.name
    }

    /// The institution's identifier of the card.
    pub fn card_id(&self) -> &CardId {
        &self.card_id
    }

    /// Its private key.
    pub fn key(&self) -> &SigningKey {
        &self.key
    }

    /// The most it pays at once.
    pub fn payment_limit(&self) -> Amount {
        self.payment_limit
    }

    /// The last second in which it is valid.
    pub fn not_after(&self) -> UnixTime {
        self.not_after
    }

    /// The institution's root key.
    pub fn root_key(&self) -> &VerifyingKey {
        &self.root_key
    }

    /// The institution's keys as its root signed them.
    pub fn signed_keyring(&self) -> &Signed {
        &self.signed_keyring
    }

    /// The same card with this keyring, if the root key signed it and it is newer than the card's.
    pub fn with_newer(&self, signed_keyring: Signed) -> Option<Self> {
        let keyring = Keyring::verify(&signed_keyring, &self.root_key).ok()?;
        let is_newer = keyring.issued_at > self.keyring.issued_at;
        is_newer.then(|| Self { signed_keyring, keyring, ..self.clone() })
    }

    /// The same card with other terms.
    #[must_use]
    pub fn with_terms(&self, payment_limit: Amount, not_after: UnixTime) -> Self {
        Self { payment_limit, not_after, ..self.clone() }
    }

    /// The institution's keys.
    pub fn keyring(&self) -> &Keyring {
        &self.keyring
    }
}

impl fmt::Debug for Card {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Card")
            .field("name", &self.name.as_str())
            .field("card_id", &self.card_id)
            .field("payment_limit", &self.payment_limit)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe_as_names_of_directories() {
        for name in ["everyday", "card-2", "0"] {
            assert_eq!(name.parse::<CardName>().unwrap().as_str(), name);
        }
        for name in ["", "..", "a/b", "-x", "Card", "a b", "ä", &"x".repeat(33)] {
            assert_eq!(name.parse::<CardName>(), Err(CardError::Name), "{name}");
        }
    }
}
