//! What the institution needs of a store to enrol terminals and cards.

use super::{StoreError, Written};
use crate::domain::{CardId, TerminalId, UnixTime};
use crate::institution::records::{
    CardKey, CodeDigest, CodeSubject, IssuedCard, NewEnrolmentCode, RegisteredTerminal,
    TerminalKeys,
};

/// What the decision on an enrolment rests on: the code, and whom it enrols.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnrolmentFacts {
    pub subject: EnrolmentSubject,
    /// The last second in which the code can be used.
    pub not_after: UnixTime,
    /// SHA-256 of the keys that were enrolled with the code; none if it was not used yet.
    pub used_by: Option<[u8; 32]>,
}

/// Whom a code enrols, as the store has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EnrolmentSubject {
    Terminal(RegisteredTerminal),
    Card(IssuedCard),
}

/// A decided enrolment of a terminal, to be recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TerminalEnrolmentRecord {
    pub code: CodeDigest,
    /// SHA-256 of the keys: only they may use the code again.
    pub used_by: [u8; 32],
    pub terminal: TerminalId,
    pub keys: TerminalKeys,
}

/// A decided enrolment of a card, to be recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CardEnrolmentRecord {
    pub code: CodeDigest,
    /// SHA-256 of the key: only it may use the code again.
    pub used_by: [u8; 32],
    pub card: CardId,
    pub key: CardKey,
}

/// Enrolment codes, and what enrolment adds to a terminal and to a card.
pub trait EnrolmentStore {
    /// The code and whom it enrols, at one point in time; none if no such code was issued, or if a
    /// newer one replaced it.
    ///
    /// # Errors
    /// [`StoreError`].
    fn enrolment_facts(&mut self, code: &CodeDigest) -> Result<Option<EnrolmentFacts>, StoreError>;

    /// Records a terminal's enrolment if its facts still hold: who used the code, and the
    /// terminal's keys in place of those it had.
    ///
    /// # Errors
    /// [`StoreError`].
    fn record_terminal_enrolment(
        &mut self,
        enrolment: &TerminalEnrolmentRecord,
        facts: &EnrolmentFacts,
    ) -> Result<Written, StoreError>;

    /// Records a card's enrolment if its facts still hold: who used the code, and the card's key in
    /// place of the one it had. The card's counter stays.
    ///
    /// # Errors
    /// [`StoreError`].
    fn record_card_enrolment(
        &mut self,
        enrolment: &CardEnrolmentRecord,
        facts: &EnrolmentFacts,
    ) -> Result<Written, StoreError>;

    /// Issues a code to a terminal or a card, and voids those it has and did not use. Returns
    /// whether there is such a terminal or card.
    ///
    /// # Errors
    /// [`StoreError::RuleBroken`] if the code is another's already; [`StoreError`].
    fn issue_code(
        &mut self,
        subject: CodeSubject,
        code: &NewEnrolmentCode,
    ) -> Result<bool, StoreError>;
}
