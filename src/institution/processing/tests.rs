//! The institution without a network: every decision, every repeat, and random histories against a
//! model.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::credential::{
    CardCommand, KeyId, Keyring, PayloadType, SealedCommand, Signed, SigningKey,
    card_enrolment_proof, verify_receipt,
};
use crate::domain::{HolderVerification, Offer, OfferParts};
use crate::institution::keys::KEY_SEED_OCTETS;
use crate::institution::store::LedgerBalance;
use crate::protocol::encode_offer;

const NOW: UnixTime = UnixTime { seconds: 1_800_000_000 };
const LATER: UnixTime = UnixTime { seconds: NOW.seconds + 60 };
const RANDOM: [u8; APPROVAL_CODE_CHARACTERS] = [1, 2, 3, 4, 5, 31];
const MERCHANT: &str = "Corner Kiosk";

/// An institution with one account of 100.00 EUR, one card of up to 50.00 EUR at once (passcode
/// above 20.00 EUR), and one terminal.
struct Bench {
    institution: Institution,
    terminal: TerminalId,
    account: AccountId,
    card: CardId,
    card_key: SigningKey,
}

fn euros(text: &str) -> Amount {
    Amount::parse_major(text, "EUR".parse().unwrap()).unwrap()
}

fn code(number: u8) -> EnrolmentCode {
    EnrolmentCode::from_random([number; 16])
}

fn transaction_id(number: u8) -> TransactionId {
    TransactionId::from_random([number; 16])
}

impl Bench {
    fn new() -> Self {
        let mut seed = [7; KEY_SEED_OCTETS];
        seed[32..64].fill(8);
        seed[64..96].fill(9);
        let (keys, _) = InstitutionKeys::generate("Example Bank", &seed, NOW).unwrap();
        let mut institution = Institution::new(keys, Store::open_in_memory().unwrap());
        let account = institution
            .create_account("Alice", "EUR".parse().unwrap(), Some(euros("100.00")), NOW)
            .unwrap();
        let card = CardId::from_octets(&[0xab; 16]).unwrap();
        let terms = CardTerms {
            account,
            payment_limit: euros("50.00"),
            verification_limit: Some(euros("20.00")),
        };
        institution.add_card(card, terms, &code(1), LATER, NOW).unwrap();
        let card_key = SigningKey::from_scalar(&[5; 32]).unwrap();
        let text = code(1).expose_text();
        let proof = card_enrolment_proof(&card_key, &text);
        institution.enrol_card(&text, &card_key.verifying_key().to_sec1(), &proof, NOW).unwrap();
        let terminal = TerminalId::from_random([3; 10]);
        institution.add_terminal(terminal, "kiosk-1", MERCHANT, &code(2), LATER, NOW).unwrap();
        institution.enrol_terminal(&code(2).expose_text(), &[4; 32], &[5; 32], NOW).unwrap();
        Self { institution, terminal, account, card, card_key }
    }

    fn offer(&self, number: u8, amount: Amount) -> Offer {
        Offer::new(OfferParts {
            transaction_id: transaction_id(number),
            terminal_id: self.terminal,
            merchant_name: MERCHANT.to_owned(),
            amount,
            valid_for_s: 60,
            nonce: [number; 16],
            reference: String::new(),
            items: Vec::new(),
            capture_after_dispense: true,
        })
        .unwrap()
    }

    fn offer_of(&self, terminal_id: TerminalId, number: u8) -> Offer {
        let parts = self.offer(number, euros("2.50")).into_parts();
        Offer::new(OfferParts { terminal_id, ..parts }).unwrap()
    }

    fn command(&self, offer: &[u8], counter: u64) -> CardCommand {
        CardCommand {
            card_id: self.card,
            offer_digest: digest_offer(offer),
            counter,
            holder_verification: HolderVerification::Consent,
        }
    }

    fn seal(&self, octets: &[u8], offer: &[u8]) -> Vec<u8> {
        let keys = self.institution.keys();
        let keyring = Keyring::verify(keys.keyring(), keys.root_public_key()).unwrap();
        let key = keyring.sealing_key(NOW).unwrap();
        key.seal(octets, &digest_offer(offer), [6; 32]).unwrap().encode()
    }

    fn request_with(
        &self,
        offer: &Offer,
        command: impl FnOnce(CardCommand) -> CardCommand,
    ) -> AuthorisationRequest {
        let octets = encode_offer(offer);
        let command = command(self.command(&octets, 1));
        let sealed_command = self.seal(&command.sign(&self.card_key).encode(), &octets);
        AuthorisationRequest {
            terminal_id: self.terminal,
            transaction_id: offer.transaction_id(),
            offer: octets,
            offer_age_ms: 1_000,
            sealed_command,
        }
    }

    fn request(&self, number: u8, amount: Amount, counter: u64) -> AuthorisationRequest {
        self.request_with(&self.offer(number, amount), |command| CardCommand { counter, ..command })
    }

    fn authorise(&mut self, request: &AuthorisationRequest) -> Transaction {
        self.institution.authorise(request, NOW, RANDOM).unwrap()
    }

    /// Has the request declined for this reason and nothing else happen.
    fn assert_declined(&mut self, request: &AuthorisationRequest, reason: DeclineReason) {
        let before = self.available();
        let answer = self.authorise(request);
        assert_eq!(
            (answer.state, answer.decline_reason),
            (TransactionState::Declined, Some(reason))
        );
        let receipt = self.receipt(&answer);
        assert_eq!(receipt.status, ReceiptStatus::Declined(reason));
        assert_eq!((receipt.transaction_id, receipt.amount), (answer.id, answer.amount.unwrap()));
        assert_eq!(receipt.offer_digest, digest_offer(&request.offer));
        assert_eq!(self.available(), before);
        assert_eq!(self.authorise(request), answer, "a repeat of a decline");
        // There is nothing to take or to give back.
        let captured = self.institution.capture(self.terminal, answer.id, NOW);
        assert!(matches!(captured, Err(InstitutionError::NotCapturable { .. })));
        let reversed = self
            .institution
            .reverse(self.terminal, answer.id, ReversalReason::Unanswered, NOW)
            .unwrap();
        assert_eq!(reversed, answer);
        self.assert_books_right();
    }

    fn receipt(&self, transaction: &Transaction) -> Receipt {
        let keys = self.institution.keys();
        let keyring = Keyring::verify(keys.keyring(), keys.root_public_key()).unwrap();
        verify_receipt(&Signed::decode(&transaction.receipt).unwrap(), &keyring).unwrap()
    }

    fn available(&mut self) -> u64 {
        self.institution.account(self.account).unwrap().available_minor
    }

    fn held(&mut self) -> u64 {
        self.institution.account(self.account).unwrap().held_minor
    }

    fn payable(&mut self) -> i64 {
        let balances = self.institution.check_ledger().unwrap().balances;
        balances
            .iter()
            .find(|balance| balance.kind == "payable")
            .map_or(0, |balance| balance.balance_minor)
    }

    fn counter(&mut self) -> u64 {
        self.institution.cards().unwrap()[0].counter
    }

    fn assert_books_right(&mut self) {
        assert_eq!(self.institution.check_ledger().unwrap().faults, []);
    }
}

#[test]
fn a_payment_is_held_captured_and_given_back() {
    let mut bench = Bench::new();
    let request = bench.request(1, euros("2.50"), 1);
    let approved = bench.authorise(&request);
    assert_eq!((approved.state, approved.decline_reason), (TransactionState::Approved, None));
    let receipt = bench.receipt(&approved);
    assert_eq!(receipt.status, ReceiptStatus::Approved { approval_code: "12345Z".to_owned() });
    assert_eq!((receipt.card_hint.as_str(), receipt.terminal_id), ("abab", bench.terminal));
    assert_eq!((bench.available(), bench.held(), bench.payable()), (9_750, 250, 0));
    bench.assert_books_right();

    let captured = bench.institution.capture(bench.terminal, approved.id, LATER).unwrap();
    assert_eq!(captured.state, TransactionState::Captured);
    assert_eq!(captured.receipt, approved.receipt);
    assert_eq!((bench.available(), bench.held(), bench.payable()), (9_750, 0, 250));
    bench.assert_books_right();

    let reason = ReversalReason::DispenseFailed;
    let reversed = bench.institution.reverse(bench.terminal, approved.id, reason, LATER).unwrap();
    assert_eq!(reversed.state, TransactionState::Reversed);
    let receipt = bench.receipt(&reversed);
    assert_eq!((receipt.status, receipt.decided_at), (ReceiptStatus::Reversed, LATER));
    assert_eq!((bench.available(), bench.held(), bench.payable()), (10_000, 0, 0));
    bench.assert_books_right();
}

#[test]
fn what_is_only_held_is_given_back_too() {
    let mut bench = Bench::new();
    let approved = bench.authorise(&bench.request(1, euros("2.50"), 1));
    bench
        .institution
        .reverse(bench.terminal, approved.id, ReversalReason::Cancelled, LATER)
        .unwrap();
    assert_eq!((bench.available(), bench.held(), bench.payable()), (10_000, 0, 0));
    bench.assert_books_right();
}

#[test]
fn the_answer_to_a_repeat_is_the_first_answer() {
    let mut bench = Bench::new();
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
    let reversed =
        bench.institution.reverse(terminal, id, ReversalReason::Cancelled, LATER).unwrap();
    let repeated =
        bench.institution.reverse(terminal, id, ReversalReason::DispenseUnknown, LATER).unwrap();
    assert_eq!(repeated, reversed);
    assert_eq!(bench.institution.transaction(terminal, id).unwrap(), reversed);
    assert_eq!(bench.available(), 10_000);
    bench.assert_books_right();
}

#[test]
fn what_was_reversed_is_never_called_approved_again() {
    let mut bench = Bench::new();
    let request = bench.request(1, euros("2.50"), 1);
    let approved = bench.authorise(&request);
    let (terminal, id) = (bench.terminal, approved.id);
    let reversed =
        bench.institution.reverse(terminal, id, ReversalReason::Unanswered, NOW).unwrap();
    let late = bench.authorise(&request);
    assert_eq!(late.state, TransactionState::Reversed);
    assert_eq!(late.decline_reason, Some(DeclineReason::AlreadyReversed));
    assert_eq!(late.receipt, reversed.receipt);
    let captured = bench.institution.capture(terminal, id, NOW);
    assert!(matches!(
        captured,
        Err(InstitutionError::NotCapturable { state: TransactionState::Reversed, .. })
    ));
    assert_eq!(bench.available(), 10_000);
}

#[test]
fn the_same_id_with_other_content_is_an_error_and_no_second_charge() {
    let mut bench = Bench::new();
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

#[test]
fn a_reversal_that_comes_first_leaves_a_tombstone() {
    let mut bench = Bench::new();
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
        (late.state, late.decline_reason),
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

#[test]
fn another_terminal_sees_and_moves_nothing() {
    let mut bench = Bench::new();
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

#[test]
fn what_cannot_be_meant_is_refused_and_leaves_nothing() {
    let mut bench = Bench::new();
    let good = bench.request(1, euros("2.50"), 1);
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
    assert_eq!(state, TransactionState::Unknown);
    assert_eq!(bench.authorise(&good).state, TransactionState::Approved);
}

#[test]
fn declined_terminal_unknown() {
    let mut bench = Bench::new();
    bench.institution.set_terminal_blocked(bench.terminal, true).unwrap();
    let request = bench.request(1, euros("2.50"), 1);
    bench.assert_declined(&request, DeclineReason::TerminalUnknown);
    bench.institution.set_terminal_blocked(bench.terminal, false).unwrap();
    // One that the registry never had.
    let other = TerminalId::from_random([9; 10]);
    let offer = bench.offer_of(other, 2);
    let request = AuthorisationRequest {
        terminal_id: other,
        ..bench.request_with(&offer, |command| command)
    };
    assert_eq!(bench.authorise(&request).decline_reason, Some(DeclineReason::TerminalUnknown));
    // One that is registered and not enrolled.
    bench.institution.add_terminal(other, "kiosk-2", MERCHANT, &code(3), LATER, NOW).unwrap();
    let offer = bench.offer_of(other, 3);
    let request = AuthorisationRequest {
        terminal_id: other,
        ..bench.request_with(&offer, |command| command)
    };
    assert_eq!(bench.authorise(&request).decline_reason, Some(DeclineReason::TerminalUnknown));
    assert_eq!(bench.counter(), 0);
    bench.assert_books_right();
}

#[test]
fn a_blocked_terminal_still_settles_what_was_approved() {
    let mut bench = Bench::new();
    let first = bench.authorise(&bench.request(1, euros("2.50"), 1));
    let second = bench.authorise(&bench.request(2, euros("2.50"), 2));
    bench.institution.set_terminal_blocked(bench.terminal, true).unwrap();
    bench.institution.capture(bench.terminal, first.id, NOW).unwrap();
    bench.institution.reverse(bench.terminal, second.id, ReversalReason::Cancelled, NOW).unwrap();
    assert_eq!((bench.available(), bench.held(), bench.payable()), (9_750, 0, 250));
}

#[test]
fn declined_offer_mismatch() {
    let mut bench = Bench::new();
    // The terminal calls itself something else than the registry does.
    let parts = bench.offer(1, euros("2.50")).into_parts();
    let offer = Offer::new(OfferParts { merchant_name: "Charity".to_owned(), ..parts }).unwrap();
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

#[test]
fn declined_malformed_command() {
    let mut bench = Bench::new();
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
        let command = bench.command(&request.offer, u64::MAX);
        bench.seal(&command.sign(&bench.card_key).encode(), &request.offer)
    });
}

#[test]
fn declined_unknown_card() {
    let mut bench = Bench::new();
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

#[test]
fn declined_bad_signature() {
    let mut bench = Bench::new();
    let offer = encode_offer(&bench.offer(1, euros("2.50")));
    let thief = SigningKey::from_scalar(&[6; 32]).unwrap();
    let sealed_command = bench.seal(&bench.command(&offer, 1).sign(&thief).encode(), &offer);
    let request = AuthorisationRequest { sealed_command, ..bench.request(1, euros("2.50"), 1) };
    bench.assert_declined(&request, DeclineReason::BadSignature);
    assert_eq!(bench.counter(), 0, "nobody else can use up a card's counter");
}

#[test]
fn declined_counter_replayed() {
    let mut bench = Bench::new();
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

#[test]
fn a_decline_uses_the_counter_up() {
    let mut bench = Bench::new();
    let request = bench.request(1, euros("50.01"), 3);
    bench.assert_declined(&request, DeclineReason::OverLimit);
    let request = bench.request(2, euros("2.50"), 3);
    bench.assert_declined(&request, DeclineReason::CounterReplayed);
}

#[test]
fn declined_offer_expired() {
    let mut bench = Bench::new();
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

#[test]
fn declined_card_blocked() {
    let mut bench = Bench::new();
    bench.institution.set_card_blocked(bench.card, true).unwrap();
    let request = bench.request(1, euros("2.50"), 1);
    bench.assert_declined(&request, DeclineReason::CardBlocked);
    bench.institution.set_card_blocked(bench.card, false).unwrap();
    assert_eq!(
        bench.authorise(&bench.request(2, euros("2.50"), 2)).state,
        TransactionState::Approved
    );
}

#[test]
fn declined_card_expired() {
    let mut bench = Bench::new();
    let end = UnixTime { seconds: NOW.seconds + CARD_VALIDITY_S };
    let last = bench.request(1, euros("2.50"), 1);
    let approved = bench.institution.authorise(&last, end, RANDOM).unwrap();
    assert_eq!(approved.state, TransactionState::Approved);
    let over = bench.request(2, euros("2.50"), 2);
    let end = UnixTime { seconds: end.seconds + 1 };
    let declined = bench.institution.authorise(&over, end, RANDOM).unwrap();
    assert_eq!(declined.decline_reason, Some(DeclineReason::CardExpired));
    assert_eq!(
        bench.receipt(&declined).status,
        ReceiptStatus::Declined(DeclineReason::CardExpired)
    );
    bench.assert_books_right();
}

#[test]
fn declined_currency_mismatch() {
    let mut bench = Bench::new();
    let request = bench.request(1, "2.50 CHF".parse().unwrap(), 1);
    bench.assert_declined(&request, DeclineReason::CurrencyMismatch);
}

#[test]
fn declined_over_limit() {
    let mut bench = Bench::new();
    let offer = bench.offer(1, euros("50.01"));
    let request = bench.request_with(&offer, |command| CardCommand {
        holder_verification: HolderVerification::Biometric,
        ..command
    });
    bench.assert_declined(&request, DeclineReason::OverLimit);
}

#[test]
fn declined_verification_required() {
    let mut bench = Bench::new();
    let mut counter = 0;
    let mut pay = |bench: &mut Bench, amount, holder_verification| {
        counter += 1;
        let offer = bench.offer(u8::try_from(counter).unwrap(), amount);
        let request = bench.request_with(&offer, |command| CardCommand {
            counter,
            holder_verification,
            ..command
        });
        bench.authorise(&request).decline_reason
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

#[test]
fn declined_insufficient_funds() {
    let mut bench = Bench::new();
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
    let source = include_str!("tests.rs");
    // The reference institution gives no reasons of later versions.
    for reason in DeclineReason::ALL.into_iter().filter(|reason| *reason != DeclineReason::Other) {
        let wanted = format!("DeclineReason::{reason:?}");
        assert!(source.contains(&wanted), "{wanted}");
    }
}

#[test]
fn a_terminal_code_is_good_once() {
    let mut bench = Bench::new();
    let other = TerminalId::from_random([9; 10]);
    let institution = &mut bench.institution;
    institution.add_terminal(other, "kiosk-2", "Kiosk 2", &code(3), LATER, NOW).unwrap();
    let text = code(3).expose_text();
    let after = UnixTime { seconds: LATER.seconds + 1 };
    assert!(matches!(
        institution.enrol_terminal(&text, &[1; 32], &[2; 32], after),
        Err(InstitutionError::CodeExpired(LATER))
    ));
    let enrolment = institution.enrol_terminal(&text, &[1; 32], &[2; 32], NOW).unwrap();
    assert_eq!(enrolment.terminal_id, other);
    // A lost answer: the same keys again.
    assert_eq!(institution.enrol_terminal(&text, &[1; 32], &[2; 32], NOW).unwrap(), enrolment);
    for (channel_key, client_key) in [([9; 32], [2; 32]), ([1; 32], [9; 32])] {
        assert!(matches!(
            institution.enrol_terminal(&text, &channel_key, &client_key, NOW),
            Err(InstitutionError::CodeUsed)
        ));
    }
    institution.check_client_key(other, &[2; 32]).unwrap();
    assert!(institution.check_client_key(other, &[9; 32]).is_err());
    // A newer code voids the older, and a newer enrolment the older certificate.
    institution.renew_terminal_code(other, &code(4), LATER).unwrap();
    institution.renew_terminal_code(other, &code(5), LATER).unwrap();
    assert!(matches!(
        institution.enrol_terminal(&code(4).expose_text(), &[7; 32], &[8; 32], NOW),
        Err(InstitutionError::CodeUnknown)
    ));
    institution.enrol_terminal(&code(5).expose_text(), &[7; 32], &[8; 32], NOW).unwrap();
    assert!(matches!(
        institution.check_client_key(other, &[2; 32]),
        Err(InstitutionError::CertificateReplaced(_))
    ));
    institution.renew_terminal_code(other, &code(6), LATER).unwrap();
    institution.set_terminal_blocked(other, true).unwrap();
    assert!(matches!(
        institution.enrol_terminal(&code(6).expose_text(), &[7; 32], &[8; 32], NOW),
        Err(InstitutionError::Blocked(_))
    ));
}

#[test]
fn a_card_code_wants_the_cards_key_and_is_good_once() {
    let mut bench = Bench::new();
    let card = CardId::from_octets(&[1; 16]).unwrap();
    let terms = CardTerms {
        account: bench.account,
        payment_limit: euros("10.00"),
        verification_limit: None,
    };
    bench.institution.add_card(card, terms, &code(3), LATER, NOW).unwrap();
    let text = code(3).expose_text();
    let key = SigningKey::from_scalar(&[11; 32]).unwrap();
    let thief = SigningKey::from_scalar(&[12; 32]).unwrap();
    let public = key.verifying_key().to_sec1();
    let institution = &mut bench.institution;
    let wrong = card_enrolment_proof(&thief, &text);
    assert!(matches!(
        institution.enrol_card(&text, &public, &wrong, NOW),
        Err(InstitutionError::InvalidRequest { field: "proof", .. })
    ));
    let proof = card_enrolment_proof(&key, &text);
    let enrolment = institution.enrol_card(&text, &public, &proof, NOW).unwrap();
    assert_eq!((enrolment.card_id, enrolment.payment_limit_minor), (card, 1_000));
    assert_eq!(institution.enrol_card(&text, &public, &proof, LATER).unwrap(), enrolment);
    let stolen = card_enrolment_proof(&thief, &text);
    assert!(matches!(
        institution.enrol_card(&text, &thief.verifying_key().to_sec1(), &stolen, NOW),
        Err(InstitutionError::CodeUsed)
    ));
    // A terminal's code enrols no card, and the other way round.
    assert!(institution.enrol_terminal(&text, &[1; 32], &[2; 32], NOW).is_err());
    for nonsense in ["", "nonsense", "0000-0000-0000-0000"] {
        let proof = card_enrolment_proof(&key, nonsense);
        assert!(institution.enrol_card(nonsense, &public, &proof, NOW).is_err());
    }
}

#[test]
fn one_code_enrols_one_of_many_at_the_same_time() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.sqlite");
    let open = |path: &std::path::Path| {
        let mut seed = [7; KEY_SEED_OCTETS];
        seed[32..64].fill(8);
        let (keys, _) = InstitutionKeys::generate("Example Bank", &seed, NOW).unwrap();
        Institution::new(keys, Store::open(path).unwrap())
    };
    let terminal = TerminalId::from_random([3; 10]);
    open(&path).add_terminal(terminal, "kiosk-1", MERCHANT, &code(1), LATER, NOW).unwrap();
    let winners = std::thread::scope(|scope| {
        let racers: Vec<_> = (0..8_u8)
            .map(|number| {
                let mut institution = open(&path);
                scope.spawn(move || {
                    institution
                        .enrol_terminal(&code(1).expose_text(), &[number; 32], &[number; 32], NOW)
                        .map_err(|error| {
                            assert!(matches!(error, InstitutionError::CodeUsed), "{error}")
                        })
                        .is_ok()
                })
            })
            .collect();
        racers.into_iter().map(|racer| racer.join().unwrap()).filter(|won| *won).count()
    });
    assert_eq!(winners, 1);
}

#[test]
fn reconciliation_gives_every_transaction_of_the_period_once() {
    let mut bench = Bench::new();
    let count = u32::from(u8::MAX) + 100;
    for number in 0..count {
        let id = TransactionId::from_random(
            [[0; 12].as_slice(), &number.to_be_bytes()].concat().try_into().unwrap(),
        );
        let now = UnixTime { seconds: NOW.seconds + u64::from(number) };
        bench.institution.reverse(bench.terminal, id, ReversalReason::Unanswered, now).unwrap();
    }
    let collect = |bench: &mut Bench, from: u64, until: u64| {
        let (from, until) = (UnixTime { seconds: from }, UnixTime { seconds: until });
        let (mut all, mut after, mut pages) = (Vec::new(), None, 0);
        loop {
            let (page, next) =
                bench.institution.reconcile(bench.terminal, from, until, after).unwrap();
            all.extend(page.into_iter().map(|transaction| transaction.created_at.seconds));
            pages += 1;
            match next {
                Some(_) => after = next,
                None => return (all, pages),
            }
        }
    };
    let (all, pages) = collect(&mut bench, 0, u64::MAX);
    assert_eq!(all, (NOW.seconds..NOW.seconds + u64::from(count)).collect::<Vec<_>>());
    assert_eq!(pages, 2);
    let (some, _) = collect(&mut bench, NOW.seconds + 10, NOW.seconds + 20);
    assert_eq!(some, (NOW.seconds + 10..NOW.seconds + 20).collect::<Vec<_>>());
    let backwards = bench.institution.reconcile(bench.terminal, LATER, NOW, None);
    assert!(matches!(backwards, Err(InstitutionError::InvalidRequest { .. })));
    let other = TerminalId::from_random([9; 10]);
    let (none, _) = bench.institution.reconcile(other, NOW, LATER, None).unwrap();
    assert_eq!(none, []);
}

#[test]
fn the_check_finds_wrong_books() {
    let mut bench = Bench::new();
    let approved = bench.authorise(&bench.request(1, euros("2.50"), 1));
    bench.institution.capture(bench.terminal, approved.id, NOW).unwrap();
    bench.authorise(&bench.request(2, euros("2.50"), 2));
    bench.assert_books_right();
    for (damage, rule) in [
        (
            "UPDATE ledger_account SET balance_minor = balance_minor + 1 WHERE kind = 'payable'",
            "balance_is_sum_of_postings",
        ),
        (
            "UPDATE ledger_account SET balance_minor = balance_minor + 1 WHERE kind = 'payable'",
            "payable_is_what_is_captured",
        ),
        (
            "UPDATE payment_transaction SET state = 'captured', captured_at = 1 WHERE state = 'approved'",
            "held_is_what_is_approved",
        ),
        (
            "UPDATE payment_transaction SET state = 'captured', captured_at = 1 WHERE state = 'approved'",
            "transaction_has_its_entries",
        ),
        (
            "UPDATE payment_transaction SET amount_minor = 251 WHERE state = 'captured'",
            "entry_moves_the_amount",
        ),
        ("UPDATE card SET counter = counter + 1", "card_counter_is_the_highest_used"),
        ("INSERT INTO ledger_entry (kind, made_at) VALUES ('funding', 0)", "entry_has_postings"),
        (
            "INSERT INTO ledger_posting SELECT 1, id, 7 FROM ledger_account WHERE kind = 'held'",
            "entry_sums_to_zero",
        ),
    ] {
        let rolled_back: Result<LedgerReport, InstitutionError> =
            bench.institution.store.read(|connection| {
                connection.execute_batch(damage)?;
                Ok(store::ledger::check(connection)?)
            });
        let faults = rolled_back.unwrap().faults;
        assert!(faults.iter().any(|fault| fault.rule == rule), "{damage}: {faults:?}");
        bench.assert_books_right();
    }
    // What the store itself does not let happen.
    for damage in [
        "UPDATE ledger_posting SET amount_minor = 1",
        "DELETE FROM ledger_posting",
        "DELETE FROM ledger_entry",
        "UPDATE ledger_account SET balance_minor = -1 WHERE kind = 'held'",
        "UPDATE card SET counter = 0",
        "INSERT INTO ledger_entry (kind, payment_transaction, made_at) VALUES ('hold', 1, 0)",
        "UPDATE payment_transaction SET card_counter = 1",
    ] {
        let refused: Result<(), InstitutionError> =
            bench.institution.store.write(|connection| Ok(connection.execute_batch(damage)?));
        assert!(refused.is_err(), "{damage}");
    }
    bench.assert_books_right();
}

/// One step of a random history. Requests are numbered; some have the same id and other content,
/// some the same counter.
#[derive(Debug, Clone)]
enum Step {
    Authorise(usize),
    Capture(u8),
    Reverse(u8),
    Inquire(u8),
}

const IDS: u8 = 5;

/// Which id, how much, which counter.
type Plan = (u8, u64, u64);

fn history() -> impl Strategy<Value = (Vec<Plan>, Vec<Step>)> {
    let plan = (0..IDS, prop::sample::select(vec![1_u64, 999, 2_000, 4_000, 6_000]), 1..12_u64);
    (prop::collection::vec(plan, 8), 0..3_u8).prop_flat_map(|(plans, _)| {
        let requests = plans.len();
        let step = prop_oneof![
            3 => (0..requests).prop_map(Step::Authorise),
            1 => (0..IDS).prop_map(Step::Capture),
            1 => (0..IDS).prop_map(Step::Reverse),
            1 => (0..IDS).prop_map(Step::Inquire),
        ];
        (Just(plans), prop::collection::vec(step, 1..40))
    })
}

/// The institution as a person would explain it, with none of its code.
#[derive(Debug)]
struct Model {
    available: u64,
    counter: u64,
    /// By id: which request was first (none for a tombstone), its amount, and how it stands.
    transactions: BTreeMap<u8, (Option<usize>, u64, TransactionState, Option<DeclineReason>)>,
}

impl Model {
    fn sum(&self, state: TransactionState) -> u64 {
        self.transactions.values().filter(|known| known.2 == state).map(|known| known.1).sum()
    }

    /// The state and reason of the answer; none for an error.
    fn authorise(
        &mut self,
        request: usize,
        plan: Plan,
        same: &[bool],
    ) -> Option<(TransactionState, Option<DeclineReason>)> {
        let (id, amount, counter) = plan;
        if let Some((first, _, state, reason)) = self.transactions.get(&id) {
            return match (first, state) {
                (Some(first), _) if !same[*first] => None,
                (_, TransactionState::Reversed) => {
                    Some((TransactionState::Reversed, Some(DeclineReason::AlreadyReversed)))
                }
                (_, TransactionState::Declined) => Some((TransactionState::Declined, *reason)),
                (_, _) => Some((TransactionState::Approved, None)),
            };
        }
        let reason = if counter <= self.counter {
            Some(DeclineReason::CounterReplayed)
        } else {
            self.counter = counter;
            if amount > 5_000 {
                Some(DeclineReason::OverLimit)
            } else if amount > 2_000 {
                Some(DeclineReason::VerificationRequired)
            } else if amount > self.available {
                Some(DeclineReason::InsufficientFunds)
            } else {
                self.available -= amount;
                None
            }
        };
        let state =
            if reason.is_some() { TransactionState::Declined } else { TransactionState::Approved };
        self.transactions.insert(id, (Some(request), amount, state, reason));
        Some((state, reason))
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn no_history_debits_twice_or_unbalances_the_books((plans, steps) in history()) {
        let mut bench = Bench::new();
        // Little money, so that funds run out.
        let poor = bench.institution.create_account("Bob", "EUR".parse().unwrap(), Some(euros("45.00")), NOW).unwrap();
        let card = CardId::from_octets(&[2; 16]).unwrap();
        let terms = CardTerms { account: poor, payment_limit: euros("50.00"), verification_limit: Some(euros("20.00")) };
        bench.institution.add_card(card, terms, &code(7), LATER, NOW).unwrap();
        let proof = card_enrolment_proof(&bench.card_key, &code(7).expose_text());
        let public = bench.card_key.verifying_key().to_sec1();
        bench.institution.enrol_card(&code(7).expose_text(), &public, &proof, NOW).unwrap();
        (bench.account, bench.card) = (poor, card);

        let requests: Vec<_> = plans.iter().map(|(id, minor, counter)| {
            let amount = Amount::new(*minor, "EUR".parse().unwrap()).unwrap();
            bench.request(*id, amount, *counter)
        }).collect();
        let mut model = Model { available: 4_500, counter: 0, transactions: BTreeMap::new() };
        let mut first_answers: BTreeMap<usize, Transaction> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Authorise(index) => {
                    let same: Vec<_> = requests.iter().map(|other| *other == requests[index]).collect();
                    let expected = model.authorise(index, plans[index], &same);
                    match (bench.institution.authorise(&requests[index], NOW, RANDOM), expected) {
                        (Ok(answer), Some((state, reason))) => {
                            prop_assert_eq!((answer.state, answer.decline_reason), (state, reason));
                            if state != TransactionState::Reversed {
                                let first = first_answers.entry(index).or_insert_with(|| answer.clone());
                                prop_assert_eq!(&answer, &*first);
                            }
                        }
                        (Err(InstitutionError::OtherContent(_)), None) => {}
                        (answer, expected) => prop_assert!(false, "{:?}, expected {:?}", answer, expected),
                    }
                }
                Step::Capture(id) => {
                    let known = model.transactions.get_mut(&id);
                    let answer = bench.institution.capture(bench.terminal, transaction_id(id), NOW);
                    match known {
                        None => {
 let is_refused = matches!(answer, Err(InstitutionError::NotFound { .. }));
 prop_assert!(is_refused);
}
                        Some(known) if matches!(known.2, TransactionState::Approved | TransactionState::Captured) => {
                            known.2 = TransactionState::Captured;
                            prop_assert_eq!(answer.unwrap().state, TransactionState::Captured);
                        }
                        Some(_) => {
 let is_refused = matches!(answer, Err(InstitutionError::NotCapturable { .. }));
 prop_assert!(is_refused);
}
                    }
                }
                Step::Reverse(id) => {
                    let answer = bench
                        .institution
                        .reverse(bench.terminal, transaction_id(id), ReversalReason::Unanswered, NOW)
                        .unwrap();
                    let known = model.transactions.entry(id).or_insert((None, 0, TransactionState::Reversed, None));
                    if matches!(known.2, TransactionState::Approved | TransactionState::Captured) {
                        model.available += known.1;
                        known.2 = TransactionState::Reversed;
                    }
                    prop_assert_eq!((answer.state, answer.decline_reason), (known.2, known.3));
                }
                Step::Inquire(id) => {
                    let answer = bench.institution.transaction(bench.terminal, transaction_id(id)).unwrap();
                    let state = model.transactions.get(&id).map_or(TransactionState::Unknown, |known| known.2);
                    prop_assert_eq!(answer.state, state);
                }
            }
            let report = bench.institution.check_ledger().unwrap();
            prop_assert_eq!(&report.faults, &[]);
            let sum: i64 = report.balances.iter().map(|balance: &LedgerBalance| balance.balance_minor).sum();
            prop_assert_eq!(sum, 0);
            prop_assert_eq!(bench.available(), model.available);
            prop_assert_eq!(bench.held(), model.sum(TransactionState::Approved));
            let captured = i64::try_from(model.sum(TransactionState::Captured)).unwrap();
            prop_assert_eq!(bench.payable(), captured);
        }
    }

    #[test]
    fn no_octets_are_more_than_declined(sealed_command: Vec<u8>, number: u8) {
        let mut bench = Bench::new();
        let request = AuthorisationRequest { sealed_command, ..bench.request(number, euros("2.50"), 1) };
        let answer = bench.authorise(&request);
        prop_assert_eq!(answer.decline_reason, Some(DeclineReason::MalformedCommand));
    }
}
