//! What operators do to payments, and what a blocked terminal may still do.

use super::*;
use crate::institution::records::OperatorAction;

for_every_store!(
    an_operator_ends_what_a_dead_terminal_left,
    a_write_off_pays_holder_and_merchant,
    refunds_give_back_parts_and_never_more_than_was_captured,
    a_repeated_refund_gives_back_once,
    an_action_that_the_state_does_not_allow_changes_nothing,
    what_cannot_be_done_is_not_asked_of_a_second_person,
    two_people_decide_above_the_bound,
    parts_of_a_refund_count_together_for_the_bound,
    a_refused_request_is_never_carried_out,
    an_order_without_a_name_or_a_reason_is_refused,
    a_blocked_terminal_ends_what_was_approved_before_while_the_hold_lasts,
    tombstones_have_a_quota_for_each_terminal,
);

fn order(bench: &Bench, id: TransactionId, operation: Operation) -> OperatorOrder {
    OperatorOrder {
        operator: "anna".to_owned(),
        key: TransactionKey { terminal: bench.terminal, id },
        operation,
        reason: "the machine burnt down".to_owned(),
    }
}

fn refund(number: u8, amount: Option<&str>) -> Operation {
    Operation::Refund { id: RefundId([number; 16]), amount: amount.map(euros) }
}

fn approve(bench: &mut Bench, number: u8) -> TransactionId {
    let approved = bench.authorise(&bench.request(number, euros("2.50"), number.into()));
    assert_eq!(approved.state, TransactionState::Approved);
    approved.id
}

fn capture(bench: &mut Bench, number: u8) -> TransactionId {
    let id = approve(bench, number);
    bench.institution.capture(bench.terminal, id, NOW).unwrap();
    id
}

/// Has the order carried out at once.
fn done(bench: &mut Bench, order: &OperatorOrder) -> TransactionDetail {
    match bench.institution.operate(order, LATER).unwrap() {
        OrderOutcome::Done(transaction) => *transaction,
        OrderOutcome::Pending(number) => panic!("pending {number}"),
    }
}

fn pending(bench: &mut Bench, order: &OperatorOrder) -> i64 {
    match bench.institution.operate(order, LATER).unwrap() {
        OrderOutcome::Pending(number) => number,
        OrderOutcome::Done(transaction) => panic!("{transaction:?}"),
    }
}

fn audit(bench: &mut Bench) -> Vec<AuditEntry> {
    let entries = bench.institution.newest_audit_entries(None, u32::MAX).unwrap();
    entries.into_iter().map(|(_, entry)| entry).collect()
}

fn an_operator_ends_what_a_dead_terminal_left(mut bench: Bench) {
    let (first, second) = (approve(&mut bench, 1), approve(&mut bench, 2));
    let ordered = order(&bench, first, Operation::Capture);
    let captured = done(&mut bench, &ordered);
    assert_eq!(captured.state, TransactionState::Captured);
    let answer = bench.institution.transaction(bench.terminal, first).unwrap();
    let status = ReceiptStatus::Captured { approval_code: "12345Z".to_owned(), refunded_minor: 0 };
    assert_eq!(bench.receipt(&answer).status, status);
    let ordered_reversal = order(&bench, second, Operation::Reverse);
    let reversed = done(&mut bench, &ordered_reversal);
    assert_eq!((reversed.state, reversed.reversal_reason), (TransactionState::Reversed, None));
    let answer = bench.institution.transaction(bench.terminal, second).unwrap();
    assert_eq!(bench.receipt(&answer).status, ReceiptStatus::Reversed);
    assert_eq!((bench.available(), bench.held(), bench.payable()), (9_750, 0, 250));
    // A repeat is done already, and leaves no second entry.
    assert_eq!(done(&mut bench, &ordered), captured);
    assert_eq!(done(&mut bench, &ordered_reversal), reversed);
    let entries = audit(&mut bench);
    assert_eq!(entries.len(), 2);
    assert_eq!((entries[0].operator.as_str(), entries[0].made_at), ("anna", LATER));
    assert_eq!(entries[0].reason, "the machine burnt down");
    assert_eq!(entries[0].action, OperatorAction::Capture);
    assert_eq!(entries[0].before.state, TransactionState::Approved);
    assert_eq!(entries[0].after.state, TransactionState::Captured);
    // The terminal comes back: it hears of it.
    bench.institution.capture(bench.terminal, first, LATER).unwrap();
    assert!(bench.institution.capture(bench.terminal, second, LATER).is_err());
    bench.assert_books_right();
}

fn a_write_off_pays_holder_and_merchant(mut bench: Bench) {
    let id = approve(&mut bench, 1);
    let ordered = order(&bench, id, Operation::WriteOff);
    let written_off = done(&mut bench, &ordered);
    assert_eq!(written_off.state, TransactionState::Reversed);
    assert_eq!(written_off.written_off_at, Some(LATER));
    assert_eq!((bench.available(), bench.held(), bench.payable()), (10_000, 0, 250));
    let answer = bench.institution.transaction(bench.terminal, id).unwrap();
    assert_eq!(bench.receipt(&answer).status, ReceiptStatus::Reversed);
    assert_eq!(done(&mut bench, &ordered), written_off);
    assert_eq!(audit(&mut bench).len(), 1);
    // A reversal is another thing than a write-off.
    let reversal = order(&bench, id, Operation::Reverse);
    assert!(matches!(
        bench.institution.operate(&reversal, LATER),
        Err(InstitutionError::NotReversible { .. })
    ));
    bench.assert_books_right();
}

fn refunds_give_back_parts_and_never_more_than_was_captured(mut bench: Bench) {
    let id = capture(&mut bench, 1);
    let first = order(&bench, id, refund(1, Some("1.00")));
    assert_eq!(done(&mut bench, &first).refunded_minor, 100);
    let answer = bench.institution.transaction(bench.terminal, id).unwrap();
    let receipt = bench.receipt(&answer);
    let status =
        ReceiptStatus::Captured { approval_code: "12345Z".to_owned(), refunded_minor: 100 };
    assert_eq!(
        (receipt.status, receipt.amount, receipt.decided_at),
        (status, euros("2.50"), LATER)
    );
    for (too_much, told) in [("1.51", "1.50 EUR of it"), ("2.50", "1.50 EUR of it")] {
        let order = order(&bench, id, refund(2, Some(too_much)));
        let error = bench.institution.operate(&order, LATER).unwrap_err().to_string();
        assert!(error.contains(told), "{error}");
    }
    let francs =
        Operation::Refund { id: RefundId([2; 16]), amount: Some("1.00 CHF".parse().unwrap()) };
    let francs = order(&bench, id, francs);
    assert!(bench.institution.operate(&francs, LATER).is_err());
    // What is left.
    let rest = order(&bench, id, refund(2, None));
    assert_eq!(done(&mut bench, &rest).refunded_minor, 250);
    for amount in [None, Some("0.01")] {
        let more = order(&bench, id, refund(3, amount));
        let error = bench.institution.operate(&more, LATER).unwrap_err().to_string();
        assert!(error.contains("all of it was given back"), "{error}");
    }
    assert_eq!((bench.available(), bench.payable()), (10_000, 0));
    let given: Vec<_> = audit(&mut bench)
        .iter()
        .map(|entry| (entry.before.refunded_minor, entry.after.refunded_minor))
        .collect();
    assert_eq!(given, [(0, 100), (100, 250)]);
    // The terminal's repeats: the first answer to the capture, and no reversal.
    let repeated = bench.institution.capture(bench.terminal, id, LATER).unwrap();
    let status = ReceiptStatus::Captured { approval_code: "12345Z".to_owned(), refunded_minor: 0 };
    assert_eq!(bench.receipt(&repeated).status, status);
    let (terminal, reason) = (bench.terminal, ReversalReason::DispenseFailed);
    assert!(bench.institution.reverse(terminal, id, reason, LATER).is_err());
    bench.assert_books_right();
}

fn a_repeated_refund_gives_back_once(mut bench: Bench) {
    let (first, second) = (capture(&mut bench, 1), capture(&mut bench, 2));
    let ordered = order(&bench, first, refund(1, Some("1.00")));
    let answer = done(&mut bench, &ordered);
    assert_eq!(done(&mut bench, &ordered), answer);
    assert_eq!(bench.available(), 9_600);
    for other in [
        order(&bench, first, refund(1, Some("1.01"))),
        order(&bench, second, refund(1, Some("1.00"))),
        order(&bench, second, refund(1, None)),
    ] {
        assert!(matches!(
            bench.institution.operate(&other, LATER),
            Err(InstitutionError::RefundUsed(id)) if id == RefundId([1; 16])
        ));
    }
    assert_eq!(audit(&mut bench).len(), 1);
    bench.assert_books_right();
}

fn an_action_that_the_state_does_not_allow_changes_nothing(mut bench: Bench) {
    let approved = approve(&mut bench, 1);
    let captured = capture(&mut bench, 2);
    let declined = bench.authorise(&bench.request(3, euros("50.01"), 3)).id;
    let (terminal, buried) = (bench.terminal, transaction_id(4));
    bench.institution.reverse(terminal, buried, ReversalReason::Unanswered, NOW).unwrap();
    let unseen = transaction_id(5);
    for (id, operation) in [
        (approved, refund(1, Some("1.00"))),
        (approved, refund(1, None)),
        (captured, Operation::Reverse),
        (captured, Operation::WriteOff),
        (declined, Operation::Capture),
        (declined, Operation::Reverse),
        (declined, Operation::WriteOff),
        (declined, refund(1, None)),
        (buried, Operation::Capture),
        (buried, Operation::WriteOff),
        (buried, refund(1, None)),
        (unseen, Operation::Capture),
        (unseen, Operation::Reverse),
        (unseen, refund(1, None)),
    ] {
        let wrong = order(&bench, id, operation);
        let refused = bench.institution.operate(&wrong, LATER);
        assert!(refused.is_err(), "{wrong:?}: {refused:?}");
    }
    assert_eq!(audit(&mut bench), []);
    assert_eq!((bench.available(), bench.held(), bench.payable()), (9_500, 250, 250));
    bench.assert_books_right();
}

fn what_cannot_be_done_is_not_asked_of_a_second_person(mut bench: Bench) {
    bench.institution = bench.institution.with_two_people_above(Some(0));
    let (approved, captured) = (approve(&mut bench, 1), capture(&mut bench, 2));
    for (id, operation) in [
        (approved, refund(1, Some("1.00"))),
        (captured, refund(1, Some("2.51"))),
        (captured, Operation::Reverse),
        (captured, Operation::WriteOff),
    ] {
        let wrong = order(&bench, id, operation);
        let refused = bench.institution.operate(&wrong, LATER);
        assert!(refused.is_err(), "{wrong:?}: {refused:?}");
    }
    assert_eq!(bench.institution.requests().unwrap(), []);
}

fn two_people_decide_above_the_bound(mut bench: Bench) {
    bench.institution = bench.institution.with_two_people_above(Some(249));
    let id = approve(&mut bench, 1);
    let ordered = order(&bench, id, Operation::Capture);
    let number = pending(&mut bench, &ordered);
    assert_eq!(bench.held(), 250, "nothing was done yet");
    assert_eq!(pending(&mut bench, &ordered), number, "the same order is one request");
    assert!(matches!(
        bench.institution.confirm_request(number, "anna", LATER),
        Err(InstitutionError::SamePerson { .. })
    ));
    assert!(matches!(
        bench.institution.confirm_request(number + 1, "berta", LATER),
        Err(InstitutionError::NotFound { .. })
    ));
    let captured = bench.institution.confirm_request(number, "berta", LATER).unwrap();
    assert_eq!(captured.state, TransactionState::Captured);
    assert_eq!(bench.institution.confirm_request(number, "berta", LATER).unwrap(), captured);
    assert!(matches!(
        bench.institution.confirm_request(number, "clara", LATER),
        Err(InstitutionError::RequestDecided(_))
    ));
    let entries = audit(&mut bench);
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].approved_by.as_deref(), Some("berta"));
    assert_eq!((entries[0].operator.as_str(), entries[0].request), ("anna", Some(number)));
    assert_eq!((bench.held(), bench.payable()), (0, 250));
    // At the bound one is enough.
    let below = bench.authorise(&bench.request(2, euros("2.49"), 2)).id;
    let ordered = order(&bench, below, Operation::Reverse);
    assert_eq!(done(&mut bench, &ordered).state, TransactionState::Reversed);
    bench.assert_books_right();
}

fn parts_of_a_refund_count_together_for_the_bound(mut bench: Bench) {
    bench.institution = bench.institution.with_two_people_above(Some(100));
    let id = capture(&mut bench, 1);
    let first = order(&bench, id, refund(1, Some("1.00")));
    done(&mut bench, &first);
    let second = order(&bench, id, refund(2, Some("0.01")));
    let number = pending(&mut bench, &second);
    assert_eq!(bench.available(), 9_850);
    let refunded = bench.institution.confirm_request(number, "berta", LATER).unwrap();
    assert_eq!(refunded.refunded_minor, 101);
    // Confirmed, a repeat of the order is done already.
    assert_eq!(done(&mut bench, &second), refunded);
    bench.assert_books_right();
}

fn a_refused_request_is_never_carried_out(mut bench: Bench) {
    bench.institution = bench.institution.with_two_people_above(Some(0));
    let id = approve(&mut bench, 1);
    let ordered = order(&bench, id, Operation::Capture);
    let number = pending(&mut bench, &ordered);
    bench.institution.refuse_request(number, "anna", LATER).unwrap();
    assert!(matches!(
        bench.institution.confirm_request(number, "berta", LATER),
        Err(InstitutionError::RequestDecided(_))
    ));
    assert!(bench.institution.refuse_request(number, "berta", LATER).is_err());
    assert!(bench.institution.refuse_request(9, "berta", LATER).is_err());
    assert_eq!(bench.held(), 250);
    // The terminal ended it meanwhile: what was asked for is refused in its own words.
    let number = pending(&mut bench, &ordered);
    let reason = ReversalReason::Cancelled;
    bench.institution.reverse(bench.terminal, id, reason, LATER).unwrap();
    assert!(matches!(
        bench.institution.confirm_request(number, "berta", LATER),
        Err(InstitutionError::NotCapturable { .. })
    ));
    let requests = bench.institution.requests().unwrap();
    let confirmed: Vec<_> = requests
        .iter()
        .map(|request| request.decision.as_ref().map(|decision| decision.is_confirmed))
        .collect();
    assert_eq!(confirmed, [Some(false), None]);
    assert_eq!(audit(&mut bench), []);
    bench.assert_books_right();
}

fn an_order_without_a_name_or_a_reason_is_refused(mut bench: Bench) {
    let id = approve(&mut bench, 1);
    let good = order(&bench, id, Operation::Capture);
    let long = "x".repeat(257);
    for (bad, wrong) in [
        (OperatorOrder { operator: String::new(), ..good.clone() }, "by"),
        (OperatorOrder { reason: " ".to_owned(), ..good.clone() }, "reason"),
        (OperatorOrder { reason: "two\nlines".to_owned(), ..good.clone() }, "reason"),
        (OperatorOrder { reason: long, ..good.clone() }, "reason"),
    ] {
        assert!(matches!(
            bench.institution.operate(&bad, LATER),
            Err(InstitutionError::InvalidRequest { field, .. }) if field == wrong
        ));
    }
    assert_eq!(bench.held(), 250);
    assert!(bench.institution.confirm_request(1, "", LATER).is_err());
}

fn a_blocked_terminal_ends_what_was_approved_before_while_the_hold_lasts(mut bench: Bench) {
    let ids: Vec<_> = (1..=4).map(|number| approve(&mut bench, number)).collect();
    bench.institution.set_terminal_blocked(bench.terminal, Some(LATER)).unwrap();
    let (terminal, reason) = (bench.terminal, ReversalReason::DispenseFailed);
    let end = UnixTime { seconds: NOW.seconds + HOLD_S };
    bench.institution.capture(terminal, ids[0], end).unwrap();
    bench.institution.reverse(terminal, ids[1], reason, end).unwrap();
    let after = UnixTime { seconds: end.seconds + 1 };
    for refused in [
        bench.institution.capture(terminal, ids[2], after),
        bench.institution.reverse(terminal, ids[2], reason, after),
    ] {
        let error = refused.unwrap_err();
        assert!(matches!(error, InstitutionError::HoldEnded { id, .. } if id == ids[2]), "{error}");
    }
    // Repeats are answered, and it may still say what it never used.
    bench.institution.capture(terminal, ids[0], after).unwrap();
    bench.institution.reverse(terminal, ids[1], reason, after).unwrap();
    bench.institution.reverse(terminal, transaction_id(9), reason, after).unwrap();
    assert_eq!(bench.held(), 500);
    // An operator can end it, and so can the terminal once it is unblocked.
    let ordered = order(&bench, ids[2], Operation::Capture);
    bench.institution.operate(&ordered, after).unwrap();
    bench.institution.set_terminal_blocked(terminal, None).unwrap();
    bench.institution.capture(terminal, ids[3], after).unwrap();
    bench.assert_books_right();
    // What was approved after the block, however that came, it may not end.
    let id = approve(&mut bench, 5);
    let before = UnixTime { seconds: NOW.seconds - 1 };
    bench.institution.set_terminal_blocked(terminal, Some(before)).unwrap();
    let refused = bench.institution.capture(terminal, id, NOW);
    assert!(matches!(refused, Err(InstitutionError::HoldEnded { .. })));
}

fn tombstones_have_a_quota_for_each_terminal(mut bench: Bench) {
    bench.institution.tombstones_max = 3;
    let (terminal, reason) = (bench.terminal, ReversalReason::NotUsed);
    let bury = |bench: &mut Bench, terminal, number, now| {
        bench.institution.reverse(terminal, transaction_id(number), reason, now)
    };
    let seen = approve(&mut bench, 9);
    for number in 1..=3 {
        bury(&mut bench, terminal, number, NOW).unwrap();
    }
    let refused = bury(&mut bench, terminal, 4, LATER).unwrap_err();
    assert!(matches!(refused, InstitutionError::TooManyTombstones(_)), "{refused}");
    let state = bench.institution.transaction(terminal, transaction_id(4)).unwrap().state;
    assert_eq!(state, TransactionState::Unknown);
    // Ids that were seen, other terminals, and the next day are not concerned.
    bury(&mut bench, terminal, 3, LATER).unwrap();
    bench.institution.reverse(terminal, seen, reason, LATER).unwrap();
    bury(&mut bench, TerminalId::from_random([9; 10]), 4, LATER).unwrap();
    let next_day = UnixTime { seconds: NOW.seconds + TOMBSTONE_PERIOD_S + 1 };
    bury(&mut bench, terminal, 4, next_day).unwrap();
    bench.assert_books_right();
}
