//! The double-entry ledger: where money can be, and how it moves.
//!
//! An entry moves money between ledger accounts, and its postings sum to zero. No posting is ever
//! changed: what was wrong is put right by another entry.

use super::AccountId;
use crate::domain::Amount;

/// Where money can be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum LedgerAccount {
    /// What the holder of an account can spend.
    Available(AccountId),
    /// What approvals have reserved in an account.
    Held(AccountId),
    /// What the institution owes a merchant.
    Payable(String),
    /// Where opening balances come from. It goes below zero.
    Funding,
    /// What the institution has paid out of its own pocket. It goes below zero.
    Loss,
}

impl LedgerAccount {
    /// A stable name for programs: one word in lower case.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Available(_) => "available",
            Self::Held(_) => "held",
            Self::Payable(_) => "payable",
            Self::Funding => "funding",
            Self::Loss => "loss",
        }
    }

    /// Whether its balance may be below zero: it is the institution's own.
    pub fn may_be_negative(&self) -> bool {
        match self {
            Self::Funding | Self::Loss => true,
            Self::Available(_) | Self::Held(_) | Self::Payable(_) => false,
        }
    }

    /// The number of the account, the merchant's id, or nothing for funding and loss.
    pub fn owner(&self) -> String {
        match self {
            Self::Available(account) | Self::Held(account) => account.to_string(),
            Self::Payable(merchant) => merchant.clone(),
            Self::Funding | Self::Loss => String::new(),
        }
    }
}

/// Why money moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// An account gets its opening balance.
    Funding,
    /// An approval reserves the amount.
    Hold,
    /// A capture takes the reserved amount.
    Capture,
    /// A reversal gives the reserved amount back.
    Reversal,
    /// A refund gives back what was captured, or a part of it.
    Refund,
    /// The institution pays the merchant itself.
    WriteOff,
}

impl EntryKind {
    /// A stable name for programs: lower case, with an underscore between words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Funding => "funding",
            Self::Hold => "hold",
            Self::Capture => "capture",
            Self::Reversal => "reversal",
            Self::Refund => "refund",
            Self::WriteOff => "write_off",
        }
    }
}

/// An entry to be made: an amount that moves from one ledger account to another. It cannot be made
/// in a form that does not sum to zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    kind: EntryKind,
    from: LedgerAccount,
    to: LedgerAccount,
    amount: Amount,
}

impl Transfer {
    /// An account gets its opening balance.
    pub fn funding(account: AccountId, amount: Amount) -> Self {
        let to = LedgerAccount::Available(account);
        Self { kind: EntryKind::Funding, from: LedgerAccount::Funding, to, amount }
    }

    /// An approval reserves the amount.
    pub fn hold(account: AccountId, amount: Amount) -> Self {
        Self {
            kind: EntryKind::Hold,
            from: LedgerAccount::Available(account),
            to: LedgerAccount::Held(account),
            amount,
        }
    }

    /// A capture takes the reserved amount: the institution owes it to the merchant.
    pub fn capture(account: AccountId, merchant_id: String, amount: Amount) -> Self {
        Self {
            kind: EntryKind::Capture,
            from: LedgerAccount::Held(account),
            to: LedgerAccount::Payable(merchant_id),
            amount,
        }
    }

    /// A reversal gives the reserved amount back.
    pub fn reversal(account: AccountId, amount: Amount) -> Self {
        Self {
            kind: EntryKind::Reversal,
            from: LedgerAccount::Held(account),
            to: LedgerAccount::Available(account),
            amount,
        }
    }

    /// A refund gives back a part of what was taken, or all of it: the institution no longer owes
    /// it to the merchant.
    pub fn refund(account: AccountId, merchant_id: String, amount: Amount) -> Self {
        Self {
            kind: EntryKind::Refund,
            from: LedgerAccount::Payable(merchant_id),
            to: LedgerAccount::Available(account),
            amount,
        }
    }

    /// The institution pays a merchant out of its own pocket for a hold that it gave back.
    pub fn write_off(merchant_id: String, amount: Amount) -> Self {
        Self {
            kind: EntryKind::WriteOff,
            from: LedgerAccount::Loss,
            to: LedgerAccount::Payable(merchant_id),
            amount,
        }
    }

    /// Any two accounts, also those that the kind of the entry may not touch.
    #[cfg(test)]
    pub(in crate::institution) fn planted(
        kind: EntryKind,
        from: LedgerAccount,
        to: LedgerAccount,
        amount: Amount,
    ) -> Self {
        Self { kind, from, to, amount }
    }

    /// Why the money moves.
    pub fn kind(&self) -> EntryKind {
        self.kind
    }

    /// How much moves.
    pub fn amount(&self) -> Amount {
        self.amount
    }

    /// Each ledger account with its change in minor units. The changes sum to zero.
    pub fn postings(&self) -> [(&LedgerAccount, i64); 2] {
        // An amount has twelve digits at most, so it fits.
        let minor = i64::try_from(self.amount.minor()).unwrap_or(i64::MAX);
        [(&self.from, -minor), (&self.to, minor)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::MINOR_UNITS_MAX;

    #[test]
    fn every_transfer_sums_to_zero() {
        let account = AccountId(1);
        for minor in [1, MINOR_UNITS_MAX] {
            let amount = Amount::new(minor, "EUR".parse().unwrap()).unwrap();
            let merchant = || "kiosk-1".to_owned();
            for transfer in [
                Transfer::funding(account, amount),
                Transfer::hold(account, amount),
                Transfer::capture(account, merchant(), amount),
                Transfer::reversal(account, amount),
                Transfer::refund(account, merchant(), amount),
                Transfer::write_off(merchant(), amount),
            ] {
                let [(from, out), (to, into)] = transfer.postings();
                assert_eq!(out + into, 0, "{transfer:?}");
                assert_eq!(u64::try_from(into), Ok(minor), "{transfer:?}");
                assert_ne!(from, to, "{transfer:?}");
            }
        }
    }
}
