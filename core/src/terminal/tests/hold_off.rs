//! Who is held off by its device address, and for how long.

use super::*;

fn address(number: u8) -> Option<PhoneAddress> {
    Some(PhoneAddress([number; 6]))
}

fn connect(bench: &mut Bench, phone: u64, address: Option<PhoneAddress>) -> bool {
    bench.input(Input::PhoneConnected { phone: PhoneId(phone), address });
    !bench.is_disconnected(PhoneId(phone))
}

/// A phone without a card sends a command from this address, if it is let in.
fn attack(bench: &mut Bench, phone: u64, from: u8) -> bool {
    if !connect(bench, phone, address(from)) {
        return false;
    }
    Phone::new(phone, 512).pay(bench);
    let requests = bench.requests();
    let [InstitutionRequest::Authorise { transaction_id, .. }] = requests[..] else {
        panic!("{requests:?}")
    };
    bench.answer(transaction_id, TransactionState::Declined(DeclineReason::MalformedCommand));
    assert!(bench.is_disconnected(PhoneId(phone)));
    true
}

#[test]
fn a_phone_without_a_card_that_tries_twenty_times_ends_no_sale_and_an_honest_phone_pays() {
    let mut bench = Bench::new();
    let sale = bench.offer(false);
    let mut commands = 0;
    for phone in 1..=20 {
        commands += u32::from(attack(&mut bench, phone, 1));
        assert_eq!(bench.terminal.view(sale).unwrap().state, PaymentState::Offered);
        bench.pass_ms(500);
    }
    assert_eq!(commands, 1, "it is held off for 10 s");
    assert!(connect(&mut bench, 99, address(2)), "another phone is not");
    Phone::new(99, 512).pay(&mut bench);
    let paid = bench.requests()[0].transaction_id();
    bench.answer(paid, TransactionState::Approved);
    let view = bench.terminal.view(sale).unwrap();
    assert_eq!((view.current_transaction_id, view.release), (paid, true));
}

#[test]
fn an_address_is_held_off_longer_each_time_also_if_its_phone_has_left_before_the_decision() {
    let settings = Settings::default();
    let mut bench = Bench::new();
    let mut phone = 0;
    for hold_off_ms in [10_000, 20_000, 40_000] {
        phone += 10;
        let sale = bench.offer(false);
        assert!(connect(&mut bench, phone, address(1)));
        Phone::new(phone, 512).pay(&mut bench);
        bench.requests();
        bench.input(Input::PhoneDisconnected(PhoneId(phone)));
        bench.answer(sale, TransactionState::Declined(DeclineReason::UnknownCard));
        bench.till(TillRequest::Cancel { transaction_id: sale }).unwrap();
        bench.pass_ms(hold_off_ms - 1);
        assert!(!connect(&mut bench, phone + 1, address(1)), "{hold_off_ms} ms");
        bench.pass_ms(1);
        assert!(connect(&mut bench, phone + 2, address(1)), "{hold_off_ms} ms");
        bench.input(Input::PhoneDisconnected(PhoneId(phone + 2)));
    }
    assert_eq!(settings.hold_off_max_ms, 300_000);
}

#[test]
fn a_phone_that_exceeds_a_bound_on_numbers_is_held_off_and_a_slow_one_is_not() {
    let settings = Settings::default();
    let mut bench = Bench::new();
    assert!(connect(&mut bench, 1, address(1)));
    for _ in 0..settings.protocol_errors_max {
        bench.input(wrote(PhoneId(1), vec![0x01]));
    }
    assert!(bench.is_disconnected(PhoneId(1)));
    assert!(!connect(&mut bench, 2, address(1)));
    assert_eq!(bench.terminal.phone_count(), 0);

    assert!(connect(&mut bench, 3, address(3)));
    Phone::new(3, 512).hello(&mut bench, None);
    bench.pass_ms(settings.silence_timeout_ms);
    assert!(bench.is_disconnected(PhoneId(3)));
    assert!(connect(&mut bench, 4, address(3)), "a person may take long to read");
}

#[test]
fn an_address_that_comes_after_the_first_value_is_held_off_too() {
    let mut bench = Bench::new();
    bench.offer(false);
    attack(&mut bench, 1, 1);
    bench.input(wrote(PhoneId(2), vec![0x81]));
    assert!(!bench.is_disconnected(PhoneId(2)), "nobody knows yet where it comes from");
    assert!(!connect(&mut bench, 2, address(1)));
}
