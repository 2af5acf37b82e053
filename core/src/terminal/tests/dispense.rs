//! After an approval: the goods, the till's report on them, and what happens without one.

use super::*;

#[test]
fn a_capture_after_the_dispense_waits_for_the_tills_report() {
    let (mut bench, mut phone, transaction_id) = Bench::paying(true);
    bench.answer(transaction_id, TransactionState::Approved);
    assert_eq!(bench.requests(), []);
    assert_eq!(bench.state(transaction_id), PaymentState::Approved);
    let view = bench.till(TillRequest::Complete { transaction_id, dispensed: true }).unwrap();
    assert!(view.release);
    assert_eq!(bench.requests(), [InstitutionRequest::Capture { transaction_id }]);
    bench.answer(transaction_id, TransactionState::Captured);
    assert_eq!(bench.state(transaction_id), PaymentState::Captured);
    assert_eq!(bench.terminal.open_count(), 0);
    let told = outcomes(&phone.hear(&mut bench));
    assert_eq!(told, [Outcome::Approved, Outcome::Captured], "the payer is still connected");
}

/// A payment that is approved and waits for the till's report on the goods.
fn approved(bench: &mut Bench) -> TransactionId {
    let (_, transaction_id) = bench.pay(true);
    bench.answer(transaction_id, TransactionState::Approved);
    assert_eq!(bench.state(transaction_id), PaymentState::Approved);
    transaction_id
}

#[test]
fn a_payment_on_which_the_till_never_reports_is_reversed_when_its_time_is_over() {
    let mut bench = Bench::new();
    let transaction_id = approved(&mut bench);
    bench.pass_ms(Settings::default().dispense_timeout_ms - 1);
    assert_eq!(bench.state(transaction_id), PaymentState::Approved);
    bench.pass_ms(1);
    assert_eq!(bench.requests(), [InstitutionRequest::Inquire { transaction_id }]);
    bench.answer(transaction_id, TransactionState::Approved);
    let reason = ReversalReason::DispenseUnknown;
    assert_eq!(bench.requests(), [InstitutionRequest::Reverse { transaction_id, reason }]);
    assert!(!bench.terminal.view(transaction_id).unwrap().release);
    let late = bench.till(TillRequest::Complete { transaction_id, dispensed: true });
    assert!(matches!(late, Err(TillRefusal::WrongState { state: "reversing", .. })), "{late:?}");
    bench.answer(transaction_id, TransactionState::Reversed);
    assert_eq!(bench.journal.last().unwrap().state, PaymentState::Reversed(reason));
}

#[test]
fn the_tills_time_begins_when_it_is_told_however_slow_the_journal_is() {
    let (mut bench, _, transaction_id) = Bench::paying(true);
    bench.holds_journal = true;
    bench.answer(transaction_id, TransactionState::Approved);
    bench.pass_ms(2 * Settings::default().dispense_timeout_ms);
    assert!(bench.published().iter().all(|view| !view.release));
    bench.holds_journal = false;
    bench.confirm();
    assert!(bench.published().last().unwrap().release);
    bench.pass_ms(Settings::default().dispense_timeout_ms - 1);
    assert_eq!(bench.state(transaction_id), PaymentState::Approved);
    bench.pass_ms(1);
    assert_eq!(bench.requests(), [InstitutionRequest::Inquire { transaction_id }]);
}

#[test]
fn the_tills_late_word_counts_while_the_reversal_has_provably_not_left() {
    let not_sent = || InstitutionAnswer::NotSent { detail: String::new() };
    let unanswered = || InstitutionAnswer::Unanswered { detail: String::new() };
    for (answer, counts) in [(not_sent(), true), (unanswered(), false)] {
        let mut bench = Bench::new();
        let transaction_id = approved(&mut bench);
        bench.pass_ms(Settings::default().dispense_timeout_ms);
        bench.answer(transaction_id, TransactionState::Approved);
        bench.input(Input::Institution { transaction_id, answer });
        let word = bench.till(TillRequest::Complete { transaction_id, dispensed: true });
        assert_eq!(word.is_ok(), counts, "{word:?}");
        let expected = if counts {
            PaymentState::Capturing
        } else {
            PaymentState::Reversing(ReversalReason::DispenseUnknown)
        };
        assert_eq!(bench.state(transaction_id), expected);
        // After a restart nobody knows what has left.
        let mut bench = Bench::with(Settings::default(), vec![bench.payment(transaction_id)]);
        let word = bench.till(TillRequest::Complete { transaction_id, dispensed: true });
        assert_eq!(word.is_ok(), counts, "{word:?}");
    }
}

#[test]
fn the_tills_word_counts_while_the_terminal_inquires_before_a_reversal() {
    let mut bench = Bench::new();
    let transaction_id = approved(&mut bench);
    bench.pass_ms(Settings::default().dispense_timeout_ms);
    bench.requests();
    bench.till(TillRequest::Complete { transaction_id, dispensed: true }).unwrap();
    assert_eq!(bench.requests(), [InstitutionRequest::Capture { transaction_id }]);
}

#[test]
fn goods_that_were_released_and_given_back_are_a_figure_of_their_own() {
    let mut bench = Bench::new();
    let transaction_id = approved(&mut bench);
    bench.pass_ms(Settings::default().dispense_timeout_ms);
    bench.answer(transaction_id, TransactionState::Approved);
    bench.answer(transaction_id, TransactionState::Reversed);
    assert_eq!(bench.terminal.open_payments(bench.now.wall).given_away, 1);
    assert!(bench.published().last().unwrap().given_away);
    // The till says that nothing is out.
    let mut bench = Bench::new();
    let transaction_id = approved(&mut bench);
    bench.till(TillRequest::Complete { transaction_id, dispensed: false }).unwrap();
    bench.answer(transaction_id, TransactionState::Reversed);
    assert_eq!(bench.terminal.open_payments(bench.now.wall).given_away, 0);
}

#[test]
fn restarts_without_end_do_not_give_the_till_time_without_end() {
    let mut bench = Bench::new();
    let transaction_id = approved(&mut bench);
    let mut waited_ms = 0;
    for _ in 0..80 {
        bench = Bench::with(Settings::default(), vec![bench.payment(transaction_id)]);
        let deadline = bench.terminal.next_deadline().unwrap();
        let DeadlinePurpose::Payment { timer, .. } = deadline.purpose else { panic!("no phone") };
        if timer == Timer::DispenseTimeout {
            waited_ms += deadline.moment.since_ms(bench.now.moment);
        }
    }
    assert!(waited_ms <= 10 * Settings::default().dispense_timeout_ms, "{waited_ms}");
    bench.pass_ms(1);
    assert_eq!(bench.requests(), [InstitutionRequest::Inquire { transaction_id }]);
}

#[test]
fn a_payment_on_which_the_till_never_reports_is_held_if_the_policy_says_so() {
    let settings = Settings { dispense_policy: DispensePolicy::Hold, ..Settings::default() };
    let mut bench = Bench::with(settings, Vec::new());
    let transaction_id = approved(&mut bench);
    assert!(!bench.terminal.view(transaction_id).unwrap().dispense_unknown);
    bench.published();
    bench.pass_ms(Settings::default().dispense_timeout_ms);
    let told = bench.published();
    assert!(told.last().unwrap().dispense_unknown && told.last().unwrap().release, "{told:?}");
    bench.pass_ms(100 * Settings::default().dispense_timeout_ms);
    assert_eq!((bench.state(transaction_id), bench.requests().len()), (PaymentState::Approved, 0));
    let view = bench.till(TillRequest::Complete { transaction_id, dispensed: false }).unwrap();
    assert!(!view.dispense_unknown);
    assert_eq!(bench.requests().len(), 1);
}

#[test]
fn after_a_restart_the_till_is_asked_to_report_and_has_its_full_time() {
    let mut bench = Bench::new();
    let transaction_id = approved(&mut bench);
    bench.pass_ms(Settings::default().dispense_timeout_ms - 1);
    let mut bench = Bench::with(Settings::default(), vec![bench.journal.last().unwrap().clone()]);
    assert!(bench.published().last().unwrap().dispense_unknown);
    bench.pass_ms(Settings::default().dispense_timeout_ms - 1);
    let view = bench.till(TillRequest::Complete { transaction_id, dispensed: true }).unwrap();
    assert!(view.release && !view.dispense_unknown);
    assert_eq!(bench.requests(), [InstitutionRequest::Capture { transaction_id }]);
}

#[test]
fn payments_that_are_open_too_long_are_escalated_and_never_dropped() {
    let mut bench = Bench::new();
    let transaction_id = approved(&mut bench);
    bench.till(TillRequest::Complete { transaction_id, dispensed: true }).unwrap();
    let age = |bench: &Bench, seconds| {
        bench.terminal.open_payments(UnixTime { seconds: bench.now.wall.seconds + seconds })
    };
    let escalate_after_s = Settings::default().escalate_after_s;
    let young = age(&bench, escalate_after_s - 1);
    assert_eq!(
        (young.oldest_s, young.escalated.len(), young.by_state["capturing"]),
        (escalate_after_s - 1, 0, 1)
    );
    assert_eq!(age(&bench, escalate_after_s).escalated, [transaction_id]);
    // A clock that was set back by years makes it young, and breaks nothing.
    assert_eq!(bench.terminal.open_payments(UnixTime { seconds: 0 }).oldest_s, 0);
    bench.requests();
    // The request counts as unanswered first; then it is retried.
    bench.pass_ms(Settings::default().retry_backoff_max_ms);
    bench.pass_ms(Settings::default().retry_backoff_max_ms);
    assert_eq!(
        bench.requests(),
        [InstitutionRequest::Capture { transaction_id }],
        "retries continue"
    );
}

#[test]
fn a_payment_whose_goods_cannot_be_released_is_reversed_and_the_phone_hears_of_it() {
    let (mut bench, mut phone, transaction_id) = Bench::paying(true);
    bench.answer(transaction_id, TransactionState::Approved);
    let view = bench.till(TillRequest::Complete { transaction_id, dispensed: false }).unwrap();
    assert!(!view.release, "nobody may hand out goods whose payment is being given back");
    let reason = ReversalReason::DispenseFailed;
    assert_eq!(bench.requests(), [InstitutionRequest::Reverse { transaction_id, reason }]);
    assert_eq!(
        outcomes(&phone.hear(&mut bench)),
        [Outcome::Approved],
        "not reversed before the answer"
    );
    bench.answer(transaction_id, TransactionState::Reversed);
    assert_eq!(outcomes(&phone.hear(&mut bench)), [Outcome::Reversed]);
    let refused = bench.till(TillRequest::Complete { transaction_id, dispensed: true });
    assert_eq!(refused, Err(TillRefusal::Unknown(transaction_id)));
    let stored = bench.journal.last().cloned();
    let refused =
        bench.till_with(TillRequest::Complete { transaction_id, dispensed: true }, stored.clone());
    assert!(matches!(refused, Err(TillRefusal::WrongState { state: "reversed", .. })));
    let repeated =
        bench.till_with(TillRequest::Complete { transaction_id, dispensed: false }, stored);
    assert_eq!(repeated.unwrap().state, PaymentState::Reversed(reason));
}
