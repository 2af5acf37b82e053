//! What a cardholder is told: of the card's own payments all, of others nothing but that they are.

use super::*;
use crate::credential::{sign_cardholder_question, verify_exclusion};
use crate::domain::CommandDigest;
use crate::institution::records::TransactionKey;

for_every_store!(
    a_card_hears_of_its_own_payment_and_of_another_only_that_it_is_not_its_own,
    a_tombstone_excludes_every_command,
    a_card_lists_its_payments_newest_first,
    a_restored_phone_hears_where_its_counter_stands,
    only_the_card_itself_is_answered,
);

impl Bench {
    fn question(&self, subject: QuestionSubject) -> CardholderQuestion {
        let signed = sign_cardholder_question(vec![1], &self.card_key);
        CardholderQuestion { signed, card: self.card, subject }
    }

    fn ask(&mut self, subject: QuestionSubject) -> CardholderAnswer {
        let question = self.question(subject);
        self.institution.answer_cardholder(&question).unwrap()
    }

    fn subject_of(&self, request: &AuthorisationRequest) -> QuestionSubject {
        QuestionSubject::Payment {
            key: TransactionKey { terminal: self.terminal, id: request.transaction_id },
            command_digest: SealedCommand::digest_of_encoded(&request.sealed_command),
        }
    }

    fn listed(&mut self, before_number: Option<i64>, count_max: u32) -> Vec<CardPayment> {
        match self.ask(QuestionSubject::Payments { before_number, count_max }) {
            CardholderAnswer::Payments(payments) => payments,
            other @ (CardholderAnswer::Payment(_) | CardholderAnswer::Card(_)) => {
                panic!("{other:?}")
            }
        }
    }
}

fn a_card_hears_of_its_own_payment_and_of_another_only_that_it_is_not_its_own(mut bench: Bench) {
    let request = bench.request(1, euros("2.50"), 1);
    let subject = bench.subject_of(&request);
    let QuestionSubject::Payment { key, command_digest } = subject else { panic!() };
    assert_eq!(
        bench.ask(subject),
        CardholderAnswer::Payment(PaymentStanding::Own(Transaction::unknown(key.id)))
    );
    let approved = bench.authorise(&request);
    assert_eq!(
        bench.ask(subject),
        CardholderAnswer::Payment(PaymentStanding::Own(approved.clone()))
    );
    let other = CommandDigest([9; 32]);
    let excluded =
        PaymentStanding::Excluded { transaction_id: key.id, exclusion: approved.exclusion.clone() };
    let asked = bench.ask(QuestionSubject::Payment { key, command_digest: other });
    assert_eq!(asked, CardholderAnswer::Payment(excluded.clone()));
    // Another card that somehow knows the digest hears no more.
    let (card, card_key) =
        (CardId::from_octets(&[1; 16]).unwrap(), SigningKey::from_scalar(&[6; 32]).unwrap());
    let terms = CardTerms {
        account: bench.account,
        payment_limit: euros("1.00"),
        verification_limit: None,
    };
    bench.institution.add_card(card, terms, &code(7), LATER, NOW).unwrap();
    let text = code(7).expose_text();
    let proof = card_enrolment_proof(&card_key, &text);
    bench.institution.enrol_card(&text, &card_key.verifying_key().to_sec1(), &proof, NOW).unwrap();
    (bench.card, bench.card_key) = (card, card_key);
    let subject = QuestionSubject::Payment { key, command_digest };
    assert_eq!(bench.ask(subject), CardholderAnswer::Payment(excluded));
    assert_eq!(bench.listed(None, 100), []);
}

fn a_tombstone_excludes_every_command(mut bench: Bench) {
    let request = bench.request(1, euros("2.50"), 1);
    let (terminal, id) = (bench.terminal, request.transaction_id);
    bench.institution.reverse(terminal, id, ReversalReason::NotUsed, NOW).unwrap();
    let subject = bench.subject_of(&request);
    let QuestionSubject::Payment { command_digest, .. } = subject else { panic!() };
    let CardholderAnswer::Payment(PaymentStanding::Excluded { exclusion, .. }) = bench.ask(subject)
    else {
        panic!("a tombstone shows nothing but its exclusion")
    };
    let keys = bench.institution.keys();
    let keyring = Keyring::verify(keys.keyring(), keys.root_public_key()).unwrap();
    let exclusion = verify_exclusion(&Signed::decode(&exclusion).unwrap(), &keyring, NOW).unwrap();
    assert!(exclusion.excludes(id, terminal, command_digest));
}

fn a_card_lists_its_payments_newest_first(mut bench: Bench) {
    for number in 1..=5 {
        bench.authorise(&bench.request(number, euros("2.50"), number.into()));
    }
    let numbers = |payments: &[CardPayment]| {
        payments.iter().map(|payment| payment.number).collect::<Vec<_>>()
    };
    let first = bench.listed(None, 2);
    assert_eq!(numbers(&first), [5, 4]);
    assert_eq!(first[0].merchant_name, MERCHANT);
    assert_eq!(first[0].transaction.id, transaction_id(5));
    let second = bench.listed(Some(4), 2);
    assert_eq!(numbers(&second), [3, 2]);
    assert_eq!(numbers(&bench.listed(Some(2), 100)), [1]);
    assert_eq!(bench.listed(Some(1), 100), []);
}

fn a_restored_phone_hears_where_its_counter_stands(mut bench: Bench) {
    bench.authorise(&bench.request(1, euros("2.50"), 7));
    bench.institution.set_card_blocked(bench.card, true).unwrap();
    let CardholderAnswer::Card(standing) = bench.ask(QuestionSubject::Card) else { panic!() };
    assert_eq!((standing.counter, standing.payment_limit_minor), (7, 5_000));
    assert!(standing.is_blocked, "a blocked card may still ask");
    assert_eq!(standing.keyring, bench.institution.keys().keyring().encode());
}

fn only_the_card_itself_is_answered(mut bench: Bench) {
    let good = bench.question(QuestionSubject::Card);
    let thief = SigningKey::from_scalar(&[12; 32]).unwrap();
    let forged =
        CardholderQuestion { signed: sign_cardholder_question(vec![1], &thief), ..good.clone() };
    let altered = CardholderQuestion {
        signed: Signed { body: vec![2], ..good.signed.clone() },
        ..good.clone()
    };
    let unknown =
        CardholderQuestion { card: CardId::from_octets(&[1; 16]).unwrap(), ..good.clone() };
    for question in [forged, altered, unknown] {
        assert!(matches!(
            bench.institution.answer_cardholder(&question),
            Err(InstitutionError::CardNotProved)
        ));
    }
    bench.institution.answer_cardholder(&good).unwrap();
}
