//! Commands behind which no card stands: they end no sale, and the till does not notice.

use super::*;
use crate::protocol::decode_offer;

const NO_CARD: TransactionState = TransactionState::Declined(DeclineReason::MalformedCommand);

/// A phone that has no card sends a command for the offer that it is shown, and the institution
/// declines it. Returns the transaction.
fn attack(bench: &mut Bench, phone: u64) -> TransactionId {
    let (transaction_id, _) = attack_with(bench, phone, NO_CARD);
    transaction_id
}

fn attack_with(
    bench: &mut Bench,
    phone: u64,
    answer: TransactionState,
) -> (TransactionId, Vec<FromTerminal>) {
    let mut phone = Phone::new(phone, 512);
    phone.pay(bench);
    let transaction_id = authorised(bench);
    bench.answer(transaction_id, answer);
    let heard = phone.hear(bench);
    (transaction_id, heard)
}

fn authorised(bench: &mut Bench) -> TransactionId {
    let requests = bench.requests();
    assert!(matches!(requests[..], [InstitutionRequest::Authorise { .. }]), "{requests:?}");
    requests[0].transaction_id()
}

#[test]
fn a_sale_outlives_commands_without_a_card_and_the_till_knows_it_by_its_first_id() {
    let mut bench = Bench::new();
    let sale = bench.offer(true);
    let first = bench.journal.last().cloned().unwrap();
    for (phone, reason) in [
        (1, DeclineReason::MalformedCommand),
        (2, DeclineReason::UnknownCard),
        (3, DeclineReason::BadSignature),
    ] {
        let (transaction_id, heard) =
            attack_with(&mut bench, phone, TransactionState::Declined(reason));
        assert_eq!(outcomes(&heard), [Outcome::Declined(reason)]);
        assert_eq!(errors(&heard), [WireError::TooManyAttempts]);
        assert!(bench.is_disconnected(PhoneId(phone)));
        assert_eq!(bench.state(transaction_id), PaymentState::Declined(reason));
        let view = bench.terminal.view(sale).unwrap();
        assert_eq!((view.transaction_id, view.state), (sale, PaymentState::Offered));
        assert_ne!(view.current_transaction_id, transaction_id, "another transaction");
    }
    let mut honest = Phone::new(9, 512);
    let offer = honest.offered(&mut bench);
    let [before, after] = [&first.offer, &offer].map(|offer| decode_offer(offer).unwrap());
    assert_ne!(before.nonce(), after.nonce());
    assert_eq!(
        (before.amount(), before.reference(), before.items()),
        (after.amount(), after.reference(), after.items())
    );
    let command = honest.command(&offer);
    honest.say(&mut bench, &command);
    let paid = authorised(&mut bench);
    bench.answer(paid, TransactionState::Approved);
    assert_eq!(outcomes(&honest.hear(&mut bench)), [Outcome::Approved]);
    let view = bench.till(TillRequest::Complete { transaction_id: sale, dispensed: true }).unwrap();
    assert_eq!((view.transaction_id, view.current_transaction_id), (sale, paid));
    assert_eq!(bench.requests(), [InstitutionRequest::Capture { transaction_id: paid }]);
    bench.answer(paid, TransactionState::Captured);
    let published = bench.published();
    assert!(published.iter().all(|view| view.transaction_id == sale));
    assert!(
        published.iter().all(|view| !matches!(view.state, PaymentState::Declined(_))),
        "the till never hears of a decline"
    );
    assert_eq!(published.last().unwrap().state, PaymentState::Captured);
    assert_eq!(bench.terminal.open_count(), 0);
}

#[test]
fn a_sale_is_offered_again_so_often_and_then_it_is_declined_for_the_till_too() {
    let settings = Settings { reoffers_max: 3, ..Settings::default() };
    let mut bench = Bench::with(settings, Vec::new());
    let sale = bench.offer(false);
    for phone in 1..=3 {
        attack(&mut bench, phone);
        assert_eq!(bench.terminal.view(sale).unwrap().state, PaymentState::Offered);
    }
    bench.published();
    let last = attack(&mut bench, 4);
    let view = bench.published().pop().unwrap();
    assert_eq!((view.transaction_id, view.current_transaction_id), (sale, last));
    assert_eq!(view.state, PaymentState::Declined(DeclineReason::MalformedCommand));
    assert!(bench.is_disconnected(PhoneId(4)));
    assert_eq!(bench.terminal.open_count(), 0);
    // The till goes on with another sale.
    assert_ne!(bench.offer(false), sale);
}

#[test]
fn all_sales_together_are_offered_again_at_a_bounded_pace() {
    let settings = Settings { reoffers_burst_max: 2, reoffers_per_s: 1, ..Settings::default() };
    let mut bench = Bench::with(settings, Vec::new());
    for phone in 1..=2 {
        let sale = bench.offer(false);
        attack(&mut bench, phone);
        bench.till(TillRequest::Cancel { transaction_id: sale }).unwrap();
    }
    let sale = bench.offer(false);
    attack(&mut bench, 3);
    assert_eq!(bench.terminal.view(sale), None, "it is final");
    bench.pass_ms(1_000);
    let sale = bench.offer(false);
    attack(&mut bench, 4);
    assert_eq!(bench.terminal.view(sale).unwrap().state, PaymentState::Offered);
}

#[test]
fn an_offer_that_is_made_again_is_good_for_the_time_that_is_left_and_no_longer() {
    let mut bench = Bench::new();
    let sale = bench.offer(false);
    bench.pass_ms(50_500);
    attack(&mut bench, 1);
    let mut phone = Phone::new(2, 512);
    let offer = phone.offered(&mut bench);
    assert_eq!(decode_offer(&offer).unwrap().valid_for_s(), 9, "of 60");
    bench.pass_ms(8_999);
    assert_eq!(bench.terminal.view(sale).unwrap().state, PaymentState::Offered);
    bench.pass_ms(1);
    assert_eq!(bench.published().pop().unwrap().state, PaymentState::Expired);

    let sale = bench.offer(false);
    bench.pass_ms(59_500);
    attack(&mut bench, 3);
    let view = bench.published().pop().unwrap();
    assert_eq!(view.transaction_id, sale);
    assert!(matches!(view.state, PaymentState::Declined(_)), "no time is left");
}

#[test]
fn a_decline_of_a_card_ends_the_sale_and_its_phone_may_stay() {
    for reason in DeclineReason::ALL {
        let mut bench = Bench::new();
        let sale = bench.offer(false);
        attack_with(&mut bench, 1, TransactionState::Declined(reason));
        let is_offered_again = bench.terminal.view(sale).is_some();
        assert_eq!(is_offered_again, reason.shows_no_card(), "{reason:?}");
        assert_eq!(bench.is_disconnected(PhoneId(1)), reason.shows_no_card(), "{reason:?}");
    }
}

#[test]
fn nothing_of_another_offer_leaves_before_both_records_are_durable() {
    let mut bench = Bench::new();
    let sale = bench.offer(false);
    let mut watching = Phone::new(2, 512);
    watching.hello(&mut bench, None);
    let mut hostile = Phone::new(1, 512);
    hostile.pay(&mut bench);
    let transaction_id = authorised(&mut bench);
    watching.hear(&mut bench);
    bench.published();
    bench.holds_journal = true;
    bench.answer(transaction_id, NO_CARD);
    assert_eq!(bench.unconfirmed.len(), 2, "the end of one and the begin of the other");
    assert!(hostile.hear(&mut bench).is_empty() && !bench.is_disconnected(hostile.id));
    assert!(watching.hear(&mut bench).is_empty() && bench.published().is_empty());

    let [ended, _] = bench.unconfirmed[..] else { panic!("two records") };
    bench.input(Input::Journalled(ended));
    assert_eq!(outcomes(&hostile.hear(&mut bench)).len(), 1);
    assert!(bench.is_disconnected(hostile.id));
    assert!(watching.hear(&mut bench).is_empty() && bench.published().is_empty());

    bench.confirm();
    assert!(matches!(watching.hear(&mut bench)[..], [FromTerminal::Offer(_)]));
    let view = bench.published().pop().unwrap();
    assert_eq!((view.transaction_id, view.state), (sale, PaymentState::Offered));
}

#[test]
fn the_tills_calls_about_its_first_id_reach_the_newest_transaction() {
    let request = |key: &str| {
        let idempotency_key = Some(key.parse().unwrap());
        TillRequest::Create(PaymentRequest { idempotency_key, ..request(false) })
    };
    let mut bench = Bench::new();
    let sale = bench.till(request("sale-1")).unwrap().transaction_id;
    let declined = attack(&mut bench, 1);
    let newest = bench.terminal.view(sale).unwrap().current_transaction_id;
    let in_journal = bench.journal.last().cloned().unwrap();
    assert_eq!((in_journal.transaction_id, in_journal.sale_id), (newest, sale));

    let repeated = bench.till_with(request("sale-1"), Some(in_journal.clone())).unwrap();
    assert_eq!((repeated.transaction_id, repeated.state), (sale, PaymentState::Offered));
    assert_eq!(bench.till(request("sale-2")), Err(TillRefusal::OfferWaiting(sale)));
    // Whichever id of the sale the till or an operator names.
    assert_eq!(declined, sale, "the first transaction names the sale");
    let cancel = TillRequest::Cancel { transaction_id: declined };
    let cancelled = bench.till_with(cancel, Some(in_journal)).unwrap();
    assert_eq!((cancelled.transaction_id, cancelled.state), (sale, PaymentState::Cancelled));
    assert_eq!(bench.state(newest), PaymentState::Cancelled);
    assert_eq!(bench.state(sale), PaymentState::Declined(DeclineReason::MalformedCommand));
}

#[test]
fn a_sale_whose_till_has_gone_on_or_was_told_otherwise_is_not_offered_again() {
    // The till made another offer meanwhile.
    let mut bench = Bench::new();
    let sale = bench.offer(false);
    Phone::new(1, 512).pay(&mut bench);
    let other = bench.offer(false);
    bench.answer(sale, NO_CARD);
    assert_eq!(bench.terminal.view(sale), None);
    assert_eq!(bench.terminal.view(other).unwrap().state, PaymentState::Offered);

    // The till was told `unresolved`.
    let (mut bench, _, sale) = Bench::paying(false);
    let detail = "silence".to_owned();
    let answer = InstitutionAnswer::Unanswered { detail };
    bench.input(Input::Institution { transaction_id: sale, answer });
    bench.answer(sale, NO_CARD);
    assert_eq!(bench.published().pop().unwrap().state.name(), "declined");
    assert_eq!(bench.terminal.open_count(), 0);

    // Nobody knows after a restart how old the offer is.
    let (bench, _, sale) = Bench::paying(false);
    let authorising = bench.journal.last().cloned().unwrap();
    let mut bench = Bench::with(Settings::default(), vec![authorising]);
    bench.answer(sale, NO_CARD);
    assert_eq!(bench.state(sale), PaymentState::Declined(DeclineReason::MalformedCommand));
    assert_eq!(bench.terminal.open_count(), 0);
}

#[test]
fn after_a_restart_in_the_midst_the_till_finds_the_newest_transaction_under_its_first_id() {
    let mut bench = Bench::new();
    let sale = bench.offer(true);
    attack(&mut bench, 1);
    let mut honest = Phone::new(2, 512);
    honest.pay(&mut bench);
    let paid = authorised(&mut bench);
    let authorising = bench.journal.last().cloned().unwrap();
    assert_eq!((authorising.transaction_id, authorising.sale_id), (paid, sale));

    let mut bench = Bench::with(Settings::default(), vec![authorising]);
    let view = bench.terminal.view(sale).unwrap();
    assert_eq!((view.transaction_id, view.state), (sale, PaymentState::Unresolved));
    bench.pass_ms(Settings::default().retry_backoff_min_ms);
    assert_eq!(bench.requests(), [InstitutionRequest::Inquire { transaction_id: paid }]);
    bench.answer(paid, TransactionState::Approved);
    assert_eq!(bench.published().pop().unwrap().transaction_id, sale);

    // The offer that was made again ends with a restart, as every offer does.
    let mut bench = Bench::new();
    let sale = bench.offer(true);
    attack(&mut bench, 1);
    let offered = bench.journal.last().cloned().unwrap();
    let mut bench = Bench::with(Settings::default(), vec![offered]);
    let view = bench.published().pop().unwrap();
    assert_eq!((view.transaction_id, view.state), (sale, PaymentState::Expired));
}

#[test]
fn a_phone_with_the_link_of_an_offer_that_was_made_again_hears_that_it_is_taken() {
    let mut bench = Bench::new();
    let sale = bench.offer(false);
    attack(&mut bench, 1);
    let first = Phone::new(2, 512).hello(&mut bench, Some(sale));
    assert_eq!(first, FromTerminal::Taken(sale));
    let newest = bench.terminal.view(sale).unwrap().current_transaction_id;
    let first = Phone::new(3, 512).hello(&mut bench, Some(newest));
    assert!(matches!(first, FromTerminal::Offer(_)));
}
