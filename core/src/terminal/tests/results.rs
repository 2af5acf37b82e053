//! What phones and till see of a payment: its result, and the matching codes of its phones.

use super::*;

#[test]
fn a_phone_that_comes_back_gets_its_result_and_no_other_phone_does() {
    let mut bench = Bench::new();
    let transaction_id = bench.offer(false);
    let mut phone = Phone::new(1, 512);
    let command = phone.pay(&mut bench);
    bench.input(Input::PhoneDisconnected(phone.id));
    bench.answer(transaction_id, TransactionState::Approved);
    let FromPhone::PaymentCommand { sealed_command, .. } = &command else { panic!("no command") };
    let command_digest = SealedCommand::digest_of_encoded(sealed_command);

    let mut again = Phone::new(2, 512);
    again.hello(&mut bench, None);
    again.say(&mut bench, &FromPhone::ResultQuery { transaction_id, command_digest });
    assert_eq!(outcomes(&again.hear(&mut bench)), [Outcome::Approved]);
    again.say(&mut bench, &command);
    assert_eq!(
        outcomes(&again.hear(&mut bench)),
        [Outcome::Approved],
        "the same octets have the same effect"
    );

    let mut stranger = Phone::new(3, 512);
    stranger.hello(&mut bench, None);
    stranger.say(
        &mut bench,
        &FromPhone::ResultQuery { transaction_id, command_digest: CommandDigest([0; 32]) },
    );
    let heard = stranger.hear(&mut bench);
    assert!(matches!(heard[..], [FromTerminal::NotUsed { .. }]), "{heard:?}");

    // Memory does not hold a final payment any more: the journal is searched.
    bench.answer(transaction_id, TransactionState::Captured);
    again.say(&mut bench, &FromPhone::ResultQuery { transaction_id, command_digest });
    let question = bench
        .outputs
        .iter()
        .find_map(|output| match output {
            Output::Load { question, .. } => Some(question.clone()),
            _ => None,
        })
        .unwrap();
    let payment = bench.journal.last().cloned();
    bench.input(Input::Loaded { phone: again.id, question, payment });
    assert_eq!(outcomes(&again.hear(&mut bench)), [Outcome::Captured]);
}

#[test]
fn a_phone_with_an_older_keyring_gets_the_terminals() {
    let mut bench = Bench::new();
    let issued_at = fixtures::keyring().issued_at.seconds;
    for (seconds, is_sent) in [(issued_at - 1, true), (issued_at, false)] {
        let mut phone = Phone::new(seconds, 512);
        phone.keyring_issued_at = UnixTime { seconds };
        phone.hello(&mut bench, None);
        let keyring = FromTerminal::Keyring(identity().keyring_octets);
        let expected = if is_sent { vec![keyring] } else { Vec::new() };
        assert_eq!(phone.hear(&mut bench), expected);
    }
}

#[test]
fn the_till_sees_no_matching_code_of_a_channel_that_is_gone() {
    let mut bench = Bench::new();
    let transaction_id = bench.offer(false);
    let codes = |bench: &mut Bench| {
        let published = bench.outputs.iter().rev().find_map(|output| match output {
            Output::Publish(view) => Some(view.matching_codes.clone()),
            _ => None,
        });
        let current = bench.terminal.view(transaction_id).unwrap().matching_codes;
        assert_eq!(published.as_ref(), Some(&current), "the till knows the codes of now");
        current
    };
    let mut phone = Phone::new(1, 512);
    phone.hello(&mut bench, None);
    let first = codes(&mut bench);
    assert_eq!(first.len(), 1);
    phone.hello(&mut bench, None);
    let second = codes(&mut bench);
    assert_eq!(second.len(), 1);
    assert_ne!(first, second, "another channel has another code");
    // A message that does not decrypt, a hello that is none, and fragments out of order.
    for value in [vec![0xd1, 1, 2, 3], vec![0xc1, 1, 2, 3], vec![0x01, 1]] {
        bench.input(wrote(phone.id, value.clone()));
        assert!(codes(&mut bench).is_empty(), "after {value:?}");
        phone.hear(&mut bench);
        phone.hello(&mut bench, None);
        assert_eq!(codes(&mut bench).len(), 1);
    }
    // A hello for another offer: the channel is open and the phone shows nothing.
    phone.hello(&mut bench, Some(TransactionId::from_random([9; 16])));
    assert!(codes(&mut bench).is_empty());
}

#[test]
fn a_phone_whose_command_never_came_is_told_so_while_the_offer_stands_and_pays_with_the_same() {
    let mut bench = Bench::new();
    let transaction_id = bench.offer(false);
    let mut phone = Phone::new(1, 512);
    phone.hello(&mut bench, None);
    phone.hear(&mut bench);
    let query = FromPhone::ResultQuery { transaction_id, command_digest: CommandDigest([3; 32]) };
    phone.say(&mut bench, &query);
    assert_eq!(errors(&phone.hear(&mut bench)), [WireError::TransactionUnknown]);
    let mut payer = Phone::new(2, 512);
    payer.pay(&mut bench);
    assert!(matches!(bench.requests()[..], [InstitutionRequest::Authorise { .. }]));
}
