//! The terminal believes the institution as strictly as a phone does: what is not proven neither
//! releases goods nor ends a payment.

use super::*;
use crate::credential::SigningKey;
use crate::domain::{Receipt, ReceiptStatus};

/// Every way in which a receipt for `payment` may fail to prove its status.
fn faulty_receipts(payment: &Payment, status: &ReceiptStatus) -> Vec<(&'static str, Vec<u8>)> {
    let digest = payment.command_digest().unwrap();
    let signed = |change: &dyn Fn(&mut Receipt)| {
        let mut receipt = fixtures::receipt(payment, digest, status.clone());
        change(&mut receipt);
        sign_receipt(&receipt, &fixtures::receipt_key()).encode()
    };
    let other_status = match status {
        ReceiptStatus::Reversed => ReceiptStatus::Declined(DeclineReason::CardBlocked),
        _ => ReceiptStatus::Reversed,
    };
    let forged = sign_receipt(
        &fixtures::receipt(payment, digest, status.clone()),
        &SigningKey::from_scalar(&[99; 32]).unwrap(),
    );
    vec![
        ("octets that are no receipt", vec![1, 2, 3]),
        ("a forged one", forged.encode()),
        ("of another transaction", signed(&|it| it.transaction_id = fixtures::transaction_id(999))),
        ("of another terminal", signed(&|it| it.terminal_id = "0123456789".parse().unwrap())),
        ("of another offer", signed(&|it| it.offer_digest.0[0] ^= 1)),
        ("of 0.01 for an offer of 2.50", signed(&|it| it.amount = "0.01 EUR".parse().unwrap())),
        ("of another currency", signed(&|it| it.amount = "2.50 USD".parse().unwrap())),
        ("of another command", signed(&|it| it.command_digest.0[0] ^= 1)),
        ("of another status", signed(&|it| it.status = other_status.clone())),
    ]
}

fn claims(payment: &Payment, state: TransactionState) -> Vec<(&'static str, TransactionClaim)> {
    let approval_code = String::from("A1B2C3");
    let status = match state {
        TransactionState::Approved => ReceiptStatus::Approved { approval_code },
        TransactionState::Captured => ReceiptStatus::Captured { approval_code, refunded_minor: 0 },
        TransactionState::Declined(reason) => ReceiptStatus::Declined(reason),
        TransactionState::Reversed => ReceiptStatus::Reversed,
        TransactionState::Unknown => panic!("it has no receipt"),
    };
    let honest = fixtures::claim(payment, state);
    let mut claims = vec![("no receipt", TransactionClaim { receipt: None, ..honest.clone() })];
    for (fault, receipt) in faulty_receipts(payment, &status) {
        claims.push((fault, TransactionClaim { receipt: Some(receipt), ..honest.clone() }));
    }
    claims
}

#[test]
fn an_answer_that_proves_nothing_releases_nothing_and_ends_nothing() {
    let declined = TransactionState::Declined(DeclineReason::InsufficientFunds);
    for state in [TransactionState::Approved, declined, TransactionState::Reversed] {
        for number in 0..10 {
            let (mut bench, mut phone, transaction_id) = Bench::paying(number % 2 == 0);
            let (fault, claim) = claims(&bench.payment(transaction_id), state).swap_remove(number);
            bench.claim(transaction_id, claim);
            assert_eq!(bench.state(transaction_id), PaymentState::Unresolved, "{state:?}, {fault}");
            assert!(!bench.has_released(), "{state:?}, {fault}");
            let told = outcomes(&phone.hear(&mut bench));
            assert_eq!(told, [Outcome::Pending], "{state:?}, {fault}");
            let figures = bench.terminal.open_payments(bench.now.wall);
            assert_eq!(figures.disputed, [transaction_id], "{state:?}, {fault}");
            assert!(bench.published().last().unwrap().disputed, "{state:?}, {fault}");
        }
    }
}

#[test]
fn a_capture_and_a_reversal_end_only_on_a_proper_receipt() {
    for (dispensed, state) in
        [(true, TransactionState::Captured), (false, TransactionState::Reversed)]
    {
        for number in 0..10 {
            let (mut bench, _, transaction_id) = Bench::paying(true);
            bench.answer(transaction_id, TransactionState::Approved);
            bench.till(TillRequest::Complete { transaction_id, dispensed }).unwrap();
            let before = bench.state(transaction_id);
            let (fault, claim) = claims(&bench.payment(transaction_id), state).swap_remove(number);
            // The exclusion of a decided payment is no tombstone.
            bench.claim(transaction_id, claim);
            assert_eq!(bench.state(transaction_id), before, "{state:?}, {fault}");
            // The terminal asks how it stands, and believes a proper answer.
            bench.requests();
            bench.pass_ms(Settings::default().retry_backoff_max_ms);
            assert_eq!(bench.requests(), [InstitutionRequest::Inquire { transaction_id }]);
            bench.answer(transaction_id, state);
            assert!(bench.state(transaction_id).is_final(), "{state:?}, {fault}");
        }
    }
}

#[test]
fn a_tombstone_needs_an_exclusion_of_every_command() {
    let (mut bench, _, transaction_id) = Bench::paying(false);
    let payment = bench.payment(transaction_id);
    let digest = payment.command_digest();
    let other = fixtures::payment(9, PaymentState::Offered);
    for exclusion in [
        None,
        Some(vec![1, 2, 3]),
        Some(fixtures::exclusion(&payment, digest)),
        Some(fixtures::exclusion(&other, None)),
    ] {
        let bare = TransactionClaim::bare(TransactionState::Reversed);
        bench.claim(transaction_id, TransactionClaim { exclusion, ..bare });
        assert_eq!(bench.state(transaction_id), PaymentState::Unresolved);
    }
    bench.answer_tombstone(transaction_id);
    let reversed = PaymentState::Reversed(ReversalReason::Unanswered);
    assert_eq!(bench.state(transaction_id), reversed);
}

#[test]
fn a_refused_capture_is_a_disagreement_that_an_operator_is_told_at_once() {
    let (mut bench, _, transaction_id) = Bench::paying(true);
    bench.answer(transaction_id, TransactionState::Approved);
    bench.till(TillRequest::Complete { transaction_id, dispensed: true }).unwrap();
    let answer = InstitutionAnswer::Refused { detail: "NotFound".into() };
    bench.input(Input::Institution { transaction_id, answer });
    assert_eq!(bench.terminal.open_payments(bench.now.wall).disputed, [transaction_id]);
    bench.requests();
    bench.pass_ms(Settings::default().retry_backoff_max_ms);
    assert_eq!(bench.requests(), [InstitutionRequest::Inquire { transaction_id }]);
    bench.answer(transaction_id, TransactionState::Approved);
    assert_eq!(bench.terminal.open_payments(bench.now.wall).disputed, [], "they agree again");
    bench.pass_ms(Settings::default().retry_backoff_max_ms);
    assert_eq!(bench.requests(), [InstitutionRequest::Capture { transaction_id }]);
}

#[test]
fn a_receipt_too_long_for_a_message_is_told_as_pending() {
    let (mut bench, mut phone, transaction_id) = Bench::paying(false);
    let payment = bench.payment(transaction_id);
    let approval_code = "A".repeat(crate::protocol::MESSAGE_OCTETS_MAX);
    let status = ReceiptStatus::Approved { approval_code };
    let receipt = fixtures::receipt(&payment, payment.command_digest().unwrap(), status);
    let receipt = Some(sign_receipt(&receipt, &fixtures::receipt_key()).encode());
    let honest = fixtures::claim(&payment, TransactionState::Approved);
    bench.claim(transaction_id, TransactionClaim { receipt, ..honest });
    assert!(bench.has_released());
    assert_eq!(outcomes(&phone.hear(&mut bench)), [Outcome::Pending]);
}
