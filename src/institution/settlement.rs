//! Settlement: what was reserved is taken, or given back.
//!
//! A terminal ends what it has reserved. What was captured is the merchant's: only the operators of
//! the institution give it back (`operations`).

use super::Institution;
use super::error::InstitutionError;
use super::records::{
    AccountId, AuditEntry, EnrolmentState, TransactionKey, TransactionRecord, Transfer,
};
use super::retry::until_written;
use super::store::{CaptureRecord, ReversalRecord, StoreError, TombstoneRecord};
use super::transaction::Transaction;
use crate::credential::{sign_exclusion, sign_receipt};
use crate::domain::{
    Amount, Exclusion, Receipt, ReceiptStatus, ReversalReason, TerminalId, TransactionId,
    TransactionState, UnixTime,
};

/// How long a hold lasts, in seconds: as long may a terminal that was blocked since capture or
/// reverse it.
pub const HOLD_S: u64 = 7 * 86_400;

/// How many tombstones a terminal may leave within [`TOMBSTONE_PERIOD_S`]. A tombstone is kept for
/// ever, so that nobody may leave as many as he likes.
pub const TOMBSTONES_MAX: u64 = 10_000;

/// The period of [`TOMBSTONES_MAX`] in seconds: a day.
pub const TOMBSTONE_PERIOD_S: u64 = 86_400;

impl Institution {
    /// Takes what was reserved. A repeat gets the first answer.
    ///
    /// # Errors
    /// [`InstitutionError::NotCapturable`] unless the transaction is approved or captured;
    /// [`InstitutionError::HoldEnded`] for a blocked terminal; [`InstitutionError::NotFound`];
    /// [`InstitutionError::Store`].
    pub fn capture(
        &mut self,
        terminal: TerminalId,
        id: TransactionId,
        now: UnixTime,
    ) -> Result<Transaction, InstitutionError> {
        let key = TransactionKey { terminal, id };
        until_written(|| {
            let Some(record) = self.store.transaction(&key)? else {
                let unseen = format!(
                    "{id} of this terminal, so nothing can be captured; authorise it first"
                );
                return Err(InstitutionError::not_found("transaction", unseen));
            };
            match record.state {
                TransactionState::Captured => {
                    let receipt = record.capture_receipt.clone();
                    return Ok(Some(Transaction { receipt, ..Transaction::from(&record) }));
                }
                TransactionState::Approved => {}
                state @ (TransactionState::Unknown
                | TransactionState::Declined(_)
                | TransactionState::Reversed) => {
                    return Err(InstitutionError::NotCapturable { id, state });
                }
            }
            self.check_hold(&record, now)?;
            let capture = self.capture_record(&record, None, now)?;
            let state = TransactionState::Captured;
            let receipt = capture.receipt.clone();
            let answer = Transaction { state, receipt, ..Transaction::from(&record) };
            Ok(self.store.record_capture(&capture)?.then_some(answer))
        })
    }

    /// Gives back what was reserved. What was declined stays declined, and an id that was never
    /// seen becomes a tombstone. A repeat gets the first answer, whatever its reason.
    ///
    /// # Errors
    /// [`InstitutionError::NotReversible`] for what was captured;
    /// [`InstitutionError::HoldEnded`] for a blocked terminal;
    /// [`InstitutionError::TooManyTombstones`]; [`InstitutionError::Store`].
    pub fn reverse(
        &mut self,
        terminal: TerminalId,
        id: TransactionId,
        reason: ReversalReason,
        now: UnixTime,
    ) -> Result<Transaction, InstitutionError> {
        let key = TransactionKey { terminal, id };
        until_written(|| {
            let Some(record) = self.store.transaction(&key)? else {
                return self.leave_tombstone(key, reason, now);
            };
            match record.state {
                TransactionState::Approved => {
                    self.check_hold(&record, now)?;
                    let reversal = self.reversal_record(&record, Some(reason), None, now)?;
                    let written = self.store.record_reversal(&reversal)?;
                    let state = TransactionState::Reversed;
                    let receipt = reversal.receipt;
                    let answer = Transaction { state, receipt, ..Transaction::from(&record) };
                    Ok(written.then_some(answer))
                }
                state @ TransactionState::Captured => {
                    Err(InstitutionError::NotReversible { id, state })
                }
                TransactionState::Unknown
                | TransactionState::Declined(_)
                | TransactionState::Reversed => Ok(Some(Transaction::from(&record))),
            }
        })
    }

    /// Records that the id was reversed before any authorisation arrived. Returns the answer; none
    /// if the id was seen meanwhile.
    fn leave_tombstone(
        &mut self,
        key: TransactionKey,
        reason: ReversalReason,
        now: UnixTime,
    ) -> Result<Option<Transaction>, InstitutionError> {
        let since = UnixTime { seconds: now.seconds.saturating_sub(TOMBSTONE_PERIOD_S) };
        if self.store.tombstones_since(key.terminal, since)? >= self.tombstones_max {
            return Err(InstitutionError::TooManyTombstones(key.id));
        }
        let exclusion = Exclusion {
            transaction_id: key.id,
            terminal_id: key.terminal,
            command_digest: None,
            decided_at: now,
        };
        let exclusion = sign_exclusion(&exclusion, &self.keys.receipt).encode();
        let answer = Transaction {
            state: TransactionState::Reversed,
            exclusion: exclusion.clone(),
            created_at: now,
            ..Transaction::unknown(key.id)
        };
        let tombstone = TombstoneRecord { key, reason, exclusion, reversed_at: now };
        Ok(self.store.record_tombstone(&tombstone)?.then_some(answer))
    }

    /// A blocked terminal may end what was approved before it was blocked, while the hold lasts.
    fn check_hold(
        &mut self,
        record: &TransactionRecord,
        now: UnixTime,
    ) -> Result<(), InstitutionError> {
        let terminal = self.store.terminal(record.key.terminal)?;
        let Some(terminal) = terminal.filter(|found| found.state == EnrolmentState::Blocked) else {
            return Ok(());
        };
        let was_before = terminal.blocked_at.is_some_and(|at| record.created_at <= at);
        let lasts = record.hold_until.is_some_and(|until| now <= until);
        if was_before && lasts {
            return Ok(());
        }
        Err(InstitutionError::HoldEnded { id: record.key.id, terminal: record.key.terminal })
    }

    /// The capture of an approved transaction with its signed receipt, as it is recorded.
    pub(super) fn capture_record(
        &self,
        record: &TransactionRecord,
        audit: Option<AuditEntry>,
        captured_at: UnixTime,
    ) -> Result<CaptureRecord, StoreError> {
        let Parties { account, merchant_id, amount } = Parties::of(record)?;
        let receipt = self.receipt_of(record, amount, captured(record, 0), captured_at)?;
        let transfer = Transfer::capture(account, merchant_id, amount);
        Ok(CaptureRecord { key: record.key, transfer, receipt, captured_at, audit })
    }

    /// The reversal of an approved transaction with its signed receipt, as it is recorded.
    pub(super) fn reversal_record(
        &self,
        record: &TransactionRecord,
        reason: Option<ReversalReason>,
        audit: Option<AuditEntry>,
        reversed_at: UnixTime,
    ) -> Result<ReversalRecord, StoreError> {
        let Parties { account, amount, .. } = Parties::of(record)?;
        let receipt = self.receipt_of(record, amount, ReceiptStatus::Reversed, reversed_at)?;
        let transfer = Transfer::reversal(account, amount);
        Ok(ReversalRecord { key: record.key, transfer, reason, receipt, reversed_at, audit })
    }

    /// The signed receipt of a recorded transaction in its new status, encoded.
    pub(super) fn receipt_of(
        &self,
        record: &TransactionRecord,
        amount: Amount,
        status: ReceiptStatus,
        decided_at: UnixTime,
    ) -> Result<Vec<u8>, StoreError> {
        let missing = || StoreError::corrupt("transaction without its offer or command");
        let receipt = Receipt {
            transaction_id: record.key.id,
            offer_digest: record.offer_digest.ok_or_else(missing)?,
            command_digest: record.command_digest.ok_or_else(missing)?,
            status,
            amount,
            terminal_id: record.key.terminal,
            decided_at,
        };
        Ok(sign_receipt(&receipt, &self.keys.receipt).encode())
    }
}

/// The status of a captured transaction.
pub(super) fn captured(record: &TransactionRecord, refunded_minor: u64) -> ReceiptStatus {
    let approval_code = record.approval_code.clone().unwrap_or_default();
    ReceiptStatus::Captured { approval_code, refunded_minor }
}

/// Between whom an approved transaction moves money.
pub(super) struct Parties {
    pub account: AccountId,
    pub merchant_id: String,
    pub amount: Amount,
}

impl Parties {
    pub(super) fn of(record: &TransactionRecord) -> Result<Self, StoreError> {
        match (record.account, &record.merchant_id, record.amount) {
            (Some(account), Some(merchant_id), Some(amount)) => {
                Ok(Self { account, merchant_id: merchant_id.clone(), amount })
            }
            (_, _, _) => Err(StoreError::corrupt("transaction without card, merchant or amount")),
        }
    }
}
