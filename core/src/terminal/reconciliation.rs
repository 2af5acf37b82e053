//! Reconciliation of the journal with the institution: what both hold of each payment, where they
//! differ, and what to do about it.
//!
//! It compares and adds up. It does not fetch either side, which is the service's business, and
//! changes no payment.

use std::collections::BTreeMap;
use std::fmt;

use super::{Payment, PaymentState, TransactionState};
use crate::domain::{Amount, Currency, TransactionId, UnixTime};

/// What the institution holds of one transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstitutionTransaction {
    pub transaction_id: TransactionId,
    pub state: TransactionState,
    /// None if the institution never saw the offer.
    pub amount: Option<Amount>,
    /// When the institution first heard of the transaction, by its clock.
    pub created_at: UnixTime,
}

/// How the two sides differ over one payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Difference {
    /// The institution reserved or took money, and the journal does not know the payment.
    UnknownHere,
    /// The payment is paid in the journal, and the institution holds no money for it.
    NotPaidThere,
    /// The payment is captured in the journal, and the institution has only reserved the amount.
    NotTakenThere,
    /// The institution took the money, and the journal does not say so yet.
    TakenThere,
    /// Nobody is charged according to the journal, and the institution holds money.
    ChargedThere,
    /// Neither side holds money, and the payment ended differently on each.
    OtherEnd,
    /// The two know different amounts.
    OtherAmount,
}

impl Difference {
    /// Every difference that there is.
    pub const ALL: [Self; 7] = [
        Self::UnknownHere,
        Self::NotPaidThere,
        Self::NotTakenThere,
        Self::TakenThere,
        Self::ChargedThere,
        Self::OtherEnd,
        Self::OtherAmount,
    ];

    /// A stable name for programs: lower case, words joined by underscores.
    pub fn name(self) -> &'static str {
        match self {
            Self::UnknownHere => "unknown_here",
            Self::NotPaidThere => "not_paid_there",
            Self::NotTakenThere => "not_taken_there",
            Self::TakenThere => "taken_there",
            Self::ChargedThere => "charged_there",
            Self::OtherEnd => "other_end",
            Self::OtherAmount => "other_amount",
        }
    }
}

impl fmt::Display for Difference {
    /// What the difference is, and what to do.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::UnknownHere => {
                "the institution charged it and the journal does not know it: an older journal was \
                 put back, or the journal was pruned. Look in the machine's own log whether the \
                 goods were released, and ask the institution to refund it if they were not"
            }
            Self::NotPaidThere => {
                "goods were released and the institution holds no money for them: give the \
                 institution this id and the receipt of the journal (`florin journal export`). If \
                 the payment is open and it stays so, end it with `florin resolve`"
            }
            Self::NotTakenThere => {
                "goods were released and the institution has only reserved the amount: ask it to \
                 capture this id before the reservation ends"
            }
            Self::TakenThere => {
                "the institution took the money and the journal does not know that: an older \
                 journal was put back. Look in the machine's own log whether the goods were \
                 released, say so with `florin resolve`, and ask the institution to refund it if \
                 they were not"
            }
            Self::ChargedThere => {
                "nobody should be charged and the institution holds money: ask it to reverse or \
                 refund this id now, unless an older journal was put back and the machine's own \
                 log says that the goods were released"
            }
            Self::OtherEnd => {
                "nobody is charged, and the payment ended differently in the journal and at the \
                 institution: an older journal was put back, or the institution lost data. Tell it \
                 that this id must not be charged"
            }
            Self::OtherAmount => {
                "the journal and the institution hold different amounts: stop the terminal and ask \
                 the institution at once"
            }
        })
    }
}

/// One payment over which the sides differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub transaction_id: TransactionId,
    pub difference: Difference,
    /// The journal's state and amount, if it knows the payment.
    pub here: Option<(PaymentState, Amount)>,
    /// The institution's state and amount.
    pub there: (TransactionState, Option<Amount>),
}

/// What a total is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TotalKey {
    /// The first second of the day (UTC), by the institution's clock where it knows the payment.
    pub day: UnixTime,
    pub currency: Currency,
    /// `captured`, `reversed`, `declined`, or `open` for a payment that is not final.
    pub state: &'static str,
}

/// The number of payments, and the sum of their amounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Total {
    pub count: u64,
    pub amount_minor: u64,
}

/// The reconciliation of a period.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reconciliation {
    /// The number of payments that were compared.
    pub compared: u64,
    /// The payments that are still being settled and do not contradict the institution.
    pub settling: Vec<TransactionId>,
    /// The payments over which the sides differ.
    pub findings: Vec<Finding>,
    /// The totals of the journal and of the institution.
    pub totals: BTreeMap<TotalKey, [Total; 2]>,
}

impl Reconciliation {
    /// Compares one payment.
    pub fn add(&mut self, here: Option<&Payment>, there: &InstitutionTransaction) {
        self.compared += 1;
        let verdict = compare(here, there);
        match verdict {
            Verdict::Agree => {}
            Verdict::Settling => self.settling.push(there.transaction_id),
            Verdict::Differ(difference) => self.findings.push(Finding {
                transaction_id: there.transaction_id,
                difference,
                here: here.map(|payment| (payment.state, payment.amount)),
                there: (there.state, there.amount),
            }),
        }
        let made_at = match (there.state, here) {
            (TransactionState::Unknown, Some(payment)) => payment.created_at,
            _ => there.created_at,
        };
        let day = UnixTime { seconds: made_at.seconds / 86_400 * 86_400 };
        let ours =
            here.and_then(|payment| class_here(payment.state).map(|class| (class, payment.amount)));
        // A transaction that was reversed before the institution saw its offer has no amount
        // there. The journal has it.
        let theirs =
            class_there(there.state).zip(there.amount.or(here.map(|payment| payment.amount)));
        // A payment that only the institution knows, or that ended before any command, counts only
        // if money is involved. So payments that agree are in the same total on both sides.
        let is_left_out = ours.is_none() && matches!(verdict, Verdict::Agree);
        for (side, entry) in [ours, theirs].into_iter().enumerate() {
            let Some((state, amount)) = entry.filter(|_| !is_left_out) else { continue };
            let total = &mut self
                .totals
                .entry(TotalKey { day, currency: amount.currency(), state })
                .or_default()[side];
            total.count += 1;
            total.amount_minor = total.amount_minor.saturating_add(amount.minor());
        }
    }

    /// Do the sides differ over this payment? One side may have been read before the other: read
    /// both again before you believe it.
    pub fn differs(here: Option<&Payment>, there: &InstitutionTransaction) -> bool {
        matches!(compare(here, there), Verdict::Differ(_))
    }

    /// No payment differs. A payment that is still being settled does not count as different.
    pub fn agrees(&self) -> bool {
        self.findings.is_empty()
    }
}

enum Verdict {
    Agree,
    Settling,
    Differ(Difference),
}

fn compare(here: Option<&Payment>, there: &InstitutionTransaction) -> Verdict {
    use Difference::{
        ChargedThere, NotPaidThere, NotTakenThere, OtherAmount, OtherEnd, TakenThere, UnknownHere,
    };
    use PaymentState as Here;
    use TransactionState as There;
    use Verdict::{Agree, Differ, Settling};

    let Some(payment) = here else {
        return match there.state {
            There::Approved | There::Captured => Differ(UnknownHere),
            There::Unknown | There::Declined(_) | There::Reversed => Agree,
        };
    };
    if there.amount.is_some_and(|amount| amount != payment.amount) {
        return Differ(OtherAmount);
    }
    match (payment.state, there.state) {
        (Here::Captured, There::Captured) => Agree,
        (Here::Captured, There::Approved) => Differ(NotTakenThere),
        (
            Here::Captured | Here::Capturing | Here::Approved,
            There::Unknown | There::Declined(_) | There::Reversed,
        ) => Differ(NotPaidThere),
        // The terminal sends a capture only after the journal holds it.
        (
            Here::Offered | Here::Authorising | Here::Unresolved | Here::Approved,
            There::Captured,
        ) => Differ(TakenThere),
        (Here::Approved, There::Approved)
        | (Here::Capturing, There::Approved | There::Captured) => Settling,
        (
            Here::Offered | Here::Authorising | Here::Unresolved,
            There::Unknown | There::Declined(_) | There::Approved | There::Reversed,
        )
        | (Here::Reversing(_), _) => Settling,
        (
            Here::Reversed(_) | Here::Declined(_) | Here::Cancelled | Here::Expired,
            There::Approved | There::Captured,
        ) => Differ(ChargedThere),
        (Here::Reversed(_), There::Reversed)
        | (Here::Declined(_), There::Declined(_))
        // A tombstone, if a phone's late command asked for a proof.
        | (Here::Cancelled | Here::Expired, There::Unknown | There::Reversed) => Agree,
        // Reversed here and unknown there matters: without a tombstone, the institution could
        // still approve a request that was delayed on its way.
        (Here::Reversed(_), There::Unknown | There::Declined(_))
        | (Here::Declined(_), There::Unknown | There::Reversed)
        | (Here::Cancelled | Here::Expired, There::Declined(_)) => Differ(OtherEnd),
    }
}

/// The total in which a payment of the journal is counted; none if no money was ever involved.
fn class_here(state: PaymentState) -> Option<&'static str> {
    match state {
        PaymentState::Captured => Some("captured"),
        PaymentState::Reversed(_) => Some("reversed"),
        PaymentState::Declined(_) => Some("declined"),
        PaymentState::Authorising
        | PaymentState::Unresolved
        | PaymentState::Approved
        | PaymentState::Capturing
        | PaymentState::Reversing(_) => Some("open"),
        PaymentState::Offered | PaymentState::Cancelled | PaymentState::Expired => None,
    }
}

fn class_there(state: TransactionState) -> Option<&'static str> {
    match state {
        TransactionState::Captured => Some("captured"),
        TransactionState::Reversed => Some("reversed"),
        TransactionState::Declined(_) => Some("declined"),
        TransactionState::Approved => Some("open"),
        TransactionState::Unknown => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{DeclineReason, ReversalReason};
    use crate::terminal::fixtures;

    fn payment(state: PaymentState) -> Payment {
        Payment { created_at: UnixTime { seconds: 86_400 * 20 + 5 }, ..fixtures::payment(7, state) }
    }

    fn transaction(state: TransactionState, amount: Option<&str>) -> InstitutionTransaction {
        InstitutionTransaction {
            transaction_id: fixtures::transaction_id(7),
            state,
            amount: amount.map(|amount| amount.parse().unwrap()),
            created_at: UnixTime { seconds: 86_400 * 21 + 3 },
        }
    }

    #[test]
    fn every_pair_of_states_has_its_verdict() {
        use Difference::{
            ChargedThere, NotPaidThere, NotTakenThere, OtherEnd, TakenThere, UnknownHere,
        };
        let (agree, settling) = (Ok("agree"), Ok("settling"));
        let differ = |difference: Difference| Err(difference);
        let reason = ReversalReason::Unanswered;
        // The columns: unknown, declined, approved, captured, reversed.
        let paid_not_there = differ(NotPaidThere);
        let (charged, other_end, taken) =
            (differ(ChargedThere), differ(OtherEnd), differ(TakenThere));
        let never_sent = [agree, other_end, charged, charged, agree];
        let not_known_yet = [settling, settling, settling, taken, settling];
        for (here, expected) in [
            (None, [agree, agree, differ(UnknownHere), differ(UnknownHere), agree]),
            (Some(PaymentState::Offered), not_known_yet),
            (Some(PaymentState::Authorising), not_known_yet),
            (Some(PaymentState::Unresolved), not_known_yet),
            (Some(PaymentState::Reversing(reason)), [settling; 5]),
            (
                Some(PaymentState::Approved),
                [paid_not_there, paid_not_there, settling, taken, paid_not_there],
            ),
            (
                Some(PaymentState::Capturing),
                [paid_not_there, paid_not_there, settling, settling, paid_not_there],
            ),
            (
                Some(PaymentState::Captured),
                [paid_not_there, paid_not_there, differ(NotTakenThere), agree, paid_not_there],
            ),
            (Some(PaymentState::Reversed(reason)), [other_end, other_end, charged, charged, agree]),
            (
                Some(PaymentState::Declined(DeclineReason::CardBlocked)),
                [other_end, agree, charged, charged, other_end],
            ),
            (Some(PaymentState::Cancelled), never_sent),
            (Some(PaymentState::Expired), never_sent),
        ] {
            let states = [
                TransactionState::Unknown,
                TransactionState::Declined(DeclineReason::CardBlocked),
                TransactionState::Approved,
                TransactionState::Captured,
                TransactionState::Reversed,
            ];
            for (there, expected) in states.into_iter().zip(expected) {
                let payment = here.map(payment);
                let mut reconciliation = Reconciliation::default();
                reconciliation.add(payment.as_ref(), &transaction(there, None));
                let are_equal = reconciliation.totals.values().all(|[here, there]| here == there);
                let found = match compare(payment.as_ref(), &transaction(there, None)) {
                    Verdict::Agree => Ok("agree"),
                    Verdict::Settling => Ok("settling"),
                    Verdict::Differ(difference) => Err(difference),
                };
                assert_eq!(found, expected, "{here:?} and {there:?}");
                assert!(
                    found != agree || are_equal,
                    "{here:?} and {there:?} agree, and not their totals"
                );
            }
        }
    }

    #[test]
    fn another_amount_is_a_difference_whatever_the_state() {
        let mut reconciliation = Reconciliation::default();
        let here = payment(PaymentState::Captured);
        reconciliation.add(Some(&here), &transaction(TransactionState::Captured, Some("2.60 EUR")));
        reconciliation.add(Some(&here), &transaction(TransactionState::Captured, Some("2.50 USD")));
        let found: Vec<Difference> =
            reconciliation.findings.iter().map(|finding| finding.difference).collect();
        assert_eq!(found, [Difference::OtherAmount, Difference::OtherAmount]);
        assert!(!reconciliation.agrees());
    }

    #[test]
    fn totals_are_by_the_institutions_day_by_currency_and_by_state() {
        let mut reconciliation = Reconciliation::default();
        let captured = payment(PaymentState::Captured);
        let at_institution = |state| transaction(state, Some("2.50 EUR"));
        reconciliation.add(Some(&captured), &at_institution(TransactionState::Captured));
        reconciliation.add(Some(&captured), &at_institution(TransactionState::Captured));
        reconciliation.add(
            Some(&payment(PaymentState::Capturing)),
            &at_institution(TransactionState::Captured),
        );
        reconciliation.add(
            Some(&payment(PaymentState::Expired)),
            &transaction(TransactionState::Unknown, None),
        );
        reconciliation.add(Some(&captured), &transaction(TransactionState::Unknown, None));
        let totals: Vec<_> = reconciliation
            .totals
            .iter()
            .map(|(key, [here, there])| {
                let day = key.day.seconds / 86_400;
                (day, key.state, here.count, here.amount_minor, there.count, there.amount_minor)
            })
            .collect();
        assert_eq!(
            totals,
            [
                (20, "captured", 1, 250, 0, 0),
                (21, "captured", 2, 500, 3, 750),
                (21, "open", 1, 250, 0, 0)
            ]
        );
        assert_eq!((reconciliation.compared, reconciliation.settling.len()), (5, 1));
    }
}
