//! When the engine wants to be woken, and what for.

use super::*;

/// The next deadline, in milliseconds from now, and the payment's timer and state.
fn next(bench: &Bench) -> (u64, Timer, PaymentState) {
    let deadline = bench.terminal.next_deadline().unwrap();
    let DeadlinePurpose::Payment { timer, state, .. } = deadline.purpose else {
        panic!("{}", deadline.purpose)
    };
    (deadline.moment.since_ms(bench.now.moment), timer, state)
}

#[test]
fn an_idle_terminal_has_no_deadline() {
    assert_eq!(Bench::new().terminal.next_deadline(), None);
}

#[test]
fn every_deadline_of_a_payment_says_what_it_is_for() {
    let settings = Settings::default();
    let mut bench = Bench::new();
    let transaction_id = bench.offer(true);
    assert_eq!(next(&bench), (60_000, Timer::OfferExpiry, PaymentState::Offered));
    let mut phone = Phone::new(1, 512);
    phone.pay(&mut bench);
    let working_ms = settings.working_interval_ms;
    assert_eq!(next(&bench), (working_ms, Timer::Working, PaymentState::Authorising));
    bench.input(Input::PhoneDisconnected(phone.id));

    let not_sent = InstitutionAnswer::NotSent { detail: String::new() };
    bench.input(Input::Institution { transaction_id, answer: not_sent });
    assert_eq!(next(&bench), (500, Timer::NextRequest, PaymentState::Authorising));
    let unanswered = || InstitutionAnswer::Unanswered { detail: String::new() };
    bench.input(Input::Institution { transaction_id, answer: unanswered() });
    let response_ms = settings.request_timeout_ms + 2_000;
    assert_eq!(next(&bench), (response_ms, Timer::ResponseDue, PaymentState::Unresolved));
    bench.input(Input::Institution { transaction_id, answer: unanswered() });
    let (backoff_ms, timer, state) = next(&bench);
    assert_eq!((timer, state), (Timer::NextRequest, PaymentState::Unresolved));
    assert!((1..=settings.retry_backoff_min_ms).contains(&backoff_ms), "{backoff_ms}");
}

#[test]
fn an_approved_payment_waits_for_the_till() {
    let (mut bench, phone, transaction_id) = Bench::paying(true);
    bench.answer(transaction_id, TransactionState::Approved);
    bench.input(Input::PhoneDisconnected(phone.id));
    let dispense_ms = Settings::default().dispense_timeout_ms;
    assert_eq!(next(&bench), (dispense_ms, Timer::DispenseTimeout, PaymentState::Approved));
}

#[test]
fn a_silent_phone_is_named() {
    let mut bench = Bench::new();
    bench.input(Input::PhoneConnected { phone: PhoneId(7), address: None });
    let deadline = bench.terminal.next_deadline().unwrap();
    let (phone, timer) = (PhoneId(7), PhoneTimer::Silence);
    assert_eq!(deadline.purpose, DeadlinePurpose::Phone { phone, timer });
    let hello_timeout_ms = Settings::default().hello_timeout_ms;
    assert_eq!(deadline.moment.since_ms(bench.now.moment), hello_timeout_ms);
}
