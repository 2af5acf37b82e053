//! Evidence of payments, as a third party would check it.

use sha2::{Digest, Sha256};

use super::*;

for_every_store!(
    evidence_of_a_payment_holds_for_a_third_party,
    evidence_of_what_could_not_be_read_says_so,
    evidence_has_the_receipt_of_a_refund,
);

fn key(bench: &Bench, id: TransactionId) -> TransactionKey {
    TransactionKey { terminal: bench.terminal, id }
}

fn evidence_of_a_payment_holds_for_a_third_party(mut bench: Bench) {
    let request = bench.request(1, euros("2.50"), 1);
    let approved = bench.authorise(&request);
    bench.institution.capture(bench.terminal, approved.id, NOW).unwrap();
    let report = bench.institution.evidence(&key(&bench, approved.id)).unwrap();
    assert!(report.is_right(), "{:?}", report.checks);
    assert!(report.checks.iter().all(|check| check.is_right == Some(true)), "{:?}", report.checks);
    // From the octets alone, with the card's key alone.
    assert_eq!(report.evidence.offer, request.offer);
    assert_eq!(report.evidence.sealed_command, request.sealed_command);
    let (signed, command) = report.command.unwrap();
    let public = VerifyingKey::from_sec1(&report.evidence.card_public_key.unwrap()).unwrap();
    public.verify(PayloadType::CardCommand, &signed).unwrap();
    assert_eq!(command.offer_digest.0[..], Sha256::digest(&report.evidence.offer)[..]);
    let offer = decode_offer(&report.evidence.offer).unwrap();
    assert_eq!((offer.amount(), offer.transaction_id()), (euros("2.50"), approved.id));
    assert_eq!(report.receipts.len(), 2);
    assert_eq!(report.exclusion, approved.exclusion);
}

fn evidence_of_what_could_not_be_read_says_so(mut bench: Bench) {
    let request = AuthorisationRequest {
        sealed_command: vec![0xff; 40],
        ..bench.request(1, euros("2.50"), 1)
    };
    let declined = bench.authorise(&request);
    let report = bench.institution.evidence(&key(&bench, declined.id)).unwrap();
    assert!(report.is_right(), "{:?}", report.checks);
    let unchecked: Vec<_> = report
        .checks
        .iter()
        .filter(|check| check.is_right.is_none())
        .map(|check| check.name)
        .collect();
    let expected = [
        "sealed_command_opens_to_the_signed_one",
        "command_is_for_the_offer",
        "command_is_signed_by_the_card",
    ];
    assert_eq!(unchecked, expected);
    // A forged command is kept too, and the check says that it is not the card's.
    let offer = encode_offer(&bench.offer(2, euros("2.50")));
    let thief = SigningKey::from_scalar(&[6; 32]).unwrap();
    let sealed_command = bench.seal(&bench.command(&offer, 1).sign(&thief).encode(), &offer);
    let forged = AuthorisationRequest { sealed_command, ..bench.request(2, euros("2.50"), 1) };
    let declined = bench.authorise(&forged);
    let report = bench.institution.evidence(&key(&bench, declined.id)).unwrap();
    assert!(!report.is_right());
    let unseen = key(&bench, transaction_id(9));
    assert!(matches!(bench.institution.evidence(&unseen), Err(InstitutionError::NotFound { .. })));
}

fn evidence_has_the_receipt_of_a_refund(mut bench: Bench) {
    let approved = bench.authorise(&bench.request(1, euros("2.50"), 1));
    bench.institution.capture(bench.terminal, approved.id, NOW).unwrap();
    let order = OperatorOrder {
        operator: "anna".to_owned(),
        key: key(&bench, approved.id),
        operation: Operation::Refund { id: RefundId([1; 16]), amount: None },
        reason: "the goods were bad".to_owned(),
    };
    bench.institution.operate(&order, LATER).unwrap();
    let report = bench.institution.evidence(&key(&bench, approved.id)).unwrap();
    assert!(report.is_right(), "{:?}", report.checks);
    assert_eq!(report.receipts.len(), 3);
    assert_eq!(report.transaction.refunded_minor, 250);
}
