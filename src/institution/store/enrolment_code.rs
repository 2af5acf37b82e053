//! One-time codes by which a terminal or a card proves that the institution expects it.

use rusqlite::{Connection, OptionalExtension, params};
use sha2::{Digest, Sha256};
use zeroize::Zeroize;

use super::StoreError;
use crate::domain::{CardId, TerminalId, UnixTime};

/// Crockford's base32: no letter that looks like a digit.
const CROCKFORD: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const CHARACTERS: usize = 16;
const GROUP_CHARACTERS: usize = 4;

/// A one-time code: 16 characters of Crockford's base32 in groups of four, 80 bits. It is a secret
/// and prints itself only through [`EnrolmentCode::expose_text`].
pub struct EnrolmentCode([u8; CHARACTERS]);

/// Why a text cannot be a code. Never repeats the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an enrolment code has 16 letters and digits, as in ABCD-EFGH-JKMN-PQRS")]
pub struct EnrolmentCodeError;

impl EnrolmentCode {
    /// The code made of these random octets: five bits of each.
    pub fn from_random(octets: [u8; CHARACTERS]) -> Self {
        Self(octets.map(|octet| CROCKFORD[usize::from(octet & 31)]))
    }

    /// Reads a code as a person types it: any case, with or without hyphens and spaces, O for 0, I
    /// and L for 1.
    ///
    /// # Errors
    /// [`EnrolmentCodeError`] if it cannot be one.
    pub fn parse(text: &str) -> Result<Self, EnrolmentCodeError> {
        let mut characters = [0; CHARACTERS];
        let mut count = 0;
        for octet in text.bytes().filter(|octet| !matches!(octet, b'-' | b' ')) {
            let octet = match octet.to_ascii_uppercase() {
                b'O' => b'0',
                b'I' | b'L' => b'1',
                other => other,
            };
            let place = characters.get_mut(count).ok_or(EnrolmentCodeError)?;
            *place =
                if CROCKFORD.contains(&octet) { octet } else { return Err(EnrolmentCodeError) };
            count += 1;
        }
        if count == CHARACTERS { Ok(Self(characters)) } else { Err(EnrolmentCodeError) }
    }

    /// The code as it is given to a person, once.
    pub fn expose_text(&self) -> String {
        let groups: Vec<_> = self
            .0
            .chunks(GROUP_CHARACTERS)
            .map(|group| String::from_utf8_lossy(group).into_owned())
            .collect();
        groups.join("-")
    }

    /// What is stored. No salt and no stretching: nobody tries 2^80 codes.
    fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.0).into()
    }
}

impl std::fmt::Debug for EnrolmentCode {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("EnrolmentCode(…)")
    }
}

impl Drop for EnrolmentCode {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// What a code is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::institution) enum EnrolmentSubject {
    Terminal(TerminalId),
    Card(CardId),
}

/// A code as it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::institution) struct CodeRecord {
    pub subject: EnrolmentSubject,
    pub not_after: UnixTime,
    pub used_by: Option<[u8; 32]>,
}

/// Stores a new code, and forgets the unused ones that its subject had.
pub(in crate::institution) fn insert(
    connection: &Connection,
    code: &EnrolmentCode,
    subject: EnrolmentSubject,
    not_after: UnixTime,
) -> Result<(), StoreError> {
    let (terminal, card) = match &subject {
        EnrolmentSubject::Terminal(terminal) => (Some(terminal.as_str()), None),
        EnrolmentSubject::Card(card) => (None, Some(card.as_octets())),
    };
    connection.execute(
        "DELETE FROM enrolment_code WHERE used_by IS NULL AND (terminal = ?1 OR card = ?2)",
        params![terminal, card],
    )?;
    connection.execute(
        "INSERT INTO enrolment_code (digest, terminal, card, not_after) VALUES (?, ?, ?, ?)",
        params![code.digest(), terminal, card, not_after.seconds],
    )?;
    Ok(())
}

pub(in crate::institution) fn find(
    connection: &Connection,
    code: &EnrolmentCode,
) -> Result<Option<CodeRecord>, StoreError> {
    type Columns = (Option<String>, Option<[u8; 16]>, u64, Option<[u8; 32]>);
    let columns: Option<Columns> = connection
        .query_row(
            "SELECT terminal, card, not_after, used_by FROM enrolment_code WHERE digest = ?",
            [code.digest()],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
        )
        .optional()?;
    let Some((terminal, card, not_after, used_by)) = columns else { return Ok(None) };
    let corrupt = || StoreError::Corrupt { what: "enrolment code" };
    let subject = match (terminal, card) {
        (Some(terminal), None) => {
            EnrolmentSubject::Terminal(terminal.parse().map_err(|_| corrupt())?)
        }
        (None, Some(card)) => {
            EnrolmentSubject::Card(CardId::from_octets(&card).map_err(|_| corrupt())?)
        }
        (Some(_), Some(_)) | (None, None) => return Err(corrupt()),
    };
    Ok(Some(CodeRecord { subject, not_after: UnixTime { seconds: not_after }, used_by }))
}

pub(in crate::institution) fn mark_used(
    connection: &Connection,
    code: &EnrolmentCode,
    used_by: &[u8; 32],
) -> Result<(), StoreError> {
    connection.execute(
        "UPDATE enrolment_code SET used_by = ? WHERE digest = ?",
        params![used_by, code.digest()],
    )?;
    Ok(())
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
            prop_assert_eq!(EnrolmentCode::parse(&code.expose_text()).unwrap().digest(), code.digest());
        }

        #[test]
        fn no_text_is_more_than_refused(text: String) {
            let _ = EnrolmentCode::parse(&text);
        }
    }
}
