//! Who yields to whom for a slot: who has proven least, first.

use super::*;

fn connect(bench: &mut Bench, phone: u64) {
    bench.input(Input::PhoneConnected { phone: PhoneId(phone), address: None });
}

fn connected(bench: &Bench, phones: impl IntoIterator<Item = u64>) -> Vec<u64> {
    phones.into_iter().filter(|phone| !bench.is_disconnected(PhoneId(*phone))).collect()
}

#[test]
fn silent_phones_that_come_back_at_once_keep_nobody_out() {
    let mut bench = Bench::new();
    let mut last = 0;
    let mut silent = Vec::new();
    for person in 1..=6 {
        // Whoever of the seven had to leave comes back at once.
        silent = connected(&bench, silent);
        while silent.len() < 7 {
            last += 1;
            connect(&mut bench, last);
            silent.push(last);
        }
        let sale = bench.offer(false);
        last += 1;
        let mut phone = Phone::new(last, 512);
        phone.pay(&mut bench);
        assert_eq!(bench.requests().len(), 1, "person {person}");
        bench.answer(sale, TransactionState::Approved);
        assert_eq!(outcomes(&phone.hear(&mut bench)), [Outcome::Approved], "person {person}");
        bench.answer(sale, TransactionState::Captured);
        bench.requests();
        assert!(bench.terminal.phone_count() <= 7 + Settings::default().waiting_max);
    }
}

#[test]
fn a_newcomer_that_takes_its_time_waits_for_the_slot_of_a_phone_that_said_nothing() {
    let settings = Settings { phones_max: 2, ..Settings::default() };
    let mut bench = Bench::with(settings.clone(), Vec::new());
    connect(&mut bench, 1);
    bench.pass_ms(500);
    connect(&mut bench, 2);
    bench.pass_ms(500);
    connect(&mut bench, 3);
    assert_eq!(connected(&bench, 1..=3), [1, 2, 3]);
    let deadline = bench.terminal.next_deadline().unwrap();
    let timer = PhoneTimer::SlotHold;
    assert_eq!(deadline.purpose, DeadlinePurpose::Phone { phone: PhoneId(1), timer });
    assert_eq!(deadline.moment.milliseconds, 1_000 + settings.silent_hold_min_ms);
    bench.pass_ms(999);
    assert_eq!(connected(&bench, 1..=3), [1, 2, 3]);
    bench.pass_ms(1);
    assert_eq!(connected(&bench, 1..=3), [2, 3], "who said nothing for longest");
    bench.pass_ms(settings.silent_hold_min_ms);
    assert_eq!(connected(&bench, 1..=3), [2, 3], "nobody else needs a slot");
}

#[test]
fn a_hello_takes_the_place_of_a_phone_that_has_said_none_at_once() {
    let settings = Settings { phones_max: 2, ..Settings::default() };
    let mut bench = Bench::with(settings, Vec::new());
    connect(&mut bench, 1);
    connect(&mut bench, 2);
    Phone::new(3, 512).hello(&mut bench, None);
    assert_eq!(connected(&bench, 1..=3), [2, 3]);
    Phone::new(4, 512).hello(&mut bench, None);
    assert_eq!(connected(&bench, 1..=4), [3, 4]);
    // Both have said hello just now, so neither has to leave.
    connect(&mut bench, 5);
    assert_eq!(connected(&bench, 1..=5), [3, 4]);
}

#[test]
fn who_waits_for_a_phone_that_then_says_hello_has_to_leave() {
    let settings = Settings { phones_max: 2, ..Settings::default() };
    let mut bench = Bench::with(settings, Vec::new());
    let mut phone = Phone::new(1, 512);
    phone.hello(&mut bench, None);
    let mut late = Phone::new(2, 512);
    connect(&mut bench, 2);
    connect(&mut bench, 3);
    late.hello(&mut bench, None);
    assert_eq!(connected(&bench, 1..=3), [1, 2]);
    connect(&mut bench, 4);
    assert_eq!(connected(&bench, 1..=4), [1, 2], "nobody is silent any more");
    // A hello that is repeated takes nobody's place.
    bench.input(Input::PhoneDisconnected(PhoneId(2)));
    connect(&mut bench, 5);
    connect(&mut bench, 6);
    phone.reassembler = Reassembler::default();
    phone.hello(&mut bench, None);
    assert_eq!(connected(&bench, [1, 5, 6]), [1, 5, 6]);
}

#[test]
fn only_so_many_wait() {
    let settings = Settings { phones_max: 2, waiting_max: 3, ..Settings::default() };
    let mut bench = Bench::with(settings, Vec::new());
    for phone in 1..=6 {
        connect(&mut bench, phone);
    }
    assert_eq!(connected(&bench, 1..=6), [1, 2, 3, 4, 5]);
}
