//! A journal that is older than the payment: a copy was put back, or the disk lost what it had
//! synced. The terminal asks the institution before it says or does anything that rests on it.

use super::*;

#[test]
fn a_captured_payment_that_the_journal_calls_expired_is_never_called_unused() {
    let mut bench = Bench::new();
    let transaction_id = bench.offer(false);
    let offered = bench.payment(transaction_id);
    let mut phone = Phone::new(1, 512);
    let command = phone.pay(&mut bench);
    bench.answer(transaction_id, TransactionState::Approved);
    bench.answer(transaction_id, TransactionState::Captured);
    let truth = bench.payment(transaction_id);

    let mut bench = Bench::with(Settings::default(), vec![offered]);
    assert_eq!(bench.state(transaction_id), PaymentState::Expired);
    let mut phone = Phone::new(2, 512);
    phone.hello(&mut bench, None);
    phone.say(&mut bench, &command);
    bench.load();
    assert_eq!(phone.hear(&mut bench), [FromTerminal::Expired(transaction_id)], "its word");
    assert_eq!(bench.requests(), [InstitutionRequest::Inquire { transaction_id }]);
    let claim = fixtures::claim(&truth, TransactionState::Captured);
    bench.claim(transaction_id, claim.clone());
    assert_eq!(bench.state(transaction_id), PaymentState::Unresolved, "goods may be out");
    assert!(bench.published().last().unwrap().dispense_unknown, "somebody has to say");
    assert!(phone.hear(&mut bench).is_empty(), "no proof that it was not used");

    bench.till(TillRequest::Resolve { transaction_id, dispensed: true }).unwrap();
    let payment = bench.payment(transaction_id);
    assert_eq!((payment.state, payment.released), (PaymentState::Captured, true));
    assert_eq!(payment.command_digest(), truth.command_digest());
    phone.say(&mut bench, &command);
    bench.load();
    let (outcome, receipt) = (Outcome::Captured, claim.receipt);
    let told = FromTerminal::Result { transaction_id, outcome, receipt };
    assert_eq!(phone.hear(&mut bench), [told]);
}

#[test]
fn an_approved_payment_that_was_captured_ends_as_captured_and_is_not_given_back() {
    let mut bench = Bench::new();
    let (_, transaction_id) = bench.pay(true);
    bench.answer(transaction_id, TransactionState::Approved);
    let approved = bench.payment(transaction_id);
    let mut bench = Bench::with(Settings::default(), vec![approved]);
    bench.pass_ms(Settings::default().dispense_timeout_ms);
    assert_eq!(bench.requests(), [InstitutionRequest::Inquire { transaction_id }]);
    bench.answer(transaction_id, TransactionState::Captured);
    assert_eq!(bench.state(transaction_id), PaymentState::Captured);
    assert_eq!(bench.requests(), []);
}

#[test]
fn an_unresolved_payment_that_the_institution_took_takes_the_tills_or_the_operators_word() {
    for (by_till, dispensed) in [(true, true), (true, false), (false, true), (false, false)] {
        let (mut bench, _, transaction_id) = Bench::paying(false);
        let unanswered = InstitutionAnswer::Unanswered { detail: String::new() };
        bench.input(Input::Institution { transaction_id, answer: unanswered });
        let word = if by_till {
            TillRequest::Complete { transaction_id, dispensed }
        } else {
            TillRequest::Resolve { transaction_id, dispensed }
        };
        assert!(bench.till(word.clone()).is_err(), "nothing is known yet");
        bench.answer(transaction_id, TransactionState::Captured);
        assert_eq!(bench.state(transaction_id), PaymentState::Unresolved);
        bench.till(word).unwrap();
        let payment = bench.payment(transaction_id);
        assert_eq!((payment.state, payment.released), (PaymentState::Captured, dispensed));
        assert_eq!(bench.terminal.open_count(), 0);
    }
}

#[test]
fn an_operator_ends_what_the_institution_reversed_while_it_was_to_be_captured() {
    let (mut bench, _, transaction_id) = Bench::paying(true);
    bench.answer(transaction_id, TransactionState::Approved);
    bench.till(TillRequest::Complete { transaction_id, dispensed: true }).unwrap();
    let resolve = TillRequest::Resolve { transaction_id, dispensed: true };
    assert!(bench.till(resolve.clone()).is_err(), "the terminal settles it by itself");
    let answer = InstitutionAnswer::Refused { detail: String::new() };
    bench.input(Input::Institution { transaction_id, answer });
    let refused = bench.till(resolve.clone());
    assert!(
        matches!(&refused, Err(TillRefusal::WrongState { explanation, .. })
            if explanation.contains("proves nothing")),
        "{refused:?}"
    );
    bench.pass_ms(Settings::default().retry_backoff_max_ms);
    bench.answer(transaction_id, TransactionState::Reversed);
    bench.till(resolve).unwrap();
    assert!(matches!(bench.state(transaction_id), PaymentState::Reversed(_)));
    assert_eq!(bench.terminal.open_payments(bench.now.wall).given_away, 1);
}
