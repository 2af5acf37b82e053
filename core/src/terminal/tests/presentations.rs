//! An institution whose store was restored from a copy: the terminal presents what it may have
//! lost.

use super::*;

const OLD: StoreGeneration = StoreGeneration([1; 16]);
const NEW: StoreGeneration = StoreGeneration([2; 16]);

/// What an institution in this life of its store says of a payment.
fn said(payment: &Payment, state: TransactionState, life: StoreGeneration) -> TransactionClaim {
    TransactionClaim { store_generation: Some(life), ..fixtures::claim(payment, state) }
}

/// A finished payment of the old life.
fn captured(number: u32) -> Payment {
    let payment = Payment {
        command: Some(JournalledCommand::Full(vec![number as u8; 50])),
        confirmed_generation: Some(OLD),
        ..fixtures::payment(number, PaymentState::Captured)
    };
    let claim = fixtures::claim(&payment, TransactionState::Captured);
    Payment { receipt: claim.receipt, exclusion: claim.exclusion, ..payment }
}

/// What the engine searches the journal for, if it does.
fn search(bench: &mut Bench) -> Option<(StoreGeneration, Option<TransactionId>)> {
    let is_search = |output: &Output| matches!(output, Output::FindUnconfirmed { .. });
    let at = bench.outputs.iter().position(is_search)?;
    match bench.outputs.remove(at) {
        Output::FindUnconfirmed { generation, before, .. } => Some((generation, before)),
        _ => None,
    }
}

#[test]
fn what_another_life_of_the_store_has_not_confirmed_is_presented_newest_first() {
    let mut bench = Bench::new();
    let (_, transaction_id) = bench.pay(true);
    let paying = bench.payment(transaction_id);
    bench.claim(transaction_id, said(&paying, TransactionState::Approved, OLD));
    assert_eq!(search(&mut bench), Some((OLD, None)), "whatever an earlier run did not see");
    bench.input(Input::FoundUnconfirmed { generation: OLD, payments: Vec::new() });
    assert_eq!(search(&mut bench), None);

    bench.till(TillRequest::Complete { transaction_id, dispensed: true }).unwrap();
    bench.requests();
    let approved = bench.payment(transaction_id);
    bench.claim(transaction_id, said(&approved, TransactionState::Captured, NEW));
    assert_eq!(search(&mut bench), Some((NEW, None)));
    let (newer, older) = (captured(9), captured(8));
    bench.resumed = vec![newer.clone(), older.clone()];
    let payments = vec![newer.clone(), older.clone()];
    bench.input(Input::FoundUnconfirmed { generation: NEW, payments });
    assert_eq!(bench.terminal.open_count(), 0, "nothing is open for the till");
    let requests = bench.requests();
    let [
        InstitutionRequest::Present { offer, sealed_command, receipt, exclusion, .. },
        InstitutionRequest::Present { .. },
    ] = &requests[..]
    else {
        panic!("{requests:?}")
    };
    let asked = bench.payment(requests[0].transaction_id());
    assert_eq!(Some(receipt), asked.receipt.as_ref());
    assert_eq!(Some(exclusion), asked.exclusion.as_ref());
    assert_eq!(
        (offer, Some(&sealed_command[..])),
        (&asked.offer, asked.command.as_ref().unwrap().octets())
    );

    // One is lost, and its answer too; the other is there.
    let unanswered = InstitutionAnswer::Unanswered { detail: String::new() };
    bench.input(Input::Institution { transaction_id: newer.transaction_id, answer: unanswered });
    bench.claim(older.transaction_id, said(&older, TransactionState::Captured, NEW));
    assert_eq!(bench.payment(older.transaction_id).confirmed_generation, Some(NEW));
    assert_eq!(search(&mut bench), None, "one is still under way");
    bench.pass_ms(Settings::default().retry_backoff_max_ms);
    let requests = bench.requests();
    assert!(matches!(requests[..], [InstitutionRequest::Present { .. }]), "{requests:?}");
    bench.claim(newer.transaction_id, said(&newer, TransactionState::Captured, NEW));
    assert_eq!(search(&mut bench), Some((NEW, Some(older.transaction_id))));
    bench.input(Input::FoundUnconfirmed { generation: NEW, payments: Vec::new() });
    assert_eq!((search(&mut bench), bench.requests()), (None, Vec::new()));
    assert_eq!(bench.published().iter().filter(|view| view.state.is_final()).count(), 1);
}

#[test]
fn an_open_payment_that_the_institution_lost_is_presented_before_it_is_captured() {
    let (mut bench, _, transaction_id) = Bench::paying(true);
    let paying = bench.payment(transaction_id);
    bench.claim(transaction_id, said(&paying, TransactionState::Approved, OLD));
    bench.till(TillRequest::Complete { transaction_id, dispensed: true }).unwrap();
    assert_eq!(bench.requests(), [InstitutionRequest::Capture { transaction_id }]);
    let refused = InstitutionAnswer::Refused { detail: "NotFound".into() };
    bench.input(Input::Institution { transaction_id, answer: refused });
    let mut next = |claim: Option<TransactionClaim>| {
        if let Some(claim) = claim {
            bench.claim(transaction_id, claim);
        }
        bench.pass_ms(Settings::default().retry_backoff_max_ms);
        bench.requests()
    };
    assert_eq!(next(None), [InstitutionRequest::Inquire { transaction_id }]);
    let unknown = said(&paying, TransactionState::Unknown, NEW);
    let unknown = TransactionClaim { store_generation: Some(NEW), ..unknown };
    let requests = next(Some(unknown));
    assert!(matches!(requests[..], [InstitutionRequest::Present { .. }]), "{requests:?}");
    let approved = said(&paying, TransactionState::Approved, NEW);
    assert_eq!(next(Some(approved)), [InstitutionRequest::Capture { transaction_id }]);
}

#[test]
fn an_institution_that_does_not_take_a_payment_back_is_not_asked_for_ever() {
    let mut bench = Bench::new();
    let (_, transaction_id) = bench.pay(true);
    let paying = bench.payment(transaction_id);
    bench.claim(transaction_id, said(&paying, TransactionState::Approved, NEW));
    search(&mut bench);
    let lost = captured(9);
    bench.resumed = vec![lost.clone()];
    bench.input(Input::FoundUnconfirmed { generation: NEW, payments: vec![lost.clone()] });
    assert_eq!(bench.requests().len(), 1);
    bench.claim(lost.transaction_id, TransactionClaim::bare(TransactionState::Unknown));
    assert_eq!(search(&mut bench), Some((NEW, Some(lost.transaction_id))), "the next ones");
    bench.pass_ms(Settings::default().retry_backoff_max_ms);
    assert_eq!(bench.requests(), []);
}
