//! What the store in memory holds.

use std::collections::BTreeMap;

use super::books::{Books, rule_broken};
use crate::domain::{CardId, TerminalId, UnixTime};
use crate::institution::records::{
    AuditEntry, CodeDigest, CodeSubject, EnrolmentState, Evidence, IssuedCard, MaintenanceEntry,
    NewAccount, NewEnrolmentCode, OperationRequest, OperatorName, RegisteredOperator,
    RegisteredTerminal, TransactionKey, TransactionRecord,
};
use crate::institution::store::StoreError;

/// A store in memory, for tests and simulations: what it holds is gone with the value.
#[derive(Debug, Default)]
pub struct MemoryStore {
    /// The number of an account is its place, from 1.
    pub(super) accounts: Vec<NewAccount>,
    pub(super) terminals: BTreeMap<TerminalId, Terminal>,
    pub(super) cards: BTreeMap<CardId, Card>,
    pub(super) codes: BTreeMap<CodeDigest, Code>,
    /// The number of a transaction is its place, from 1.
    pub(super) transactions: Vec<Transaction>,
    pub(super) places: BTreeMap<TransactionKey, usize>,
    pub(super) books: Books,
    /// The number of an entry is its place, from 1.
    pub(super) audit_entries: Vec<AuditEntry>,
    /// The number of a request is its place, from 1.
    pub(super) requests: Vec<OperationRequest>,
    pub(super) maintenance: Vec<MaintenanceEntry>,
    pub(super) generation: [u8; 16],
    pub(super) server_start: [u8; 16],
    pub(super) operators: BTreeMap<OperatorName, RegisteredOperator>,
}

#[derive(Debug)]
pub(super) struct Terminal {
    pub record: RegisteredTerminal,
    pub registered_at: UnixTime,
    /// The era in which its numbers count.
    pub sequence_era: u64,
}

impl Terminal {
    /// New keys begin a new era of numbers, and nobody has a copy of them.
    pub(super) fn begin_era(&mut self) {
        self.record.copied_at = None;
        self.record.next_client = None;
        self.sequence_era += 1;
    }

    pub(super) fn update_state(&mut self) {
        let is_enrolled = self.record.client_key_digest.is_some();
        let is_blocked = self.record.blocked_at.is_some();
        self.record.state = EnrolmentState::new(is_blocked, is_enrolled);
    }
}

#[derive(Debug)]
pub(super) struct Card {
    pub record: IssuedCard,
    pub is_blocked: bool,
    pub issued_at: UnixTime,
}

impl Card {
    pub(super) fn update_state(&mut self) {
        let is_enrolled = self.record.public_key.is_some();
        self.record.state = EnrolmentState::new(self.is_blocked, is_enrolled);
    }
}

#[derive(Debug)]
pub(super) struct Code {
    pub subject: CodeSubject,
    pub not_after: UnixTime,
    pub used_by: Option<[u8; 32]>,
}

#[derive(Debug)]
pub(super) struct Transaction {
    pub record: TransactionRecord,
    /// The counter that its command used up.
    pub accepted_counter: Option<u64>,
    /// None for a tombstone.
    pub evidence: Option<Evidence>,
    /// The era and the terminal's number in it.
    pub sequence: Option<(u64, u64)>,
}

impl MemoryStore {
    /// A store without anything in it.
    pub fn new() -> Self {
        Self::default()
    }

    pub(super) fn find(&self, key: &TransactionKey) -> Option<&TransactionRecord> {
        self.places.get(key).map(|place| &self.transactions[*place].record)
    }

    pub(super) fn insert(&mut self, transaction: Transaction) {
        self.places.insert(transaction.record.key, self.transactions.len());
        self.transactions.push(transaction);
    }

    pub(super) fn next_number(&self) -> i64 {
        i64::try_from(self.transactions.len()).unwrap_or(i64::MAX).saturating_add(1)
    }

    /// A code has to be new, or one that [`Self::put_code`] deletes.
    pub(super) fn check_code(
        &self,
        subject: CodeSubject,
        code: &NewEnrolmentCode,
    ) -> Result<(), StoreError> {
        match self.codes.get(&code.digest) {
            Some(other) if other.subject != subject || other.used_by.is_some() => {
                Err(rule_broken("a code is issued once"))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Puts a new code in the place of the unused ones of its subject.
    pub(super) fn put_code(&mut self, subject: CodeSubject, code: &NewEnrolmentCode) {
        self.codes.retain(|_, other| other.subject != subject || other.used_by.is_some());
        let issued = Code { subject, not_after: code.not_after, used_by: None };
        self.codes.insert(code.digest, issued);
    }
}
