//! The institution without a network, over each store there is: every decision, every repeat, and
//! random histories against a model.

/// Runs each test over each store.
macro_rules! for_every_store {
    ($($test:ident),* $(,)?) => {
        mod over_sqlite {
            $(
                #[test]
                fn $test() {
                    super::$test(crate::institution::tests::Bench::over_sqlite());
                }
            )*
        }

        mod over_memory {
            $(
                #[test]
                fn $test() {
                    super::$test(crate::institution::tests::Bench::over_memory());
                }
            )*
        }
    };
}

mod cardholder;
mod copies;
mod declines;
mod enrolment;
mod evidence;
mod histories;
mod operations;
mod payments;
mod presentation;
mod reconciliation;
mod renewal;

use super::*;
use crate::credential::{
    CardCommand, KeyId, Keyring, PayloadType, SealedCommand, Signed, SigningKey, VerifyingKey,
    card_enrolment_proof, channel_key_proof, verify_receipt,
};
use crate::domain::{
    Amount, CardId, DeclineReason, HolderVerification, Offer, OfferParts, Receipt, ReceiptStatus,
    ReversalReason, TerminalId, TransactionId, TransactionState, UnixTime,
};
use crate::protocol::{ChannelKey, decode_offer, digest_offer, encode_offer};

pub(super) const NOW: UnixTime = UnixTime { seconds: 1_800_000_000 };
const LATER: UnixTime = UnixTime { seconds: NOW.seconds + 60 };
const RANDOM: [u8; APPROVAL_CODE_CHARACTERS] = [1, 2, 3, 4, 5, 31];
const MERCHANT: &str = "Corner Kiosk";

/// An institution with one account of 100.00 EUR, one card of up to 50.00 EUR at once (passcode
/// above 20.00 EUR), and one terminal.
pub(super) struct Bench {
    pub institution: Institution,
    pub terminal: TerminalId,
    account: AccountId,
    card: CardId,
    card_key: SigningKey,
}

pub(super) fn euros(text: &str) -> Amount {
    Amount::parse_major(text, "EUR".parse().unwrap()).unwrap()
}

fn code(number: u8) -> EnrolmentCode {
    EnrolmentCode::from_random([number; 16])
}

/// The channel key of that number, proved for this code.
fn claim(number: u8, code: &str) -> ChannelKeyClaim {
    let key = ChannelKey::from_octets([number; 32]);
    let sealing_key = keys().sealing.public_key();
    let proof = channel_key_proof(key.expose_octets(), &sealing_key, code).unwrap().to_vec();
    ChannelKeyClaim { channel_key: key.public_key(), proof }
}

fn transaction_id(number: u8) -> TransactionId {
    TransactionId::from_random([number; 16])
}

fn keys() -> InstitutionKeys {
    let mut seed = [7; KEY_SEED_OCTETS];
    seed[32..64].fill(8);
    seed[64..96].fill(9);
    InstitutionKeys::generate("Example Bank", &seed, NOW).unwrap().0
}

impl Bench {
    fn over_sqlite() -> Self {
        Self::over(SqliteStore::open_in_memory().unwrap())
    }

    fn over_memory() -> Self {
        Self::over(MemoryStore::new())
    }

    pub(super) fn over(store: impl Store + 'static) -> Self {
        let mut institution = Institution::new(keys(), store);
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
        let text = code(2).expose_text();
        institution.enrol_terminal(&text, &claim(4, &text), &[5; 32], NOW).unwrap();
        Self { institution, terminal, account, card, card_key }
    }

    fn offer(&self, number: u8, amount: Amount) -> Offer {
        Offer::new(self.offer_parts(number, amount)).unwrap()
    }

    fn offer_parts(&self, number: u8, amount: Amount) -> OfferParts {
        OfferParts {
            transaction_id: transaction_id(number),
            terminal_id: self.terminal,
            merchant_name: MERCHANT.to_owned(),
            amount,
            valid_for_s: 60,
            nonce: [number; 16],
            reference: String::new(),
            items: Vec::new(),
            capture_after_dispense: true,
        }
    }

    /// As another terminal would make it.
    fn offer_of(&self, terminal_id: TerminalId, number: u8) -> Offer {
        let parts = self.offer_parts(number, euros("2.50"));
        Offer::new(OfferParts { terminal_id, ..parts }).unwrap()
    }

    /// In the name of another merchant.
    fn offer_named(&self, merchant_name: &str, number: u8) -> Offer {
        let merchant_name = merchant_name.to_owned();
        let parts = self.offer_parts(number, euros("2.50"));
        Offer::new(OfferParts { merchant_name, ..parts }).unwrap()
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
            sequence: u64::from(offer.transaction_id().as_octets()[0]) + 1,
        }
    }

    pub(super) fn request(&self, number: u8, amount: Amount, counter: u64) -> AuthorisationRequest {
        self.request_with(&self.offer(number, amount), |command| CardCommand { counter, ..command })
    }

    pub(super) fn authorise(&mut self, request: &AuthorisationRequest) -> Transaction {
        self.institution.authorise(request, NOW, RANDOM).unwrap()
    }

    /// Has the request declined for this reason and nothing else happen.
    fn assert_declined(&mut self, request: &AuthorisationRequest, reason: DeclineReason) {
        let before = self.available();
        let answer = self.authorise(request);
        assert_eq!(
            (answer.state, answer.decline_reason()),
            (TransactionState::Declined(reason), Some(reason))
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
        verify_receipt(&Signed::decode(&transaction.receipt).unwrap(), &keyring, NOW).unwrap()
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

    pub(super) fn assert_books_right(&mut self) {
        assert_eq!(self.institution.check_ledger().unwrap().faults, []);
    }
}
