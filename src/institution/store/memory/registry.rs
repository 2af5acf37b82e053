//! Accounts, terminals and cards in the store in memory.

use super::books::rule_broken;
use super::tables::{Card, MemoryStore, Terminal};
use crate::domain::{CardId, TerminalId, UnixTime};
use crate::institution::records::{
    Account, AccountId, CodeSubject, EnrolmentState, IssuedCard, LedgerAccount, MaintenanceEntry,
    NewAccount, NewCard, NewEnrolmentCode, NewTerminal, NextClient, RegisteredTerminal, Transfer,
};
use crate::institution::store::{RegistryStore, StoreError, Written};

impl MemoryStore {
    fn account_of(&self, id: AccountId) -> Option<Account> {
        let place = usize::try_from(id.0.checked_sub(1)?).ok()?;
        let NewAccount { name, currency, .. } = self.accounts.get(place)?.clone();
        let balance =
            |account| u64::try_from(self.books.balance(&account, currency)).unwrap_or_default();
        Some(Account {
            id,
            name,
            currency,
            available_minor: balance(LedgerAccount::Available(id)),
            held_minor: balance(LedgerAccount::Held(id)),
        })
    }

    fn newest_account(&self) -> AccountId {
        AccountId(i64::try_from(self.accounts.len()).unwrap_or(i64::MAX))
    }
}

impl RegistryStore for MemoryStore {
    fn create_account(&mut self, account: &NewAccount) -> Result<AccountId, StoreError> {
        self.accounts.push(account.clone());
        let id = self.newest_account();
        if let Some(balance) = account.opening_balance {
            self.books.insert(Transfer::funding(id, balance), None, account.created_at);
        }
        Ok(id)
    }

    fn accounts(&mut self) -> Result<Vec<Account>, StoreError> {
        Ok((1..=self.newest_account().0).filter_map(|id| self.account_of(AccountId(id))).collect())
    }

    fn account(&mut self, id: AccountId) -> Result<Option<Account>, StoreError> {
        Ok(self.account_of(id))
    }

    fn add_terminal(
        &mut self,
        terminal: &NewTerminal,
        code: &NewEnrolmentCode,
    ) -> Result<(), StoreError> {
        if self.terminals.contains_key(&terminal.id) {
            return Err(rule_broken("a terminal is registered once"));
        }
        let subject = CodeSubject::Terminal(terminal.id);
        self.check_code(subject, code)?;
        self.put_code(subject, code);
        let record = RegisteredTerminal {
            id: terminal.id,
            merchant_id: terminal.merchant_id.clone(),
            merchant_name: terminal.merchant_name.clone(),
            state: EnrolmentState::Pending,
            blocked_at: None,
            certificate_not_after: None,
            client_key_digest: None,
            channel_key: None,
            next_client: None,
            copied_at: None,
        };
        let registered_at = terminal.registered_at;
        self.terminals.insert(terminal.id, Terminal { record, registered_at, sequence_era: 1 });
        Ok(())
    }

    fn terminals(&mut self) -> Result<Vec<RegisteredTerminal>, StoreError> {
        let mut terminals: Vec<_> = self.terminals.values().collect();
        terminals.sort_by_key(|terminal| (terminal.registered_at, terminal.record.id));
        Ok(terminals.into_iter().map(|terminal| terminal.record.clone()).collect())
    }

    fn terminal(&mut self, id: TerminalId) -> Result<Option<RegisteredTerminal>, StoreError> {
        Ok(self.terminals.get(&id).map(|terminal| terminal.record.clone()))
    }

    fn set_terminal_blocked(
        &mut self,
        id: TerminalId,
        blocked_at: Option<UnixTime>,
    ) -> Result<bool, StoreError> {
        let Some(terminal) = self.terminals.get_mut(&id) else { return Ok(false) };
        // Who is blocked again was blocked before.
        terminal.record.blocked_at = blocked_at.map(|at| terminal.record.blocked_at.unwrap_or(at));
        terminal.update_state();
        Ok(true)
    }

    fn set_terminal_copied(&mut self, id: TerminalId, since: UnixTime) -> Result<(), StoreError> {
        if let Some(terminal) = self.terminals.get_mut(&id) {
            terminal.record.copied_at.get_or_insert(since);
        }
        Ok(())
    }

    fn clear_terminal_copied(
        &mut self,
        id: TerminalId,
        entry: &MaintenanceEntry,
    ) -> Result<Written, StoreError> {
        let copied = self.terminals.get_mut(&id).filter(|known| known.record.copied_at.is_some());
        let Some(terminal) = copied else { return Ok(Written::Outdated) };
        terminal.record.copied_at = None;
        terminal.sequence_era += 1;
        self.maintenance.push(entry.clone());
        Ok(Written::Done)
    }

    fn set_next_client(&mut self, id: TerminalId, next: &NextClient) -> Result<bool, StoreError> {
        let Some(terminal) = self.terminals.get_mut(&id) else { return Ok(false) };
        terminal.record.next_client = Some(*next);
        Ok(true)
    }

    fn use_next_client(
        &mut self,
        id: TerminalId,
        key_digest: &[u8; 32],
    ) -> Result<Written, StoreError> {
        let Some(terminal) = self.terminals.get_mut(&id) else { return Ok(Written::Outdated) };
        let renewed = terminal.record.next_client.filter(|next| next.key_digest == *key_digest);
        let Some(next) = renewed else { return Ok(Written::Outdated) };
        terminal.record.client_key_digest = Some(next.key_digest);
        terminal.record.certificate_not_after = Some(next.certificate_not_after);
        terminal.record.next_client = None;
        Ok(Written::Done)
    }

    fn newest_maintenance(&mut self, limit: u32) -> Result<Vec<MaintenanceEntry>, StoreError> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let skipped = self.maintenance.len().saturating_sub(limit);
        Ok(self.maintenance.iter().skip(skipped).cloned().collect())
    }

    fn add_card(&mut self, card: &NewCard, code: &NewEnrolmentCode) -> Result<(), StoreError> {
        let account = self.account_of(card.account);
        let account = account.ok_or_else(|| rule_broken("a card belongs to an account"))?;
        if self.cards.contains_key(&card.id) {
            return Err(rule_broken("a card is issued once"));
        }
        self.check_code(CodeSubject::Card(card.id), code)?;
        self.put_code(CodeSubject::Card(card.id), code);
        let record = IssuedCard {
            id: card.id,
            account: account.id,
            currency: account.currency,
            state: EnrolmentState::Pending,
            payment_limit_minor: card.payment_limit_minor,
            verification_limit_minor: card.verification_limit_minor,
            counter: 0,
            public_key: None,
            not_after: None,
        };
        let issued_at = card.issued_at;
        self.cards.insert(card.id, Card { record, is_blocked: false, issued_at });
        Ok(())
    }

    fn cards(&mut self) -> Result<Vec<IssuedCard>, StoreError> {
        let mut cards: Vec<_> = self.cards.values().collect();
        cards.sort_by_key(|card| (card.issued_at, card.record.id));
        Ok(cards.into_iter().map(|card| card.record.clone()).collect())
    }

    fn card(&mut self, id: CardId) -> Result<Option<IssuedCard>, StoreError> {
        Ok(self.cards.get(&id).map(|card| card.record.clone()))
    }

    fn set_card_blocked(&mut self, id: CardId, is_blocked: bool) -> Result<bool, StoreError> {
        let Some(card) = self.cards.get_mut(&id) else { return Ok(false) };
        card.is_blocked = is_blocked;
        card.update_state();
        Ok(true)
    }
}
