//! What a terminal can ask about its transactions. Nothing here changes anything.

use super::Institution;
use super::error::InstitutionError;
use super::records::{PageEnd, TransactionKey};
use super::store::PageQuery;
use super::transaction::Transaction;
use crate::domain::{TerminalId, TransactionId, UnixTime};

/// How many transactions one page of a reconciliation has at most.
pub const PAGE_TRANSACTIONS_MAX: u32 = 256;

impl Institution {
    /// How the transaction stands; unknown if the institution never saw it.
    ///
    /// # Errors
    /// [`InstitutionError::Store`].
    pub fn transaction(
        &mut self,
        terminal: TerminalId,
        id: TransactionId,
    ) -> Result<Transaction, InstitutionError> {
        let record = self.store.transaction(&TransactionKey { terminal, id })?;
        Ok(record.as_ref().map_or_else(|| Transaction::unknown(id), Transaction::from))
    }

    /// One page of the terminal's transactions that were created from `from` (included) until
    /// `until` (not included), oldest first, at most [`PAGE_TRANSACTIONS_MAX`]; and where the page
    /// ended, if it was full. `after` is where the page before ended; none for the first.
    ///
    /// # Errors
    /// [`InstitutionError::InvalidRequest`] if the period ends before it begins;
    /// [`InstitutionError::Store`].
    pub fn reconcile(
        &mut self,
        terminal: TerminalId,
        from: UnixTime,
        until: UnixTime,
        after: Option<PageEnd>,
    ) -> Result<(Vec<Transaction>, Option<PageEnd>), InstitutionError> {
        if until < from {
            return Err(InstitutionError::invalid("until_unix_s", "is before from_unix_s"));
        }
        let limit = PAGE_TRANSACTIONS_MAX;
        let page = PageQuery { terminal, from, until, after, limit };
        let records = self.store.transaction_page(&page)?;
        let is_full = u32::try_from(records.len()).is_ok_and(|length| length >= limit);
        let end = records.last().filter(|_| is_full).map(PageEnd::of);
        Ok((records.iter().map(Transaction::from).collect(), end))
    }
}
