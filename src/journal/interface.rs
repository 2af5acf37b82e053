//! What the terminal needs of a journal, whatever database it is in.

use super::{RecoveryLevel, StorageFault};
use crate::domain::TransactionId;
use crate::terminal::{Payment, StoreGeneration};

/// Why the journal does not do what it is asked. A terminal that cannot write its journal takes no
/// payments.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// The database failed, or the disk under it.
    #[error("the journal {journal} cannot be used: {fault} ({detail})")]
    Storage {
        /// Its file, or another name that an operator knows it by.
        journal: String,
        fault: StorageFault,
        /// What the journal needs before it is trusted again. The same fault can need more or
        /// less: a file system may have become read-only because the disk failed.
        recovery_level: RecoveryLevel,
        /// What the database says.
        detail: String,
    },
    /// A record that this program cannot have written.
    #[error(
        "the journal {journal} holds a payment that cannot be read: {detail}; keep the file and \
         ask for help"
    )]
    Corrupt {
        /// Its file, or another name that an operator knows it by.
        journal: String,
        /// Which payment, and what is wrong with it.
        detail: String,
    },
}

impl JournalError {
    /// What the journal needs before it is trusted again.
    pub fn recovery_level(&self) -> RecoveryLevel {
        match self {
            Self::Storage { recovery_level, .. } => *recovery_level,
            Self::Corrupt { .. } => RecoveryLevel::Check,
        }
    }
}

/// The record of payments. Each call is done, durably, when it returns.
pub trait Journal: Send {
    /// Writes a payment as it is now, and that it became so.
    ///
    /// # Errors
    /// [`JournalError`]; nothing is written then.
    fn append(&mut self, payment: &Payment) -> Result<(), JournalError>;

    /// The payment with this id.
    ///
    /// # Errors
    /// [`JournalError`].
    fn payment(&mut self, transaction_id: TransactionId) -> Result<Option<Payment>, JournalError>;

    /// The newest payment of the sale to which this id belongs: that of any of its transactions.
    ///
    /// # Errors
    /// [`JournalError`].
    fn newest_of_sale(
        &mut self,
        transaction_id: TransactionId,
    ) -> Result<Option<Payment>, JournalError>;

    /// The newest payment that the till made under this idempotency key.
    ///
    /// # Errors
    /// [`JournalError`].
    fn payment_by_key(&mut self, idempotency_key: &str) -> Result<Option<Payment>, JournalError>;

    /// Payments, at most `limit`: the newest first, or the open ones, the oldest first.
    ///
    /// # Errors
    /// [`JournalError`].
    fn payments(&mut self, open_only: bool, limit: usize) -> Result<Vec<Payment>, JournalError>;

    /// The highest sequence number that a payment was ever written with; 0 before the first.
    /// Pruning does not lower it.
    ///
    /// # Errors
    /// [`JournalError`].
    fn newest_sequence(&mut self) -> Result<u64, JournalError>;
    /// The newest payment of each sale, at most `limit`, the newest first.
    ///
    /// # Errors
    /// [`JournalError`].
    fn newest_sales(&mut self, limit: usize) -> Result<Vec<Payment>, JournalError>;

    /// Final payments, at most `limit`, the newest first, that another life of the institution's
    /// store confirmed than `generation`, and that can be presented to it again. With `before` only
    /// those that are older than that payment.
    ///
    /// # Errors
    /// [`JournalError`].
    fn unconfirmed(
        &mut self,
        generation: StoreGeneration,
        before: Option<TransactionId>,
        limit: usize,
    ) -> Result<Vec<Payment>, JournalError>;
}
