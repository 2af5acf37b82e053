//! Nothing happens outside before the journal holds it.

use super::*;

#[test]
fn nothing_happens_outside_before_the_journal_holds_it() {
    let mut bench = Bench::new();
    bench.holds_journal = true;
    let call = bench.call(TillRequest::Create(request(false)), None);
    assert_eq!(bench.till_answer(call), None, "the till is answered after the record");
    let mut phone = Phone::new(1, 512);
    assert_eq!(
        phone.hello(&mut bench, None),
        FromTerminal::NothingToPay,
        "the offer is not durable yet"
    );
    bench.confirm();
    let transaction_id = bench.till_answer(call).unwrap().unwrap().transaction_id;
    let heard = phone.hear(&mut bench);
    let [FromTerminal::Offer(offer)] = &heard[..] else { panic!("{heard:?}") };

    let command = phone.command(offer);
    phone.say(&mut bench, &command);
    assert_eq!(bench.requests(), [], "the request is sent after the record");
    bench.confirm();
    assert_eq!(bench.requests().len(), 1);

    bench.outputs.clear();
    bench.answer(transaction_id, TransactionState::Approved);
    bench.input(Input::Tick);
    assert!(phone.hear(&mut bench).is_empty(), "the phone is told after the record");
    assert_eq!(bench.requests(), [], "the capture is sent after the record");
    assert!(!bench.has_released(), "the till is told to release after the record");
    bench.confirm();
    assert!(bench.has_released());
    assert_eq!(outcomes(&phone.hear(&mut bench)), [Outcome::Approved]);
    assert!(matches!(bench.requests()[..], [InstitutionRequest::Capture { .. }]));
}

#[test]
fn a_confirmed_record_does_not_release_the_effects_of_a_later_one() {
    let mut bench = Bench::new();
    let transaction_id = bench.offer(false);
    let mut phone = Phone::new(1, 512);
    bench.holds_journal = true;
    phone.pay(&mut bench);
    // The request is sent only after its record, so confirm that one, and hold back the next.
    let authorising = bench.unconfirmed.remove(0);
    bench.outputs.clear();
    let outputs = bench.terminal.handle(bench.now, Input::Journalled(authorising));
    bench.take(outputs);
    bench.answer(transaction_id, TransactionState::Approved);
    bench.input(Input::Journalled(authorising));
    assert!(!bench.has_released());
    assert!(phone.hear(&mut bench).is_empty());
}

#[test]
fn a_refusal_says_nothing_that_the_journal_does_not_hold() {
    let (mut bench, _, transaction_id) = Bench::paying(false);
    bench.holds_journal = true;
    bench.answer(transaction_id, TransactionState::Approved);
    // If the till were told "it is paid" and the power failed now, the restart would reverse the
    // payment.
    let call = bench.call(TillRequest::Cancel { transaction_id }, None);
    assert_eq!(bench.till_answer(call), None);
    bench.confirm();
    let refused = bench.till_answer(call).unwrap();
    assert!(
        matches!(refused, Err(TillRefusal::WrongState { state: "capturing", .. })),
        "{refused:?}"
    );
}

/// What an operator does with a damaged journal: the next one is empty, and no number comes again.
#[test]
fn the_numbers_of_a_new_journal_are_above_those_of_one_that_was_lost() {
    let first_number = |seconds| {
        let now = Now { moment: Moment { milliseconds: 1_000 }, wall: UnixTime { seconds } };
        let (terminal, _) =
            Terminal::new(identity(), Settings::default(), [7; 32], Vec::new(), 0, now);
        let mut bench = Bench::new();
        (bench.terminal, bench.now) = (terminal, now);
        bench.pay(false);
        bench.journal.last().unwrap().sequence
    };
    let (lost, next) = (first_number(1_700_000_000), first_number(1_700_000_100));
    assert!(lost > 0 && next > lost + 100 * 60_000);
}

#[test]
fn the_number_of_an_authorisation_is_in_its_record_and_never_used_again() {
    let mut bench = Bench::new();
    for number in 1..=2 {
        let transaction_id = bench.offer(false);
        let mut phone = Phone::new(number, 512);
        phone.pay(&mut bench);
        let expected = super::bench::NEWEST_SEQUENCE + number;
        let requests = bench.requests();
        let [InstitutionRequest::Authorise { sequence, .. }] = requests[..] else {
            panic!("{requests:?}")
        };
        assert_eq!(sequence, expected);
        let record = bench.journal.last().unwrap();
        assert_eq!((record.state, record.sequence), (PaymentState::Authorising, expected));
        bench.answer(transaction_id, TransactionState::Declined(DeclineReason::OverLimit));
        assert_eq!(bench.journal.last().unwrap().sequence, expected);
    }
}
