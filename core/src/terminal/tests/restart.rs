//! After a restart: open payments continue, and a long queue of them is settled in turn.

use super::*;

#[test]
fn a_restart_continues_every_open_payment() {
    let mut bench = Bench::new();
    let transaction_id = bench.offer(true);
    let offered = bench.journal.last().cloned().unwrap();
    Phone::new(1, 512).pay(&mut bench);
    let authorising = bench.journal.last().cloned().unwrap();
    bench.answer(transaction_id, TransactionState::Approved);
    let approved = bench.journal.last().cloned().unwrap();

    let bench = Bench::with(Settings::default(), vec![offered]);
    assert_eq!(bench.state(transaction_id), PaymentState::Expired);

    let mut bench = Bench::with(Settings::default(), vec![authorising]);
    assert_eq!(bench.state(transaction_id), PaymentState::Unresolved, "a request may have left");
    bench.pass_ms(Settings::default().retry_backoff_min_ms);
    assert_eq!(bench.requests(), [InstitutionRequest::Inquire { transaction_id }]);

    let mut bench = Bench::with(Settings::default(), vec![approved.clone()]);
    assert_eq!(bench.requests(), [], "the till has to report first");
    assert!(bench.terminal.view(transaction_id).unwrap().release);
    bench.till(TillRequest::Complete { transaction_id, dispensed: true }).unwrap();
    assert_eq!(bench.requests(), [InstitutionRequest::Capture { transaction_id }]);

    let capturing = Payment { state: PaymentState::Capturing, ..approved };
    let mut bench = Bench::with(Settings::default(), vec![capturing]);
    bench.pass_ms(Settings::default().retry_backoff_min_ms);
    assert_eq!(bench.requests(), [InstitutionRequest::Capture { transaction_id }]);
}

/// So many payments in this state.
fn queue(length: u16, state: PaymentState) -> Vec<Payment> {
    (0..length).map(|number| fixtures::payment(number.into(), state)).collect()
}

#[test]
fn terminals_whose_power_returns_at_once_do_not_send_in_step() {
    let settings = Settings { background_requests_max: 100, ..Settings::default() };
    let mut bench = Bench::with(settings.clone(), queue(100, PaymentState::Capturing));
    let mut sent = [0; 2];
    for half in &mut sent {
        bench.pass_ms(settings.retry_backoff_min_ms / 2);
        *half = bench.requests().len();
    }
    assert_eq!(sent[0] + sent[1], 100, "all within the first backoff");
    assert!(sent.iter().all(|half| *half > 25), "spread over all of it: {sent:?}");
}

#[test]
fn a_silent_institution_is_sent_all_of_a_long_queue_in_turn() {
    let settings = Settings::default();
    let length = 1_000;
    let mut bench = Bench::with(
        settings.clone(),
        queue(length, PaymentState::Reversing(ReversalReason::Cancelled)),
    );
    // How long each request stays in flight: nobody ever answers.
    let in_flight_ms = settings.request_timeout_ms + 2_000;
    let mut in_flight: Vec<Moment> = Vec::new();
    let mut order = Vec::new();
    while order.len() < 2 * usize::from(length) {
        let now = bench.now.moment;
        in_flight.retain(|until| *until > now);
        for request in bench.requests() {
            in_flight.push(now.plus_ms(in_flight_ms));
            order.push(request.transaction_id());
        }
        assert!(in_flight.len() <= settings.background_requests_max, "{} at once", in_flight.len());
        let deadline = bench.terminal.next_deadline().unwrap();
        assert!(deadline.moment > now, "woken for nothing: {}", deadline.purpose);
        bench.now.moment = deadline.moment;
        bench.input(Input::Tick);
    }
    for (number, round) in order.chunks_exact(length.into()).enumerate() {
        let sent: std::collections::BTreeSet<_> = round.iter().collect();
        assert_eq!(
            sent.len(),
            usize::from(length),
            "round {number}: some twice before others once"
        );
    }
    let full = settings.background_requests_max as u64
        * bench.now.moment.since_ms(Moment { milliseconds: 1_000 })
        / in_flight_ms;
    assert!(order.len() as u64 + 8 > full, "room stays unused: {} of {full}", order.len());
}

#[test]
fn a_long_queue_is_sent_a_few_at_a_time_and_all_in_the_end() {
    let mut bench = Bench::with(Settings::default(), queue(50, PaymentState::Capturing));
    bench.pass_ms(Settings::default().retry_backoff_min_ms);
    let mut captured = 0;
    loop {
        let requests = bench.requests();
        assert!(requests.len() <= Settings::default().background_requests_max);
        if requests.is_empty() {
            break;
        }
        for request in requests {
            bench.answer(request.transaction_id(), TransactionState::Captured);
            captured += 1;
        }
    }
    assert_eq!(captured, 50);
    assert_eq!(bench.terminal.open_count(), 0);
}
