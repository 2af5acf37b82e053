//! The one place where a payment's state changes: tables over (state, what happened).
//!
//! They decide and do nothing. What follows from a new state is the engine's business.

use crate::domain::ReversalReason;

use super::{DispensePolicy, InstitutionAnswer, PaymentState, TillRequest, TransactionState};

/// What an answer of the institution, or the lack of one, leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// To this state.
    Move(PaymentState),
    /// Ask the same again, later.
    AskAgain,
    /// The institution's word does not fit what this terminal knows. Ask again, and tell the
    /// operator.
    Disagree,
    /// Nothing: nobody waits for this answer any more.
    Ignore,
}

/// What the institution's answer leads to.
///
/// A request that may have arrived and has no answer is never a decline: it leads to `Unresolved`,
/// from where only the institution's word leads on, and an approval that nobody waits for any more
/// is reversed.
pub(super) fn on_institution(
    state: PaymentState,
    capture_after_dispense: bool,
    answer: &InstitutionAnswer,
) -> Verdict {
    use InstitutionAnswer::{NotSent, Refused, Transaction, Unanswered};
    use PaymentState as State;
    use TransactionState as Word;
    use Verdict::{AskAgain, Disagree, Ignore, Move};

    let unanswered = ReversalReason::Unanswered;
    match (state, answer) {
        (State::Authorising, Transaction { state: word, .. }) => match word {
            Word::Approved if capture_after_dispense => Move(State::Approved),
            Word::Approved => Move(State::Capturing),
            Word::Declined(reason) => Move(State::Declined(*reason)),
            Word::Reversed => Move(State::Reversed(unanswered)),
            // No answer to an authorisation says this; be sure that nothing stays charged.
            Word::Captured | Word::Unknown => Move(State::Unresolved),
        },
        (State::Authorising, NotSent { .. }) => AskAgain,
        // It did nothing now. A copy of the request that is still on its way may find it of another
        // mind, so only its word on the transaction ends this.
        (State::Authorising, Refused { .. } | Unanswered { .. }) => Move(State::Unresolved),

        (State::Unresolved, Transaction { state: word, .. }) => match word {
            Word::Approved => Move(State::Reversing(unanswered)),
            // A capture of this terminal's own leaves only after its `capturing` is durable. So the
            // journal is older than the payment (a copy that was put back, or a disk
            // that lost what it had synced), or the money was taken without this
            // terminal. In the first case the goods are out, and a reversal would give them away.
            Word::Captured => Disagree,
            // Not seen is not never: the request may still be on its way. The reversal leaves a
            // tombstone.
            Word::Unknown => Move(State::Reversing(unanswered)),
            Word::Declined(reason) => Move(State::Declined(*reason)),
            Word::Reversed => Move(State::Reversed(unanswered)),
        },

        (State::Capturing, Transaction { state: word, .. }) => match word {
            Word::Captured => Move(State::Captured),
            Word::Approved => AskAgain,
            Word::Unknown | Word::Declined(_) | Word::Reversed => Disagree,
        },

        (State::Reversing(reason), Transaction { state: word, .. }) => match word {
            Word::Reversed => Move(State::Reversed(reason)),
            // The late authorisation was declined: nothing was ever reserved.
            Word::Declined(decline) if reason == unanswered => Move(State::Declined(*decline)),
            Word::Approved => AskAgain,
            Word::Captured | Word::Unknown | Word::Declined(_) => Disagree,
        },

        (
            State::Unresolved | State::Capturing | State::Reversing(_),
            NotSent { .. } | Unanswered { .. },
        ) => AskAgain,
        (State::Unresolved | State::Capturing | State::Reversing(_), Refused { .. }) => Disagree,

        (
            State::Offered
            | State::Approved
            | State::Captured
            | State::Reversed(_)
            | State::Declined(_)
            | State::NotCharged(_)
            | State::Cancelled
            | State::Expired,
            _,
        ) => Ignore,
    }
}

/// What a till's word on an existing payment leads to: a new state, or none where it was said
/// before.
///
/// # Errors
/// Whose turn it is, where the word does not fit.
pub(super) fn on_till(
    state: PaymentState,
    capture_after_dispense: bool,
    request: &TillRequest,
) -> Result<Option<PaymentState>, &'static str> {
    use PaymentState as State;
    use ReversalReason::{Cancelled, DispenseFailed};

    const ASKING: &str = "the institution is being asked; wait for its answer";
    const PAID: &str = "it is paid; give the money back through the institution's refund";
    const GIVEN_BACK: &str = "the money is being given back, or was; offer a new payment";
    const NOT_PAID: &str = "it ended without being paid; offer a new payment";

    match (request, state) {
        (TillRequest::Create(_), _) => Err("it exists"),

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

        (TillRequest::Complete { .. }, State::Offered) => Err("no phone has paid it yet"),
        (
            TillRequest::Cancel { .. } | TillRequest::Complete { .. },
            State::Authorising | State::Unresolved,
        ) => Err(ASKING),
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

/// What it leads to that the till has not said in time what became of the goods: a new state, or
/// none.
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

/// What a restart leads to: where the process stopped, a request may have left and an offer's age
/// is not known.
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
    use crate::protocol::WireError;

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
            NotCharged(WireError::InstitutionUnreachable),
            Cancelled,
            Expired,
        ]
    }

    fn every_answer() -> Vec<InstitutionAnswer> {
        let word = |state| InstitutionAnswer::Transaction { state, receipt: None };
        let detail = String::new;
        vec![
            word(TransactionState::Unknown),
            word(TransactionState::Declined(DeclineReason::UnknownCard)),
            word(TransactionState::Approved),
            word(TransactionState::Captured),
            word(TransactionState::Reversed),
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
    fn what_may_be_approved_is_never_called_not_charged_without_the_institutions_word() {
        for state in every_state() {
            for answer in every_answer() {
                let Verdict::Move(next) = on_institution(state, true, &answer) else { continue };
                let says_not_charged = matches!(
                    next,
                    PaymentState::Declined(_)
                        | PaymentState::Reversed(_)
                        | PaymentState::NotCharged(_)
                );
                let is_the_institutions_word = matches!(
                    answer,
                    InstitutionAnswer::Transaction {
                        state: TransactionState::Declined(_) | TransactionState::Reversed,
                        ..
                    }
                );
                assert!(
                    !says_not_charged || is_the_institutions_word,
                    "{state:?} {answer:?} {next:?}"
                );
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
    fn what_the_institution_took_is_never_given_back_for_want_of_an_answer() {
        let taken = InstitutionAnswer::Transaction {
            state: TransactionState::Captured,
            receipt: Some(vec![1]),
        };
        for state in every_state() {
            let verdict = on_institution(state, true, &taken);
            assert!(!matches!(verdict, Verdict::Move(PaymentState::Reversing(_))), "{state:?}");
        }
        assert_eq!(on_institution(PaymentState::Unresolved, true, &taken), Verdict::Disagree);
    }

    #[test]
    fn names_read_back() {
        for state in every_state() {
            assert_eq!(PaymentState::from_names(state.name(), state.reason()), Some(state));
        }
        assert_eq!(PaymentState::from_names("declined", ""), None);
    }
}
