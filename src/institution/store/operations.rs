//! What the institution needs of a store for what its operators do, and for the log of it.

use super::{StoreError, Written};
use crate::domain::UnixTime;
use crate::institution::records::{
    AuditEntry, NewOperationRequest, OperationRequest, RefundId, RegisteredOperator,
    RequestDecision, TransactionKey, Transfer,
};

/// A decided refund, to be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefundRecord {
    pub key: TransactionKey,
    pub id: RefundId,
    /// What was given back before this, in minor units: the decision rests on it.
    pub refunded_before_minor: u64,
    /// Gives a captured amount back, or a part of it.
    pub transfer: Transfer,
    /// The signed receipt, encoded.
    pub receipt: Vec<u8>,
    /// Who, when and why.
    pub audit: AuditEntry,
}

/// A decided write-off, to be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteOffRecord {
    pub key: TransactionKey,
    /// Gives the reserved amount back.
    pub reversal: Transfer,
    /// Pays the merchant out of the institution's own pocket.
    pub payment: Transfer,
    /// The signed receipt, encoded.
    pub receipt: Vec<u8>,
    pub written_off_at: UnixTime,
    /// Who, when and why.
    pub audit: AuditEntry,
}

/// What operators do, and the log of it.
pub trait OperationStore {
    /// Records a refund if the transaction is captured and as much was given back as the decision
    /// rests on: the entry, the newer receipt, the sum that was given back, and the audit entry.
    ///
    /// # Errors
    /// [`StoreError::RuleBroken`] if more would be given back than was captured, or if there is a
    /// refund with this id already; [`StoreError`].
    fn record_refund(&mut self, refund: &RefundRecord) -> Result<Written, StoreError>;

    /// Records a write-off if the transaction is still approved: its state, both entries, the
    /// receipt and the audit entry.
    ///
    /// # Errors
    /// [`StoreError`].
    fn record_write_off(&mut self, write_off: &WriteOffRecord) -> Result<Written, StoreError>;

    /// The audit entry of the refund with this id, if there is one.
    ///
    /// # Errors
    /// [`StoreError`].
    fn refund(&mut self, id: RefundId) -> Result<Option<AuditEntry>, StoreError>;

    /// The newest entries of the audit log with their numbers, of one transaction or of all, at
    /// most `limit`, oldest of them first.
    ///
    /// # Errors
    /// [`StoreError`].
    fn newest_audit_entries(
        &mut self,
        key: Option<&TransactionKey>,
        limit: u32,
    ) -> Result<Vec<(i64, AuditEntry)>, StoreError>;

    /// Records what one person asks for. Returns its number.
    ///
    /// # Errors
    /// [`StoreError`].
    fn add_request(&mut self, request: &NewOperationRequest) -> Result<i64, StoreError>;

    /// The request with this number, if there is one.
    ///
    /// # Errors
    /// [`StoreError`].
    fn request(&mut self, number: i64) -> Result<Option<OperationRequest>, StoreError>;

    /// Every request, by number.
    ///
    /// # Errors
    /// [`StoreError`].
    fn requests(&mut self) -> Result<Vec<OperationRequest>, StoreError>;

    /// Records that a request was refused, if it still waits.
    ///
    /// # Errors
    /// [`StoreError`].
    fn refuse_request(
        &mut self,
        number: i64,
        decision: &RequestDecision,
    ) -> Result<Written, StoreError>;

    /// Registers an operator, or puts this in the place of an earlier one of the same name.
    ///
    /// # Errors
    /// [`StoreError`].
    fn put_operator(&mut self, operator: &RegisteredOperator) -> Result<(), StoreError>;

    /// Every operator, by name.
    ///
    /// # Errors
    /// [`StoreError`].
    fn operators(&mut self) -> Result<Vec<RegisteredOperator>, StoreError>;
}
