//! A store that was restored from a copy: what terminals present again, and what nobody can have
//! authorised anew.

use super::*;
use crate::credential::SealingKey;
use crate::institution::records::TransactionKey;

for_every_store!(
    what_was_captured_is_recorded_again_with_its_entries,
    what_was_reversed_or_declined_or_left_a_tombstone_is_recorded_again,
    a_payment_that_the_copy_has_is_brought_as_far_as_it_had_come,
    counters_come_back_in_any_order,
    nothing_but_the_institution_s_own_signature_is_believed,
    what_the_restored_store_cannot_carry_is_left_to_its_operator,
);

/// The same institution before its store was lost, with what the terminal has of it.
struct Before {
    bench: Bench,
}

impl Before {
    fn new() -> Self {
        Self { bench: Bench::over(MemoryStore::new()) }
    }

    fn present(&self, request: &AuthorisationRequest, newest: &Transaction) -> Presentation {
        Presentation {
            request: request.clone(),
            receipt: newest.receipt.clone(),
            exclusion: newest.exclusion.clone(),
        }
    }
}

impl Bench {
    /// As after `florin-acquirer store adopt`: the sealing key of before opens what is presented.
    fn adopted(mut self) -> Self {
        let former = std::mem::replace(
            &mut self.institution.keys.sealing,
            SealingKey::from_octets([0x42; 32]),
        );
        self.institution.keys.former_sealing.push(former);
        self
    }

    fn presented(&mut self, presentation: &Presentation) -> Transaction {
        let answer = self.institution.present(presentation, LATER).unwrap();
        assert_eq!(self.institution.present(presentation, LATER).unwrap(), answer, "a repeat");
        self.assert_books_right();
        answer
    }
}

fn what_was_captured_is_recorded_again_with_its_entries(bench: Bench) {
    let mut before = Before::new();
    let request = before.bench.request(1, euros("2.50"), 7);
    let approved = before.bench.authorise(&request);
    let captured = before.bench.institution.capture(bench.terminal, approved.id, LATER).unwrap();
    let mut bench = bench.adopted();
    // The command was used: with the old key nothing is authorised anew.
    let other = AuthorisationRequest { sequence: 9, ..request.clone() };
    let declined = bench.authorise(&other);
    assert_eq!(declined.decline_reason(), Some(DeclineReason::MalformedCommand));

    let mut bench = Bench::over(MemoryStore::new()).adopted();
    let answer = bench.presented(&before.present(&request, &captured));
    assert_eq!(answer.receipt, captured.receipt);
    assert_eq!(
        (answer.state, &answer.exclusion),
        (TransactionState::Captured, &captured.exclusion)
    );
    assert_eq!((bench.available(), bench.held(), bench.payable()), (9_750, 0, 250));
    assert_eq!(bench.counter(), 7);
    // A later copy of the request gets the first answer, which is the one of then.
    assert_eq!(bench.authorise(&request).receipt, approved.receipt);
}

fn what_was_reversed_or_declined_or_left_a_tombstone_is_recorded_again(bench: Bench) {
    let mut before = Before::new();
    let terminal = bench.terminal;
    let reason = ReversalReason::DispenseFailed;
    let reversed_request = before.bench.request(1, euros("2.50"), 1);
    before.bench.authorise(&reversed_request);
    let reversed = before
        .bench
        .institution
        .reverse(terminal, reversed_request.transaction_id, reason, LATER)
        .unwrap();
    let declined_request = before.bench.request(2, euros("50.01"), 2);
    let declined = before.bench.authorise(&declined_request);
    let void_request = before.bench.request(3, euros("2.50"), 3);
    let tombstone = before
        .bench
        .institution
        .reverse(terminal, void_request.transaction_id, reason, LATER)
        .unwrap();

    let mut bench = bench.adopted();
    assert_eq!(
        bench.presented(&before.present(&reversed_request, &reversed)).receipt,
        reversed.receipt
    );
    assert_eq!(
        bench.presented(&before.present(&declined_request, &declined)).receipt,
        declined.receipt
    );
    let empty = AuthorisationRequest {
        offer: Vec::new(),
        sealed_command: Vec::new(),
        sequence: 0,
        ..void_request.clone()
    };
    let answer = bench.presented(&before.present(&empty, &tombstone));
    assert_eq!((answer.state, answer.exclusion), (TransactionState::Reversed, tombstone.exclusion));
    assert!(bench.authorise(&void_request).is_too_late, "it stays void");
    assert_eq!((bench.available(), bench.held(), bench.counter()), (10_000, 0, 2));
}

fn a_payment_that_the_copy_has_is_brought_as_far_as_it_had_come(mut bench: Bench) {
    let mut before = Before::new();
    for (number, captures) in [(1, true), (2, false)] {
        let request = bench.request(number, euros("2.50"), number.into());
        let copied = bench.authorise(&request);
        assert_eq!(before.bench.authorise(&request), copied);
        let (institution, terminal) = (&mut before.bench.institution, bench.terminal);
        let newest = if captures {
            institution.capture(terminal, copied.id, LATER).unwrap()
        } else {
            institution.reverse(terminal, copied.id, ReversalReason::Cancelled, LATER).unwrap()
        };
        assert_eq!(bench.presented(&before.present(&request, &newest)), newest);
        // An older receipt takes nothing back.
        assert_eq!(bench.presented(&before.present(&request, &copied)), newest);
    }
    assert_eq!((bench.available(), bench.held(), bench.payable()), (9_750, 0, 250));
}

fn counters_come_back_in_any_order(bench: Bench) {
    let mut before = Before::new();
    let requests: Vec<_> =
        (1..=3).map(|number| before.bench.request(number, euros("1.00"), number.into())).collect();
    let answers: Vec<_> = requests.iter().map(|request| before.bench.authorise(request)).collect();
    let mut bench = bench.adopted();
    for place in [2, 0, 1] {
        bench.presented(&before.present(&requests[place], &answers[place]));
    }
    assert_eq!((bench.counter(), bench.held()), (3, 300));
    assert_eq!(
        bench.institution.capture(bench.terminal, answers[0].id, LATER).unwrap().state,
        TransactionState::Captured
    );
}

fn nothing_but_the_institution_s_own_signature_is_believed(bench: Bench) {
    let mut before = Before::new();
    let request = before.bench.request(1, euros("2.50"), 1);
    let approved = before.bench.authorise(&request);
    let good = before.present(&request, &approved);
    let other_request = before.bench.request(2, euros("2.50"), 2);
    let other = before.bench.authorise(&other_request);
    let altered = |octets: &[u8]| {
        let mut octets = octets.to_vec();
        *octets.last_mut().unwrap() ^= 1;
        octets
    };
    let mut bench = bench.adopted();
    let dearer = before.bench.request(1, euros("3.00"), 1);
    for wrong in [
        Presentation { receipt: altered(&good.receipt), ..good.clone() },
        Presentation { exclusion: altered(&good.exclusion), ..good.clone() },
        Presentation { receipt: Vec::new(), ..good.clone() },
        Presentation { exclusion: Vec::new(), ..good.clone() },
        Presentation { receipt: other.receipt.clone(), ..good.clone() },
        Presentation { exclusion: other.exclusion.clone(), ..good.clone() },
        Presentation { request: dearer, ..good.clone() },
        Presentation {
            request: AuthorisationRequest {
                sealed_command: other_request.sealed_command.clone(),
                ..request.clone()
            },
            ..good.clone()
        },
        // An exclusion that names a command is no tombstone.
        Presentation {
            request: AuthorisationRequest {
                offer: Vec::new(),
                sealed_command: Vec::new(),
                ..request.clone()
            },
            receipt: Vec::new(),
            ..good.clone()
        },
    ] {
        let refused = bench.institution.present(&wrong, LATER);
        assert!(matches!(refused, Err(InstitutionError::InvalidRequest { .. })), "{refused:?}");
    }
    assert_eq!(bench.held(), 0);
    bench.presented(&good);
    assert_eq!(bench.held(), 250);
}

fn what_the_restored_store_cannot_carry_is_left_to_its_operator(bench: Bench) {
    let mut before = Before::new();
    let request = before.bench.request(1, euros("20.00"), 1);
    let approved = before.bench.authorise(&request);
    let mut bench = bench;
    // The money was spent meanwhile.
    for number in 2..=6 {
        bench.authorise(&bench.request(number, euros("20.00"), number.into()));
    }
    let refused = bench.institution.present(&before.present(&request, &approved), LATER);
    assert!(matches!(refused, Err(InstitutionError::NotPresentable { .. })), "{refused:?}");
    let key = TransactionKey { terminal: bench.terminal, id: approved.id };
    assert_eq!(bench.institution.store.transaction(&key).unwrap(), None);
    bench.assert_books_right();
}
