//! The units of work of operators over the tables.

use rusqlite::Connection;

use super::database::SqliteStore;
use super::{
    audit_table, ledger_tables, operator_table, refund_table, request_table, transaction_table,
};
use crate::domain::TransactionState;
use crate::institution::records::{
    AuditEntry, NewOperationRequest, OperationRequest, RefundId, RegisteredOperator,
    RequestDecision, TransactionKey,
};
use crate::institution::store::{
    OperationStore, RefundRecord, StoreError, WriteOffRecord, Written,
};

/// Appends to the audit log, and marks the request that is carried out. Returns the number of the
/// entry; none if the request does not wait any more: then nothing may be written.
pub(super) fn log(connection: &Connection, entry: &AuditEntry) -> Result<Option<i64>, StoreError> {
    if let Some(number) = entry.request {
        let decision = RequestDecision {
            decided_at: entry.made_at,
            decided_by: entry.approved_by.clone().unwrap_or_default(),
            is_confirmed: true,
        };
        if request_table::decide(connection, number, &decision)? == Written::Outdated {
            return Ok(None);
        }
    }
    audit_table::insert(connection, entry).map(Some)
}

impl OperationStore for SqliteStore {
    fn record_refund(&mut self, refund: &RefundRecord) -> Result<Written, StoreError> {
        self.write(|connection| {
            let found = transaction_table::find(connection, &refund.key)?;
            let unchanged = found.filter(|record| {
                record.state == TransactionState::Captured
                    && record.refunded_minor == refund.refunded_before_minor
            });
            let Some(record) = unchanged else { return Ok(Written::Outdated) };
            let Some(audit) = log(connection, &refund.audit)? else {
                return Ok(Written::Outdated);
            };
            let (number, made_at) = (record.number, refund.audit.made_at);
            let entry = ledger_tables::insert(connection, &refund.transfer, Some(number), made_at)?;
            refund_table::insert(connection, refund.id, entry, audit)?;
            transaction_table::add_refund(connection, number, refund)?;
            Ok(Written::Done)
        })
    }

    fn record_write_off(&mut self, write_off: &WriteOffRecord) -> Result<Written, StoreError> {
        self.write(|connection| {
            let found = transaction_table::find(connection, &write_off.key)?;
            let approved = found.filter(|record| record.state == TransactionState::Approved);
            let Some(record) = approved else { return Ok(Written::Outdated) };
            if log(connection, &write_off.audit)?.is_none() {
                return Ok(Written::Outdated);
            }
            let (number, made_at) = (record.number, write_off.written_off_at);
            for transfer in [&write_off.reversal, &write_off.payment] {
                ledger_tables::insert(connection, transfer, Some(number), made_at)?;
            }
            transaction_table::set_written_off(connection, number, write_off)?;
            Ok(Written::Done)
        })
    }

    fn refund(&mut self, id: RefundId) -> Result<Option<AuditEntry>, StoreError> {
        self.read(|connection| audit_table::of_refund(connection, id))
    }

    fn newest_audit_entries(
        &mut self,
        key: Option<&TransactionKey>,
        limit: u32,
    ) -> Result<Vec<(i64, AuditEntry)>, StoreError> {
        self.read(|connection| audit_table::newest(connection, key, limit))
    }

    fn add_request(&mut self, request: &NewOperationRequest) -> Result<i64, StoreError> {
        self.write(|connection| request_table::insert(connection, request))
    }

    fn request(&mut self, number: i64) -> Result<Option<OperationRequest>, StoreError> {
        self.read(|connection| Ok(request_table::select(connection, Some(number))?.pop()))
    }

    fn requests(&mut self) -> Result<Vec<OperationRequest>, StoreError> {
        self.read(|connection| request_table::select(connection, None))
    }

    fn refuse_request(
        &mut self,
        number: i64,
        decision: &RequestDecision,
    ) -> Result<Written, StoreError> {
        self.write(|connection| request_table::decide(connection, number, decision))
    }

    fn put_operator(&mut self, operator: &RegisteredOperator) -> Result<(), StoreError> {
        self.write(|connection| operator_table::put(connection, operator))
    }

    fn operators(&mut self) -> Result<Vec<RegisteredOperator>, StoreError> {
        self.read(operator_table::all)
    }
}
