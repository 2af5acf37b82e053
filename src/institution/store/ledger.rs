//! What the institution needs of a store to look at its books.

use super::StoreError;
use crate::institution::records::{LedgerEntry, LedgerReport};

/// The books, to be looked at and checked.
pub trait LedgerStore {
    /// Checks the books against their rules, at one point in time: every entry sums to zero; every
    /// entry touches the accounts of its kind and its transaction only; every balance is the sum of
    /// its postings; none but `funding` and `loss` is below zero; what is held is what is approved;
    /// what is payable is what is captured and written off, less what was refunded; every
    /// transaction has the entries of its state, over its amount; what was refunded is the sum of
    /// the refunds; and the counter of every card is the highest that was used.
    ///
    /// # Errors
    /// [`StoreError`]. Books that break a rule are not an error: the report lists what is wrong.
    fn check_ledger(&mut self) -> Result<LedgerReport, StoreError>;

    /// The newest entries of the ledger, at most `limit`, oldest of them first.
    ///
    /// # Errors
    /// [`StoreError`].
    fn newest_ledger_entries(&mut self, limit: u32) -> Result<Vec<LedgerEntry>, StoreError>;
}
