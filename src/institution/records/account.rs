//! Accounts that cards pay from.

use std::fmt;

use crate::domain::{Amount, Currency, UnixTime};

/// The number of an account, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountId(pub i64);

impl fmt::Display for AccountId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// The account of one cardholder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    pub id: AccountId,
    pub name: String,
    /// The only currency it pays in.
    pub currency: Currency,
    /// What the holder can spend, in minor units.
    pub available_minor: u64,
    /// What is reserved by approvals that were neither captured nor reversed, in minor units.
    pub held_minor: u64,
}

/// An account to be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewAccount {
    pub name: String,
    pub currency: Currency,
    /// In the account's currency.
    pub opening_balance: Option<Amount>,
    pub created_at: UnixTime,
}
