//! Offers: how they are made, shown, taken, refused and ended.

use super::*;
use crate::domain::LineItem;

#[test]
fn the_first_command_wins_and_the_others_are_told() {
    let mut bench = Bench::new();
    let transaction_id = bench.offer(false);
    let (mut winner, mut loser, mut late) =
        (Phone::new(1, 512), Phone::new(2, 512), Phone::new(3, 512));
    let offer = loser.offered(&mut bench);
    winner.pay(&mut bench);
    assert_eq!(loser.hear(&mut bench), [FromTerminal::Taken(transaction_id)]);
    let command = loser.command(&offer);
    loser.say(&mut bench, &command);
    assert_eq!(loser.hear(&mut bench), [FromTerminal::Taken(transaction_id)]);
    assert_eq!(late.hello(&mut bench, Some(transaction_id)), FromTerminal::Taken(transaction_id));
    assert_eq!(bench.requests().len(), 1);
    bench.answer(transaction_id, TransactionState::Approved);
    assert_eq!(outcomes(&winner.hear(&mut bench)), [Outcome::Approved]);
    let exclusion = bench.payment(transaction_id).exclusion.unwrap();
    assert_eq!(
        loser.hear(&mut bench),
        [FromTerminal::NotUsed { transaction_id, exclusion }],
        "the proof follows the word"
    );
    assert!(late.hear(&mut bench).is_empty());
}

#[test]
fn offers_are_withdrawn_expire_and_follow_each_other() {
    let mut bench = Bench::new();
    let mut phone = Phone::new(1, 512);
    assert_eq!(phone.hello(&mut bench, None), FromTerminal::NothingToPay);
    let first = bench.offer(false);
    assert!(matches!(phone.hear(&mut bench)[..], [FromTerminal::Offer(_)]));
    assert!(bench.outputs.contains(&Output::Advertise(AdvertisingPace::Fast)));
    let waiting = bench.till(TillRequest::Create(request(true)));
    assert_eq!(waiting, Err(TillRefusal::OfferWaiting(first)));
    bench.till(TillRequest::Cancel { transaction_id: first }).unwrap();
    assert_eq!(phone.hear(&mut bench), [FromTerminal::Withdrawn(first)]);
    assert_eq!(bench.state(first), PaymentState::Cancelled);

    let second = bench.offer(false);
    let heard = phone.hear(&mut bench);
    let [FromTerminal::Offer(offer)] = &heard[..] else { panic!("{heard:?}") };
    bench.pass_ms(60_000);
    assert_eq!(phone.hear(&mut bench), [FromTerminal::Expired(second)]);
    let command = phone.command(offer);
    phone.say(&mut bench, &command);
    assert_eq!(bench.requests(), []);
    let payment = bench.journal.last().cloned();
    let Some(Output::Load { phone: asker, question }) =
        bench.outputs.iter().find(|output| matches!(output, Output::Load { .. })).cloned()
    else {
        panic!("the journal is not searched")
    };
    bench.input(Input::Loaded { phone: asker, question, payment });
    assert_eq!(phone.hear(&mut bench), [FromTerminal::Expired(second)]);
}

#[test]
fn an_offer_that_nobody_can_pay_is_shown_to_nobody_until_somebody_can() {
    let mut bench = Bench::new();
    let (mut early, mut late) = (Phone::new(1, 512), Phone::new(2, 512));
    assert_eq!(early.hello(&mut bench, None), FromTerminal::NothingToPay);
    bench.input(Input::InService(false));
    bench.offer(false);
    assert!(early.hear(&mut bench).is_empty());
    let FromTerminal::Error(error) = late.hello(&mut bench, None) else { panic!("an offer") };
    assert_eq!(error.wire, WireError::OutOfService);
    for _ in 0..2 {
        bench.input(Input::InService(true));
    }
    for phone in [&mut early, &mut late] {
        assert!(matches!(phone.hear(&mut bench)[..], [FromTerminal::Offer(_)]));
    }
}

#[test]
fn the_advertisement_is_not_changed_while_a_phone_pays() {
    let mut bench = Bench::new();
    let paces = |bench: &Bench| {
        let is_pace = |output: &&Output| matches!(output, Output::Advertise(_));
        bench.outputs.iter().filter(is_pace).cloned().collect::<Vec<_>>()
    };
    let fast = Output::Advertise(AdvertisingPace::Fast);
    let slow = Output::Advertise(AdvertisingPace::Slow);
    let transaction_id = bench.offer(false);
    assert_eq!(paces(&bench), [slow.clone(), fast.clone()]);
    let mut phone = Phone::new(1, 512);
    let offer = phone.offered(&mut bench);
    let command = phone.command(&offer);
    phone.say(&mut bench, &command);
    bench.answer(transaction_id, TransactionState::Approved);
    bench.answer(transaction_id, TransactionState::Captured);
    assert_eq!(bench.state(transaction_id), PaymentState::Captured);
    assert_eq!(paces(&bench), [slow.clone(), fast.clone()]);
    bench.input(Input::PhoneDisconnected(phone.id));
    assert_eq!(paces(&bench), [slow.clone(), fast, slow]);
}

#[test]
fn a_person_who_refuses_is_not_asked_again_and_others_may_pay() {
    let mut bench = Bench::new();
    let transaction_id = bench.offer(false);
    let mut phone = Phone::new(1, 512);
    phone.hello(&mut bench, None);
    phone.say(&mut bench, &FromPhone::Cancel);
    assert_eq!(phone.hear(&mut bench), [FromTerminal::NothingToPay]);
    Phone::new(2, 512).pay(&mut bench);
    assert!(phone.hear(&mut bench).is_empty());
    assert_eq!(bench.state(transaction_id), PaymentState::Authorising);
}

#[test]
fn the_same_key_is_the_same_payment_and_other_content_is_refused() {
    let mut bench = Bench::new();
    let keyed = |amount: &str| {
        let amount = amount.parse().unwrap();
        let idempotency_key = Some("order-1".parse().unwrap());
        TillRequest::Create(PaymentRequest { amount, idempotency_key, ..request(false) })
    };
    let first = bench.till(keyed("2.50 EUR")).unwrap();
    assert_eq!(bench.till(keyed("2.50 EUR")).unwrap().transaction_id, first.transaction_id);
    assert_eq!(bench.till(keyed("2.51 EUR")), Err(TillRefusal::KeyReused(first.transaction_id)));
    bench.till(TillRequest::Cancel { transaction_id: first.transaction_id }).unwrap();
    let stored = bench.journal.last().cloned();
    assert_eq!(
        bench.till_with(keyed("2.50 EUR"), stored.clone()).unwrap().state,
        PaymentState::Cancelled,
        "a finished payment is not made again"
    );
    assert_eq!(
        bench.till_with(keyed("2.51 EUR"), stored),
        Err(TillRefusal::KeyReused(first.transaction_id))
    );
    assert_eq!(bench.journal.len(), 2);
}

#[test]
fn what_is_wrong_with_a_text_is_named_as_the_till_names_it() {
    let mut bench = Bench::new();
    let item = |name: &str| LineItem { name: name.into(), quantity: 1, amount_minor: 1 };
    for (items, reference, field) in [
        (vec![item("a"), item("b"), item("2\u{202e}50")], "7", "items[2].name"),
        (Vec::new(), "\u{3164}", "reference"),
    ] {
        let request = PaymentRequest { items, reference: reference.into(), ..request(false) };
        let refusal = bench.till(TillRequest::Create(request)).unwrap_err();
        let TillRefusal::Invalid(error) = &refusal else { panic!("{refusal}") };
        assert_eq!(error.field, field);
        assert!(refusal.to_string().contains("U+"), "{refusal}");
    }
}

#[test]
fn a_merchants_name_that_no_phone_takes_is_not_the_tills_fault() {
    let mut identity = identity();
    identity.certificate.merchant_name = "Ki\u{200b}osk".into();
    let mut bench = Bench::of(identity, Settings::default(), Vec::new());
    let refusal = bench.till(TillRequest::Create(request(false))).unwrap_err();
    assert!(matches!(refusal, TillRefusal::OutOfService(_)), "{refusal}");
    let said = refusal.to_string();
    assert!(said.contains("merchant") && said.contains("U+200B (character 3)"), "{said}");
    assert!(said.contains("florin enrol --replace"), "{said}");
}
