//! What the institution's operators do to payments: they can end every one, and refund what was
//! captured. Each action leaves an entry in the audit log, in the same write.
//!
//! Above a bound that the institution sets, one person asks and a second one confirms.

use super::Institution;
use super::error::InstitutionError;
use super::records::{
    AuditEntry, NewOperationRequest, OperationRequest, OperatorAction, RefundId, RequestDecision,
    Standing, TransactionDetail, TransactionKey, TransactionRecord, Transfer,
};
use super::registry::check_line;
use super::retry::until_written;
use super::settlement::{Parties, captured};
use super::store::{RefundRecord, StoreError, WriteOffRecord, Written};
use crate::domain::{Amount, ReceiptStatus, TransactionState, UnixTime};

/// How long the name of an operator may be, in octets.
pub(super) const OPERATOR_OCTETS_MAX: usize = 64;
/// How long the reason for an action may be, in octets.
pub(super) const REASON_OCTETS_MAX: usize = 256;

/// What an operator wants to have done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Takes what is reserved.
    Capture,
    /// Gives back what is reserved.
    Reverse,
    /// Gives back captured money. The same id gives it back once.
    Refund {
        id: RefundId,
        /// How much; none for all that was not given back yet.
        amount: Option<Amount>,
    },
    /// Gives back what is reserved, and pays the merchant out of the institution's own pocket.
    WriteOff,
}

/// Who wants it, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorOrder {
    pub operator: String,
    pub key: TransactionKey,
    pub operation: Operation,
    /// In the operator's words.
    pub reason: String,
}

/// What became of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrderOutcome {
    /// It is done, now or before.
    Done(Box<TransactionDetail>),
    /// A second person has to confirm the request with this number.
    Pending(i64),
}

/// Who does something now, and by whose request.
struct Authority<'order> {
    operator: &'order str,
    reason: &'order str,
    /// The second person, and the number of the request.
    approval: Option<(&'order str, i64)>,
}

impl Institution {
    /// Has an operator end a payment, or give back what was captured. Above the bound of
    /// `two_people_above_minor` it becomes a request that a second person has to confirm. A repeat
    /// is answered as the first one was.
    ///
    /// # Errors
    /// [`InstitutionError::InvalidRequest`] for the operator, the reason or the amount;
    /// [`InstitutionError::NotFound`]; [`InstitutionError::NotCapturable`],
    /// [`InstitutionError::NotReversible`], [`InstitutionError::NotRefundable`] or
    /// [`InstitutionError::NotWrittenOff`] if the payment's state does not allow it;
    /// [`InstitutionError::RefundUsed`]; [`InstitutionError::Store`].
    pub fn operate(
        &mut self,
        order: &OperatorOrder,
        now: UnixTime,
    ) -> Result<OrderOutcome, InstitutionError> {
        check_line("by", &order.operator, OPERATOR_OCTETS_MAX)?;
        check_line("reason", &order.reason, REASON_OCTETS_MAX)?;
        let record = self.record_of(&order.key)?;
        if self.is_done(&record, &order.operation)? {
            return Ok(done(record));
        }
        let action = action_of(&record, &order.operation)?;
        // A wrong order is refused now, not when the second person confirms it.
        check_state(&record, action)?;
        if self.needs_two_people(&record, action) {
            return self.request_approval(order, action, now).map(OrderOutcome::Pending);
        }
        let (operator, reason) = (order.operator.as_str(), order.reason.as_str());
        let authority = Authority { operator, reason, approval: None };
        self.act(order.key, action, &authority, now)?;
        Ok(done(self.record_of(&order.key)?))
    }

    /// Has a second person confirm a request, and carries it out. A repeat by the same person is
    /// answered as the first one was.
    ///
    /// # Errors
    /// As [`Self::operate`]; [`InstitutionError::SamePerson`];
    /// [`InstitutionError::RequestDecided`].
    pub fn confirm_request(
        &mut self,
        number: i64,
        operator: &str,
        now: UnixTime,
    ) -> Result<TransactionDetail, InstitutionError> {
        check_line("by", operator, OPERATOR_OCTETS_MAX)?;
        let OperationRequest { request, decision, .. } = self.request_with(number)?;
        match decision {
            Some(earlier) if earlier.is_confirmed && earlier.decided_by == operator => {}
            Some(_) => return Err(InstitutionError::RequestDecided(number)),
            None if request.operator == operator => {
                return Err(InstitutionError::SamePerson { number, operator: request.operator });
            }
            None => {
                let (requested_by, reason) = (request.operator.as_str(), request.reason.as_str());
                let approval = Some((operator, number));
                let authority = Authority { operator: requested_by, reason, approval };
                self.act(request.key, request.action, &authority, now)?;
            }
        }
        Ok(TransactionDetail::from(self.record_of(&request.key)?))
    }

    /// Refuses a request. Who asked for it may refuse it too.
    ///
    /// # Errors
    /// [`InstitutionError::NotFound`]; [`InstitutionError::RequestDecided`];
    /// [`InstitutionError::Store`].
    pub fn refuse_request(
        &mut self,
        number: i64,
        operator: &str,
        now: UnixTime,
    ) -> Result<(), InstitutionError> {
        check_line("by", operator, OPERATOR_OCTETS_MAX)?;
        self.request_with(number)?;
        let decided_by = operator.to_owned();
        let decision = RequestDecision { decided_at: now, decided_by, is_confirmed: false };
        match self.store.refuse_request(number, &decision)? {
            Written::Done => Ok(()),
            Written::Outdated => Err(InstitutionError::RequestDecided(number)),
        }
    }

    /// Every request for a second person, by number.
    ///
    /// # Errors
    /// [`InstitutionError::Store`].
    pub fn requests(&mut self) -> Result<Vec<OperationRequest>, InstitutionError> {
        Ok(self.store.requests()?)
    }

    /// The newest entries of the audit log with their numbers, of one payment or of all, oldest of
    /// them first.
    ///
    /// # Errors
    /// [`InstitutionError::Store`].
    pub fn newest_audit_entries(
        &mut self,
        key: Option<&TransactionKey>,
        limit: u32,
    ) -> Result<Vec<(i64, AuditEntry)>, InstitutionError> {
        Ok(self.store.newest_audit_entries(key, limit)?)
    }

    fn record_of(&mut self, key: &TransactionKey) -> Result<TransactionRecord, InstitutionError> {
        let found = self.store.transaction(key)?;
        found.ok_or_else(|| InstitutionError::not_found("transaction", key.id))
    }

    fn request_with(&mut self, number: i64) -> Result<OperationRequest, InstitutionError> {
        let found = self.store.request(number)?;
        found.ok_or_else(|| InstitutionError::not_found("approval", number))
    }

    /// Whether an operator did this before, so that there is nothing to do.
    fn is_done(
        &mut self,
        record: &TransactionRecord,
        operation: &Operation,
    ) -> Result<bool, InstitutionError> {
        Ok(match *operation {
            Operation::Capture => record.state == TransactionState::Captured,
            Operation::Reverse => {
                record.state == TransactionState::Reversed && record.written_off_at.is_none()
            }
            Operation::WriteOff => record.written_off_at.is_some(),
            Operation::Refund { id, amount } => match self.store.refund(id)? {
                None => false,
                Some(earlier) => {
                    let earlier_amount = earlier.action.refund().map(|(_, amount)| amount);
                    let is_same =
                        earlier.key == record.key && (amount.is_none() || amount == earlier_amount);
                    if !is_same {
                        return Err(InstitutionError::RefundUsed(id));
                    }
                    true
                }
            },
        })
    }

    /// Whether this takes two people: the amount, or all that is given back with it, is above the
    /// bound.
    fn needs_two_people(&self, record: &TransactionRecord, action: OperatorAction) -> bool {
        let minor = match action.refund() {
            Some((_, amount)) => record.refunded_minor.saturating_add(amount.minor()),
            None => record.amount.map_or(0, |amount| amount.minor()),
        };
        self.two_people_above_minor.is_some_and(|bound| minor > bound)
    }

    /// The number of the request: an equal one that waits is not made twice.
    fn request_approval(
        &mut self,
        order: &OperatorOrder,
        action: OperatorAction,
        now: UnixTime,
    ) -> Result<i64, InstitutionError> {
        let is_equal = |open: &&OperationRequest| {
            open.decision.is_none()
                && open.request.key == order.key
                && open.request.action == action
        };
        if let Some(open) = self.store.requests()?.iter().find(is_equal) {
            return Ok(open.number);
        }
        Ok(self.store.add_request(&NewOperationRequest {
            requested_at: now,
            operator: order.operator.clone(),
            key: order.key,
            action,
            reason: order.reason.clone(),
        })?)
    }

    /// Does it, with its entry in the audit log.
    fn act(
        &mut self,
        key: TransactionKey,
        action: OperatorAction,
        authority: &Authority<'_>,
        now: UnixTime,
    ) -> Result<(), InstitutionError> {
        until_written(|| {
            let record = self.record_of(&key)?;
            check_state(&record, action)?;
            if let Some((_, number)) = authority.approval
                && self.request_with(number)?.decision.is_some()
            {
                return Err(InstitutionError::RequestDecided(number));
            }
            let audit = audit_entry(&record, action, authority, now);
            let written = match action {
                OperatorAction::Capture => {
                    let capture = self.capture_record(&record, Some(audit), now)?;
                    self.store.record_capture(&capture)?
                }
                OperatorAction::Reverse => {
                    let reversal = self.reversal_record(&record, None, Some(audit), now)?;
                    self.store.record_reversal(&reversal)?
                }
                OperatorAction::Refund { id, amount } => {
                    let refund = self.refund_record(&record, id, amount, audit)?;
                    self.store.record_refund(&refund)?
                }
                OperatorAction::WriteOff => {
                    let write_off = self.write_off_record(&record, audit)?;
                    self.store.record_write_off(&write_off)?
                }
            };
            Ok(written.then_some(()))
        })
    }

    fn refund_record(
        &self,
        record: &TransactionRecord,
        id: RefundId,
        amount: Amount,
        audit: AuditEntry,
    ) -> Result<RefundRecord, StoreError> {
        let Parties { account, merchant_id, amount: paid } = Parties::of(record)?;
        let status = captured(record, audit.after.refunded_minor);
        Ok(RefundRecord {
            key: record.key,
            id,
            refunded_before_minor: record.refunded_minor,
            transfer: Transfer::refund(account, merchant_id, amount),
            receipt: self.receipt_of(record, paid, status, audit.made_at)?,
            audit,
        })
    }

    fn write_off_record(
        &self,
        record: &TransactionRecord,
        audit: AuditEntry,
    ) -> Result<WriteOffRecord, StoreError> {
        let Parties { account, merchant_id, amount } = Parties::of(record)?;
        Ok(WriteOffRecord {
            key: record.key,
            reversal: Transfer::reversal(account, amount),
            payment: Transfer::write_off(merchant_id, amount),
            receipt: self.receipt_of(record, amount, ReceiptStatus::Reversed, audit.made_at)?,
            written_off_at: audit.made_at,
            audit,
        })
    }
}

fn done(record: TransactionRecord) -> OrderOutcome {
    OrderOutcome::Done(Box::new(TransactionDetail::from(record)))
}

/// The action, with the amount of a refund.
fn action_of(
    record: &TransactionRecord,
    operation: &Operation,
) -> Result<OperatorAction, InstitutionError> {
    Ok(match *operation {
        Operation::Capture => OperatorAction::Capture,
        Operation::Reverse => OperatorAction::Reverse,
        Operation::WriteOff => OperatorAction::WriteOff,
        Operation::Refund { id, amount: Some(amount) } => OperatorAction::Refund { id, amount },
        Operation::Refund { id, amount: None } => {
            let left = left_to_refund(record);
            let amount = left.ok_or_else(|| InstitutionError::NotRefundable {
                id: record.key.id,
                detail: standing_in_words(record),
            })?;
            OperatorAction::Refund { id, amount }
        }
    })
}

/// What can still be given back; none if that is nothing.
fn left_to_refund(record: &TransactionRecord) -> Option<Amount> {
    let paid = record.amount.filter(|_| record.state == TransactionState::Captured)?;
    Amount::new(paid.minor().checked_sub(record.refunded_minor)?, paid.currency()).ok()
}

fn standing_in_words(record: &TransactionRecord) -> String {
    match (record.state, left_to_refund(record)) {
        (TransactionState::Captured, None) => "all of it was given back already".to_owned(),
        (TransactionState::Captured, Some(left)) => format!("{left} of it can be given back"),
        (state, _) => format!("it is {}, and only what is captured can be refunded", state.name()),
    }
}

/// Whether the transaction's state allows the action.
fn check_state(record: &TransactionRecord, action: OperatorAction) -> Result<(), InstitutionError> {
    let (id, state) = (record.key.id, record.state);
    let is_approved = state == TransactionState::Approved;
    match action {
        OperatorAction::Capture if !is_approved => {
            Err(InstitutionError::NotCapturable { id, state })
        }
        OperatorAction::Reverse if !is_approved => {
            Err(InstitutionError::NotReversible { id, state })
        }
        OperatorAction::WriteOff if !is_approved => {
            Err(InstitutionError::NotWrittenOff { id, state })
        }
        OperatorAction::Refund { amount, .. } => {
            let is_covered = left_to_refund(record).is_some_and(|left| {
                left.currency() == amount.currency() && amount.minor() <= left.minor()
            });
            let detail = standing_in_words(record);
            is_covered.then_some(()).ok_or(InstitutionError::NotRefundable { id, detail })
        }
        OperatorAction::Capture | OperatorAction::Reverse | OperatorAction::WriteOff => Ok(()),
    }
}

fn audit_entry(
    record: &TransactionRecord,
    action: OperatorAction,
    authority: &Authority<'_>,
    made_at: UnixTime,
) -> AuditEntry {
    let refunded_minor = record.refunded_minor;
    let after = match action {
        OperatorAction::Capture => Standing { state: TransactionState::Captured, refunded_minor },
        OperatorAction::Reverse | OperatorAction::WriteOff => {
            Standing { state: TransactionState::Reversed, refunded_minor }
        }
        OperatorAction::Refund { amount, .. } => Standing {
            state: record.state,
            refunded_minor: refunded_minor.saturating_add(amount.minor()),
        },
    };
    AuditEntry {
        made_at,
        operator: authority.operator.to_owned(),
        approved_by: authority.approval.map(|(second, _)| second.to_owned()),
        key: record.key,
        action,
        reason: authority.reason.to_owned(),
        before: Standing { state: record.state, refunded_minor },
        after,
        request: authority.approval.map(|(_, number)| number),
    }
}
