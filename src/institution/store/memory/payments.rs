//! Payments in the store in memory.

use super::books::EntryTransaction;
use super::books::rule_broken;
use super::tables::{MemoryStore, Transaction};
use crate::domain::{CardId, TerminalId, TransactionId, TransactionState, UnixTime};
use crate::institution::records::{
    Evidence, LedgerAccount, PageEnd, TransactionKey, TransactionRecord, Transfer,
};
use crate::institution::store::{
    AuthorisationFacts, AuthorisationRecord, AuthorisationSubject, CaptureRecord, PageQuery,
    PaymentStore, ReversalRecord, SEQUENCE_GAP_MAX, StoreError, TombstoneRecord, Written,
};

impl MemoryStore {
    fn facts(&self, subject: &AuthorisationSubject) -> AuthorisationFacts {
        let earlier = self.find(&subject.key).cloned();
        let terminal = self.terminals.get(&subject.key.terminal);
        let card = subject.card.and_then(|id| self.cards.get(&id)).map(|card| card.record.clone());
        let available_minor = card.as_ref().map_or(0, |card| {
            let account = LedgerAccount::Available(card.account);
            self.books.balance(&account, subject.amount.currency())
        });
        let sequence = self.numbered(subject);
        let has_number = |other: &&Transaction| {
            other.record.key.terminal == subject.key.terminal
                && other.record.key.id != subject.key.id
                && other.sequence.zip(sequence).is_some_and(|((era, number), (ours, sequence))| {
                    era == ours
                        && (number == sequence
                            || number > sequence.saturating_add(SEQUENCE_GAP_MAX))
                })
        };
        let used_by = self.transactions.iter().find(has_number).map(|other| other.record.key.id);
        let terminal = terminal.map(|terminal| terminal.record.clone());
        AuthorisationFacts::new(subject, earlier, terminal, card, available_minor, used_by)
    }

    /// The number of the transaction, in the terminal's era.
    fn numbered(&self, subject: &AuthorisationSubject) -> Option<(u64, u64)> {
        let terminal = self.terminals.get(&subject.key.terminal)?;
        Some((terminal.sequence_era, subject.sequence))
    }

    fn is_counter_used(&self, authorisation: &AuthorisationRecord) -> bool {
        let (card, counter) = (authorisation.subject.card, authorisation.accepted_counter);
        counter.is_some()
            && self
                .transactions
                .iter()
                .any(|other| other.accepted_counter == counter && other.record.card == card)
    }

    /// Whether the authorisation keeps the rules of the books.
    fn check(
        &self,
        authorisation: &AuthorisationRecord,
        facts: &AuthorisationFacts,
    ) -> Result<(), StoreError> {
        if facts.earlier.is_some() {
            return Err(rule_broken("a transaction is recorded once"));
        }
        if facts.sequence_used_by.is_some() {
            return Err(rule_broken("a terminal gives each transaction a number of its own"));
        }
        if self.is_counter_used(authorisation) {
            return Err(rule_broken("a counter pays once"));
        }
        let counter = facts.card.as_ref().map(|card| card.counter);
        if let (Some(counter), Some(accepted)) = (counter, authorisation.accepted_counter)
            && accepted <= counter
            && !authorisation.is_presented
        {
            return Err(rule_broken("a card counter only moves up"));
        }
        let Ok(approval) = &authorisation.verdict else { return Ok(()) };
        if facts.terminal.is_none() || authorisation.accepted_counter.is_none() {
            return Err(rule_broken("an approval has a merchant and a counter"));
        }
        self.books.check(&approval.hold, None)
    }

    /// Makes entries of an existing transaction and changes its record; or neither. Only the first
    /// may take from an account that cannot go below zero.
    pub(super) fn settle(
        &mut self,
        place: usize,
        transfers: &[&Transfer],
        made_at: UnixTime,
        change: impl FnOnce(&mut TransactionRecord),
    ) -> Result<Written, StoreError> {
        let record = &mut self.transactions[place].record;
        let transaction = EntryTransaction { number: record.number, id: record.key.id };
        for transfer in transfers {
            self.books.check(transfer, Some(record.number))?;
        }
        for transfer in transfers {
            self.books.insert((*transfer).clone(), Some(transaction), made_at);
        }
        change(record);
        Ok(Written::Done)
    }

    /// The place of the transaction if it is in this state.
    pub(super) fn place_in_state(
        &self,
        key: &TransactionKey,
        state: TransactionState,
    ) -> Option<usize> {
        let place = *self.places.get(key)?;
        (self.transactions[place].record.state == state).then_some(place)
    }
}

/// The record of a new authorisation.
fn record_of(
    authorisation: &AuthorisationRecord,
    facts: &AuthorisationFacts,
    number: i64,
) -> TransactionRecord {
    let (state, approval_code) = match &authorisation.verdict {
        Ok(approval) => (TransactionState::Approved, Some(approval.code.clone())),
        Err(reason) => (TransactionState::Declined(*reason), None),
    };
    TransactionRecord {
        key: authorisation.subject.key,
        number,
        state,
        request_digest: Some(authorisation.request_digest),
        offer_digest: Some(authorisation.offer_digest),
        command_digest: Some(authorisation.command_digest),
        amount: Some(authorisation.subject.amount),
        merchant_id: facts.terminal.as_ref().map(|terminal| terminal.merchant_id.clone()),
        card: facts.card.as_ref().map(|card| card.id),
        account: facts.card.as_ref().map(|card| card.account),
        card_hint: Some(authorisation.card_hint.clone()),
        approval_code,
        authorisation_receipt: authorisation.receipt.clone(),
        capture_receipt: Vec::new(),
        reversal_receipt: Vec::new(),
        refund_receipt: Vec::new(),
        refunded_minor: 0,
        hold_until: authorisation.verdict.as_ref().ok().map(|approval| approval.hold_until),
        exclusion: authorisation.exclusion.clone(),
        reversal_reason: None,
        created_at: authorisation.decided_at,
        captured_at: None,
        reversed_at: None,
        written_off_at: None,
    }
}

fn record_of_tombstone(tombstone: &TombstoneRecord, number: i64) -> TransactionRecord {
    TransactionRecord {
        key: tombstone.key,
        number,
        state: TransactionState::Reversed,
        request_digest: None,
        offer_digest: None,
        command_digest: None,
        amount: None,
        merchant_id: None,
        card: None,
        account: None,
        card_hint: None,
        approval_code: None,
        authorisation_receipt: Vec::new(),
        capture_receipt: Vec::new(),
        reversal_receipt: Vec::new(),
        refund_receipt: Vec::new(),
        refunded_minor: 0,
        hold_until: None,
        exclusion: tombstone.exclusion.clone(),
        reversal_reason: Some(tombstone.reason),
        created_at: tombstone.reversed_at,
        captured_at: None,
        reversed_at: Some(tombstone.reversed_at),
        written_off_at: None,
    }
}

impl PaymentStore for MemoryStore {
    fn authorisation_facts(
        &mut self,
        subject: &AuthorisationSubject,
    ) -> Result<AuthorisationFacts, StoreError> {
        Ok(self.facts(subject))
    }

    fn record_authorisation(
        &mut self,
        authorisation: &AuthorisationRecord,
        decided_on: &AuthorisationFacts,
    ) -> Result<Written, StoreError> {
        let facts = self.facts(&authorisation.subject);
        if facts != *decided_on {
            return Ok(Written::Outdated);
        }
        self.check(authorisation, &facts)?;
        let record = record_of(authorisation, &facts, self.next_number());
        let transaction = EntryTransaction { number: record.number, id: record.key.id };
        let card_public_key = facts.card_public_key();
        let card = facts.card.and_then(|card| self.cards.get_mut(&card.id));
        if let (Some(card), Some(counter)) = (card, authorisation.accepted_counter) {
            card.record.counter = card.record.counter.max(counter);
        }
        if let Ok(approval) = &authorisation.verdict {
            let made_at = authorisation.decided_at;
            self.books.insert(approval.hold.clone(), Some(transaction), made_at);
        }
        let accepted_counter = authorisation.accepted_counter;
        let evidence = Some(Evidence {
            offer: authorisation.offer.clone(),
            sealed_command: authorisation.sealed_command.clone(),
            signed_command: authorisation.signed_command.clone(),
            card_public_key,
        });
        let sequence = self.numbered(&authorisation.subject);
        self.insert(Transaction { record, accepted_counter, evidence, sequence });
        Ok(Written::Done)
    }

    fn record_capture(&mut self, capture: &CaptureRecord) -> Result<Written, StoreError> {
        let place = self.place_in_state(&capture.key, TransactionState::Approved);
        let Some(place) = place else { return Ok(Written::Outdated) };
        if self.is_decided(capture.audit.as_ref()) {
            return Ok(Written::Outdated);
        }
        let written = self.settle(place, &[&capture.transfer], capture.captured_at, |record| {
            record.state = TransactionState::Captured;
            record.captured_at = Some(capture.captured_at);
            record.capture_receipt.clone_from(&capture.receipt);
        })?;
        self.log(capture.audit.as_ref());
        Ok(written)
    }

    fn record_reversal(&mut self, reversal: &ReversalRecord) -> Result<Written, StoreError> {
        let place = self.place_in_state(&reversal.key, TransactionState::Approved);
        let Some(place) = place else { return Ok(Written::Outdated) };
        if self.is_decided(reversal.audit.as_ref()) {
            return Ok(Written::Outdated);
        }
        let written =
            self.settle(place, &[&reversal.transfer], reversal.reversed_at, |record| {
                record.state = TransactionState::Reversed;
                record.reversal_reason = reversal.reason;
                record.reversal_receipt.clone_from(&reversal.receipt);
                record.reversed_at = Some(reversal.reversed_at);
            })?;
        self.log(reversal.audit.as_ref());
        Ok(written)
    }

    fn record_tombstone(&mut self, tombstone: &TombstoneRecord) -> Result<Written, StoreError> {
        if self.find(&tombstone.key).is_some() {
            return Ok(Written::Outdated);
        }
        let record = record_of_tombstone(tombstone, self.next_number());
        self.insert(Transaction { record, accepted_counter: None, evidence: None, sequence: None });
        Ok(Written::Done)
    }

    fn approved_transactions(
        &mut self,
        terminal: Option<TerminalId>,
        limit: u32,
    ) -> Result<Vec<TransactionRecord>, StoreError> {
        let records = self.transactions.iter().map(|transaction| &transaction.record);
        let approved = records
            .filter(|record| record.state == TransactionState::Approved)
            .filter(|record| terminal.is_none_or(|id| record.key.terminal == id));
        Ok(approved.take(length(limit)).cloned().collect())
    }

    fn tombstones_since(
        &mut self,
        terminal: TerminalId,
        since: UnixTime,
    ) -> Result<u64, StoreError> {
        let records = self.transactions.iter().map(|transaction| &transaction.record);
        let tombstones = records.filter(|record| {
            record.request_digest.is_none()
                && record.key.terminal == terminal
                && record.created_at >= since
        });
        Ok(tombstones.count() as u64)
    }

    fn evidence(&mut self, key: &TransactionKey) -> Result<Option<Evidence>, StoreError> {
        let place = self.places.get(key);
        Ok(place.and_then(|place| self.transactions[*place].evidence.clone()))
    }

    fn transaction(
        &mut self,
        key: &TransactionKey,
    ) -> Result<Option<TransactionRecord>, StoreError> {
        Ok(self.find(key).cloned())
    }

    fn transaction_page(
        &mut self,
        query: &PageQuery,
    ) -> Result<Vec<TransactionRecord>, StoreError> {
        let start = query.start();
        let mut page: Vec<_> = self
            .transactions
            .iter()
            .map(|transaction| &transaction.record)
            .filter(|record| record.key.terminal == query.terminal)
            .filter(|record| PageEnd::of(record) > start && record.created_at < query.until)
            .collect();
        page.sort_by_key(|record| PageEnd::of(record));
        Ok(page.into_iter().take(length(query.limit)).cloned().collect())
    }

    fn newest_transactions(
        &mut self,
        terminal: Option<TerminalId>,
        limit: u32,
    ) -> Result<Vec<TransactionRecord>, StoreError> {
        let newest = self.transactions.iter().rev().map(|transaction| &transaction.record);
        let wanted = newest.filter(|record| terminal.is_none_or(|id| record.key.terminal == id));
        Ok(wanted.take(length(limit)).cloned().collect())
    }

    fn card_transactions(
        &mut self,
        card: CardId,
        before_number: Option<i64>,
        limit: u32,
    ) -> Result<Vec<TransactionRecord>, StoreError> {
        let newest = self.transactions.iter().rev().map(|transaction| &transaction.record);
        let wanted = newest
            .filter(|record| record.card == Some(card))
            .filter(|record| before_number.is_none_or(|before| record.number < before));
        Ok(wanted.take(length(limit)).cloned().collect())
    }

    fn transactions_with_id(
        &mut self,
        id: TransactionId,
    ) -> Result<Vec<TransactionRecord>, StoreError> {
        let records = self.transactions.iter().map(|transaction| &transaction.record);
        Ok(records.filter(|record| record.key.id == id).cloned().collect())
    }
}

fn length(limit: u32) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}
