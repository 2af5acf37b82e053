//! The state machine of a payment: tables over (state, event). No other file decides on a change of
//! state.
//!
//! The tables have no effects. What follows from a new state is the engine's business.

use crate::domain::ReversalReason;

use super::{DispensePolicy, InstitutionAnswer, PaymentState, TillRequest, TransactionState};

/// What the engine does about an answer of the institution, or about the lack of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The payment enters this state.
    Move(PaymentState),
    /// The request is retried later.
    Retry,
    /// The answer contradicts the journal. The request is retried later, and the operator is told.
    Conflict,
    /// Nothing happens: the payment does not wait for this answer any more.
    Ignore,
}

/// Decides on an answer of the institution.
///
/// A request that may have arrived and has no answer never counts as declined. It leads to
/// `Unresolved`, and only an answer of the institution leads on from there. An approval that nobody
/// waits for any more is reversed.
pub(super) fn on_institution(
    state: PaymentState,
    capture_after_dispense: bool,
    answer: &InstitutionAnswer,
) -> Verdict {
    use InstitutionAnswer::{NotSent, Refused, Transaction, Unanswered};
    use PaymentState as State;
    use Verdict::{Conflict, Ignore, Move, Retry};

    match (state, answer) {
        (_, Transaction { state: there, .. }) => {
            on_transaction(state, capture_after_dispense, *there)
        }

        (State::Authorising, NotSent { .. }) => Retry,
        // The institution did nothing. It may still accept a copy of the request that is on its
        // way, so only its answer about the transaction settles the payment.
        (State::Authorising, Refused { .. } | Unanswered { .. }) => Move(State::Unresolved),

        (
            State::Unresolved | State::Capturing | State::Reversing(_),
            NotSent { .. } | Unanswered { .. },
        ) => Retry,
        (State::Unresolved | State::Capturing | State::Reversing(_), Refused { .. }) => Conflict,

        (
            State::Offered
            | State::Approved
            | State::Captured
            | State::Reversed(_)
            | State::Declined(_)
            | State::NotCharged(_)
            | State::Cancelled
            | State::Expired,
            NotSent { .. } | Refused { .. } | Unanswered { .. },
        ) => Ignore,
    }
}

/// Decides on the state in which the institution holds the transaction.
fn on_transaction(
    state: PaymentState,
    capture_after_dispense: bool,
    there: TransactionState,
) -> Verdict {
    use PaymentState as State;
    use TransactionState as There;
    use Verdict::{Conflict, Ignore, Move, Retry};

    let unanswered = ReversalReason::Unanswered;
    match state {
        State::Authorising => match there {
            There::Approved if capture_after_dispense => Move(State::Approved),
            There::Approved => Move(State::Capturing),
            There::Declined(reason) => Move(State::Declined(reason)),
            There::Reversed => Move(State::Reversed(unanswered)),
            // No authorisation is answered with this. Make sure that nothing stays charged.
            There::Captured | There::Unknown => Move(State::Unresolved),
        },

        State::Unresolved => match there {
            There::Approved => Move(State::Reversing(unanswered)),
            // The terminal sends a capture only after `capturing` is durable. So either the journal
            // is older than the payment (a copy was put back, or the disk lost what it had synced),
            // or the amount was taken without this terminal. In the first case the goods were
            // released, and a reversal would give them away.
            There::Captured => Conflict,
            // The request may still be on its way. The reversal leaves a tombstone, so that the
            // institution declines it.
            There::Unknown => Move(State::Reversing(unanswered)),
            There::Declined(reason) => Move(State::Declined(reason)),
            There::Reversed => Move(State::Reversed(unanswered)),
        },

        State::Capturing => match there {
            There::Captured => Move(State::Captured),
            There::Approved => Retry,
            There::Unknown | There::Declined(_) | There::Reversed => Conflict,
        },

        State::Reversing(reason) => match there {
            There::Reversed => Move(State::Reversed(reason)),
            // The institution declined the late authorisation: nothing was ever reserved.
            There::Declined(decline) if reason == unanswered => Move(State::Declined(decline)),
            There::Approved => Retry,
            There::Captured | There::Unknown | There::Declined(_) => Conflict,
        },

        State::Offered
        | State::Approved
        | State::Captured
        | State::Reversed(_)
        | State::Declined(_)
        | State::NotCharged(_)
        | State::Cancelled
        | State::Expired => Ignore,
    }
}

/// Decides on a request of the till about an existing payment. Returns the new state, or none if
/// the till repeats itself.
///
/// # Errors
/// The request does not fit the state. The text says whose turn it is.
pub(super) fn on_till(
    state: PaymentState,
    capture_after_dispense: bool,
    request: &TillRequest,
) -> Result<Option<PaymentState>, &'static str> {
    use PaymentState as State;
    use ReversalReason::{Cancelled, DispenseFailed};

    const UNDECIDED: &str = "wait for the answer of the institution";
    const PAID: &str = "it is paid; ask the institution for a refund to give the money back";
    const GIVEN_BACK: &str = "the money is being given back, or was; offer a new payment";
    const NOT_PAID: &str = "it ended without being paid; offer a new payment";

    match (request, state) {
        (TillRequest::Create(_), _) => {
            debug_assert!(false, "a new payment has no state yet");
            Err("it exists already")
        }

        (TillRequest::Cancel { .. }, State::Offered) => Ok(Some(State::Cancelled)),
        (TillRequest::Cancel { .. }, State::Approved) => Ok(Some(State::Reversing(Cancelled))),
        (
            TillRequest::Cancel { .. },
            State::Cancelled | State::Reversing(Cancelled) | State::Reversed(Cancelled),
        ) => Ok(None),

        (TillRequest::Complete { dispensed: true, .. }, State::Approved) => {
            Ok(Some(State::Capturing))
        }
        (TillRequest::Complete { dispensed: true, .. }, State::Capturing | State::Captured)
            if capture_after_dispense =>
        {
            Ok(None)
        }
        (TillRequest::Complete { dispensed: false, .. }, State::Approved) => {
            Ok(Some(State::Reversing(DispenseFailed)))
        }
        (
            TillRequest::Complete { dispensed: false, .. },
            State::Reversing(DispenseFailed) | State::Reversed(DispenseFailed),
        ) => Ok(None),

        (TillRequest::Complete { .. }, State::Offered) => Err("wait until a phone has paid it"),
        (
            TillRequest::Cancel { .. } | TillRequest::Complete { .. },
            State::Authorising | State::Unresolved,
        ) => Err(UNDECIDED),
        (
            TillRequest::Cancel { .. } | TillRequest::Complete { .. },
            State::Capturing | State::Captured,
        ) => Err(PAID),
        (
            TillRequest::Cancel { .. } | TillRequest::Complete { .. },
            State::Reversing(_) | State::Reversed(_),
        ) => Err(GIVEN_BACK),
        (
            TillRequest::Cancel { .. },
            State::Declined(_) | State::NotCharged(_) | State::Expired,
        )
        | (
            TillRequest::Complete { .. },
            State::Declined(_) | State::NotCharged(_) | State::Cancelled | State::Expired,
        ) => Err(NOT_PAID),
    }
}

/// Decides on a payment for which the till has not reported in time whether the goods were
/// released. Returns the new state, or none if the payment keeps its state.
pub(super) fn on_dispense_timeout(
    state: PaymentState,
    policy: DispensePolicy,
) -> Option<PaymentState> {
    match (state, policy) {
        (PaymentState::Approved, DispensePolicy::Reverse) => {
            Some(PaymentState::Reversing(ReversalReason::DispenseUnknown))
        }
        (PaymentState::Approved, DispensePolicy::Hold)
        | (
            PaymentState::Offered
            | PaymentState::Authorising
            | PaymentState::Unresolved
            | PaymentState::Capturing
            | PaymentState::Captured
            | PaymentState::Reversing(_)
            | PaymentState::Reversed(_)
            | PaymentState::Declined(_)
            | PaymentState::NotCharged(_)
            | PaymentState::Cancelled
            | PaymentState::Expired,
            DispensePolicy::Reverse | DispensePolicy::Hold,
        ) => None,
    }
}

/// The state in which a payment continues after a restart. When the process stopped, a request may
/// have left, and nobody knows how old an offer is.
pub(super) fn on_restart(state: PaymentState) -> PaymentState {
    match state {
        PaymentState::Offered => PaymentState::Expired,
        PaymentState::Authorising => PaymentState::Unresolved,
        PaymentState::Unresolved
        | PaymentState::Approved
        | PaymentState::Capturing
        | PaymentState::Captured
        | PaymentState::Reversing(_)
        | PaymentState::Reversed(_)
        | PaymentState::Declined(_)
        | PaymentState::NotCharged(_)
        | PaymentState::Cancelled
        | PaymentState::Expired => state,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{DeclineReason, TransactionId};
    use crate::terminal::NotChargedReason;

    fn every_state() -> Vec<PaymentState> {
        use PaymentState::*;
        vec![
            Offered,
            Authorising,
            Unresolved,
            Approved,
            Capturing,
            Captured,
            Reversing(ReversalReason::Unanswered),
            Reversing(ReversalReason::DispenseFailed),
            Reversed(ReversalReason::Unanswered),
            Reversed(ReversalReason::DispenseFailed),
            Declined(DeclineReason::InsufficientFunds),
            NotCharged(NotChargedReason::InstitutionUnreachable),
            Cancelled,
            Expired,
        ]
    }

    fn every_answer() -> Vec<InstitutionAnswer> {
        let answer = |state| InstitutionAnswer::Transaction { state, receipt: None };
        let detail = String::new;
        vec![
            answer(TransactionState::Unknown),
            answer(TransactionState::Declined(DeclineReason::UnknownCard)),
            answer(TransactionState::Approved),
            answer(TransactionState::Captured),
            answer(TransactionState::Reversed),
            InstitutionAnswer::NotSent { detail: detail() },
            InstitutionAnswer::Refused { detail: detail() },
            InstitutionAnswer::Unanswered { detail: detail() },
        ]
    }

    fn every_till_request() -> Vec<TillRequest> {
        let transaction_id = TransactionId::from_random([1; 16]);
        vec![
            TillRequest::Cancel { transaction_id },
            TillRequest::Complete { transaction_id, dispensed: true },
            TillRequest::Complete { transaction_id, dispensed: false },
        ]
    }

    #[test]
    fn a_final_state_never_changes() {
        for state in every_state().into_iter().filter(|state| state.is_final()) {
            for answer in every_answer() {
                assert_eq!(on_institution(state, true, &answer), Verdict::Ignore);
            }
            for request in every_till_request() {
                assert!(
                    !matches!(on_till(state, true, &request), Ok(Some(_))),
                    "{state:?} {request:?}"
                );
            }
            assert_eq!(on_restart(state), state);
        }
    }

    #[test]
    fn no_answer_is_never_a_decline() {
        for state in every_state() {
            let answer = InstitutionAnswer::Unanswered { detail: String::new() };
            if let Verdict::Move(next) = on_institution(state, false, &answer) {
                assert_eq!((state, next), (PaymentState::Authorising, PaymentState::Unresolved));
            }
        }
    }

    #[test]
    fn what_may_be_approved_is_never_called_not_charged_unless_the_institution_says_so() {
        for state in every_state() {
            for answer in every_answer() {
                let Verdict::Move(next) = on_institution(state, true, &answer) else { continue };
                let says_not_charged = matches!(
                    next,
                    PaymentState::Declined(_)
                        | PaymentState::Reversed(_)
                        | PaymentState::NotCharged(_)
                );
                let institution_says_so = matches!(
                    answer,
                    InstitutionAnswer::Transaction {
                        state: TransactionState::Declined(_) | TransactionState::Reversed,
                        ..
                    }
                );
                assert!(!says_not_charged || institution_says_so, "{state:?} {answer:?} {next:?}");
            }
        }
    }

    #[test]
    fn goods_are_released_only_on_an_approval_that_is_awaited() {
        for state in every_state() {
            for answer in every_answer() {
                let verdict = on_institution(state, false, &answer);
                if matches!(
                    verdict,
                    Verdict::Move(PaymentState::Approved | PaymentState::Capturing)
                ) {
                    assert_eq!(state, PaymentState::Authorising);
                    assert!(matches!(
                        answer,
                        InstitutionAnswer::Transaction { state: TransactionState::Approved, .. }
                    ));
                }
            }
        }
    }

    #[test]
    fn what_the_institution_took_is_never_given_back_for_lack_of_an_answer() {
        let taken = InstitutionAnswer::Transaction {
            state: TransactionState::Captured,
            receipt: Some(vec![1]),
        };
        for state in every_state() {
            let verdict = on_institution(state, true, &taken);
            assert!(!matches!(verdict, Verdict::Move(PaymentState::Reversing(_))), "{state:?}");
        }
        assert_eq!(on_institution(PaymentState::Unresolved, true, &taken), Verdict::Conflict);
    }

    #[test]
    fn names_read_back() {
        for state in every_state() {
            assert_eq!(PaymentState::from_names(state.name(), state.reason()), Some(state));
        }
        assert_eq!(PaymentState::from_names("declined", ""), None);
        // As journals hold it.
        let unreachable = PaymentState::NotCharged(NotChargedReason::InstitutionUnreachable);
        let stored = ("not_charged", "institution_unreachable");
        assert_eq!((unreachable.name(), unreachable.reason()), stored);
    }
}
