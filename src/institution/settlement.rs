//! Settlement: what was reserved is taken, or given back.

use super::Institution;
use super::error::InstitutionError;
use super::records::{AccountId, TransactionKey, TransactionRecord, Transfer};
use super::retry::until_written;
use super::store::{CaptureRecord, ReversalRecord, StoreError, TombstoneRecord};
use super::transaction::Transaction;
use crate::credential::{sign_exclusion, sign_receipt};
use crate::domain::{
    Amount, Exclusion, Receipt, ReceiptStatus, ReversalReason, TerminalId, TransactionId,
    TransactionState, UnixTime,
};

impl Institution {
    /// Takes what was reserved. A repeat gets the first answer.
    ///
    /// # Errors
    /// [`InstitutionError::NotCapturable`] unless the transaction is approved or captured;
    /// [`InstitutionError::NotFound`]; [`InstitutionError::Store`].
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
                TransactionState::Captured => return Ok(Some(Transaction::from(&record))),
                TransactionState::Approved => {}
                state @ (TransactionState::Unknown
                | TransactionState::Declined(_)
                | TransactionState::Reversed) => {
                    return Err(InstitutionError::NotCapturable { id, state });
                }
            }
            let Parties { account, merchant_id, amount } = Parties::of(&record)?;
            let transfer = Transfer::capture(account, merchant_id, amount);
            let status = ReceiptStatus::Captured {
                approval_code: record.approval_code.clone().unwrap_or_default(),
                refunded_minor: 0,
            };
            let receipt = self.receipt_of(&record, amount, status, now)?;
            let capture =
                CaptureRecord { key, transfer, receipt: receipt.clone(), captured_at: now };
            let state = TransactionState::Captured;
            let answer = Transaction { state, receipt, ..Transaction::from(&record) };
            Ok(self.store.record_capture(&capture)?.then_some(answer))
        })
    }

    /// Gives back all that was reserved or taken. What was declined stays declined, and an id that
    /// was never seen becomes a tombstone. A repeat gets the first answer, whatever its reason.
    ///
    /// # Errors
    /// [`InstitutionError::Store`].
    pub fn reverse(
        &mut self,
        terminal: TerminalId,
        id: TransactionId,
        reason: ReversalReason,
        now: UnixTime,
    ) -> Result<Transaction, InstitutionError> {
        let key = TransactionKey { terminal, id };
        until_written(|| match self.store.transaction(&key)? {
            None => {
                let exclusion = Exclusion {
                    transaction_id: id,
                    terminal_id: terminal,
                    command_digest: None,
                    decided_at: now,
                };
                let exclusion = sign_exclusion(&exclusion, &self.keys.receipt).encode();
                let state = TransactionState::Reversed;
                let answer = Transaction {
                    state,
                    exclusion: exclusion.clone(),
                    created_at: now,
                    ..Transaction::unknown(id)
                };
                let tombstone = TombstoneRecord { key, reason, exclusion, reversed_at: now };
                Ok(self.store.record_tombstone(&tombstone)?.then_some(answer))
            }
            Some(record) => match record.state {
                TransactionState::Approved | TransactionState::Captured => {
                    let reversal = self.reversal_record(&record, reason, now)?;
                    let written = self.store.record_reversal(&reversal)?;
                    let state = TransactionState::Reversed;
                    let receipt = reversal.receipt;
                    let answer = Transaction { state, receipt, ..Transaction::from(&record) };
                    Ok(written.then_some(answer))
                }
                TransactionState::Unknown
                | TransactionState::Declined(_)
                | TransactionState::Reversed => Ok(Some(Transaction::from(&record))),
            },
        })
    }

    /// The reversal of an approved or captured transaction with its signed receipt, as it is
    /// recorded.
    fn reversal_record(
        &self,
        record: &TransactionRecord,
        reason: ReversalReason,
        reversed_at: UnixTime,
    ) -> Result<ReversalRecord, StoreError> {
        let Parties { account, merchant_id, amount } = Parties::of(record)?;
        let receipt = self.receipt_of(record, amount, ReceiptStatus::Reversed, reversed_at)?;
        let transfer = if record.state == TransactionState::Captured {
            Transfer::reversal_of_capture(account, merchant_id, amount)
        } else {
            Transfer::reversal_of_hold(account, amount)
        };
        Ok(ReversalRecord {
            key: record.key,
            reversed_from: record.state,
            transfer,
            reason,
            receipt,
            reversed_at,
        })
    }

    /// The signed receipt of a recorded transaction in its new status, encoded.
    fn receipt_of(
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

/// Between whom an approved transaction moves money.
struct Parties {
    account: AccountId,
    merchant_id: String,
    amount: Amount,
}

impl Parties {
    fn of(record: &TransactionRecord) -> Result<Self, StoreError> {
        match (record.account, &record.merchant_id, record.amount) {
            (Some(account), Some(merchant_id), Some(amount)) => {
                Ok(Self { account, merchant_id: merchant_id.clone(), amount })
            }
            (_, _, _) => Err(StoreError::corrupt("transaction without card, merchant or amount")),
        }
    }
}
