//! One-time codes by which a terminal or a card proves that the institution expects it.

use std::fmt;

use sha2::{Digest, Sha256};
use zeroize::Zeroize;

use crate::credential::plain_enrolment_code;
use crate::domain::{CardId, TerminalId, UnixTime};

/// Crockford's base32: no letter that looks like a digit.
const CROCKFORD: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const CHARACTERS: usize = 16;
const GROUP_CHARACTERS: usize = 4;

/// A one-time code: 16 characters of Crockford's base32 in groups of four, 80 bits. It is a secret:
/// only [`EnrolmentCode::expose_text`] shows it.
pub struct EnrolmentCode([u8; CHARACTERS]);

/// The text cannot be a code. The error does not repeat the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is not an enrolment code; expected 16 letters and digits, as in ABCD-EFGH-JKMN-PQRS")]
pub struct EnrolmentCodeError;

impl EnrolmentCode {
    /// Makes a code of random octets: it uses five bits of each.
    pub fn from_random(octets: [u8; CHARACTERS]) -> Self {
        Self(octets.map(|octet| CROCKFORD[usize::from(octet & 31)]))
    }

    /// Reads a code as a person types it: any case, with or without hyphens, other dashes and
    /// spaces, O for 0, I and L for 1.
    ///
    /// # Errors
    /// [`EnrolmentCodeError`] if the text cannot be a code.
    pub fn parse(text: &str) -> Result<Self, EnrolmentCodeError> {
        let plain = plain_enrolment_code(text);
        if !plain.bytes().all(|octet| CROCKFORD.contains(&octet)) {
            return Err(EnrolmentCodeError);
        }
        plain.as_bytes().try_into().map(Self).map_err(|_| EnrolmentCodeError)
    }

    /// The code's text, to be shown to a person once.
    pub fn expose_text(&self) -> String {
        let groups: Vec<_> = self
            .0
            .chunks(GROUP_CHARACTERS)
            .map(|group| String::from_utf8_lossy(group).into_owned())
            .collect();
        groups.join("-")
    }

    /// What the store keeps of the code.
    pub fn digest(&self) -> CodeDigest {
        CodeDigest(Sha256::digest(self.0).into())
    }
}

impl fmt::Debug for EnrolmentCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("EnrolmentCode(…)")
    }
}

impl Drop for EnrolmentCode {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// SHA-256 of an enrolment code: what the store keeps of it. It has no salt and is not stretched,
/// since nobody tries 2^80 codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CodeDigest(pub [u8; 32]);

/// Whom a code enrols.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CodeSubject {
    Terminal(TerminalId),
    Card(CardId),
}

/// A code to be issued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewEnrolmentCode {
    pub digest: CodeDigest,
    /// The last second in which it can be used.
    pub not_after: UnixTime,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_code_reads_as_people_type_it() {
        let code =
            EnrolmentCode::from_random([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 31]);
        assert_eq!(code.expose_text(), "0123-4567-89AB-CDEZ");
        for text in [
            "0123-4567-89AB-CDEZ",
            "0123456789abcdez",
            "o123 4567 89ab cdez",
            "OL23-4567-89AB-CDEZ",
            "0123\u{2013}4567\u{2014}89AB\u{2011}CDEZ",
            " 0123\u{a0}4567\t89ab\ncdez ",
        ] {
            assert_eq!(EnrolmentCode::parse(text).unwrap().digest(), code.digest(), "{text}");
        }
        for text in [
            "",
            "0123-4567-89AB-CDE",
            "0123-4567-89AB-CDEZ-0",
            "U123-4567-89AB-CDEZ",
            "ä123456789abcdez",
        ] {
            assert!(EnrolmentCode::parse(text).is_err(), "{text}");
        }
        assert!(!format!("{code:?}").contains("0123"));
    }

    proptest! {
        #[test]
        fn codes_read_back(octets: [u8; 16]) {
            let code = EnrolmentCode::from_random(octets);
            let parsed = EnrolmentCode::parse(&code.expose_text()).unwrap();
            prop_assert_eq!(parsed.digest(), code.digest());
        }

        #[test]
        fn no_text_is_more_than_refused(text: String) {
            let _ = EnrolmentCode::parse(&text);
        }
    }
}
