//! Accounts, terminals and cards, as the institution's own people keep them.

use super::Institution;
use super::error::InstitutionError;
use super::records::{
    Account, AccountId, CodeSubject, EnrolmentCode, IssuedCard, NewAccount, NewCard,
    NewEnrolmentCode, NewTerminal, RegisteredTerminal,
};
use crate::credential::MERCHANT_ID_OCTETS_MAX;
use crate::domain::{
    Amount, CardId, Currency, MINOR_UNITS_MAX, TerminalId, UnixTime, check_displayed_text,
    check_merchant_name,
};

/// How long the name of an account may be, in octets.
const ACCOUNT_NAME_OCTETS_MAX: usize = 64;

/// What a card may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CardTerms {
    /// The account that it pays from.
    pub account: AccountId,
    /// The most it may pay at once; in the account's currency.
    pub payment_limit: Amount,
    /// Above this amount the phone has to ask for a passcode or a biometric trait; none for never.
    pub verification_limit: Option<Amount>,
}

impl Institution {
    /// Opens an account, with an opening balance if one is given.
    ///
    /// # Errors
    /// [`InstitutionError::InvalidRequest`] for the name, or for a balance in another currency;
    /// [`InstitutionError::Store`].
    pub fn create_account(
        &mut self,
        name: &str,
        currency: Currency,
        balance: Option<Amount>,
        now: UnixTime,
    ) -> Result<AccountId, InstitutionError> {
        check_line("name", name, ACCOUNT_NAME_OCTETS_MAX)?;
        check_currency("balance", balance, currency)?;
        Ok(self.store.create_account(&NewAccount {
            name: name.to_owned(),
            currency,
            opening_balance: balance,
            created_at: now,
        })?)
    }

    /// Every account, by number.
    ///
    /// # Errors
    /// [`InstitutionError::Store`].
    pub fn accounts(&mut self) -> Result<Vec<Account>, InstitutionError> {
        Ok(self.store.accounts()?)
    }

    /// One account.
    ///
    /// # Errors
    /// [`InstitutionError::NotFound`]; [`InstitutionError::Store`].
    pub fn account(&mut self, id: AccountId) -> Result<Account, InstitutionError> {
        self.store.account(id)?.ok_or_else(|| InstitutionError::not_found("account", id))
    }

    /// Registers a terminal; `code` enrols it until `code_not_after`.
    ///
    /// # Errors
    /// [`InstitutionError::InvalidRequest`] for the merchant; [`InstitutionError::Store`].
    pub fn add_terminal(
        &mut self,
        id: TerminalId,
        merchant_id: &str,
        merchant_name: &str,
        code: &EnrolmentCode,
        code_not_after: UnixTime,
        now: UnixTime,
    ) -> Result<(), InstitutionError> {
        check_line("merchant_id", merchant_id, MERCHANT_ID_OCTETS_MAX)?;
        check_merchant_name(merchant_name)
            .map_err(|error| InstitutionError::invalid("merchant_name", error))?;
        let terminal = NewTerminal {
            id,
            merchant_id: merchant_id.to_owned(),
            merchant_name: merchant_name.to_owned(),
            registered_at: now,
        };
        Ok(self.store.add_terminal(&terminal, &new_code(code, code_not_after))?)
    }

    /// Gives a terminal a new code, to enrol again with new keys, or before its certificates
    /// expire. The codes that it has and did not use are void from then on.
    ///
    /// # Errors
    /// [`InstitutionError::NotFound`]; [`InstitutionError::Store`].
    pub fn renew_terminal_code(
        &mut self,
        id: TerminalId,
        code: &EnrolmentCode,
        code_not_after: UnixTime,
    ) -> Result<(), InstitutionError> {
        let code = new_code(code, code_not_after);
        let is_found = self.store.issue_code(CodeSubject::Terminal(id), &code)?;
        is_found.then_some(()).ok_or_else(|| InstitutionError::not_found("terminal", id))
    }

    /// Every terminal, oldest first.
    ///
    /// # Errors
    /// [`InstitutionError::Store`].
    pub fn terminals(&mut self) -> Result<Vec<RegisteredTerminal>, InstitutionError> {
        Ok(self.store.terminals()?)
    }

    /// Blocks a terminal from a time on, or unblocks it.
    ///
    /// # Errors
    /// [`InstitutionError::NotFound`]; [`InstitutionError::Store`].
    pub fn set_terminal_blocked(
        &mut self,
        id: TerminalId,
        blocked_at: Option<UnixTime>,
    ) -> Result<(), InstitutionError> {
        let is_found = self.store.set_terminal_blocked(id, blocked_at)?;
        is_found.then_some(()).ok_or_else(|| InstitutionError::not_found("terminal", id))
    }

    /// Issues a card; `code` enrols it until `code_not_after`.
    ///
    /// # Errors
    /// [`InstitutionError::NotFound`] for the account; [`InstitutionError::InvalidRequest`] for
    /// limits in another currency; [`InstitutionError::Store`].
    pub fn add_card(
        &mut self,
        id: CardId,
        terms: CardTerms,
        code: &EnrolmentCode,
        code_not_after: UnixTime,
        now: UnixTime,
    ) -> Result<(), InstitutionError> {
        let account = self.account(terms.account)?;
        check_currency("limit", Some(terms.payment_limit), account.currency)?;
        check_currency("verification_limit", terms.verification_limit, account.currency)?;
        let verification_limit = terms.verification_limit;
        let card = NewCard {
            id,
            account: account.id,
            payment_limit_minor: terms.payment_limit.minor(),
            verification_limit_minor: verification_limit
                .map_or(MINOR_UNITS_MAX, |limit| limit.minor()),
            issued_at: now,
        };
        Ok(self.store.add_card(&card, &new_code(code, code_not_after))?)
    }

    /// Every card, oldest first.
    ///
    /// # Errors
    /// [`InstitutionError::Store`].
    pub fn cards(&mut self) -> Result<Vec<IssuedCard>, InstitutionError> {
        Ok(self.store.cards()?)
    }

    /// Blocks or unblocks a card.
    ///
    /// # Errors
    /// [`InstitutionError::NotFound`]; [`InstitutionError::Store`].
    pub fn set_card_blocked(
        &mut self,
        id: CardId,
        is_blocked: bool,
    ) -> Result<(), InstitutionError> {
        let is_found = self.store.set_card_blocked(id, is_blocked)?;
        let not_found = || InstitutionError::not_found("card ending in", id.hint());
        is_found.then_some(()).ok_or_else(not_found)
    }
}

fn new_code(code: &EnrolmentCode, not_after: UnixTime) -> NewEnrolmentCode {
    NewEnrolmentCode { digest: code.digest(), not_after }
}

fn check_currency(
    field: &'static str,
    amount: Option<Amount>,
    currency: Currency,
) -> Result<(), InstitutionError> {
    match amount {
        Some(amount) if amount.currency() != currency => {
            let detail = format!("{amount} is not in the account's currency, {currency}");
            Err(InstitutionError::invalid(field, detail))
        }
        Some(_) | None => Ok(()),
    }
}

/// Checks text that the institution's people are shown.
pub(super) fn check_line(
    field: &'static str,
    text: &str,
    octets_max: usize,
) -> Result<(), InstitutionError> {
    check_displayed_text(text, 1..=octets_max)
        .map_err(|error| InstitutionError::invalid(field, error))
}
