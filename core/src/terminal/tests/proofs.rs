//! Phones whose command was not used get the institution's proof of it.

use super::*;

/// A phone that was shown an offer and sends its command when the offer has ended.
fn late(bench: &mut Bench, cancels: bool) -> (Phone, FromPhone, TransactionId) {
    let transaction_id = bench.offer(false);
    let mut phone = Phone::new(1, 512);
    let offer = phone.offered(bench);
    if cancels {
        bench.till(TillRequest::Cancel { transaction_id }).unwrap();
    } else {
        bench.pass_ms(60_000);
    }
    phone.hear(bench);
    bench.published();
    let command = phone.command(&offer);
    phone.say(bench, &command);
    bench.load();
    (phone, command, transaction_id)
}

#[test]
fn a_late_command_is_answered_with_the_word_and_later_with_the_proof() {
    for cancels in [false, true] {
        let mut bench = Bench::new();
        let (mut phone, command, transaction_id) = late(&mut bench, cancels);
        let word = if cancels {
            FromTerminal::Withdrawn(transaction_id)
        } else {
            FromTerminal::Expired(transaction_id)
        };
        assert_eq!(phone.hear(&mut bench), [word]);
        assert_eq!(bench.terminal.open_count(), 0, "nothing is open for the till");
        assert_eq!(bench.requests(), [InstitutionRequest::Inquire { transaction_id }]);
        bench.answer(transaction_id, TransactionState::Unknown);
        let reason = ReversalReason::NotUsed;
        assert_eq!(bench.requests(), [InstitutionRequest::Reverse { transaction_id, reason }]);
        assert!(phone.hear(&mut bench).is_empty(), "no proof yet");
        let before = bench.state(transaction_id);
        bench.answer_tombstone(transaction_id);
        let exclusion = bench.payment(transaction_id).exclusion.unwrap();
        let proof = FromTerminal::NotUsed { transaction_id, exclusion };
        assert_eq!(phone.hear(&mut bench), std::slice::from_ref(&proof));
        assert_eq!(bench.state(transaction_id), before, "for the till it ended as it had");
        assert_eq!(bench.published(), []);
        // The journal keeps the proof for whoever asks later.
        phone.say(&mut bench, &command);
        bench.load();
        assert_eq!(phone.hear(&mut bench), [proof]);
        assert_eq!(bench.requests(), []);
    }
}

#[test]
fn a_phone_that_left_gets_the_proof_when_it_asks_again() {
    let mut bench = Bench::new();
    let (phone, command, transaction_id) = late(&mut bench, false);
    let FromPhone::PaymentCommand { sealed_command, .. } = &command else { panic!("no command") };
    let command_digest = SealedCommand::digest_of_encoded(sealed_command);
    bench.input(Input::PhoneDisconnected(phone.id));
    let mut again = Phone::new(2, 512);
    again.hello(&mut bench, None);
    again.say(&mut bench, &FromPhone::ResultQuery { transaction_id, command_digest });
    bench.load();
    assert_eq!(again.hear(&mut bench), [FromTerminal::Expired(transaction_id)]);
    bench.answer(transaction_id, TransactionState::Unknown);
    bench.answer_tombstone(transaction_id);
    let heard = again.hear(&mut bench);
    assert!(matches!(heard[..], [FromTerminal::NotUsed { .. }]), "{heard:?}");
}

#[test]
fn an_institution_that_cannot_be_reached_is_asked_while_the_phone_waits_and_no_longer() {
    let mut bench = Bench::new();
    let (phone, _, transaction_id) = late(&mut bench, false);
    let not_sent = || InstitutionAnswer::NotSent { detail: String::new() };
    for _ in 0..10 {
        assert_eq!(bench.requests(), [InstitutionRequest::Inquire { transaction_id }]);
        bench.input(Input::Institution { transaction_id, answer: not_sent() });
        bench.pass_ms(Settings::default().retry_backoff_max_ms);
        if bench.is_disconnected(phone.id) {
            break;
        }
    }
    bench.input(Input::PhoneDisconnected(phone.id));
    for _ in 0..10 {
        bench.requests();
        bench.input(Input::Institution { transaction_id, answer: not_sent() });
        bench.pass_ms(Settings::default().retry_backoff_max_ms);
    }
    assert_eq!(bench.requests(), []);
    assert_eq!(bench.terminal.next_deadline(), None);
}

#[test]
fn the_losers_proof_of_a_payment_that_was_never_sent_is_the_tombstone() {
    let mut bench = Bench::new();
    let transaction_id = bench.offer(false);
    let (mut winner, mut loser) = (Phone::new(1, 512), Phone::new(2, 512));
    let offer = loser.offered(&mut bench);
    winner.pay(&mut bench);
    let command = loser.command(&offer);
    loser.say(&mut bench, &command);
    loser.hear(&mut bench);
    winner.hear(&mut bench);
    let unanswered = InstitutionAnswer::Unanswered { detail: String::new() };
    bench.input(Input::Institution { transaction_id, answer: unanswered });
    bench.answer(transaction_id, TransactionState::Unknown);
    assert!(loser.hear(&mut bench).is_empty());
    bench.answer_tombstone(transaction_id);
    let exclusion = bench.payment(transaction_id).exclusion.unwrap();
    let proof = FromTerminal::NotUsed { transaction_id, exclusion };
    assert_eq!(loser.hear(&mut bench), std::slice::from_ref(&proof));
    assert_eq!(winner.hear(&mut bench).last(), Some(&proof));
}
