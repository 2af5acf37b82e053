//! The open payments in figures, for people and their monitoring: how many there are, how old they
//! are, and which need an operator.
//!
//! The engine decides nothing by these figures, so the wall clock is good enough for them.

use std::collections::BTreeMap;

use super::Payment;
use crate::domain::{TransactionId, UnixTime};

/// The payments that are not final, in figures.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OpenPayments {
    /// The number of payments in each state, by the state's name.
    pub by_state: BTreeMap<&'static str, usize>,
    /// The age of the oldest, in seconds; 0 if there is none.
    pub oldest_s: u64,
    /// Those that are older than the terminal needs to settle a payment by itself, and those that
    /// are disputed, oldest first.
    pub escalated: Vec<TransactionId>,
    /// Those over which the journal and the institution differ.
    pub disputed: Vec<TransactionId>,
    /// How many payments were given back, or never taken, since the terminal started, though their
    /// goods were released.
    pub given_away: u64,
}

impl OpenPayments {
    /// The figures of `payments`, each with whether it is disputed, at `now`. Payments that are at
    /// least `escalate_after_s` seconds old, or disputed, are escalated. A clock that was set back
    /// makes payments younger and loses none.
    pub(super) fn of<'payment>(
        payments: impl Iterator<Item = (&'payment Payment, bool)>,
        now: UnixTime,
        escalate_after_s: u64,
        given_away: u64,
    ) -> Self {
        let mut open = Self { given_away, ..Self::default() };
        let mut escalated = Vec::new();
        for (payment, is_disputed) in payments {
            if is_disputed {
                open.disputed.push(payment.transaction_id);
            }
            let age_s = payment.age_s(now);
            *open.by_state.entry(payment.state.name()).or_default() += 1;
            open.oldest_s = open.oldest_s.max(age_s);
            if age_s >= escalate_after_s || is_disputed {
                escalated.push((std::cmp::Reverse(age_s), payment.transaction_id));
            }
        }
        escalated.sort_unstable();
        open.escalated = escalated.into_iter().map(|(_, transaction_id)| transaction_id).collect();
        open
    }

    pub fn count(&self) -> usize {
        self.by_state.values().sum()
    }
}
