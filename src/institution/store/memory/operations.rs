//! What operators do, in the store in memory.

use super::books::rule_broken;
use super::tables::MemoryStore;
use crate::domain::TransactionState;
use crate::institution::records::{
    AuditEntry, NewOperationRequest, OperationRequest, RefundId, RegisteredOperator,
    RequestDecision, TransactionKey,
};
use crate::institution::store::{
    OperationStore, RefundRecord, StoreError, WriteOffRecord, Written,
};

impl MemoryStore {
    /// Whether the request that the entry carries out does not wait any more.
    pub(super) fn is_decided(&self, audit: Option<&AuditEntry>) -> bool {
        let number = audit.and_then(|entry| entry.request);
        number.is_some_and(|number| {
            self.request_with(number).is_none_or(|request| request.decision.is_some())
        })
    }

    /// Appends to the audit log, and marks the request that is carried out.
    pub(super) fn log(&mut self, audit: Option<&AuditEntry>) {
        let Some(entry) = audit else { return };
        self.audit_entries.push(entry.clone());
        let Some(number) = entry.request else { return };
        let decision = RequestDecision {
            decided_at: entry.made_at,
            decided_by: entry.approved_by.clone().unwrap_or_default(),
            is_confirmed: true,
        };
        if let Some(place) = place(number) {
            self.requests[place].decision = Some(decision);
        }
    }

    fn request_with(&self, number: i64) -> Option<&OperationRequest> {
        self.requests.get(place(number)?)
    }
}

fn place(number: i64) -> Option<usize> {
    usize::try_from(number).ok()?.checked_sub(1)
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

impl OperationStore for MemoryStore {
    fn record_refund(&mut self, refund: &RefundRecord) -> Result<Written, StoreError> {
        let place = self.place_in_state(&refund.key, TransactionState::Captured);
        let Some(place) = place else { return Ok(Written::Outdated) };
        let record = &self.transactions[place].record;
        let is_outdated = record.refunded_minor != refund.refunded_before_minor
            || self.is_decided(Some(&refund.audit));
        if is_outdated {
            return Ok(Written::Outdated);
        }
        let refunded_minor = record.refunded_minor + refund.transfer.amount().minor();
        if record.amount.is_none_or(|amount| refunded_minor > amount.minor()) {
            return Err(rule_broken("no more is given back than was captured"));
        }
        if self.refund(refund.id)?.is_some() {
            return Err(rule_broken("a refund is made once"));
        }
        let made_at = refund.audit.made_at;
        let written = self.settle(place, &[&refund.transfer], made_at, |record| {
            record.refunded_minor = refunded_minor;
            record.refund_receipt.clone_from(&refund.receipt);
        })?;
        self.log(Some(&refund.audit));
        Ok(written)
    }

    fn record_write_off(&mut self, write_off: &WriteOffRecord) -> Result<Written, StoreError> {
        let place = self.place_in_state(&write_off.key, TransactionState::Approved);
        let Some(place) = place else { return Ok(Written::Outdated) };
        if self.is_decided(Some(&write_off.audit)) {
            return Ok(Written::Outdated);
        }
        let transfers = [&write_off.reversal, &write_off.payment];
        let written = self.settle(place, &transfers, write_off.written_off_at, |record| {
            record.state = TransactionState::Reversed;
            record.reversal_receipt.clone_from(&write_off.receipt);
            record.reversed_at = Some(write_off.written_off_at);
            record.written_off_at = Some(write_off.written_off_at);
        })?;
        self.log(Some(&write_off.audit));
        Ok(written)
    }

    fn refund(&mut self, id: RefundId) -> Result<Option<AuditEntry>, StoreError> {
        let has_id = |entry: &&AuditEntry| entry.action.refund().is_some_and(|(of, _)| of == id);
        Ok(self.audit_entries.iter().find(has_id).cloned())
    }

    fn newest_audit_entries(
        &mut self,
        key: Option<&TransactionKey>,
        limit: u32,
    ) -> Result<Vec<(i64, AuditEntry)>, StoreError> {
        let numbered = (1..).zip(&self.audit_entries);
        let wanted: Vec<_> = numbered
            .filter(|(_, entry)| key.is_none_or(|key| entry.key == *key))
            .map(|(number, entry)| (number, entry.clone()))
            .collect();
        let skipped = wanted.len().saturating_sub(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(wanted.into_iter().skip(skipped).collect())
    }

    fn add_request(&mut self, request: &NewOperationRequest) -> Result<i64, StoreError> {
        let number = number(self.requests.len() + 1);
        let request = request.clone();
        self.requests.push(OperationRequest { number, request, decision: None });
        Ok(number)
    }

    fn request(&mut self, number: i64) -> Result<Option<OperationRequest>, StoreError> {
        Ok(self.request_with(number).cloned())
    }

    fn requests(&mut self) -> Result<Vec<OperationRequest>, StoreError> {
        Ok(self.requests.clone())
    }

    fn refuse_request(
        &mut self,
        number: i64,
        decision: &RequestDecision,
    ) -> Result<Written, StoreError> {
        let found = place(number).and_then(|place| self.requests.get_mut(place));
        match found {
            Some(request) if request.decision.is_none() => {
                request.decision = Some(decision.clone());
                Ok(Written::Done)
            }
            Some(_) | None => Ok(Written::Outdated),
        }
    }

    fn put_operator(&mut self, operator: &RegisteredOperator) -> Result<(), StoreError> {
        self.operators.insert(operator.name.clone(), operator.clone());
        Ok(())
    }

    fn operators(&mut self) -> Result<Vec<RegisteredOperator>, StoreError> {
        Ok(self.operators.values().cloned().collect())
    }
}
