//! The terminal's disk: the journal's requests one after another, each durable when it is done;
//! what a crash leaves.
//!
//! What is kept is kept whole and in order. A crash keeps some of what was asked and not yet done,
//! from the oldest on.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use florin::domain::TransactionId;
use florin::journal::{Journal, JournalError, Search};
use florin::terminal::{
    Payment, PaymentState, PhoneId, PhoneQuestion, RecordNumber, StoreGeneration, TillCallId,
    TillRequest,
};

use super::randomness::Dice;

/// For whom the journal was searched.
#[derive(Debug)]
pub enum Searcher {
    Till { call: TillCallId, request: TillRequest },
    TillRead { call: u64, transaction_id: TransactionId },
    Phone { phone: PhoneId, question: PhoneQuestion },
}

/// What the journal is asked.
#[derive(Debug)]
pub enum DiskRequest {
    Append { record: RecordNumber, payment: Box<Payment> },
    Find { search: Search, searcher: Searcher },
}

/// A journal without a database, for speed. Some worlds use the real one instead.
#[derive(Debug, Default)]
pub struct MemoryJournal {
    payments: BTreeMap<TransactionId, (u64, Payment)>,
    newest_sequence: u64,
}

impl Journal for MemoryJournal {
    fn append(&mut self, payment: &Payment) -> Result<(), JournalError> {
        let number = self.payments.len() as u64;
        let entry = self
            .payments
            .entry(payment.transaction_id)
            .or_insert_with(|| (number, payment.clone()));
        entry.1 = payment.clone();
        self.newest_sequence = self.newest_sequence.max(payment.sequence);
        Ok(())
    }

    fn payment(&mut self, transaction_id: TransactionId) -> Result<Option<Payment>, JournalError> {
        Ok(self.payments.get(&transaction_id).map(|(_, payment)| payment.clone()))
    }

    fn payment_by_key(&mut self, idempotency_key: &str) -> Result<Option<Payment>, JournalError> {
        let has_key = |payment: &Payment| {
            payment.idempotency.as_ref().is_some_and(|(key, _)| key == idempotency_key)
        };
        let newest = self
            .payments
            .values()
            .filter(|(_, payment)| has_key(payment))
            .max_by_key(|(number, _)| *number);
        Ok(newest.map(|(_, payment)| payment.clone()))
    }

    fn payments(&mut self, open_only: bool, limit: usize) -> Result<Vec<Payment>, JournalError> {
        let mut found: Vec<&(u64, Payment)> = self
            .payments
            .values()
            .filter(|(_, payment)| !(open_only && payment.state.is_final()))
            .collect();
        found.sort_by_key(|(number, _)| *number);
        if !open_only {
            found.reverse();
        }
        Ok(found.into_iter().take(limit).map(|(_, payment)| payment.clone()).collect())
    }

    fn newest_sequence(&mut self) -> Result<u64, JournalError> {
        Ok(self.newest_sequence)
    }

    fn newest_of_sale(&mut self, id: TransactionId) -> Result<Option<Payment>, JournalError> {
        let sale_id = self.payments.get(&id).map_or(id, |(_, payment)| payment.sale_id);
        let of_sale = self.payments.values().filter(|(_, payment)| payment.sale_id == sale_id);
        let newest = of_sale.max_by_key(|(number, _)| *number);
        Ok(newest.map(|(_, payment)| payment.clone()))
    }

    fn newest_sales(&mut self, limit: usize) -> Result<Vec<Payment>, JournalError> {
        let mut newest = self.payments(false, usize::MAX)?;
        let mut seen = BTreeSet::new();
        newest.retain(|payment| seen.insert(payment.sale_id));
        newest.truncate(limit);
        Ok(newest)
    }

    fn unconfirmed(
        &mut self,
        _: StoreGeneration,
        _: Option<TransactionId>,
        _: usize,
    ) -> Result<Vec<Payment>, JournalError> {
        Ok(Vec::new())
    }
}

/// The disk.
pub struct Disk {
    /// What is durable.
    pub journal: Box<dyn Journal>,
    queue: VecDeque<DiskRequest>,
    /// When the last request that was asked is done.
    pub busy_until_ms: u64,
    /// It neither reads nor writes until then.
    pub fails_until_ms: u64,
    /// The newest durable record, and the one of the same payment before it: what a lying disk
    /// loses.
    before_newest: Option<Payment>,
}

impl std::fmt::Debug for Disk {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Disk").field("queue", &self.queue.len()).finish_non_exhaustive()
    }
}

impl Disk {
    /// An empty disk.
    pub fn new(journal: Box<dyn Journal>) -> Self {
        Self {
            journal,
            queue: VecDeque::new(),
            busy_until_ms: 0,
            fails_until_ms: 0,
            before_newest: None,
        }
    }

    /// Takes a request to be done later.
    pub fn put(&mut self, request: DiskRequest) {
        self.queue.push_back(request);
    }

    /// The oldest request, to be done now.
    pub fn take(&mut self) -> Option<DiskRequest> {
        self.queue.pop_front()
    }

    /// The payments that wait for the till's word.
    pub fn approved(&mut self) -> Vec<TransactionId> {
        let open = self.journal.payments(true, usize::MAX).unwrap_or_default();
        let approved = open.iter().filter(|payment| payment.state == PaymentState::Approved);
        approved.map(|payment| payment.transaction_id).collect()
    }

    /// Makes a record durable.
    pub fn write(&mut self, payment: &Payment) {
        self.before_newest = self.journal.payment(payment.transaction_id).ok().flatten();
        if let Err(error) = self.journal.append(payment) {
            // Only the real journal can fail, and only by a fault of its own.
            unreachable!("{error}");
        }
    }

    /// What a lying disk does: the newest record is gone again, though it was confirmed.
    pub fn lose_newest(&mut self) -> Option<Payment> {
        let before = self.before_newest.take()?;
        self.journal.append(&before).ok()?;
        Some(before)
    }

    /// A request failed: nothing after it is done. Returns how many records were asked to be
    /// written.
    pub fn give_up(&mut self) -> usize {
        let asked = std::mem::take(&mut self.queue);
        asked.iter().filter(|request| matches!(request, DiskRequest::Append { .. })).count()
    }

    /// The power is gone: some of what was asked is still done, from the oldest on. Those are
    /// returned, in order.
    pub fn crash(&mut self, dice: &mut Dice, now_ms: u64) -> (Vec<Payment>, usize) {
        let asked: Vec<Payment> = std::mem::take(&mut self.queue)
            .into_iter()
            .filter_map(|request| match request {
                DiskRequest::Append { payment, .. } => Some(*payment),
                DiskRequest::Find { .. } => None,
            })
            .collect();
        let kept = dice.below(asked.len() as u64 + 1) as usize;
        let lost = asked.len() - kept;
        self.busy_until_ms = now_ms;
        (asked.into_iter().take(kept).collect(), lost)
    }
}
