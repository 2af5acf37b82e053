//! Why a store did not do what it was asked.

use std::borrow::Cow;

/// Why a store did not do what it was asked. Never holds card data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Somebody else is writing, for longer than the store waits. Nothing was changed.
    #[error(
        "the institution's store is busy: another process is writing to it; nothing was changed; \
         try again"
    )]
    Busy,
    /// The file, its disk or the database server failed. Whether a write was made is not known: it
    /// was made whole or not at all.
    #[error("the institution's store failed: {detail}")]
    Failed {
        /// What failed, and what to do.
        detail: String,
    },
    /// A record that this program never writes.
    #[error(
        "the institution's store holds a {what} that cannot be right; restore the store from a \
         backup, then run `florin-acquirer ledger check`"
    )]
    Corrupt {
        /// What kind of record or value.
        what: Cow<'static, str>,
    },
    /// The write would have broken a rule of the books, such as that no balance goes below zero.
    /// Nothing was changed.
    #[error(
        "the institution's store refused a write that breaks a rule of the books ({detail}); \
         nothing was changed; this is a fault in the program, please report it"
    )]
    RuleBroken { detail: String },
}

impl StoreError {
    /// A record or a value of this kind cannot be right.
    pub fn corrupt(what: impl Into<Cow<'static, str>>) -> Self {
        Self::Corrupt { what: what.into() }
    }
}
