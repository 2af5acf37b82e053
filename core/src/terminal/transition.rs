//! The state machine of a payment: tables over (state, event). No other file decides on a change of
//! state.
//!
//! The tables have no effects. What follows from a new state is the engine's business.

use crate::domain::ReversalReason;

use super::answer_check::CheckedAnswer;
use super::{DispensePolicy, PaymentState, TillRequest, TransactionState};

/// What the engine does about an answer of the institution, or about the lack of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The payment enters this state.
    Move(PaymentState),
    /// The request is retried later.
    Retry,
    /// The answer contradicts the journal, or proves nothing. The request is retried later, and an
    /// operator is told at once.
    Conflict,
    /// Nothing happens: the payment does not wait for this answer any more.
    Ignore,
}

/// Decides on an answer of the institution.
///
/// A request that may have arrived and has no proven answer never counts as declined. It leads to
/// `Unresolved`, and only a proven answer of the institution leads on from there. An approval that
/// nobody waits for any more is reversed.
pub(super) fn on_institution(
    state: PaymentState,
    capture_after_dispense: bool,
    answer: &CheckedAnswer,
) -> Verdict {
    use CheckedAnswer::{NotSent, Proven, Refused, Unanswered, Unproven};
    use PaymentState as State;
    use Verdict::{Conflict, Ignore, Move, Retry};

    match (state, answer) {
        (_, Proven(transaction)) => {
            on_transaction(state, capture_after_dispense, transaction.state)
        }

        (State::Authorising, NotSent { .. }) => Retry,
        // The institution did nothing, or nothing that it can prove. It may still accept a copy of
        // the request that is on its way, so only its proven answer about the transaction settles
        // the payment.
        (State::Authorising, Refused { .. } | Unanswered { .. } | Unproven(_)) => {
            Move(State::Unresolved)
        }

        (
            State::Unresolved | State::Approved | State::Capturing | State::Reversing(_),
            NotSent { .. } | Unanswered { .. },
        ) => Retry,
        (
            State::Unresolved | State::Approved | State::Capturing | State::Reversing(_),
            Refused { .. } | Unproven(_),
        ) => Conflict,

        (
            State::Offered
            | State::Captured
            | State::Reversed(_)
            | State::Declined(_)
            | State::Cancelled
            | State::Expired,
            NotSent { .. } | Refused { .. } | Unanswered { .. } | Unproven(_),
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
    let dispense_unknown = ReversalReason::DispenseUnknown;
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
            // released, and a reversal would give them away. The till or an operator knows.
            There::Captured => Conflict,
            // The request may still be on its way. The reversal leaves a tombstone, so that the
            // institution declines it.
            There::Unknown => Move(State::Reversing(unanswered)),
            There::Declined(reason) => Move(State::Declined(reason)),
            There::Reversed => Move(State::Reversed(unanswered)),
        },

        // The till's time is over, and the terminal inquired before it gives the amount back: the
        // journal may be older than the payment.
        State::Approved => match there {
            There::Captured => Move(State::Captured),
            There::Approved => Move(State::Reversing(dispense_unknown)),
            There::Reversed => Move(State::Reversed(dispense_unknown)),
            There::Unknown | There::Declined(_) => Conflict,
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
        | State::Captured
        | State::Reversed(_)
        | State::Declined(_)
        | State::Cancelled
        | State::Expired => Ignore,
    }
}

/// Decides on the word of the till or of an operator about a payment over which the journal and
/// the institution differ: it ends as the institution holds it. `there` is what the institution
/// proved last; none while nothing is proven.
///
/// # Errors
/// The payment needs no word, or none helps yet. The text says whose turn it is.
pub(super) fn on_resolve(
    state: PaymentState,
    is_disputed: bool,
    there: Option<TransactionState>,
) -> Result<PaymentState, &'static str> {
    use PaymentState as State;
    use TransactionState as There;

    let unanswered = ReversalReason::Unanswered;
    if !is_disputed {
        return Err(
            "the terminal settles it by itself, or has settled it; wait, and read it again \
                    with `florin payments`",
        );
    }
    let there = there.ok_or(
        "the institution's answer proves nothing, so no word ends it; give the institution this \
         id, and wait until it answers with a proper receipt",
    )?;
    match (state, there) {
        (_, There::Captured) => Ok(State::Captured),
        (_, There::Declined(reason)) => Ok(State::Declined(reason)),
        (State::Reversing(reason), There::Reversed) => Ok(State::Reversed(reason)),
        (_, There::Reversed) => Ok(State::Reversed(unanswered)),
        (State::Reversing(_), There::Unknown | There::Approved) => {
            Err("the money is being given back; wait for the institution")
        }
        // A tombstone first, so that nothing is charged later.
        (_, There::Unknown | There::Approved) => Ok(State::Reversing(unanswered)),
    }
}

/// Decides on a request of the till about an existing payment. Returns the new state, or none if
/// the till repeats itself. `may_have_left`: a reversal may be on its way to the institution.
///
/// # Errors
/// The request does not fit the state. The text says whose turn it is.
pub(super) fn on_till(
    state: PaymentState,
    capture_after_dispense: bool,
    may_have_left: bool,
    request: &TillRequest,
) -> Result<Option<PaymentState>, &'static str> {
    use PaymentState as State;
    use ReversalReason::{Cancelled, DispenseFailed, DispenseUnknown};

    const UNDECIDED: &str = "wait for the answer of the institution";
    const PAID: &str = "it is paid; ask the institution for a refund to give the money back";
    const GIVEN_BACK: &str = "the money is being given back, or was; offer a new payment";
    const NOT_PAID: &str = "it ended without being paid; offer a new payment";

    match (request, state) {
        (TillRequest::Create(_) | TillRequest::Resolve { .. }, _) => {
            debug_assert!(false, "decided elsewhere");
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
        // The till's word comes late, and in time: nothing has been given back.
        (TillRequest::Complete { dispensed: true, .. }, State::Reversing(DispenseUnknown))
            if !may_have_left =>
        {
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
            TillRequest::Cancel { .. } | TillRequest::Complete { .. },
            State::Declined(_) | State::Expired,
        )
        | (TillRequest::Complete { .. }, State::Cancelled) => Err(NOT_PAID),
    }
}

/// Decides on a payment for which the till has not reported in time whether the goods were
/// released: does the terminal inquire at the institution, in order to give the amount back?
pub(super) fn on_dispense_timeout(state: PaymentState, policy: DispensePolicy) -> bool {
    match (state, policy) {
        (PaymentState::Approved, DispensePolicy::Reverse) => true,
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
            | PaymentState::Cancelled
            | PaymentState::Expired,
            DispensePolicy::Reverse | DispensePolicy::Hold,
        ) => false,
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
        | PaymentState::Cancelled
        | PaymentState::Expired => state,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{DeclineReason, TransactionId};
    use crate::terminal::answer_check::{AnswerFault, ProvenTransaction};

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
            Cancelled,
            Expired,
        ]
    }

    fn proven(state: TransactionState) -> CheckedAnswer {
        CheckedAnswer::Proven(ProvenTransaction {
            state,
            receipt: None,
            exclusion: None,
            command_digest: None,
            store_generation: None,
        })
    }

    fn every_answer() -> Vec<CheckedAnswer> {
        let detail = String::new;
        vec![
            proven(TransactionState::Unknown),
            proven(TransactionState::Declined(DeclineReason::UnknownCard)),
            proven(TransactionState::Approved),
            proven(TransactionState::Captured),
            proven(TransactionState::Reversed),
            CheckedAnswer::Unproven(AnswerFault::NoReceipt),
            CheckedAnswer::NotSent { detail: detail() },
            CheckedAnswer::Refused { detail: detail() },
            CheckedAnswer::Unanswered { detail: detail() },
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
                    !matches!(on_till(state, true, false, &request), Ok(Some(_))),
                    "{state:?} {request:?}"
                );
            }
            assert_eq!(on_restart(state), state);
        }
    }

    #[test]
    fn no_answer_and_an_unproven_one_are_never_a_decline() {
        for state in every_state() {
            for answer in [
                CheckedAnswer::Unanswered { detail: String::new() },
                CheckedAnswer::Unproven(AnswerFault::NoReceipt),
            ] {
                if let Verdict::Move(next) = on_institution(state, false, &answer) {
                    let moved = (state, next);
                    assert_eq!(moved, (PaymentState::Authorising, PaymentState::Unresolved));
                }
            }
        }
    }

    #[test]
    fn what_may_be_approved_is_never_called_not_charged_unless_the_institution_says_so() {
        for state in every_state() {
            for answer in every_answer() {
                let Verdict::Move(next) = on_institution(state, true, &answer) else { continue };
                let says_not_charged =
                    matches!(next, PaymentState::Declined(_) | PaymentState::Reversed(_));
                let institution_says_so = matches!(
                    &answer,
                    CheckedAnswer::Proven(transaction) if matches!(
                        transaction.state,
                        TransactionState::Declined(_) | TransactionState::Reversed
                    )
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
                        &answer,
                        CheckedAnswer::Proven(transaction)
                            if transaction.state == TransactionState::Approved
                    ));
                }
            }
        }
    }

    #[test]
    fn what_the_institution_took_is_never_given_back_for_lack_of_an_answer() {
        let taken = proven(TransactionState::Captured);
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
    }
}
