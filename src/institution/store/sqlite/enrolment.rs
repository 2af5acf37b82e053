//! The units of work of enrolment over the tables.

use rusqlite::Connection;

use super::database::SqliteStore;
use super::{card_table, enrolment_code_table, terminal_table};
use crate::institution::records::{CodeDigest, CodeSubject, NewEnrolmentCode};
use crate::institution::store::{
    CardEnrolmentRecord, EnrolmentFacts, EnrolmentStore, EnrolmentSubject, StoreError,
    TerminalEnrolmentRecord, Written,
};

fn facts(
    connection: &Connection,
    digest: &CodeDigest,
) -> Result<Option<EnrolmentFacts>, StoreError> {
    let Some(code) = enrolment_code_table::find(connection, digest)? else { return Ok(None) };
    let subject = match code.subject {
        CodeSubject::Terminal(id) => {
            let terminal = terminal_table::find(connection, id)?;
            let terminal = terminal.ok_or_else(|| StoreError::corrupt("code for no terminal"))?;
            EnrolmentSubject::Terminal(terminal)
        }
        CodeSubject::Card(id) => {
            let card = card_table::find(connection, id)?;
            EnrolmentSubject::Card(card.ok_or_else(|| StoreError::corrupt("code for no card"))?)
        }
    };
    Ok(Some(EnrolmentFacts { subject, not_after: code.not_after, used_by: code.used_by }))
}

impl EnrolmentStore for SqliteStore {
    fn enrolment_facts(&mut self, code: &CodeDigest) -> Result<Option<EnrolmentFacts>, StoreError> {
        self.read(|connection| facts(connection, code))
    }

    fn record_terminal_enrolment(
        &mut self,
        enrolment: &TerminalEnrolmentRecord,
        decided_on: &EnrolmentFacts,
    ) -> Result<Written, StoreError> {
        self.write(|connection| {
            if facts(connection, &enrolment.code)?.as_ref() != Some(decided_on) {
                return Ok(Written::Outdated);
            }
            enrolment_code_table::mark_used(connection, &enrolment.code, &enrolment.used_by)?;
            if decided_on.used_by.is_none() {
                terminal_table::begin_era(connection, enrolment.terminal)?;
            }
            terminal_table::set_keys(connection, enrolment.terminal, &enrolment.keys)?;
            Ok(Written::Done)
        })
    }

    fn record_card_enrolment(
        &mut self,
        enrolment: &CardEnrolmentRecord,
        decided_on: &EnrolmentFacts,
    ) -> Result<Written, StoreError> {
        self.write(|connection| {
            if facts(connection, &enrolment.code)?.as_ref() != Some(decided_on) {
                return Ok(Written::Outdated);
            }
            enrolment_code_table::mark_used(connection, &enrolment.code, &enrolment.used_by)?;
            card_table::set_key(connection, enrolment.card, &enrolment.key)?;
            Ok(Written::Done)
        })
    }

    fn issue_code(
        &mut self,
        subject: CodeSubject,
        code: &NewEnrolmentCode,
    ) -> Result<bool, StoreError> {
        self.write(|connection| {
            let exists = match subject {
                CodeSubject::Terminal(id) => terminal_table::find(connection, id)?.is_some(),
                CodeSubject::Card(id) => card_table::find(connection, id)?.is_some(),
            };
            if exists {
                enrolment_code_table::insert(connection, subject, code)?;
            }
            Ok(exists)
        })
    }
}
