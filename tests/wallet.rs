//! Enrolling a card at a real institution over TLS on loopback.

#![cfg(all(feature = "wallet", feature = "institution"))]
#![allow(clippy::unwrap_used)]

use std::time::{SystemTime, UNIX_EPOCH};

use florin::credential::{SigningKey, card_enrolment_proof};
use florin::domain::{CardId, UnixTime};
use florin::institution::{
    CardTerms, EnrolmentCode, Institution, Server, authority_certificate_path, create_institution,
    open_institution,
};
use florin::wallet::{
    CardName, DirectoryError, EnrolmentError, EnrolmentRequest, WalletDirectory, enrol_card,
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
    let account =
        opened.institution.create_account("Alice", "EUR".parse().unwrap(), None, now).unwrap();
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
        institution: format!("https://localhost:{}", server.local_address().port())
            .parse()
            .unwrap(),
        root_pem: std::fs::read(authority_certificate_path(&bank)).unwrap(),
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
    let error = attempt(&|request| request.root_pem = b"no certificate".to_vec()).await;
    assert!(matches!(error, EnrolmentError::Root(_)), "{error}");
    let error =
        attempt(&|request| request.institution = "https://localhost:1".parse().unwrap()).await;
    assert!(matches!(error, EnrolmentError::Unreachable { .. }), "{error}");
    let other_root =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap().cert.pem();
    let error = attempt(&|request| request.root_pem = other_root.clone().into_bytes()).await;
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
