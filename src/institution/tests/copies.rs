//! Two machines with one identity.

use super::store::SEQUENCE_GAP_MAX;
use super::*;

for_every_store!(
    two_machines_with_one_identity_are_noticed_and_stopped_until_an_operator_decides,
    one_machine_is_never_taken_for_two,
    a_machine_that_counts_far_above_the_other_is_noticed_too,
);

fn two_machines_with_one_identity_are_noticed_and_stopped_until_an_operator_decides(
    mut bench: Bench,
) {
    let original = bench.request(1, euros("2.50"), 1);
    let first = bench.authorise(&original);
    let copy =
        AuthorisationRequest { sequence: original.sequence, ..bench.request(2, euros("2.50"), 2) };
    let refused = |bench: &mut Bench, request: &AuthorisationRequest| {
        let answer = bench.institution.authorise(request, NOW, RANDOM);
        assert!(matches!(answer, Err(InstitutionError::TerminalCopied(_))), "{answer:?}");
    };
    refused(&mut bench, &copy);
    assert_eq!(bench.institution.terminals().unwrap()[0].copied_at, Some(NOW));
    // Both machines, whatever number they give.
    let third = bench.request(3, euros("2.50"), 2);
    refused(&mut bench, &third);
    assert_eq!(bench.held(), 250);
    // What is open is settled, and what was refused is given up for good.
    let terminal = bench.terminal;
    assert_eq!(bench.authorise(&original), first, "a repeat");
    bench.institution.capture(terminal, first.id, NOW).unwrap();
    let unknown = bench.institution.transaction(terminal, copy.transaction_id).unwrap();
    assert_eq!(unknown.state, TransactionState::Unknown);
    bench
        .institution
        .reverse(terminal, copy.transaction_id, ReversalReason::Unanswered, NOW)
        .unwrap();
    assert!(bench.authorise(&copy).is_too_late, "a tombstone answers first");

    let clear = |bench: &mut Bench, reason: &str| {
        bench.institution.clear_terminal_copy(terminal, "Olivia", reason, NOW)
    };
    assert!(clear(&mut bench, "").is_err(), "a reason is needed");
    clear(&mut bench, "the copy was destroyed").unwrap();
    assert!(matches!(clear(&mut bench, "again"), Err(InstitutionError::NotCopied(_))));
    let log = bench.institution.newest_maintenance(9).unwrap();
    assert_eq!(log[0].action, MaintenanceAction::ClearCopy(terminal));
    assert_eq!(bench.authorise(&third).state, TransactionState::Approved);
    // If both still run, they are noticed again.
    let sequence = third.sequence;
    let fourth = bench.request(4, euros("2.50"), 3);
    refused(&mut bench, &AuthorisationRequest { sequence, ..fourth });
    bench.assert_books_right();
}

/// A copy without the journal begins its numbers by its clock.
fn a_machine_that_counts_far_above_the_other_is_noticed_too(mut bench: Bench) {
    let numbered = |bench: &Bench, number: u8, sequence| AuthorisationRequest {
        sequence,
        ..bench.request(number, euros("2.50"), number.into())
    };
    let far = 72 + SEQUENCE_GAP_MAX;
    for (number, sequence) in [(1, 70), (2, 71), (3, far), (4, 72)] {
        bench.authorise(&numbered(&bench, number, sequence));
    }
    let behind = numbered(&bench, 6, 60);
    assert!(matches!(
        bench.institution.authorise(&behind, NOW, RANDOM),
        Err(InstitutionError::TerminalCopied(_))
    ));
}

fn one_machine_is_never_taken_for_two(mut bench: Bench) {
    // Numbers that were never sent leave gaps, and a repeat has the number of the first.
    for (number, sequence) in [(1, 1), (2, 5), (2, 5), (3, 4), (4, i64::MAX as u64)] {
        let request = bench.request(number, euros("2.50"), number.into());
        bench.authorise(&AuthorisationRequest { sequence, ..request });
    }
    for sequence in [0, i64::MAX as u64 + 1] {
        let request = AuthorisationRequest { sequence, ..bench.request(9, euros("2.50"), 9) };
        assert!(matches!(
            bench.institution.authorise(&request, NOW, RANDOM),
            Err(InstitutionError::InvalidRequest { field: "sequence", .. })
        ));
    }
    assert_eq!(bench.institution.terminals().unwrap()[0].copied_at, None);
}
