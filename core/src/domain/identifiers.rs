//! The identifiers of transactions, terminals and cards.

use std::fmt;
use std::str::FromStr;

/// Why a text or a sequence of octets is not an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentifierError {
    /// Not a transaction id.
    #[error(
        "`{0}` is not a transaction id; expected a whole UUID, such as \
         2f6e6cf0-31c1-4d4c-9c3c-2f1f0d9a7f11, of version 4"
    )]
    Transaction(String),
    #[error(
        "`{0}` is not a terminal id; expected 10 characters: digits, and capital letters except I, \
         L, O and U"
    )]
    Terminal(String),
    /// Not a card id.
    #[error("not a card id ({0}); expected 32 hexadecimal digits in lower case")]
    Card(String),
}

fn shortened(text: &str) -> String {
    text.chars().take(40).collect()
}

/// Identifies one payment from the till to the ledger. Every request that concerns the payment is
/// idempotent by it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransactionId([u8; 16]);

impl TransactionId {
    /// Makes an identifier of 16 random octets (RFC 9562, version 4).
    pub fn from_random(octets: [u8; 16]) -> Self {
        Self(*uuid::Builder::from_random_bytes(octets).as_uuid().as_bytes())
    }

    /// The identifier with these octets, as another party sent them.
    ///
    /// # Errors
    /// [`IdentifierError::Transaction`] unless they are those of a random UUID (RFC 9562, version
    /// 4): 16, with its bits for version and variant.
    pub fn from_octets(octets: &[u8]) -> Result<Self, IdentifierError> {
        let octets: [u8; 16] = octets
            .try_into()
            .map_err(|_| IdentifierError::Transaction(format!("{} octets", octets.len())))?;
        let id = Self(octets);
        if Self::from_random(octets) == id {
            Ok(id)
        } else {
            Err(IdentifierError::Transaction(id.to_string()))
        }
    }

    pub fn as_octets(&self) -> &[u8; 16] {
        &self.0
    }
}

impl FromStr for TransactionId {
    type Err = IdentifierError;

    fn from_str(text: &str) -> Result<Self, IdentifierError> {
        let uuid = uuid::Uuid::try_parse(text)
            .map_err(|_| IdentifierError::Transaction(shortened(text)))?;
        Self::from_octets(uuid.as_bytes())
    }
}

impl fmt::Display for TransactionId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&uuid::Uuid::from_bytes(self.0).as_hyphenated(), formatter)
    }
}

impl fmt::Debug for TransactionId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// The alphabet of Crockford's base32, which has no letter that looks like a digit.
const CROCKFORD: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// Identifies one machine: 10 characters of Crockford's base32, which the institution assigns at
/// enrolment.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TerminalId([u8; Self::CHARACTERS]);

impl TerminalId {
    pub const CHARACTERS: usize = 10;

    /// Makes an identifier of random octets, with five bits of each.
    pub fn from_random(octets: [u8; Self::CHARACTERS]) -> Self {
        Self(octets.map(|octet| CROCKFORD[usize::from(octet & 31)]))
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_else(|_| {
            debug_assert!(false, "an identifier holds only characters of CROCKFORD");
            ""
        })
    }

    /// The last four characters, by which a person tells machines apart: they are printed on the
    /// machine and advertised. Not unique.
    pub fn short_code(&self) -> &str {
        &self.as_str()[Self::CHARACTERS - 4..]
    }
}

impl FromStr for TerminalId {
    type Err = IdentifierError;

    fn from_str(text: &str) -> Result<Self, IdentifierError> {
        let malformed = || IdentifierError::Terminal(shortened(text));
        let octets: [u8; Self::CHARACTERS] = text.as_bytes().try_into().map_err(|_| malformed())?;
        if octets.iter().all(|octet| CROCKFORD.contains(octet)) {
            Ok(Self(octets))
        } else {
            Err(malformed())
        }
    }
}

impl fmt::Display for TerminalId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl fmt::Debug for TerminalId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// Identifies one card at the institution: 16 random octets. It is card data, so only a hint of it
/// is printed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CardId([u8; 16]);

impl CardId {
    /// The identifier with these octets.
    ///
    /// # Errors
    /// [`IdentifierError::Card`] unless there are 16.
    pub fn from_octets(octets: &[u8]) -> Result<Self, IdentifierError> {
        octets
            .try_into()
            .map(Self)
            .map_err(|_| IdentifierError::Card(format!("{} octets", octets.len())))
    }

    pub fn as_octets(&self) -> &[u8; 16] {
        &self.0
    }

    /// The last four hexadecimal digits: enough for the holder to recognise the card, too few for
    /// anybody to use it.
    pub fn hint(&self) -> String {
        data_encoding::HEXLOWER.encode(&self.0[14..])
    }

    /// All 32 hexadecimal digits, for the holder's own file and the institution's own store. Never
    /// write them to a log.
    pub fn to_full_text(&self) -> String {
        data_encoding::HEXLOWER.encode(&self.0)
    }
}

impl FromStr for CardId {
    type Err = IdentifierError;

    fn from_str(text: &str) -> Result<Self, IdentifierError> {
        // The text may be most of a real card's identifier, so the error does not repeat it.
        let malformed = || IdentifierError::Card(format!("{} characters", text.chars().count()));
        let octets = data_encoding::HEXLOWER.decode(text.as_bytes()).map_err(|_| malformed())?;
        Self::from_octets(&octets)
    }
}

impl fmt::Debug for CardId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "card …{}", self.hint())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn identifiers_print_and_read_back(octets: [u8; 16], characters: [u8; 10]) {
            let transaction = TransactionId::from_random(octets);
            prop_assert_eq!(transaction.to_string().parse(), Ok(transaction));
            prop_assert_eq!(transaction.to_string().to_uppercase().parse(), Ok(transaction));
            let terminal = TerminalId::from_random(characters);
            prop_assert_eq!(terminal.to_string().parse(), Ok(terminal));
            let card = CardId::from_octets(&octets).unwrap();
            prop_assert_eq!(card.to_full_text().parse(), Ok(card));
        }

        #[test]
        fn no_text_is_more_than_refused(text: String) {
            let _ = text.parse::<TransactionId>();
            let _ = text.parse::<TerminalId>();
            let _ = text.parse::<CardId>();
        }
    }

    #[test]
    fn a_uuid_of_another_version_or_variant_is_no_transaction_id() {
        for text in [
            "2f6e6cf0-31c1-1d4c-9c3c-2f1f0d9a7f11",
            "2f6e6cf0-31c1-7d4c-9c3c-2f1f0d9a7f11",
            "2f6e6cf0-31c1-4d4c-1c3c-2f1f0d9a7f11",
            "00000000-0000-0000-0000-000000000000",
        ] {
            assert!(text.parse::<TransactionId>().is_err(), "{text}");
            let octets = *uuid::Uuid::parse_str(text).unwrap().as_bytes();
            assert!(TransactionId::from_octets(&octets).is_err(), "{text}");
        }
    }

    #[test]
    fn a_card_shows_only_its_hint() {
        let card = CardId::from_octets(&[0xab; 16]).unwrap();
        assert_eq!(format!("{card:?}"), "card …abab");
    }
}
