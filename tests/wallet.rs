//! A card's questions to a real institution over TLS on loopback: enrolment, results, standing.

#![cfg(all(feature = "wallet", feature = "institution"))]
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use florin::credential::{CardCommand, SigningKey, card_enrolment_proof, channel_key_proof};
use florin::domain::{
    CardId, HolderVerification, Offer, OfferParts, ReceiptStatus, ReversalReason, TerminalId,
    TransactionId, UnixTime,
};
use florin::institution::{
    AuthorisationRequest, CardTerms, ChannelKeyClaim, EnrolmentCode, Institution, Server,
    authority_certificate_path, create_institution, open_institution,
};
use florin::protocol::{ChannelKey, digest_offer, encode_offer};
use florin::wallet::{
    Card, CardName, CardStanding, ContactError, DirectoryError, EnrolmentError, EnrolmentRequest,
    InstitutionContact, Online, OnlineError, PaymentRecord, PaymentStatus, PaymentStore,
    PendingReason, SessionEnd, WalletDirectory, ask_online, enrol_card,
};
use sha2::{Digest, Sha256};

struct Bench {
    _directory: tempfile::TempDir,
    _server: Server,
    institution: Institution,
    wallet: WalletDirectory,
    request: EnrolmentRequest,
    code: String,
}

fn in_an_hour() -> UnixTime {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    UnixTime { seconds: now + 3600 }
}

async fn bench() -> Bench {
    let directory = tempfile::tempdir().unwrap();
    let bank = directory.path().join("bank");
    let now = UnixTime { seconds: in_an_hour().seconds - 3600 };
    create_institution(&bank, "Bank", &["localhost".to_owned()], now).unwrap();
    let mut opened = open_institution(&bank).unwrap();
    let account = opened
        .institution
        .create_account("Alice", "EUR".parse().unwrap(), Some("100.00 EUR".parse().unwrap()), now)
        .unwrap();
    let code = EnrolmentCode::from_random([7; 16]);
    let terms = CardTerms {
        account,
        payment_limit: "50.00 EUR".parse().unwrap(),
        verification_limit: None,
    };
    let card_id = CardId::from_octets(&[0xab; 16]).unwrap();
    opened.institution.add_card(card_id, terms, &code, in_an_hour(), now).unwrap();
    let server = Server::start(opened, "127.0.0.1:0".parse().unwrap()).await.unwrap();
    let code = code.expose_text().to_string();
    let request = EnrolmentRequest {
        institution: InstitutionContact {
            address: format!("https://localhost:{}", server.local_address().port())
                .parse()
                .unwrap(),
            root_pem: std::fs::read(authority_certificate_path(&bank)).unwrap(),
        },
        code: code.clone().into(),
        name: None,
    };
    Bench {
        institution: open_institution(&bank).unwrap().institution,
        wallet: WalletDirectory::open(directory.path().join("wallet")).unwrap(),
        _directory: directory,
        _server: server,
        request,
        code,
    }
}

fn enrolments(wallet: &WalletDirectory) -> usize {
    std::fs::read_dir(wallet.path().join("enrolments")).unwrap().count()
}

#[tokio::test]
async fn a_code_puts_one_card_into_one_wallet() {
    let bench = bench().await;
    let card = enrol_card(&bench.wallet, bench.request.clone()).await.unwrap();
    assert_eq!(card.name().as_str(), "card-abab");
    assert_eq!(card.payment_limit(), "50.00 EUR".parse().unwrap());
    assert_eq!(card.keyring().institution_name, "Bank");
    assert_eq!(bench.wallet.card(card.name()).unwrap().card_id(), card.card_id());
    assert_eq!(bench.wallet.counter(card.name()).unwrap(), 0);
    assert_eq!(enrolments(&bench.wallet), 0, "the key is in one place only");

    let other = WalletDirectory::open(bench.wallet.path().with_extension("other")).unwrap();
    let error = enrol_card(&other, bench.request.clone()).await.unwrap_err();
    assert!(matches!(error, EnrolmentError::Refused(_)), "{error}");
    assert!(!error.to_string().contains(&bench.code));
    assert!(!format!("{:?}", bench.request).contains(&bench.code));
}

#[tokio::test]
async fn an_answer_that_got_lost_is_asked_for_again() {
    let mut bench = bench().await;
    let bare: String = bench.code.chars().filter(|character| *character != '-').collect();
    let digest = Sha256::digest(bare.as_bytes()).into();
    let key =
        bench.wallet.enrolment_key(&digest, || Ok(SigningKey::from_scalar(&[9; 32])?)).unwrap();
    // The institution has heard the request of the first attempt; its answer never came.
    let proof = card_enrolment_proof(&key, &bench.code);
    let now = UnixTime { seconds: in_an_hour().seconds - 3600 };
    bench.institution.enrol_card(&bench.code, &key.verifying_key().to_sec1(), &proof, now).unwrap();
    let code = bench.code.replace('-', " ").to_lowercase().into();
    let request = EnrolmentRequest { code, ..bench.request.clone() };
    let card = enrol_card(&bench.wallet, request).await.unwrap();
    assert_eq!(card.key().verifying_key(), key.verifying_key());
}

#[tokio::test]
async fn what_does_not_go_says_why_and_costs_no_code() {
    let bench = bench().await;
    let attempt = |change: &dyn Fn(&mut EnrolmentRequest)| {
        let mut request = bench.request.clone();
        change(&mut request);
        let wallet = bench.wallet.clone();
        async move { enrol_card(&wallet, request).await.unwrap_err() }
    };
    let error = attempt(&|request| request.institution.root_pem = b"no certificate".to_vec()).await;
    assert!(matches!(error, EnrolmentError::Contact(ContactError::Root(_))), "{error}");
    let error =
        attempt(&|request| request.institution.address = "https://localhost:1".parse().unwrap())
            .await;
    assert!(matches!(error, EnrolmentError::Contact(ContactError::Unreachable { .. })), "{error}");
    let other_root =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap().cert.pem();
    let error =
        attempt(&|request| request.institution.root_pem = other_root.clone().into_bytes()).await;
    assert!(error.to_string().contains("not from the given root"), "{error}");
    assert_eq!(enrolments(&bench.wallet), 0);
    let error = attempt(&|request| request.code = "ABCD-EFGH-JKMN-PQRS".into()).await;
    assert!(matches!(error, EnrolmentError::Refused(_)), "{error}");
    assert_eq!(enrolments(&bench.wallet), 0, "the key of a wrong code is not kept");

    let card = enrol_card(&bench.wallet, bench.request.clone()).await.unwrap();
    let taken: CardName = card.name().clone();
    let error = attempt(&|request| request.name = Some(taken.clone())).await;
    assert!(matches!(error, EnrolmentError::Directory(DirectoryError::CardExists(_))), "{error}");
}

const TIME_LIMIT_MS: u64 = 20_000;
const KIOSK: &str = "Corner Kiosk";

fn now() -> UnixTime {
    UnixTime { seconds: in_an_hour().seconds - 3600 }
}

/// An enrolled card, and a terminal whose part the test plays at the institution.
struct Paying {
    bench: Bench,
    card: Arc<Card>,
    terminal: TerminalId,
}

/// A command that the card made, as the wallet has it and as the terminal relays it.
struct Ordered {
    record: PaymentRecord,
    request: AuthorisationRequest,
}

impl Paying {
    async fn new() -> Self {
        let mut bench = bench().await;
        let card = Arc::new(enrol_card(&bench.wallet, bench.request.clone()).await.unwrap());
        let terminal = TerminalId::from_random([3; 10]);
        let code = EnrolmentCode::from_random([9; 16]);
        let institution = &mut bench.institution;
        institution.add_terminal(terminal, "m-1", KIOSK, &code, in_an_hour(), now()).unwrap();
        let key = ChannelKey::from_octets([4; 32]);
        let sealing_key = card.keyring().sealing_key(now()).unwrap();
        let text = code.expose_text();
        let proof = channel_key_proof(key.expose_octets(), &sealing_key, &text).unwrap().to_vec();
        let claim = ChannelKeyClaim { channel_key: key.public_key(), proof };
        institution.enrol_terminal(&text, &claim, &[5; 32], now()).unwrap();
        Self { bench, card, terminal }
    }

    fn order(&mut self, number: u8) -> Ordered {
        let transaction_id = TransactionId::from_random([number; 16]);
        let offer = Offer::new(OfferParts {
            transaction_id,
            terminal_id: self.terminal,
            merchant_name: KIOSK.into(),
            amount: "2.50 EUR".parse().unwrap(),
            valid_for_s: 60,
            nonce: [number; 16],
            reference: String::new(),
            items: Vec::new(),
            capture_after_dispense: true,
        });
        let offer = encode_offer(&offer.unwrap());
        let offer_digest = digest_offer(&offer);
        let counter = self.bench.wallet.take_counter(self.card.name()).unwrap();
        let holder_verification = HolderVerification::Consent;
        let card_id = *self.card.card_id();
        let command = CardCommand { card_id, offer_digest, counter, holder_verification };
        let signed = command.sign(self.card.key()).encode();
        let sealing_key = self.card.keyring().sealing_key(now()).unwrap();
        let sealed = sealing_key.seal(&signed, &offer_digest, [number; 32]).unwrap().encode();
        let (name, hint) = (self.card.name().clone(), self.card.card_id().hint());
        let record = PaymentRecord::new(offer.clone(), name, hint, sealed.clone(), now()).unwrap();
        self.bench.wallet.store(self.card.name()).create(&record).unwrap();
        let request = AuthorisationRequest {
            terminal_id: self.terminal,
            transaction_id,
            offer,
            offer_age_ms: 100,
            sealed_command: sealed,
            sequence: number.into(),
        };
        Ordered { record, request }
    }

    fn authorise(&mut self, ordered: &Ordered) {
        self.bench.institution.authorise(&ordered.request, now(), [7; 6]).unwrap();
    }

    async fn ask(&self, ordered: &Ordered) -> (SessionEnd, PaymentRecord) {
        let (wallet, card) = (&self.bench.wallet, Arc::clone(&self.card));
        let end = ask_online(wallet, card, &ordered.record, now(), TIME_LIMIT_MS).await.unwrap();
        let record = wallet.record(&ordered.record.transaction_id()).unwrap().unwrap();
        (end, record)
    }

    async fn standing(&self) -> CardStanding {
        let card = Arc::clone(&self.card);
        let mut online = Online::connect(&self.bench.wallet, card, now()).await.unwrap();
        online.standing().await.unwrap()
    }
}

#[tokio::test]
async fn the_bank_says_what_became_of_a_payment_whatever_the_machine_said() {
    let mut paying = Paying::new().await;
    let (taken, given_back, unseen) = (paying.order(1), paying.order(2), paying.order(3));

    let (end, record) = paying.ask(&unseen).await;
    assert_eq!(end, SessionEnd::Pending(PendingReason::NotSeen));
    assert!(record.is_open(), "the command may still arrive");

    paying.authorise(&taken);
    let (end, record) = paying.ask(&taken).await;
    assert!(matches!(end, SessionEnd::Reserved(_)), "{end:?}");
    assert_eq!(record.standing(), "reserved");
    let id = taken.record.transaction_id();
    paying.bench.institution.capture(paying.terminal, id, now()).unwrap();
    let (end, record) = paying.ask(&taken).await;
    assert_eq!((end.name(), record.standing()), ("captured", "paid"));
    let receipt = record.verified_receipt(paying.card.keyring()).unwrap().unwrap();
    assert!(matches!(receipt.status, ReceiptStatus::Captured { refunded_minor: 0, .. }));

    paying.authorise(&given_back);
    let (id, reason) = (given_back.record.transaction_id(), ReversalReason::DispenseFailed);
    paying.bench.institution.reverse(paying.terminal, id, reason, now()).unwrap();
    let (end, record) = paying.ask(&given_back).await;
    assert_eq!((end.name(), record.standing()), ("reversed", "given_back"));

    // A transaction that was ended before any command came: proof that nothing is charged.
    let (id, reason) = (unseen.record.transaction_id(), ReversalReason::NotUsed);
    paying.bench.institution.reverse(paying.terminal, id, reason, now()).unwrap();
    let (end, record) = paying.ask(&unseen).await;
    assert!(matches!(end, SessionEnd::NotCharged(_)), "{end:?}");
    assert_eq!(record.status, PaymentStatus::NotCharged);

    let card = Arc::clone(&paying.card);
    let mut online = Online::connect(&paying.bench.wallet, card, now()).await.unwrap();
    let listed = online.payments(10).await.unwrap();
    let ids: Vec<_> = listed.iter().map(|payment| payment.transaction_id).collect();
    assert_eq!(ids, [given_back.record.transaction_id(), taken.record.transaction_id()]);
    assert!(listed.iter().all(|payment| payment.merchant_name == KIOSK));
    let standings: Vec<_> = listed.iter().map(|payment| payment.standing).collect();
    assert_eq!(standings, ["given_back", "paid"]);
    assert!(listed.iter().all(|payment| payment.receipt.is_some()));
    assert_eq!(online.payments(1).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_wallet_that_was_restored_from_a_copy_goes_on_after_the_banks_counter() {
    let mut paying = Paying::new().await;
    for number in 1..=3 {
        let ordered = paying.order(number);
        paying.authorise(&ordered);
    }
    assert_eq!(paying.standing().await.counter_before, None);
    // The copy is from before the three payments.
    let counter = paying.bench.wallet.path().join("cards/card-abab/counter");
    std::fs::write(counter, "0\n").unwrap();
    let standing = paying.standing().await;
    assert_eq!((standing.counter, standing.counter_before), (3, Some(0)));
    let ordered = paying.order(4);
    paying.authorise(&ordered);
    let (end, _) = paying.ask(&ordered).await;
    assert!(matches!(end, SessionEnd::Reserved(_)), "not a value that was used: {end:?}");
}

#[tokio::test]
async fn a_bank_that_is_not_there_changes_nothing() {
    let mut paying = Paying::new().await;
    let ordered = paying.order(1);
    let unknown = WalletDirectory::open(paying.bench.wallet.path().with_extension("bare")).unwrap();
    unknown.add_card(&paying.card, 0, None).unwrap();
    let card = Arc::clone(&paying.card);
    let error = ask_online(&unknown, card, &ordered.record, now(), TIME_LIMIT_MS).await;
    assert!(matches!(error, Err(OnlineError::NoContact)), "{error:?}");

    let card = Arc::clone(&paying.card);
    let nowhere = InstitutionContact {
        address: "https://localhost:1".parse().unwrap(),
        ..paying.bench.request.institution.clone()
    };
    let away = WalletDirectory::open(paying.bench.wallet.path().with_extension("away")).unwrap();
    away.add_card(&card, 0, Some(&nowhere)).unwrap();
    let error = ask_online(&away, card, &ordered.record, now(), TIME_LIMIT_MS).await;
    assert!(matches!(error, Err(OnlineError::Contact(_))), "{error:?}");
    let record = paying.bench.wallet.record(&ordered.record.transaction_id()).unwrap();
    assert_eq!(record, Some(ordered.record));
}
