//! Payments from authorisation to settlement: every repeat, and what comes too early or too late.

use super::*;

for_every_store!(
    a_payment_is_held_and_captured,
    what_is_captured_a_terminal_cannot_give_back,
    what_is_only_held_is_given_back_too,
    the_answer_to_a_repeat_is_the_first_answer,
    what_was_reversed_is_never_called_approved_again,
    the_same_id_with_other_content_is_an_error_and_no_second_charge,
    a_reversal_that_comes_first_leaves_a_tombstone,
    another_terminal_sees_and_moves_nothing,
    what_cannot_be_meant_is_refused_and_leaves_nothing,
);

fn a_payment_is_held_and_captured(mut bench: Bench) {
    let request = bench.request(1, euros("2.50"), 1);
    let approved = bench.authorise(&request);
    assert_eq!((approved.state, approved.decline_reason()), (TransactionState::Approved, None));
    let receipt = bench.receipt(&approved);
    assert_eq!(receipt.status, ReceiptStatus::Approved { approval_code: "12345Z".to_owned() });
    assert_eq!(receipt.terminal_id, bench.terminal);
    assert_eq!(receipt.command_digest, SealedCommand::digest_of_encoded(&request.sealed_command));
    assert_eq!((bench.available(), bench.held(), bench.payable()), (9_750, 250, 0));
    bench.assert_books_right();

    let captured = bench.institution.capture(bench.terminal, approved.id, LATER).unwrap();
    assert_eq!(captured.state, TransactionState::Captured);
    let receipt = bench.receipt(&captured);
    let status = ReceiptStatus::Captured { approval_code: "12345Z".to_owned(), refunded_minor: 0 };
    assert_eq!((receipt.status, receipt.decided_at), (status, LATER));
    assert_eq!((bench.available(), bench.held(), bench.payable()), (9_750, 0, 250));
    bench.assert_books_right();
}

fn what_is_captured_a_terminal_cannot_give_back(mut bench: Bench) {
    let approved = bench.authorise(&bench.request(1, euros("2.50"), 1));
    let captured = bench.institution.capture(bench.terminal, approved.id, NOW).unwrap();
    for blocked_at in [None, Some(LATER)] {
        bench.institution.set_terminal_blocked(bench.terminal, blocked_at).unwrap();
        for reason in [ReversalReason::DispenseFailed, ReversalReason::Unanswered] {
            let refused = bench.institution.reverse(bench.terminal, approved.id, reason, LATER);
            let state = TransactionState::Captured;
            assert!(matches!(
                refused,
                Err(InstitutionError::NotReversible { id, state: found })
                    if id == approved.id && found == state
            ));
        }
    }
    assert_eq!(bench.institution.transaction(bench.terminal, approved.id).unwrap(), captured);
    assert_eq!((bench.available(), bench.payable()), (9_750, 250));
    bench.assert_books_right();
}

fn what_is_only_held_is_given_back_too(mut bench: Bench) {
    let approved = bench.authorise(&bench.request(1, euros("2.50"), 1));
    let reason = ReversalReason::Cancelled;
    let reversed = bench.institution.reverse(bench.terminal, approved.id, reason, LATER).unwrap();
    assert_eq!(reversed.state, TransactionState::Reversed);
    let receipt = bench.receipt(&reversed);
    assert_eq!((receipt.status, receipt.decided_at), (ReceiptStatus::Reversed, LATER));
    assert_eq!((bench.available(), bench.held(), bench.payable()), (10_000, 0, 0));
    bench.assert_books_right();
}

fn the_answer_to_a_repeat_is_the_first_answer(mut bench: Bench) {
    let request = bench.request(1, euros("2.50"), 1);
    let approved = bench.authorise(&request);
    // Later, older, and with other randomness: the same answer, octet by octet.
    let again = AuthorisationRequest { offer_age_ms: 9_999_999, ..request.clone() };
    assert_eq!(bench.institution.authorise(&again, LATER, [9; 6]).unwrap(), approved);
    let (terminal, id) = (bench.terminal, approved.id);
    let captured = bench.institution.capture(terminal, id, NOW).unwrap();
    assert_eq!(bench.institution.capture(terminal, id, LATER).unwrap(), captured);
    assert_eq!(bench.institution.authorise(&again, LATER, [9; 6]).unwrap(), approved);
    assert_eq!(bench.institution.transaction(terminal, id).unwrap(), captured);
    let id = bench.authorise(&bench.request(2, euros("2.50"), 2)).id;
    let reversed =
        bench.institution.reverse(terminal, id, ReversalReason::Cancelled, LATER).unwrap();
    let repeated =
        bench.institution.reverse(terminal, id, ReversalReason::DispenseUnknown, LATER).unwrap();
    assert_eq!(repeated, reversed);
    assert_eq!(bench.institution.transaction(terminal, id).unwrap(), reversed);
    assert_eq!(bench.available(), 9_750);
    bench.assert_books_right();
}

fn what_was_reversed_is_never_called_approved_again(mut bench: Bench) {
    let request = bench.request(1, euros("2.50"), 1);
    let approved = bench.authorise(&request);
    let (terminal, id) = (bench.terminal, approved.id);
    let reversed =
        bench.institution.reverse(terminal, id, ReversalReason::Unanswered, NOW).unwrap();
    let late = bench.authorise(&request);
    assert_eq!(late.state, TransactionState::Reversed);
    assert_eq!(late.decline_reason(), Some(DeclineReason::AlreadyReversed));
    assert_eq!(late.receipt, reversed.receipt);
    let captured = bench.institution.capture(terminal, id, NOW);
    assert!(matches!(
        captured,
        Err(InstitutionError::NotCapturable { state: TransactionState::Reversed, .. })
    ));
    assert_eq!(bench.available(), 10_000);
}

fn the_same_id_with_other_content_is_an_error_and_no_second_charge(mut bench: Bench) {
    bench.authorise(&bench.request(1, euros("2.50"), 1));
    for other in [bench.request(1, euros("2.51"), 2), bench.request(1, euros("2.50"), 2)] {
        let refused = bench.institution.authorise(&other, NOW, RANDOM);
        assert!(
            matches!(refused, Err(InstitutionError::OtherContent(id)) if id == transaction_id(1))
        );
    }
    assert_eq!((bench.available(), bench.counter()), (9_750, 1));
    bench.assert_books_right();
}

fn a_reversal_that_comes_first_leaves_a_tombstone(mut bench: Bench) {
    let (terminal, id) = (bench.terminal, transaction_id(1));
    assert_eq!(
        bench.institution.transaction(terminal, id).unwrap().state,
        TransactionState::Unknown
    );
    let tombstone =
        bench.institution.reverse(terminal, id, ReversalReason::Unanswered, NOW).unwrap();
    assert_eq!((tombstone.state, tombstone.amount), (TransactionState::Reversed, None));
    assert!(tombstone.receipt.is_empty());
    assert_eq!(
        bench.institution.reverse(terminal, id, ReversalReason::Unanswered, LATER).unwrap(),
        tombstone
    );
    let late = bench.authorise(&bench.request(1, euros("2.50"), 1));
    assert_eq!(
        (late.state, late.decline_reason()),
        (TransactionState::Reversed, Some(DeclineReason::AlreadyReversed))
    );
    assert_eq!(bench.available(), 10_000);
    // The id belongs to the terminal that said it: another cannot bury it.
    let other = TerminalId::from_random([9; 10]);
    let buried =
        bench.institution.reverse(other, transaction_id(2), ReversalReason::Unanswered, NOW);
    assert_eq!(buried.unwrap().state, TransactionState::Reversed);
    assert_eq!(
        bench.authorise(&bench.request(2, euros("2.50"), 1)).state,
        TransactionState::Approved
    );
    bench.assert_books_right();
}

fn another_terminal_sees_and_moves_nothing(mut bench: Bench) {
    let approved = bench.authorise(&bench.request(1, euros("2.50"), 1));
    let other = TerminalId::from_random([9; 10]);
    let seen = bench.institution.transaction(other, approved.id).unwrap();
    assert_eq!(seen.state, TransactionState::Unknown);
    assert!(matches!(
        bench.institution.capture(other, approved.id, NOW),
        Err(InstitutionError::NotFound { .. })
    ));
    bench.institution.reverse(other, approved.id, ReversalReason::Cancelled, NOW).unwrap();
    assert_eq!(bench.held(), 250);
    bench.assert_books_right();
}

fn what_cannot_be_meant_is_refused_and_leaves_nothing(mut bench: Bench) {
    let good = bench.request(1, euros("2.50"), 1);
    // Before any decline, also of a terminal that would be declined.
    bench.institution.set_terminal_blocked(bench.terminal, Some(NOW)).unwrap();
    for bad in [
        AuthorisationRequest { offer: vec![0xff], ..good.clone() },
        AuthorisationRequest { transaction_id: transaction_id(2), ..good.clone() },
        AuthorisationRequest { terminal_id: TerminalId::from_random([9; 10]), ..good.clone() },
    ] {
        let refused = bench.institution.authorise(&bad, NOW, RANDOM);
        assert!(matches!(refused, Err(InstitutionError::InvalidRequest { .. })));
    }
    let id = good.transaction_id;
    assert!(matches!(
        bench.institution.capture(bench.terminal, id, NOW),
        Err(InstitutionError::NotFound { .. })
    ));
    let state = bench.institution.transaction(bench.terminal, id).unwrap().state;
    assert_eq!((state, bench.counter()), (TransactionState::Unknown, 0));
    bench.institution.set_terminal_blocked(bench.terminal, None).unwrap();
    assert_eq!(bench.authorise(&good).state, TransactionState::Approved);
}

/// A card of its own for each number, all on the account of the bench.
fn card_of_its_own(bench: &mut Bench, number: u8) -> CardId {
    let card = CardId::from_octets(&[number; 16]).unwrap();
    let (account, payment_limit) = (bench.account, euros("50.00"));
    let terms = CardTerms { account, payment_limit, verification_limit: None };
    bench.institution.add_card(card, terms, &code(number), LATER, NOW).unwrap();
    let text = code(number).expose_text();
    let proof = card_enrolment_proof(&bench.card_key, &text);
    let public = bench.card_key.verifying_key().to_sec1();
    bench.institution.enrol_card(&text, &public, &proof, NOW).unwrap();
    card
}

/// The answers to the requests, each sent to an institution of its own over the same file, all at
/// the same time.
fn answers_at_once(path: &std::path::Path, requests: &[AuthorisationRequest]) -> Vec<Transaction> {
    let start = std::sync::Barrier::new(requests.len());
    std::thread::scope(|scope| {
        let answering = |request: &AuthorisationRequest| {
            let mut institution = Institution::new(keys(), SqliteStore::open(path).unwrap());
            let (request, start) = (request.clone(), &start);
            scope.spawn(move || {
                start.wait();
                institution.authorise(&request, NOW, RANDOM).unwrap()
            })
        };
        let threads: Vec<_> = requests.iter().map(answering).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn many_at_the_same_time_spend_what_there_is_and_no_more() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.sqlite");
    let mut bench = Bench::over(SqliteStore::open(&path).unwrap());
    let requests: Vec<_> = (10..18)
        .map(|number| {
            let card_id = card_of_its_own(&mut bench, number);
            let offer = bench.offer(number, euros("20.00"));
            bench.request_with(&offer, |command| CardCommand { card_id, ..command })
        })
        .collect();
    let answers = answers_at_once(&path, &requests);
    let count = |state| answers.iter().filter(|answer| answer.state == state).count();
    assert_eq!(count(TransactionState::Approved), 5);
    assert_eq!(count(TransactionState::Declined(DeclineReason::InsufficientFunds)), 3);
    assert_eq!((bench.available(), bench.held()), (0, 10_000));
    bench.assert_books_right();
}

#[test]
fn the_same_request_at_the_same_time_gets_the_same_answer() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.sqlite");
    let mut bench = Bench::over(SqliteStore::open(&path).unwrap());
    let request = bench.request(1, euros("20.00"), 1);
    let answers = answers_at_once(&path, &vec![request; 8]);
    assert_eq!(answers[0].state, TransactionState::Approved);
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    assert_eq!(bench.held(), 2_000);
    bench.assert_books_right();
}
