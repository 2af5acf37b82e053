//! The people who may use the administration service.

use std::fmt;
use std::str::FromStr;

use crate::domain::UnixTime;

/// How long the name of an operator may be, in characters.
const NAME_CHARACTERS_MAX: usize = 64;

/// The name of an operator: lower-case letters, digits, dots, hyphens and underscores.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct OperatorName(String);

impl OperatorName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for OperatorName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_plain = |letter: u8| {
            letter.is_ascii_lowercase() || letter.is_ascii_digit() || b"._-".contains(&letter)
        };
        let has_length = (1..=NAME_CHARACTERS_MAX).contains(&text.len());
        if has_length && text.bytes().all(is_plain) {
            return Ok(Self(text.to_owned()));
        }
        Err(format!(
            "expected 1 to {NAME_CHARACTERS_MAX} lower-case letters, digits, dots, hyphens and \
             underscores"
        ))
    }
}

impl fmt::Display for OperatorName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// One operator with a client certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisteredOperator {
    pub name: OperatorName,
    /// SHA-256 of the public key in the newest client certificate.
    pub key_digest: [u8; 32],
    /// The last second in which the certificate is valid.
    pub not_after: UnixTime,
    /// Since when the operator may do nothing any more; none for who may.
    pub removed_at: Option<UnixTime>,
}
