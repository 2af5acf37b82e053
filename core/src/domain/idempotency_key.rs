//! The till's own key for a request.

use std::fmt;
use std::str::FromStr;

/// The till's own key for a request: 1 to [`IdempotencyKey::OCTETS_MAX`] visible ASCII characters
/// without spaces. A request that is repeated under its key is the same payment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdempotencyKey(String);

/// Why a text is not an idempotency key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected 1 to {} visible ASCII characters without spaces", IdempotencyKey::OCTETS_MAX)]
pub struct IdempotencyKeyError;

impl IdempotencyKey {
    pub const OCTETS_MAX: usize = 64;

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for IdempotencyKey {
    type Err = IdempotencyKeyError;

    fn from_str(text: &str) -> Result<Self, IdempotencyKeyError> {
        let is_visible = text.bytes().all(|octet| octet.is_ascii_graphic());
        if is_visible && (1..=Self::OCTETS_MAX).contains(&text.len()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(IdempotencyKeyError)
        }
    }
}

impl fmt::Display for IdempotencyKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_short_visible_ascii() {
        let longest = "k".repeat(IdempotencyKey::OCTETS_MAX);
        for good in ["k", "sale-17", "{\"a\":1}", longest.as_str()] {
            assert_eq!(good.parse::<IdempotencyKey>().unwrap().as_str(), good);
        }
        let too_long = format!("{longest}k");
        for bad in ["", " ", "a b", "a\n", "é", "\u{7f}", too_long.as_str()] {
            assert_eq!(bad.parse::<IdempotencyKey>(), Err(IdempotencyKeyError), "{bad:?}");
        }
    }
}
