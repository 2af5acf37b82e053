//! The limits of one phone: slots, silence, floods and errors.

use super::*;

#[test]
fn a_phones_protocol_errors_are_named_and_cost_nobody_else_anything() {
    let mut bench = Bench::new();
    bench.offer(false);
    let mut honest = Phone::new(2, 512);
    honest.hello(&mut bench, None);
    let mut phone = Phone::new(1, 512);
    for (value, expected) in [
        (vec![], WireError::MalformedFragment),
        (vec![0x01], WireError::MalformedFragment),
        (vec![0xf1, 0], WireError::MalformedFragment),
        (vec![0x81, 0xff, 0xff, 0], WireError::MessageTooLong),
        (vec![0xc1], WireError::HandshakeFailed),
        (vec![0xc1, 9, 1, 2], WireError::VersionUnsupported),
        (vec![0xd1, 1, 2, 3], WireError::UnexpectedMessage),
    ] {
        bench.input(wrote(phone.id, value.clone()));
        let values = bench.values_for(phone.id);
        let (kind, message) = Reassembler::default().put(&values[0]).unwrap().unwrap();
        assert_eq!(kind, MessageKind::PlainError);
        assert_eq!(decode_plain_error(&message).unwrap().wire, expected, "{value:?}");
    }
    bench.input(wrote(phone.id, vec![0xe1]));
    assert!(bench.is_disconnected(phone.id), "after eight errors");
    phone.id = PhoneId(3);
    phone.tag = FragmentTag::from_low_bits(3);
    phone.pay(&mut bench);
    assert_eq!(bench.requests().len(), 1);
    assert_eq!(honest.hear(&mut bench).len(), 1);
}

#[test]
fn phones_that_say_nothing_are_disconnected_and_too_many_are_told() {
    let settings = Settings { phones_max: 2, ..Settings::default() };
    let mut bench = Bench::with(settings.clone(), Vec::new());
    for phone in 1..=3 {
        bench.input(Input::PhoneConnected { phone: PhoneId(phone), address: None });
    }
    assert_eq!(bench.terminal.phone_count(), 3, "one of the others may have to leave soon");
    bench.pass_ms(settings.silent_hold_min_ms);
    assert!(bench.is_disconnected(PhoneId(1)));
    assert_eq!(bench.terminal.phone_count(), 2);
    bench.pass_ms(settings.hello_timeout_ms - settings.silent_hold_min_ms);
    assert!(bench.is_disconnected(PhoneId(2)) && bench.is_disconnected(PhoneId(3)));
    assert_eq!(bench.terminal.phone_count(), 0);
}

#[test]
fn a_newcomer_gets_the_slot_of_the_phone_that_held_one_longest_without_paying() {
    let settings = Settings { phones_max: 3, ..Settings::default() };
    let mut bench = Bench::with(settings.clone(), Vec::new());
    bench.offer(false);
    let (mut payer, mut idle, mut reader) =
        (Phone::new(1, 512), Phone::new(2, 512), Phone::new(3, 512));
    payer.hello(&mut bench, None);
    bench.pass_ms(1_000);
    idle.hello(&mut bench, None);
    bench.pass_ms(1_000);
    let offer = reader.offered(&mut bench);
    let command = payer.command(&offer);
    bench.pass_ms(settings.slot_hold_min_ms - 2_000);
    payer.say(&mut bench, &command);
    idle.hear(&mut bench);
    reader.hear(&mut bench);

    // The first has held its slot long enough and pays; the others have not held theirs so long.
    bench.input(Input::PhoneConnected { phone: PhoneId(4), address: None });
    assert!(bench.is_disconnected(PhoneId(4)), "nobody may be evicted yet");
    bench.input(Input::PhoneDisconnected(PhoneId(4)));
    bench.pass_ms(1_000);
    bench.input(Input::PhoneConnected { phone: PhoneId(5), address: None });
    assert!(bench.is_disconnected(idle.id));
    assert_eq!(errors(&idle.hear(&mut bench)), [WireError::Busy]);
    assert!(!bench.is_disconnected(payer.id) && !bench.is_disconnected(reader.id));
    bench.pass_ms(1_000);
    bench.input(Input::PhoneConnected { phone: PhoneId(6), address: None });
    assert!(bench.is_disconnected(reader.id));
    assert!(!bench.is_disconnected(payer.id), "never the payer");
    assert_eq!(bench.terminal.phone_count(), 3);
}

#[test]
fn a_phone_that_has_paid_keeps_its_slot_a_while_longer_and_not_for_ever() {
    let settings = Settings { phones_max: 1, ..Settings::default() };
    let mut bench = Bench::with(settings.clone(), Vec::new());
    let transaction_id = bench.offer(true);
    let mut payer = Phone::new(1, 512);
    let offer = payer.offered(&mut bench);
    bench.pass_ms(settings.slot_hold_min_ms + 5_000);
    let command = payer.command(&offer);
    payer.say(&mut bench, &command);
    bench.answer(transaction_id, TransactionState::Approved);
    bench.pass_ms(settings.slot_hold_min_ms - 1);
    bench.input(Input::PhoneConnected { phone: PhoneId(2), address: None });
    assert!(bench.is_disconnected(PhoneId(2)));
    bench.pass_ms(1);
    bench.input(Input::PhoneConnected { phone: PhoneId(3), address: None });
    assert!(bench.is_disconnected(payer.id), "the till may take hours to report");
}

#[test]
fn what_an_evicted_phone_still_writes_is_ignored() {
    let settings = Settings { phones_max: 1, ..Settings::default() };
    let mut bench = Bench::with(settings, Vec::new());
    bench.offer(false);
    let mut loser = Phone::new(1, 512);
    let offer = loser.offered(&mut bench);
    bench.pass_ms(60_000 - 1);
    bench.input(Input::PhoneConnected { phone: PhoneId(2), address: None });
    assert!(bench.is_disconnected(loser.id));
    let command = loser.command(&offer);
    loser.say(&mut bench, &command);
    assert_eq!(bench.requests(), []);
    assert_eq!(bench.terminal.phone_count(), 1, "it is no newcomer either");
    assert!(!bench.is_disconnected(PhoneId(2)));
}

#[test]
fn a_message_that_does_not_end_ends_the_connection() {
    let settings = Settings::default();
    let mut bench = Bench::new();
    bench.offer(false);
    let mut phone = Phone::new(1, 512);
    phone.hello(&mut bench, None);
    bench.input(wrote(phone.id, vec![0x91, 0x10, 0x00, 7]));
    let mut number = 0u8;
    for _ in 0..29 {
        bench.pass_ms(1_000);
        number = number.wrapping_add(1);
        bench.input(wrote(phone.id, vec![(number & 3) << 4 | 1, 7]));
    }
    assert!(!bench.is_disconnected(phone.id));
    let deadline = bench.terminal.next_deadline().unwrap();
    let timer = PhoneTimer::UnfinishedMessage;
    assert_eq!(deadline.purpose, DeadlinePurpose::Phone { phone: phone.id, timer });
    assert_eq!(deadline.moment.milliseconds, 1_000 + settings.message_timeout_ms);
    bench.pass_ms(1_000);
    assert!(bench.is_disconnected(phone.id));
    assert_eq!(errors(&phone.hear(&mut bench)), [WireError::TooSlow]);
}

#[test]
fn only_messages_that_decrypt_count_as_a_sign_of_life() {
    let settings = Settings { protocol_errors_max: u32::MAX, ..Settings::default() };
    let mut bench = Bench::with(settings.clone(), Vec::new());
    let transaction_id = bench.offer(false);
    let mut alive = Phone::new(1, 512);
    alive.hello(&mut bench, None);
    let mut noisy = Phone::new(2, 512);
    noisy.hello(&mut bench, None);
    for _ in 0..2 {
        bench.pass_ms(settings.silence_timeout_ms / 2);
        alive.say(&mut bench, &FromPhone::ReceiptAck { transaction_id });
        bench.input(wrote(noisy.id, vec![0xd2, 1, 2, 3]));
    }
    assert!(!bench.is_disconnected(alive.id));
    assert!(bench.is_disconnected(noisy.id));
}

#[test]
fn a_flood_of_values_or_messages_ends_the_connection_and_nothing_else() {
    let settings =
        Settings { protocol_errors_max: u32::MAX, hellos_max: u32::MAX, ..Settings::default() };
    let mut bench = Bench::with(settings.clone(), Vec::new());
    let transaction_id = bench.offer(false);
    let mut honest = Phone::new(9, 512);
    honest.hello(&mut bench, None);

    for _ in 0..settings.values_burst_max {
        bench.input(wrote(PhoneId(1), vec![0x01]));
    }
    assert!(!bench.is_disconnected(PhoneId(1)));
    bench.input(wrote(PhoneId(1), vec![0x01]));
    assert!(bench.is_disconnected(PhoneId(1)));

    let mut talker = Phone::new(2, 512);
    talker.hello(&mut bench, None);
    let question = FromPhone::ResultQuery { transaction_id, command_digest: [0; 32] };
    for _ in 1..settings.messages_burst_max {
        talker.say(&mut bench, &question);
    }
    assert!(!bench.is_disconnected(talker.id));
    talker.hear(&mut bench);
    talker.say(&mut bench, &question);
    assert!(bench.is_disconnected(talker.id));
    assert_eq!(errors(&talker.hear(&mut bench)), [WireError::TooManyAttempts]);

    // No phone is too fast at the pace of the long run.
    let mut patient = Phone::new(3, 512);
    patient.hello(&mut bench, None);
    for _ in 0..4 * settings.messages_burst_max {
        bench.pass_ms(1_000 / u64::from(settings.messages_per_s) + 1);
        patient.say(&mut bench, &question);
    }
    assert!(!bench.is_disconnected(patient.id));
    assert!(honest.hear(&mut bench).is_empty());
    assert!(!bench.is_disconnected(honest.id));
}

#[test]
fn a_phone_may_change_its_mtu_and_say_hello_again_but_not_for_ever() {
    let mut bench = Bench::new();
    bench.offer(false);
    let mut phone = Phone::new(1, 20);
    phone.hello(&mut bench, None);
    phone.value_octets_max = 512;
    phone.reassembler = Reassembler::default();
    phone.pay(&mut bench);
    assert_eq!(bench.requests().len(), 1);
    for _ in 2..Settings::default().hellos_max {
        phone.hello(&mut bench, None);
    }
    let (_, message) = Initiator::start(&[], [1; 32]).unwrap();
    phone.write(&mut bench, MessageKind::Handshake, &message);
    assert!(bench.is_disconnected(phone.id));
}
