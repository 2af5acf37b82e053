//! What the institution answers, or does not answer, and what phone and till are told of it.

use super::*;

#[test]
fn a_payment_takes_two_round_trips_and_under_one_and_a_half_kibibytes_at_every_mtu() {
    for value_octets_max in [20, 100, 182, 244, 512] {
        let mut bench = Bench::new();
        let transaction_id = bench.offer(false);
        let mut phone = Phone::new(1, value_octets_max);
        phone.pay(&mut bench);
        assert!(matches!(bench.requests()[..], [InstitutionRequest::Authorise { .. }]));
        bench.answer(transaction_id, TransactionState::Approved);
        assert_eq!(outcomes(&phone.hear(&mut bench)), [Outcome::Approved]);
        phone.say(&mut bench, &FromPhone::ReceiptAck);
        assert_eq!(phone.round_trips, 2);
        assert!(phone.octets < 1536, "{} octets at values of {value_octets_max}", phone.octets);
    }
}

#[test]
fn a_decline_ends_the_payment_for_phone_and_till() {
    let (mut bench, mut phone, transaction_id) = Bench::paying(false);
    bench.answer(transaction_id, TransactionState::Declined(DeclineReason::InsufficientFunds));
    assert_eq!(
        outcomes(&phone.hear(&mut bench)),
        [Outcome::Declined(DeclineReason::InsufficientFunds)]
    );
    assert!(!bench.has_released());
    assert_eq!(bench.requests(), []);
}

#[test]
fn an_unanswered_payment_is_pending_then_inquired_about_and_reversed_until_that_is_acknowledged() {
    let (mut bench, mut phone, transaction_id) = Bench::paying(false);
    let unanswered = || InstitutionAnswer::Unanswered { detail: String::new() };
    bench.input(Input::Institution { transaction_id, answer: unanswered() });
    assert_eq!(outcomes(&phone.hear(&mut bench)), [Outcome::Pending]);
    assert_eq!(bench.requests(), [InstitutionRequest::Inquire { transaction_id }]);
    for _ in 0..40 {
        bench.input(Input::Institution { transaction_id, answer: unanswered() });
        assert_eq!(bench.requests(), [], "not retried at once");
        bench.pass_ms(Settings::default().retry_backoff_max_ms);
        assert_eq!(bench.requests(), [InstitutionRequest::Inquire { transaction_id }]);
    }
    bench.answer(transaction_id, TransactionState::Approved);
    let reason = ReversalReason::Unanswered;
    assert_eq!(bench.requests(), [InstitutionRequest::Reverse { transaction_id, reason }]);
    bench.input(Input::Institution { transaction_id, answer: unanswered() });
    bench.pass_ms(Settings::default().retry_backoff_max_ms);
    assert_eq!(bench.requests(), [InstitutionRequest::Reverse { transaction_id, reason }]);
    bench.answer(transaction_id, TransactionState::Reversed);
    assert_eq!(bench.state(transaction_id), PaymentState::Reversed(reason));
    assert!(!bench.has_released());
    assert_eq!(bench.terminal.open_count(), 0);
}

#[test]
fn a_refused_authorisation_is_not_called_uncharged_before_the_institution_says_so() {
    let (mut bench, mut phone, transaction_id) = Bench::paying(false);
    let refused = || InstitutionAnswer::Refused { detail: String::new() };
    bench.input(Input::Institution { transaction_id, answer: refused() });
    assert_eq!(outcomes(&phone.hear(&mut bench)), [Outcome::Pending], "a copy may be on its way");
    assert_eq!(bench.requests(), [InstitutionRequest::Inquire { transaction_id }]);
    bench.input(Input::Institution { transaction_id, answer: refused() });
    bench.pass_ms(Settings::default().retry_backoff_max_ms);
    assert_eq!(bench.requests(), [InstitutionRequest::Inquire { transaction_id }]);
    bench.answer(transaction_id, TransactionState::Unknown);
    let reason = ReversalReason::Unanswered;
    assert_eq!(
        bench.requests(),
        [InstitutionRequest::Reverse { transaction_id, reason }],
        "a tombstone"
    );
}

#[test]
fn a_relay_that_never_reports_counts_as_unanswered() {
    let (mut bench, _, transaction_id) = Bench::paying(false);
    bench.pass_ms(Settings::default().authorisation_timeout_ms + 5_000);
    assert_eq!(bench.state(transaction_id), PaymentState::Unresolved);
}

#[test]
fn an_institution_that_was_not_reached_in_time_proves_later_that_nobody_was_charged() {
    let (mut bench, mut phone, transaction_id) = Bench::paying(false);
    let mut attempts = 1;
    while bench.state(transaction_id) == PaymentState::Authorising {
        attempts += bench.requests().len();
        let answer = InstitutionAnswer::NotSent { detail: String::new() };
        bench.input(Input::Institution { transaction_id, answer });
        bench.pass_ms(500);
        assert!(attempts < 100);
    }
    assert!(attempts > 10, "{attempts}");
    assert_eq!(bench.state(transaction_id), PaymentState::Unresolved);
    assert_eq!(outcomes(&phone.hear(&mut bench)), [Outcome::Pending]);
    assert_eq!(bench.requests(), [InstitutionRequest::Inquire { transaction_id }]);
    bench.answer(transaction_id, TransactionState::Unknown);
    let reason = ReversalReason::Unanswered;
    assert_eq!(bench.requests(), [InstitutionRequest::Reverse { transaction_id, reason }]);
    bench.answer_tombstone(transaction_id);
    assert_eq!(bench.state(transaction_id), PaymentState::Reversed(reason));
    assert!(!bench.has_released());
    let exclusion = bench.payment(transaction_id).exclusion.unwrap();
    assert_eq!(phone.hear(&mut bench), [FromTerminal::NotUsed { transaction_id, exclusion }]);
}

#[test]
fn a_sign_of_life_comes_at_least_every_two_seconds() {
    let (mut bench, mut phone, _) = Bench::paying(false);
    for _ in 0..4 {
        bench.pass_ms(2_000);
        assert_eq!(phone.hear(&mut bench), [FromTerminal::Working]);
    }
}
