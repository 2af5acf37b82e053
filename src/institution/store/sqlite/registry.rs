//! The units of work of the registry over the tables.

use super::database::SqliteStore;
use super::{
    account_table, card_table, enrolment_code_table, ledger_tables, maintenance_table,
    terminal_table,
};
use crate::domain::{CardId, TerminalId, UnixTime};
use crate::institution::records::{
    Account, AccountId, CodeSubject, IssuedCard, MaintenanceEntry, NewAccount, NewCard,
    NewEnrolmentCode, NewTerminal, NextClient, RegisteredTerminal, Transfer,
};
use crate::institution::store::{RegistryStore, StoreError, Written};

impl RegistryStore for SqliteStore {
    fn create_account(&mut self, account: &NewAccount) -> Result<AccountId, StoreError> {
        self.write(|connection| {
            let id = account_table::insert(connection, account)?;
            if let Some(balance) = account.opening_balance {
                let transfer = Transfer::funding(id, balance);
                ledger_tables::insert(connection, &transfer, None, account.created_at)?;
            }
            Ok(id)
        })
    }

    fn accounts(&mut self) -> Result<Vec<Account>, StoreError> {
        self.read(|connection| account_table::select(connection, None))
    }

    fn account(&mut self, id: AccountId) -> Result<Option<Account>, StoreError> {
        self.read(|connection| Ok(account_table::select(connection, Some(id))?.pop()))
    }

    fn add_terminal(
        &mut self,
        terminal: &NewTerminal,
        code: &NewEnrolmentCode,
    ) -> Result<(), StoreError> {
        self.write(|connection| {
            terminal_table::insert(connection, terminal)?;
            enrolment_code_table::insert(connection, CodeSubject::Terminal(terminal.id), code)
        })
    }

    fn terminals(&mut self) -> Result<Vec<RegisteredTerminal>, StoreError> {
        self.read(terminal_table::all)
    }

    fn terminal(&mut self, id: TerminalId) -> Result<Option<RegisteredTerminal>, StoreError> {
        self.read(|connection| terminal_table::find(connection, id))
    }

    fn set_terminal_blocked(
        &mut self,
        id: TerminalId,
        blocked_at: Option<UnixTime>,
    ) -> Result<bool, StoreError> {
        self.write(|connection| terminal_table::set_blocked(connection, id, blocked_at))
    }

    fn set_terminal_copied(&mut self, id: TerminalId, since: UnixTime) -> Result<(), StoreError> {
        self.write(|connection| terminal_table::set_copied(connection, id, since))
    }

    fn clear_terminal_copied(
        &mut self,
        id: TerminalId,
        entry: &MaintenanceEntry,
    ) -> Result<Written, StoreError> {
        self.write(|connection| {
            if !terminal_table::clear_copied(connection, id)? {
                return Ok(Written::Outdated);
            }
            maintenance_table::insert(connection, entry)?;
            Ok(Written::Done)
        })
    }

    fn set_next_client(&mut self, id: TerminalId, next: &NextClient) -> Result<bool, StoreError> {
        self.write(|connection| terminal_table::set_next_client(connection, id, next))
    }

    fn use_next_client(
        &mut self,
        id: TerminalId,
        key_digest: &[u8; 32],
    ) -> Result<Written, StoreError> {
        self.write(|connection| {
            let is_used = terminal_table::use_next_client(connection, id, key_digest)?;
            Ok(if is_used { Written::Done } else { Written::Outdated })
        })
    }

    fn newest_maintenance(&mut self, limit: u32) -> Result<Vec<MaintenanceEntry>, StoreError> {
        self.read(|connection| maintenance_table::newest(connection, limit))
    }

    fn add_card(&mut self, card: &NewCard, code: &NewEnrolmentCode) -> Result<(), StoreError> {
        self.write(|connection| {
            card_table::insert(connection, card)?;
            enrolment_code_table::insert(connection, CodeSubject::Card(card.id), code)
        })
    }

    fn cards(&mut self) -> Result<Vec<IssuedCard>, StoreError> {
        self.read(card_table::all)
    }

    fn card(&mut self, id: CardId) -> Result<Option<IssuedCard>, StoreError> {
        self.read(|connection| card_table::find(connection, id))
    }

    fn set_card_blocked(&mut self, id: CardId, is_blocked: bool) -> Result<bool, StoreError> {
        self.write(|connection| card_table::set_blocked(connection, id, is_blocked))
    }
}
