//! Every reason to decline.

use super::*;

for_every_store!(
    declined_terminal_unknown,
    a_blocked_terminal_still_settles_what_was_approved,
    declined_offer_mismatch,
    declined_malformed_command,
    declined_unknown_card,
    declined_bad_signature,
    declined_counter_replayed,
    a_decline_uses_the_counter_up,
    declined_offer_expired,
    declined_card_blocked,
    declined_card_expired,
    declined_currency_mismatch,
    declined_over_limit,
    declined_verification_required,
    declined_insufficient_funds,
);

fn declined_terminal_unknown(mut bench: Bench) {
    bench.institution.set_terminal_blocked(bench.terminal, Some(NOW)).unwrap();
    let request = bench.request(1, euros("2.50"), 1);
    bench.assert_declined(&request, DeclineReason::TerminalUnknown);
    let standing = |bench: &mut Bench, terminal| bench.institution.standing(terminal).unwrap();
    let terminal = bench.terminal;
    assert_eq!(standing(&mut bench, terminal), Err(StandingFault::Blocked));
    bench.institution.set_terminal_blocked(bench.terminal, None).unwrap();
    assert_eq!(standing(&mut bench, terminal), Ok(()));
    // One that the registry never had.
    let other = TerminalId::from_random([9; 10]);
    let offer = bench.offer_of(other, 2);
    let request = AuthorisationRequest {
        terminal_id: other,
        ..bench.request_with(&offer, |command| command)
    };
    assert_eq!(bench.authorise(&request).decline_reason(), Some(DeclineReason::TerminalUnknown));
    assert_eq!(standing(&mut bench, other), Err(StandingFault::Unknown));
    // One that is registered and not enrolled.
    bench.institution.add_terminal(other, "kiosk-2", MERCHANT, &code(3), LATER, NOW).unwrap();
    let offer = bench.offer_of(other, 3);
    let request = AuthorisationRequest {
        terminal_id: other,
        ..bench.request_with(&offer, |command| command)
    };
    assert_eq!(bench.authorise(&request).decline_reason(), Some(DeclineReason::TerminalUnknown));
    assert_eq!(standing(&mut bench, other), Err(StandingFault::Unknown));
    assert_eq!(bench.counter(), 0);
    bench.assert_books_right();
}

fn a_blocked_terminal_still_settles_what_was_approved(mut bench: Bench) {
    let first = bench.authorise(&bench.request(1, euros("2.50"), 1));
    let second = bench.authorise(&bench.request(2, euros("2.50"), 2));
    bench.institution.set_terminal_blocked(bench.terminal, Some(NOW)).unwrap();
    bench.institution.capture(bench.terminal, first.id, NOW).unwrap();
    bench.institution.reverse(bench.terminal, second.id, ReversalReason::Cancelled, NOW).unwrap();
    assert_eq!((bench.available(), bench.held(), bench.payable()), (9_750, 0, 250));
}

fn declined_offer_mismatch(mut bench: Bench) {
    // The terminal calls itself something else than the registry does.
    let offer = bench.offer_named("Charity", 1);
    let request = bench.request_with(&offer, |command| command);
    bench.assert_declined(&request, DeclineReason::OfferMismatch);
    // The phone saw 2.50 and the terminal presents 25.00.
    let seen = bench.request(2, euros("2.50"), 1);
    let offer = encode_offer(&bench.offer(2, euros("25.00")));
    bench.assert_declined(&AuthorisationRequest { offer, ..seen }, DeclineReason::OfferMismatch);
    assert_eq!(bench.counter(), 0);
    // A wallet that signs one offer and seals for another.
    let request = bench.request_with(&bench.offer(3, euros("2.50")), |command| CardCommand {
        offer_digest: digest_offer(b"another"),
        ..command
    });
    bench.assert_declined(&request, DeclineReason::OfferMismatch);
    assert_eq!(bench.counter(), 1, "the signature was good, so the counter is used up");
}

fn declined_malformed_command(mut bench: Bench) {
    let mut number = 0;
    // Each for an id of its own, since the seal binds the offer.
    let mut decline = |sealed_command: &dyn Fn(&Bench, &AuthorisationRequest) -> Vec<u8>| {
        number += 1;
        let request = bench.request(number, euros("2.50"), 1);
        let sealed_command = sealed_command(&bench, &request);
        let request = AuthorisationRequest { sealed_command, ..request };
        bench.assert_declined(&request, DeclineReason::MalformedCommand);
        assert_eq!(bench.counter(), 0);
    };
    decline(&|_, _| Vec::new());
    decline(&|_, _| vec![0xff; 40]);
    decline(&|_, request| {
        let sealed = SealedCommand::decode(&request.sealed_command).unwrap();
        SealedCommand { suite: 2, ..sealed }.encode()
    });
    decline(&|_, request| {
        let sealed = SealedCommand::decode(&request.sealed_command).unwrap();
        SealedCommand { key_id: KeyId([0; 8]), ..sealed }.encode()
    });
    decline(&|bench, request| bench.seal(b"no signed body", &request.offer));
    decline(&|bench, request| {
        let signed = bench.card_key.sign(PayloadType::CardCommand, vec![0xff]);
        bench.seal(&signed.encode(), &request.offer)
    });
    decline(&|bench, request| {
        let signed = bench.command(&request.offer, 1).sign(&bench.card_key);
        let key_id = Some(bench.card_key.verifying_key().key_id());
        bench.seal(&Signed { key_id, ..signed }.encode(), &request.offer)
    });
    decline(&|bench, request| {
        let command = bench.command(&request.offer, u64::MAX);
        bench.seal(&command.sign(&bench.card_key).encode(), &request.offer)
    });
}

fn declined_unknown_card(mut bench: Bench) {
    let unknown = CardId::from_octets(&[1; 16]).unwrap();
    let offer = bench.offer(1, euros("2.50"));
    let request = bench.request_with(&offer, |command| CardCommand { card_id: unknown, ..command });
    bench.assert_declined(&request, DeclineReason::UnknownCard);
    // One that was made and not enrolled.
    let terms = CardTerms {
        account: bench.account,
        payment_limit: euros("50.00"),
        verification_limit: None,
    };
    bench.institution.add_card(unknown, terms, &code(3), LATER, NOW).unwrap();
    let offer = bench.offer(2, euros("2.50"));
    let request = bench.request_with(&offer, |command| CardCommand { card_id: unknown, ..command });
    bench.assert_declined(&request, DeclineReason::UnknownCard);
}

fn declined_bad_signature(mut bench: Bench) {
    let offer = encode_offer(&bench.offer(1, euros("2.50")));
    let thief = SigningKey::from_scalar(&[6; 32]).unwrap();
    let sealed_command = bench.seal(&bench.command(&offer, 1).sign(&thief).encode(), &offer);
    let request = AuthorisationRequest { sealed_command, ..bench.request(1, euros("2.50"), 1) };
    bench.assert_declined(&request, DeclineReason::BadSignature);
    assert_eq!(bench.counter(), 0, "nobody else can use up a card's counter");
}

fn declined_counter_replayed(mut bench: Bench) {
    bench.authorise(&bench.request(1, euros("2.50"), 5));
    for (number, counter) in [(2, 5), (3, 4), (4, 1)] {
        let request = bench.request(number, euros("2.50"), counter);
        bench.assert_declined(&request, DeclineReason::CounterReplayed);
    }
    assert_eq!(bench.counter(), 5);
    assert_eq!(
        bench.authorise(&bench.request(5, euros("2.50"), 6)).state,
        TransactionState::Approved
    );
}

fn a_decline_uses_the_counter_up(mut bench: Bench) {
    let request = bench.request(1, euros("50.01"), 3);
    bench.assert_declined(&request, DeclineReason::OverLimit);
    let request = bench.request(2, euros("2.50"), 3);
    bench.assert_declined(&request, DeclineReason::CounterReplayed);
}

fn declined_offer_expired(mut bench: Bench) {
    let request =
        AuthorisationRequest { offer_age_ms: 62_001, ..bench.request(1, euros("2.50"), 1) };
    bench.assert_declined(&request, DeclineReason::OfferExpired);
    let in_grace =
        AuthorisationRequest { offer_age_ms: 62_000, ..bench.request(2, euros("2.50"), 2) };
    assert_eq!(bench.authorise(&in_grace).state, TransactionState::Approved);
    let endless =
        AuthorisationRequest { offer_age_ms: u64::MAX, ..bench.request(3, euros("2.50"), 3) };
    bench.assert_declined(&endless, DeclineReason::OfferExpired);
}

fn declined_card_blocked(mut bench: Bench) {
    bench.institution.set_card_blocked(bench.card, true).unwrap();
    let request = bench.request(1, euros("2.50"), 1);
    bench.assert_declined(&request, DeclineReason::CardBlocked);
    bench.institution.set_card_blocked(bench.card, false).unwrap();
    assert_eq!(
        bench.authorise(&bench.request(2, euros("2.50"), 2)).state,
        TransactionState::Approved
    );
}

fn declined_card_expired(mut bench: Bench) {
    let end = UnixTime { seconds: NOW.seconds + CARD_VALIDITY_S };
    let last = bench.request(1, euros("2.50"), 1);
    let approved = bench.institution.authorise(&last, end, RANDOM).unwrap();
    assert_eq!(approved.state, TransactionState::Approved);
    let over = bench.request(2, euros("2.50"), 2);
    let end = UnixTime { seconds: end.seconds + 1 };
    let declined = bench.institution.authorise(&over, end, RANDOM).unwrap();
    assert_eq!(declined.decline_reason(), Some(DeclineReason::CardExpired));
    assert_eq!(
        bench.receipt(&declined).status,
        ReceiptStatus::Declined(DeclineReason::CardExpired)
    );
    bench.assert_books_right();
}

fn declined_currency_mismatch(mut bench: Bench) {
    let request = bench.request(1, "2.50 CHF".parse().unwrap(), 1);
    bench.assert_declined(&request, DeclineReason::CurrencyMismatch);
}

fn declined_over_limit(mut bench: Bench) {
    let offer = bench.offer(1, euros("50.01"));
    let request = bench.request_with(&offer, |command| CardCommand {
        holder_verification: HolderVerification::Biometric,
        ..command
    });
    bench.assert_declined(&request, DeclineReason::OverLimit);
}

fn declined_verification_required(mut bench: Bench) {
    let mut counter = 0;
    let mut pay = |bench: &mut Bench, amount, holder_verification| {
        counter += 1;
        let offer = bench.offer(u8::try_from(counter).unwrap(), amount);
        let request = bench.request_with(&offer, |command| CardCommand {
            counter,
            holder_verification,
            ..command
        });
        bench.authorise(&request).decline_reason()
    };
    for weak in [HolderVerification::None, HolderVerification::Consent] {
        assert_eq!(
            pay(&mut bench, euros("20.01"), weak),
            Some(DeclineReason::VerificationRequired)
        );
        assert_eq!(pay(&mut bench, euros("20.00"), weak), None);
    }
    assert_eq!(pay(&mut bench, euros("20.01"), HolderVerification::Passcode), None);
    assert_eq!(pay(&mut bench, euros("20.02"), HolderVerification::Biometric), None);
    bench.assert_books_right();
}

fn declined_insufficient_funds(mut bench: Bench) {
    for number in 1..=5 {
        let request = bench.request(number, euros("20.00"), number.into());
        assert_eq!(bench.authorise(&request).state, TransactionState::Approved);
    }
    assert_eq!(bench.available(), 0);
    let request = bench.request(6, euros("0.01"), 6);
    bench.assert_declined(&request, DeclineReason::InsufficientFunds);
}

#[test]
fn every_decline_reason_has_a_test_here() {
    let source = concat!(include_str!("declines.rs"), include_str!("payments.rs"));
    // The reference institution gives no reasons of later versions.
    for reason in DeclineReason::ALL.into_iter().filter(|reason| *reason != DeclineReason::Other) {
        let wanted = format!("DeclineReason::{reason:?}");
        assert!(source.contains(&wanted), "{wanted}");
    }
}
