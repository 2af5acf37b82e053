//! Copies of a terminal: two machines with one identity, such as a copied memory card.
//!
//! A machine gives each transaction that it authorises a number of its own. Two transactions with
//! the same number come from two machines. Then new authorisations of both are refused until an
//! operator has decided or the terminal was enrolled anew; what is open can still be settled.

use super::Institution;
use super::error::InstitutionError;
use super::operations::{OPERATOR_OCTETS_MAX, REASON_OCTETS_MAX};
use super::records::{MaintenanceAction, MaintenanceEntry};
use super::registry::check_line;
use super::store::{AuthorisationFacts, Store, StoreLife, Written};
use crate::domain::{TerminalId, UnixTime};

/// Refuses a terminal that is known to run on two machines, and one that shows it now.
pub(super) fn refuse_copied(
    store: &mut dyn Store,
    facts: &AuthorisationFacts,
    now: UnixTime,
) -> Result<(), InstitutionError> {
    let Some(terminal) = &facts.terminal else { return Ok(()) };
    if terminal.copied_at.is_none() && facts.sequence_used_by.is_none() {
        return Ok(());
    }
    store.set_terminal_copied(terminal.id, now)?;
    Err(InstitutionError::TerminalCopied(terminal.id))
}

impl Institution {
    /// Lets a terminal that ran on two machines take payments again. Its numbers count anew.
    ///
    /// # Errors
    /// [`InstitutionError::InvalidRequest`] for the operator or the reason;
    /// [`InstitutionError::NotFound`]; [`InstitutionError::NotCopied`];
    /// [`InstitutionError::Store`].
    pub fn clear_terminal_copy(
        &mut self,
        terminal: TerminalId,
        operator: &str,
        reason: &str,
        now: UnixTime,
    ) -> Result<(), InstitutionError> {
        check_line("by", operator, OPERATOR_OCTETS_MAX)?;
        check_line("reason", reason, REASON_OCTETS_MAX)?;
        if self.store.terminal(terminal)?.is_none() {
            return Err(InstitutionError::not_found("terminal", terminal));
        }
        let entry = MaintenanceEntry {
            made_at: now,
            operator: operator.to_owned(),
            action: MaintenanceAction::ClearCopy(terminal),
            reason: reason.to_owned(),
        };
        match self.store.clear_terminal_copied(terminal, &entry)? {
            Written::Done => Ok(()),
            Written::Outdated => Err(InstitutionError::NotCopied(terminal)),
        }
    }

    /// Which life of the store this is, and how far it has come.
    ///
    /// # Errors
    /// [`InstitutionError::Store`].
    pub fn store_life(&mut self) -> Result<StoreLife, InstitutionError> {
        Ok(self.store.life()?)
    }

    /// Notes that a server starts with the store.
    ///
    /// # Errors
    /// [`InstitutionError::Store`].
    pub fn note_server_start(&mut self, server_start: &[u8; 16]) -> Result<(), InstitutionError> {
        Ok(self.store.note_server_start(server_start)?)
    }

    /// Whether this operator may adopt the store for this reason.
    ///
    /// # Errors
    /// [`InstitutionError::InvalidRequest`].
    pub fn check_adoption(&self, operator: &str, reason: &str) -> Result<(), InstitutionError> {
        check_line("by", operator, OPERATOR_OCTETS_MAX)?;
        check_line("reason", reason, REASON_OCTETS_MAX)
    }

    /// Begins another generation of the store, which was restored from a copy.
    ///
    /// # Errors
    /// [`InstitutionError::InvalidRequest`]; [`InstitutionError::Store`].
    pub fn adopt_store(
        &mut self,
        generation: &[u8; 16],
        operator: &str,
        reason: &str,
        now: UnixTime,
    ) -> Result<(), InstitutionError> {
        self.check_adoption(operator, reason)?;
        let entry = MaintenanceEntry {
            made_at: now,
            operator: operator.to_owned(),
            action: MaintenanceAction::AdoptStore,
            reason: reason.to_owned(),
        };
        Ok(self.store.begin_generation(generation, &entry)?)
    }

    /// The newest entries of the maintenance log, oldest of them first.
    ///
    /// # Errors
    /// [`InstitutionError::Store`].
    pub fn newest_maintenance(
        &mut self,
        limit: u32,
    ) -> Result<Vec<MaintenanceEntry>, InstitutionError> {
        Ok(self.store.newest_maintenance(limit)?)
    }
}
