//! The books, as the institution's own people look at them. Nothing here changes anything.

use super::Institution;
use super::error::InstitutionError;
use super::records::{LedgerEntry, LedgerReport, TransactionDetail};
use crate::domain::{TerminalId, TransactionId};

impl Institution {
    /// The newest transactions, of one terminal or of all, newest first.
    ///
    /// # Errors
    /// [`InstitutionError::Store`].
    pub fn newest_transactions(
        &mut self,
        terminal: Option<TerminalId>,
        limit: u32,
    ) -> Result<Vec<TransactionDetail>, InstitutionError> {
        let records = self.store.newest_transactions(terminal, limit)?;
        Ok(records.into_iter().map(TransactionDetail::from).collect())
    }

    /// The transactions whose money is held, of one terminal or of all, oldest first.
    ///
    /// # Errors
    /// [`InstitutionError::Store`].
    pub fn held_transactions(
        &mut self,
        terminal: Option<TerminalId>,
        limit: u32,
    ) -> Result<Vec<TransactionDetail>, InstitutionError> {
        let records = self.store.approved_transactions(terminal, limit)?;
        Ok(records.into_iter().map(TransactionDetail::from).collect())
    }

    /// Every transaction with this id: an id belongs to a terminal, so there may be one for each.
    ///
    /// # Errors
    /// [`InstitutionError::Store`].
    pub fn transactions_with_id(
        &mut self,
        id: TransactionId,
    ) -> Result<Vec<TransactionDetail>, InstitutionError> {
        let records = self.store.transactions_with_id(id)?;
        Ok(records.into_iter().map(TransactionDetail::from).collect())
    }

    /// Checks the books against their rules.
    ///
    /// # Errors
    /// [`InstitutionError::Store`]. Books that break a rule are not an error: the report lists what
    /// is wrong.
    pub fn check_ledger(&mut self) -> Result<LedgerReport, InstitutionError> {
        Ok(self.store.check_ledger()?)
    }

    /// The newest entries of the ledger, oldest of them first.
    ///
    /// # Errors
    /// [`InstitutionError::Store`].
    pub fn newest_ledger_entries(
        &mut self,
        limit: u32,
    ) -> Result<Vec<LedgerEntry>, InstitutionError> {
        Ok(self.store.newest_ledger_entries(limit)?)
    }
}
