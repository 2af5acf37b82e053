//! What a QR code on the machine says, so that the phone goes to the right one and refuses a
//! look-alike.
//!
//! `FLORIN:1/<terminal id>/<fingerprint>` on a sticker, with `/<transaction id>` after it on a
//! screen. Every character is in the alphanumeric set of QR codes (ISO/IEC 18004), which makes the
//! code small; letters are read in any case.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

use crate::domain::{TerminalId, TransactionId};

const SCHEME: &str = "FLORIN";
const FORM: &str = "1";

/// The first 16 octets of SHA-256 over the terminal's static channel key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(pub [u8; 16]);

impl Fingerprint {
    /// Returns the fingerprint of a static channel key.
    pub fn of(channel_key: &[u8; 32]) -> Self {
        let digest = Sha256::digest(channel_key);
        let mut octets = [0; 16];
        octets.copy_from_slice(&digest[..16]);
        Self(octets)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&data_encoding::BASE32_NOPAD.encode(&self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// A link to a machine, and to one payment if a screen shows the link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngagementLink {
    pub terminal_id: TerminalId,
    /// Identifies the machine's channel key.
    pub fingerprint: Fingerprint,
    /// Is there only if a screen shows the link.
    pub transaction_id: Option<TransactionId>,
}

/// Why a text is not an engagement link.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "not an engagement link: {0}; expected FLORIN:1/<terminal id>/<fingerprint>[/<transaction id>]"
)]
pub struct EngagementLinkError(String);

impl FromStr for EngagementLink {
    type Err = EngagementLinkError;

    fn from_str(text: &str) -> Result<Self, EngagementLinkError> {
        let fault = |detail: &str| EngagementLinkError(detail.to_owned());
        if text.len() > 128 {
            return Err(fault("longer than 128 characters"));
        }
        let text = text.trim().to_ascii_uppercase();
        let (scheme, rest) = text.split_once(':').ok_or_else(|| fault("no scheme"))?;
        if scheme != SCHEME {
            return Err(fault("another scheme"));
        }
        let mut parts = rest.split('/');
        if parts.next() != Some(FORM) {
            return Err(fault("a form that this version does not know"));
        }
        let terminal_id = parts
            .next()
            .ok_or_else(|| fault("no terminal id"))?
            .parse()
            .map_err(|_| fault("a malformed terminal id"))?;
        let fingerprint = parts.next().ok_or_else(|| fault("no fingerprint"))?;
        let fingerprint = data_encoding::BASE32_NOPAD
            .decode(fingerprint.as_bytes())
            .ok()
            .and_then(|octets| octets.try_into().ok())
            .map(Fingerprint)
            .ok_or_else(|| fault("a malformed fingerprint"))?;
        let transaction_id = parts
            .next()
            .map(|part| part.parse().map_err(|_| fault("a malformed transaction id")))
            .transpose()?;
        if parts.next().is_some() {
            return Err(fault("more parts than four"));
        }
        Ok(Self { terminal_id, fingerprint, transaction_id })
    }
}

impl fmt::Display for EngagementLink {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{SCHEME}:{FORM}/{}/{}", self.terminal_id, self.fingerprint)?;
        if let Some(transaction_id) = self.transaction_id {
            write!(formatter, "/{}", transaction_id.to_string().to_ascii_uppercase())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn links_print_and_read_back(
            key: [u8; 32], characters: [u8; 10], transaction: Option<[u8; 16]>
        ) {
            let link = EngagementLink {
                terminal_id: TerminalId::from_random(characters),
                fingerprint: Fingerprint::of(&key),
                transaction_id: transaction.map(TransactionId::from_random),
            };
            prop_assert_eq!(link.to_string().parse(), Ok(link.clone()));
            prop_assert_eq!(link.to_string().to_lowercase().parse(), Ok(link.clone()));
            let alphanumeric = |character: char| {
                character.is_ascii_digit()
                    || character.is_ascii_uppercase()
                    || " $%*+-./:".contains(character)
            };
            prop_assert!(link.to_string().chars().all(alphanumeric));
        }

        #[test]
        fn any_text_is_a_named_error_at_worst(text: String) {
            let _ = text.parse::<EngagementLink>();
            let _ = format!("FLORIN:1/{text}").parse::<EngagementLink>();
        }
    }
}
