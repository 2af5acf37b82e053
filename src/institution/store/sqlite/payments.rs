//! The units of work of payments over the tables.

use rusqlite::Connection;

use super::database::SqliteStore;
use super::{card_table, ledger_tables, terminal_table, transaction_table};
use crate::domain::{TerminalId, TransactionId, TransactionState};
use crate::institution::records::{LedgerAccount, TransactionKey, TransactionRecord};
use crate::institution::store::{
    AuthorisationFacts, AuthorisationRecord, AuthorisationSubject, CaptureRecord, PageQuery,
    PaymentStore, ReversalRecord, StoreError, TombstoneRecord, Written,
};

fn facts(
    connection: &Connection,
    subject: &AuthorisationSubject,
) -> Result<AuthorisationFacts, StoreError> {
    let earlier = transaction_table::find(connection, &subject.key)?;
    let terminal = terminal_table::find(connection, subject.key.terminal)?;
    let card = match subject.card {
        Some(id) => card_table::find(connection, id)?,
        None => None,
    };
    let available_minor = match &card {
        Some(card) => {
            let account = LedgerAccount::Available(card.account);
            ledger_tables::balance(connection, &account, subject.amount.currency())?
        }
        None => 0,
    };
    Ok(AuthorisationFacts::new(subject, earlier, terminal, card, available_minor))
}

impl PaymentStore for SqliteStore {
    fn wait_for_lock_at_most(&mut self, milliseconds: u64) -> Result<(), StoreError> {
        self.set_busy_timeout(milliseconds)
    }

    fn authorisation_facts(
        &mut self,
        subject: &AuthorisationSubject,
    ) -> Result<AuthorisationFacts, StoreError> {
        self.read(|connection| facts(connection, subject))
    }

    fn record_authorisation(
        &mut self,
        authorisation: &AuthorisationRecord,
        decided_on: &AuthorisationFacts,
    ) -> Result<Written, StoreError> {
        self.write(|connection| {
            let facts = facts(connection, &authorisation.subject)?;
            if facts != *decided_on {
                return Ok(Written::Outdated);
            }
            let number = transaction_table::insert(connection, authorisation, &facts)?;
            if let (Some(card), Some(counter)) = (&facts.card, authorisation.accepted_counter) {
                card_table::set_counter(connection, card.id, counter)?;
            }
            if let Ok(approval) = &authorisation.verdict {
                let made_at = authorisation.decided_at;
                ledger_tables::insert(connection, &approval.hold, Some(number), made_at)?;
            }
            Ok(Written::Done)
        })
    }

    fn record_capture(&mut self, capture: &CaptureRecord) -> Result<Written, StoreError> {
        self.write(|connection| {
            let found = transaction_table::find(connection, &capture.key)?;
            let approved = found.filter(|record| record.state == TransactionState::Approved);
            let Some(record) = approved else { return Ok(Written::Outdated) };
            let (number, made_at) = (record.number, capture.captured_at);
            ledger_tables::insert(connection, &capture.transfer, Some(number), made_at)?;
            transaction_table::set_captured(connection, number, capture.captured_at)?;
            Ok(Written::Done)
        })
    }

    fn record_reversal(&mut self, reversal: &ReversalRecord) -> Result<Written, StoreError> {
        self.write(|connection| {
            let found = transaction_table::find(connection, &reversal.key)?;
            let unchanged = found.filter(|record| record.state == reversal.reversed_from);
            let Some(record) = unchanged else { return Ok(Written::Outdated) };
            let (number, made_at) = (record.number, reversal.reversed_at);
            ledger_tables::insert(connection, &reversal.transfer, Some(number), made_at)?;
            transaction_table::set_reversed(connection, number, reversal)?;
            Ok(Written::Done)
        })
    }

    fn record_tombstone(&mut self, tombstone: &TombstoneRecord) -> Result<Written, StoreError> {
        self.write(|connection| {
            if transaction_table::find(connection, &tombstone.key)?.is_some() {
                return Ok(Written::Outdated);
            }
            transaction_table::insert_tombstone(connection, tombstone)?;
            Ok(Written::Done)
        })
    }

    fn transaction(
        &mut self,
        key: &TransactionKey,
    ) -> Result<Option<TransactionRecord>, StoreError> {
        self.read(|connection| transaction_table::find(connection, key))
    }

    fn transaction_page(
        &mut self,
        query: &PageQuery,
    ) -> Result<Vec<TransactionRecord>, StoreError> {
        self.read(|connection| transaction_table::page(connection, query))
    }

    fn newest_transactions(
        &mut self,
        terminal: Option<TerminalId>,
        limit: u32,
    ) -> Result<Vec<TransactionRecord>, StoreError> {
        self.read(|connection| transaction_table::newest(connection, terminal, limit))
    }

    fn transactions_with_id(
        &mut self,
        id: TransactionId,
    ) -> Result<Vec<TransactionRecord>, StoreError> {
        self.read(|connection| transaction_table::with_id(connection, id))
    }
}
