//! Enrolment in the store in memory.

use super::tables::MemoryStore;
use crate::institution::records::{CodeDigest, CodeSubject, NewEnrolmentCode};
use crate::institution::store::{
    CardEnrolmentRecord, EnrolmentFacts, EnrolmentStore, EnrolmentSubject, StoreError,
    TerminalEnrolmentRecord, Written,
};

impl EnrolmentStore for MemoryStore {
    fn enrolment_facts(&mut self, code: &CodeDigest) -> Result<Option<EnrolmentFacts>, StoreError> {
        let Some(code) = self.codes.get(code) else { return Ok(None) };
        let subject = match code.subject {
            CodeSubject::Terminal(id) => {
                let terminal = self.terminals.get(&id);
                terminal.map(|terminal| EnrolmentSubject::Terminal(terminal.record.clone()))
            }
            CodeSubject::Card(id) => {
                self.cards.get(&id).map(|card| EnrolmentSubject::Card(card.record.clone()))
            }
        };
        let subject = subject.ok_or_else(|| StoreError::corrupt("code for nobody"))?;
        Ok(Some(EnrolmentFacts { subject, not_after: code.not_after, used_by: code.used_by }))
    }

    fn record_terminal_enrolment(
        &mut self,
        enrolment: &TerminalEnrolmentRecord,
        decided_on: &EnrolmentFacts,
    ) -> Result<Written, StoreError> {
        if self.enrolment_facts(&enrolment.code)?.as_ref() != Some(decided_on) {
            return Ok(Written::Outdated);
        }
        if let Some(code) = self.codes.get_mut(&enrolment.code) {
            code.used_by = Some(enrolment.used_by);
        }
        if let Some(terminal) = self.terminals.get_mut(&enrolment.terminal) {
            if decided_on.used_by.is_none() {
                terminal.begin_era();
            }
            terminal.record.channel_key = Some(enrolment.keys.channel_key);
            terminal.record.client_key_digest = Some(enrolment.keys.client_key_digest);
            terminal.record.certificate_not_after = Some(enrolment.keys.certificate_not_after);
            terminal.update_state();
        }
        Ok(Written::Done)
    }

    fn record_card_enrolment(
        &mut self,
        enrolment: &CardEnrolmentRecord,
        decided_on: &EnrolmentFacts,
    ) -> Result<Written, StoreError> {
        if self.enrolment_facts(&enrolment.code)?.as_ref() != Some(decided_on) {
            return Ok(Written::Outdated);
        }
        if let Some(code) = self.codes.get_mut(&enrolment.code) {
            code.used_by = Some(enrolment.used_by);
        }
        if let Some(card) = self.cards.get_mut(&enrolment.card) {
            card.record.public_key = Some(enrolment.key.public_key);
            card.record.not_after = Some(enrolment.key.not_after);
            card.update_state();
        }
        Ok(Written::Done)
    }

    fn issue_code(
        &mut self,
        subject: CodeSubject,
        code: &NewEnrolmentCode,
    ) -> Result<bool, StoreError> {
        let exists = match subject {
            CodeSubject::Terminal(id) => self.terminals.contains_key(&id),
            CodeSubject::Card(id) => self.cards.contains_key(&id),
        };
        if exists {
            self.check_code(subject, code)?;
            self.put_code(subject, code);
        }
        Ok(exists)
    }
}
