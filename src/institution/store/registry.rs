//! What the institution needs of a store to keep its accounts, terminals and cards.

use super::{StoreError, Written};
use crate::domain::{CardId, TerminalId, UnixTime};
use crate::institution::records::{
    Account, AccountId, IssuedCard, MaintenanceEntry, NewAccount, NewCard, NewEnrolmentCode,
    NewTerminal, NextClient, RegisteredTerminal,
};

/// Accounts, terminals and cards.
pub trait RegistryStore {
    /// Opens an account under the next number, with the entry of its opening balance if it has one.
    ///
    /// # Errors
    /// [`StoreError`].
    fn create_account(&mut self, account: &NewAccount) -> Result<AccountId, StoreError>;

    /// Every account with its balances, by number, at one point in time.
    ///
    /// # Errors
    /// [`StoreError`].
    fn accounts(&mut self) -> Result<Vec<Account>, StoreError>;

    /// One account with its balances.
    ///
    /// # Errors
    /// [`StoreError`].
    fn account(&mut self, id: AccountId) -> Result<Option<Account>, StoreError>;

    /// Registers a terminal together with the code that enrols it.
    ///
    /// # Errors
    /// [`StoreError::RuleBroken`] if there is a terminal with this id or such a code already;
    /// [`StoreError`].
    fn add_terminal(
        &mut self,
        terminal: &NewTerminal,
        code: &NewEnrolmentCode,
    ) -> Result<(), StoreError>;

    /// Every terminal, oldest first, and those of the same second by id.
    ///
    /// # Errors
    /// [`StoreError`].
    fn terminals(&mut self) -> Result<Vec<RegisteredTerminal>, StoreError>;

    /// One terminal, if it is registered.
    ///
    /// # Errors
    /// [`StoreError`].
    fn terminal(&mut self, id: TerminalId) -> Result<Option<RegisteredTerminal>, StoreError>;

    /// Blocks a terminal since a time, or unblocks it. Returns whether there is such a terminal.
    ///
    /// # Errors
    /// [`StoreError`].
    fn set_terminal_blocked(
        &mut self,
        id: TerminalId,
        blocked_at: Option<UnixTime>,
    ) -> Result<bool, StoreError>;

    /// Notes since when a terminal is known to run on two machines, unless it is noted already.
    ///
    /// # Errors
    /// [`StoreError`].
    fn set_terminal_copied(&mut self, id: TerminalId, since: UnixTime) -> Result<(), StoreError>;

    /// Takes the note of [`Self::set_terminal_copied`] back, and logs who did it. From then on the
    /// terminal's numbers count anew.
    ///
    /// # Errors
    /// [`StoreError`]. [`Written::Outdated`] if there is no such note.
    fn clear_terminal_copied(
        &mut self,
        id: TerminalId,
        entry: &MaintenanceEntry,
    ) -> Result<Written, StoreError>;

    /// Keeps a renewed client certificate until it is first used, in place of one that was not
    /// used yet. Returns whether there is such a terminal.
    ///
    /// # Errors
    /// [`StoreError`].
    fn set_next_client(&mut self, id: TerminalId, next: &NextClient) -> Result<bool, StoreError>;

    /// Puts the renewed client certificate with this key in the place of the old one.
    ///
    /// # Errors
    /// [`StoreError`]. [`Written::Outdated`] if it is not the renewed one any more.
    fn use_next_client(
        &mut self,
        id: TerminalId,
        key_digest: &[u8; 32],
    ) -> Result<Written, StoreError>;

    /// The newest entries of the maintenance log, oldest of them first, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`].
    fn newest_maintenance(&mut self, limit: u32) -> Result<Vec<MaintenanceEntry>, StoreError>;

    /// Issues a card together with the code that enrols it.
    ///
    /// # Errors
    /// [`StoreError::RuleBroken`] if there is a card with this id or such a code already, or if
    /// there is no such account; [`StoreError`].
    fn add_card(&mut self, card: &NewCard, code: &NewEnrolmentCode) -> Result<(), StoreError>;

    /// Every card, oldest first, and those of the same second by id.
    ///
    /// # Errors
    /// [`StoreError`].
    fn cards(&mut self) -> Result<Vec<IssuedCard>, StoreError>;

    /// One card, if it was issued.
    ///
    /// # Errors
    /// [`StoreError`].
    fn card(&mut self, id: CardId) -> Result<Option<IssuedCard>, StoreError>;

    /// Blocks or unblocks a card. Returns whether there is such a card.
    ///
    /// # Errors
    /// [`StoreError`].
    fn set_card_blocked(&mut self, id: CardId, is_blocked: bool) -> Result<bool, StoreError>;
}
