//! The institution over real TLS on loopback: who may ask, what is refused and in which words, and
//! that it ends in order.

#![cfg(feature = "institution")]
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prost::Message;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Status};

use florin::credential::{
    CardCommand, Keyring, SealedCommand, Signed, SigningKey, TerminalCertificate, VerifyingKey,
    card_enrolment_proof, channel_key_proof, sign_cardholder_question, verify_receipt,
};
use florin::domain::{
    Amount, CardId, HolderVerification, Offer, OfferParts, ReceiptStatus, TerminalId,
    TransactionId, UnixTime,
};
use florin::institution::{
    CardTerms, ClientRequest, DirectoryError, EnrolmentCode, Institution, Server, adopt_store,
    authority_certificate_path, back_up_store, create_institution, open_institution, open_to_serve,
};
use florin::protocol::{ChannelKey, digest_offer, encode_offer};

mod generated {
    #![allow(clippy::all, clippy::wildcard_enum_match_arm, dead_code)]
    include!(concat!(env!("OUT_DIR"), "/florin.institution.v1.rs"));
}

use generated::administration_client::AdministrationClient;
use generated::cardholder_client::CardholderClient;
use generated::enrolment_client::EnrolmentClient;
use generated::payments_client::PaymentsClient;
use generated::*;

/// The private half of the terminals' channel key.
const CHANNEL_KEY: [u8; 32] = [4; 32];

fn channel_key() -> ChannelKey {
    ChannelKey::from_octets(CHANNEL_KEY)
}

/// A running institution in a directory of its own, and a second hand on its store.
struct Bench {
    directory: tempfile::TempDir,
    /// None after a start that was refused.
    server: Option<Server>,
    address: SocketAddr,
    root_pem: String,
    institution: Institution,
}

/// An enrolled terminal.
struct EnrolledTerminal {
    id: String,
    identity: Identity,
    response: EnrolTerminalResponse,
}

fn now() -> UnixTime {
    UnixTime { seconds: SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() }
}

fn tomorrow() -> UnixTime {
    UnixTime { seconds: now().seconds + 86_400 }
}

fn euros(text: &str) -> Amount {
    Amount::parse_major(text, "EUR".parse().unwrap()).unwrap()
}

/// A transaction id.
fn uuid(number: u8) -> Vec<u8> {
    TransactionId::from_random([number; 16]).as_octets().to_vec()
}

fn signing_request(key: &KeyPair) -> Vec<u8> {
    CertificateParams::default().serialize_request(key).unwrap().der().to_vec()
}

impl Bench {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("bank");
        create_institution(&path, "Example Bank", &["localhost".to_owned()], now()).unwrap();
        let server =
            Server::start(open_institution(&path).unwrap(), "127.0.0.1:0".parse().unwrap())
                .await
                .unwrap();
        let address = server.local_address();
        let root_pem = std::fs::read_to_string(authority_certificate_path(&path)).unwrap();
        let institution = open_institution(&path).unwrap().institution;
        Self { directory, server: Some(server), address, root_pem, institution }
    }

    /// Ends the server, does something to its directory, and starts it as `florin-acquirer serve`
    /// does.
    async fn restart(&mut self, meanwhile: impl FnOnce()) -> Result<(), DirectoryError> {
        let path = self.directory.path().join("bank");
        if let Some(server) = self.server.take() {
            server.shut_down().await.unwrap();
        }
        meanwhile();
        let opened = open_to_serve(&path)?;
        let server = Server::start(opened, "127.0.0.1:0".parse().unwrap()).await.unwrap();
        self.address = server.local_address();
        self.server = Some(server);
        self.institution = open_institution(&path).unwrap().institution;
        Ok(())
    }

    fn endpoint(&self, identity: Option<&Identity>) -> Endpoint {
        let mut tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(&self.root_pem))
            .domain_name("localhost");
        if let Some(identity) = identity {
            tls = tls.identity(identity.clone());
        }
        Channel::from_shared(format!("https://{}", self.address)).unwrap().tls_config(tls).unwrap()
    }

    async fn institution(&self, identity: Option<&Identity>) -> PaymentsClient<Channel> {
        PaymentsClient::new(self.endpoint(identity).connect().await.unwrap())
    }

    async fn enrolment(&self) -> EnrolmentClient<Channel> {
        EnrolmentClient::new(self.endpoint(None).connect().await.unwrap())
    }

    fn add_terminal(&mut self, number: u8, not_after: UnixTime) -> (TerminalId, String) {
        let id = TerminalId::from_random([number; 10]);
        let code = EnrolmentCode::from_random([number; 16]);
        self.institution
            .add_terminal(id, "kiosk-1", "Corner Kiosk", &code, not_after, now())
            .unwrap();
        (id, code.expose_text())
    }

    fn channel_key_proof(&self, code: &str) -> Vec<u8> {
        let keys = self.institution.keys();
        let keyring = Keyring::verify(keys.keyring(), keys.root_public_key()).unwrap();
        let sealing_key = keyring.sealing_key(now()).unwrap();
        channel_key_proof(&CHANNEL_KEY, &sealing_key, code).unwrap().to_vec()
    }

    async fn enrol_terminal(&self, code: &str, key: &KeyPair) -> Result<EnrolledTerminal, Status> {
        let request = EnrolTerminalRequest {
            code: code.to_owned(),
            certificate_signing_request: signing_request(key),
            channel_key: channel_key().public_key().to_vec(),
            channel_key_proof: self.channel_key_proof(code),
        };
        let response = self.enrolment().await.enrol_terminal(request).await?.into_inner();
        Ok(EnrolledTerminal {
            id: response.terminal_id.clone(),
            identity: Identity::from_pem(&response.client_certificate_pem, key.serialize_pem()),
            response,
        })
    }

    async fn new_terminal(&mut self, number: u8) -> EnrolledTerminal {
        let (id, code) = self.add_terminal(number, tomorrow());
        let terminal = self.enrol_terminal(&code, &KeyPair::generate().unwrap()).await.unwrap();
        assert_eq!(terminal.id, id.as_str());
        terminal
    }

    /// A card with 100.00 EUR behind it.
    async fn new_card(&mut self) -> (CardId, SigningKey) {
        let currency = "EUR".parse().unwrap();
        let account = self
            .institution
            .create_account("Alice", currency, Some(euros("100.00")), now())
            .unwrap();
        let terms = CardTerms { account, payment_limit: euros("50.00"), verification_limit: None };
        let code = EnrolmentCode::from_random([30; 16]);
        let card = CardId::from_octets(&[0xab; 16]).unwrap();
        self.institution.add_card(card, terms, &code, tomorrow(), now()).unwrap();
        let key = SigningKey::from_scalar(&[5; 32]).unwrap();
        let code = code.expose_text();
        let response = self
            .enrolment()
            .await
            .enrol_card(EnrolCardRequest {
                proof: card_enrolment_proof(&key, &code).to_vec(),
                code,
                card_public_key: key.verifying_key().to_sec1(),
            })
            .await
            .unwrap()
            .into_inner();
        assert_eq!(response.card_id, card.as_octets());
        assert_eq!((response.payment_limit_minor, response.currency.as_str()), (5_000, "EUR"));
        (card, key)
    }
}

impl Bench {
    /// A new certificate for an operator.
    fn new_operator(&mut self, name: &str) -> Identity {
        let name = name.parse().unwrap();
        let opened = open_institution(&self.directory.path().join("bank")).unwrap();
        let made = opened.authority.issue_operator(&name, now(), tomorrow(), [1; 16]).unwrap();
        self.institution.add_operator(&name, made.key_digest, tomorrow()).unwrap();
        Identity::from_pem(&made.certificate_pem, &*made.key_pem)
    }

    async fn administration(&self, identity: Option<&Identity>) -> AdministrationClient<Channel> {
        AdministrationClient::new(self.endpoint(identity).connect().await.unwrap())
    }
}

fn payment(
    terminal: &EnrolledTerminal,
    (card, card_key): &(CardId, SigningKey),
    number: u8,
    amount: &str,
) -> AuthoriseRequest {
    let transaction_id = TransactionId::from_random([number; 16]);
    let offer = Offer::new(OfferParts {
        transaction_id,
        terminal_id: terminal.id.parse().unwrap(),
        merchant_name: "Corner Kiosk".to_owned(),
        amount: euros(amount),
        valid_for_s: 60,
        nonce: [number; 16],
        reference: String::new(),
        items: Vec::new(),
        capture_after_dispense: true,
    });
    let offer = encode_offer(&offer.unwrap());
    let command = CardCommand {
        card_id: *card,
        offer_digest: digest_offer(&offer),
        counter: number.into(),
        holder_verification: HolderVerification::Consent,
    };
    let sealing_key = keyring(terminal).sealing_key(now()).unwrap();
    let sealed =
        sealing_key.seal(&command.sign(card_key).encode(), &command.offer_digest, [6; 32]).unwrap();
    AuthoriseRequest {
        transaction_id: transaction_id.as_octets().to_vec(),
        terminal_id: terminal.id.clone(),
        offer,
        offer_age_ms: 10,
        sealed_command: sealed.encode(),
        sequence: number.into(),
    }
}

fn keyring(terminal: &EnrolledTerminal) -> Keyring {
    let root = VerifyingKey::from_sec1(&terminal.response.root_public_key).unwrap();
    Keyring::verify(&Signed::decode(&terminal.response.keyring).unwrap(), &root).unwrap()
}

fn refused<T: std::fmt::Debug>(result: Result<T, Status>, code: Code, words: &str) {
    let status = result.unwrap_err();
    assert_eq!(status.code(), code, "{status}");
    assert!(status.message().contains(words), "{status}");
}

/// How a payment stands, as the number on the wire says.
fn state_of(number: u64) -> TransactionState {
    TransactionState::try_from(i32::try_from(number).unwrap()).unwrap()
}

fn capture_of(request: &AuthoriseRequest) -> CaptureRequest {
    let AuthoriseRequest { transaction_id, terminal_id, .. } = request.clone();
    CaptureRequest { transaction_id, terminal_id }
}

fn reversal_of(request: &AuthoriseRequest) -> ReverseRequest {
    let AuthoriseRequest { transaction_id, terminal_id, .. } = request.clone();
    ReverseRequest { transaction_id, terminal_id, reason: ReversalReason::DispenseFailed as u64 }
}

fn inquiry_of(request: &AuthoriseRequest) -> GetTransactionRequest {
    let AuthoriseRequest { transaction_id, terminal_id, .. } = request.clone();
    GetTransactionRequest { transaction_id, terminal_id }
}

/// A terminal's connection, whose requests are answered.
struct Client(PaymentsClient<Channel>);

impl Client {
    async fn authorise(&mut self, request: AuthoriseRequest) -> Transaction {
        self.0.authorise(request).await.unwrap().into_inner().transaction.unwrap()
    }

    async fn capture(&mut self, request: CaptureRequest) -> Transaction {
        self.0.capture(request).await.unwrap().into_inner().transaction.unwrap()
    }

    async fn reverse(&mut self, request: ReverseRequest) -> Transaction {
        self.0.reverse(request).await.unwrap().into_inner().transaction.unwrap()
    }

    async fn inquire(&mut self, request: GetTransactionRequest) -> Transaction {
        self.0.get_transaction(request).await.unwrap().into_inner().transaction.unwrap()
    }

    async fn reconcile(&mut self, request: ReconcileRequest) -> Vec<Transaction> {
        let mut stream = self.0.reconcile(request).await.unwrap().into_inner();
        let mut all = Vec::new();
        while let Some(response) = stream.message().await.unwrap() {
            all.push(response.transaction.unwrap());
        }
        all
    }
}

#[tokio::test]
async fn a_payment_from_enrolment_to_reconciliation() {
    let mut bench = Bench::start().await;
    let terminal = bench.new_terminal(1).await;
    let card = bench.new_card().await;
    let certificate = Signed::decode(&terminal.response.terminal_certificate).unwrap();
    let certificate =
        TerminalCertificate::verify(&certificate, &keyring(&terminal), now()).unwrap();
    assert_eq!(
        (certificate.merchant_name.as_str(), certificate.channel_key),
        ("Corner Kiosk", channel_key().public_key())
    );

    let mut client = Client(bench.institution(Some(&terminal.identity)).await);
    let request = payment(&terminal, &card, 1, "2.50");
    let approved = client.authorise(request.clone()).await;
    assert_eq!(state_of(approved.state), TransactionState::Approved);
    let receipt =
        verify_receipt(&Signed::decode(&approved.receipt).unwrap(), &keyring(&terminal), now())
            .unwrap();
    assert!(matches!(receipt.status, ReceiptStatus::Approved { .. }));
    // A repeat is the same, octet by octet, also over a new connection.
    let mut other_client = Client(bench.institution(Some(&terminal.identity)).await);
    assert_eq!(other_client.authorise(request.clone()).await, approved);
    // Other content under the same id.
    let other =
        AuthoriseRequest { offer: payment(&terminal, &card, 1, "2.60").offer, ..request.clone() };
    let refusal = client.0.authorise(other).await;
    refused(refusal, Code::AlreadyExists, "nothing was charged for this one");

    let captured = client.capture(capture_of(&request)).await;
    assert_eq!(state_of(captured.state), TransactionState::Captured);
    let declined = client.authorise(payment(&terminal, &card, 2, "50.01")).await;
    assert_eq!(
        (state_of(declined.state), declined.decline_reason),
        (TransactionState::Declined, 9)
    );
    assert_eq!(client.inquire(inquiry_of(&request)).await, captured);
    // Captured money a terminal cannot give back.
    let refusal = client.0.reverse(reversal_of(&request)).await;
    refused(refusal, Code::FailedPrecondition, "operators refund");
    let third = payment(&terminal, &card, 3, "2.50");
    client.authorise(third.clone()).await;
    let reversed = client.reverse(reversal_of(&third)).await;
    assert_eq!(state_of(reversed.state), TransactionState::Reversed);
    let refusal = client.0.capture(capture_of(&third)).await;
    refused(refusal, Code::FailedPrecondition, "cannot be captured");
    // Only then does a REVERSED carry a decline reason: in the answer to an Authorise.
    let late = client.authorise(third.clone()).await;
    assert_eq!((state_of(late.state), late.decline_reason), (TransactionState::Reversed, 14));
    assert_eq!(reversed.decline_reason, 0);
    let tombstone = an_id_never_seen_becomes_a_tombstone(&mut client, &request).await;

    let period = ReconcileRequest {
        terminal_id: terminal.id.clone(),
        from_unix_s: now().seconds - 100,
        until_unix_s: now().seconds + 100,
    };
    assert_eq!(client.reconcile(period.clone()).await, [captured, declined, reversed, tombstone]);
    let backwards = ReconcileRequest { until_unix_s: 0, ..period };
    refused(client.0.reconcile(backwards).await, Code::InvalidArgument, "until_unix_s");
    assert_eq!(bench.institution.check_ledger().unwrap().faults, []);
}

async fn an_id_never_seen_becomes_a_tombstone(
    client: &mut Client,
    seen: &AuthoriseRequest,
) -> Transaction {
    let unseen = AuthoriseRequest { transaction_id: uuid(9), ..seen.clone() };
    let unknown = client.inquire(inquiry_of(&unseen)).await;
    assert_eq!(state_of(unknown.state), TransactionState::Unknown);
    let refusal = client.0.capture(capture_of(&unseen)).await;
    refused(refusal, Code::NotFound, "authorise it first");
    let tombstone = client.reverse(reversal_of(&unseen)).await;
    assert_eq!(
        (state_of(tombstone.state), tombstone.receipt.len()),
        (TransactionState::Reversed, 0)
    );
    tombstone
}

#[tokio::test]
async fn the_institution_serves_nobody_but_its_terminals_as_themselves() {
    let mut bench = Bench::start().await;
    let first = bench.new_terminal(1).await;
    let second = bench.new_terminal(2).await;
    let inquiry = |terminal: &EnrolledTerminal| GetTransactionRequest {
        transaction_id: uuid(1),
        terminal_id: terminal.id.clone(),
    };
    let mut nobody = bench.institution(None).await;
    refused(
        nobody.get_transaction(inquiry(&first)).await,
        Code::Unauthenticated,
        "client certificate",
    );
    let period = ReconcileRequest { terminal_id: first.id.clone(), ..ReconcileRequest::default() };
    refused(nobody.reconcile(period).await, Code::Unauthenticated, "client certificate");
    let mut client = bench.institution(Some(&first.identity)).await;
    client.get_transaction(inquiry(&first)).await.unwrap();
    refused(
        client.get_transaction(inquiry(&second)).await,
        Code::PermissionDenied,
        "names another",
    );
    let anonymous = GetTransactionRequest { terminal_id: String::new(), ..inquiry(&first) };
    refused(client.get_transaction(anonymous).await, Code::PermissionDenied, "terminal_id");

    // A certificate of another authority does not even connect, or breaks at its first use.
    let other = {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::default().self_signed(&key).unwrap();
        Identity::from_pem(certificate.pem(), key.serialize_pem())
    };
    if let Ok(channel) = bench.endpoint(Some(&other)).connect().await {
        PaymentsClient::new(channel).get_transaction(inquiry(&first)).await.unwrap_err();
    }

    // The certificate of an earlier enrolment is shut out by the newer one.
    let id: TerminalId = first.id.parse().unwrap();
    let code = EnrolmentCode::from_random([29; 16]);
    bench.institution.renew_terminal_code(id, &code, tomorrow()).unwrap();
    let renewed =
        bench.enrol_terminal(&code.expose_text(), &KeyPair::generate().unwrap()).await.unwrap();
    refused(
        client.get_transaction(inquiry(&first)).await,
        Code::Unauthenticated,
        "newer enrolment",
    );
    let mut client = bench.institution(Some(&renewed.identity)).await;
    client.get_transaction(inquiry(&renewed)).await.unwrap();
}

#[tokio::test]
async fn a_terminal_that_the_registry_does_not_know_is_let_in_and_declined() {
    let mut bench = Bench::start().await;
    let known = bench.new_terminal(1).await;
    let card = bench.new_card().await;
    let opened = open_institution(&bench.directory.path().join("bank")).unwrap();
    let key = KeyPair::generate().unwrap();
    let id = TerminalId::from_random([9; 10]);
    let signing_request = ClientRequest::read(&signing_request(&key)).unwrap();
    let certificate =
        opened.authority.issue_client(&signing_request, id, now(), tomorrow(), [1; 16]).unwrap();
    let stranger = EnrolledTerminal {
        id: id.to_string(),
        identity: Identity::from_pem(certificate, key.serialize_pem()),
        response: known.response.clone(),
    };
    let mut client = Client(bench.institution(Some(&stranger.identity)).await);
    let request = payment(&stranger, &card, 1, "2.50");
    let unknown = client.inquire(inquiry_of(&request)).await;
    assert_eq!(state_of(unknown.state), TransactionState::Unknown);
    let refusal = client.0.capture(capture_of(&request)).await;
    refused(refusal, Code::NotFound, "authorise it first");
    let declined = client.authorise(request.clone()).await;
    assert_eq!(
        (state_of(declined.state), declined.decline_reason),
        (TransactionState::Declined, 10)
    );
    let unseen = ReverseRequest { transaction_id: uuid(2), ..reversal_of(&request) };
    assert_eq!(state_of(client.reverse(unseen).await.state), TransactionState::Reversed);
}

#[tokio::test]
async fn bad_input_is_refused_in_words() {
    let mut bench = Bench::start().await;
    let terminal = bench.new_terminal(1).await;
    let card = bench.new_card().await;
    let mut client = bench.institution(Some(&terminal.identity)).await;
    let good = payment(&terminal, &card, 1, "2.50");
    for (bad, words) in [
        (AuthoriseRequest { transaction_id: vec![1; 15], ..good.clone() }, "transaction_id"),
        (AuthoriseRequest { transaction_id: vec![1; 16], ..good.clone() }, "version 4"),
        (AuthoriseRequest { transaction_id: uuid(2), ..good.clone() }, "offer.transaction_id"),
        (AuthoriseRequest { offer: vec![], ..good.clone() }, "offer"),
        (AuthoriseRequest { offer: vec![0xff; 100], ..good.clone() }, "offer"),
        (AuthoriseRequest { offer: vec![0; 17_000], ..good.clone() }, "longer than 16384"),
        (AuthoriseRequest { sealed_command: vec![0; 2_049], ..good.clone() }, "longer than 2048"),
    ] {
        refused(client.authorise(bad).await, Code::InvalidArgument, words);
    }
    let too_long = AuthoriseRequest { offer: vec![0; 100_000], ..good.clone() };
    refused(client.authorise(too_long).await, Code::OutOfRange, "too large");
    let reverse = ReverseRequest {
        transaction_id: good.transaction_id.clone(),
        terminal_id: terminal.id.clone(),
        reason: 77,
    };
    refused(client.reverse(reverse).await, Code::InvalidArgument, "reason");
    // Nothing of it was kept.
    let approved = client.authorise(good).await.unwrap().into_inner().transaction.unwrap();
    assert_eq!(state_of(approved.state), TransactionState::Approved);
}

#[tokio::test]
async fn enrolment_wants_a_good_code_and_a_good_key() {
    let mut bench = Bench::start().await;
    let key = KeyPair::generate().unwrap();
    let (_, expired) = bench.add_terminal(1, UnixTime { seconds: now().seconds - 1 });
    refused(
        bench.enrol_terminal(&expired, &key).await.map(|terminal| terminal.id),
        Code::FailedPrecondition,
        "was good until",
    );
    refused(
        bench.enrol_terminal("0000-0000-0000-0000", &key).await.map(|terminal| terminal.id),
        Code::PermissionDenied,
        "not known",
    );
    refused(
        bench.enrol_terminal("0000", &key).await.map(|terminal| terminal.id),
        Code::InvalidArgument,
        "16 letters and digits",
    );
    let (_, good) = bench.add_terminal(2, tomorrow());
    let mut client = bench.enrolment().await;
    let request = EnrolTerminalRequest {
        code: good.clone(),
        certificate_signing_request: signing_request(&key),
        channel_key: channel_key().public_key().to_vec(),
        channel_key_proof: bench.channel_key_proof(&good),
    };
    let bad =
        EnrolTerminalRequest { certificate_signing_request: vec![1, 2, 3], ..request.clone() };
    refused(client.enrol_terminal(bad).await, Code::InvalidArgument, "certificate_signing_request");
    let bad = EnrolTerminalRequest { channel_key: vec![1], ..request.clone() };
    refused(client.enrol_terminal(bad).await, Code::InvalidArgument, "channel_key");
    let bad = EnrolTerminalRequest { channel_key: vec![0; 32], ..request.clone() };
    refused(client.enrol_terminal(bad).await, Code::InvalidArgument, "channel_key_proof");
    let bad = EnrolTerminalRequest { channel_key_proof: vec![0; 32], ..request.clone() };
    refused(client.enrol_terminal(bad).await, Code::InvalidArgument, "channel_key_proof");
    // Without hyphens and in small letters it is the same code; the same keys may come again,
    // others may not.
    let code = good.replace('-', "").to_lowercase();
    let channel_key_proof = bench.channel_key_proof(&code);
    let typed = EnrolTerminalRequest { code, channel_key_proof, ..request.clone() };
    let first = client.enrol_terminal(typed).await.unwrap().into_inner();
    let second = client.enrol_terminal(request).await.unwrap().into_inner();
    assert_eq!(first.terminal_id, second.terminal_id);
    refused(
        bench
            .enrol_terminal(&good, &KeyPair::generate().unwrap())
            .await
            .map(|terminal| terminal.id),
        Code::FailedPrecondition,
        "used already",
    );
    let card = EnrolCardRequest { code: good, card_public_key: vec![4; 65], proof: vec![0; 64] };
    refused(client.enrol_card(card).await, Code::InvalidArgument, "card_public_key");
    // That were nine failures of this address; after ten it waits.
    for _ in 0..1 {
        client.enrol_card(EnrolCardRequest::default()).await.unwrap_err();
    }
    refused(
        client.enrol_card(EnrolCardRequest::default()).await,
        Code::ResourceExhausted,
        "wait a minute",
    );
}

#[tokio::test]
async fn a_store_that_was_lost_is_restored_step_by_step_and_loses_no_payment() {
    let mut bench = Bench::start().await;
    let (bank, copy) = (bench.directory.path().join("bank"), bench.directory.path().join("copy"));
    bench.restart(|| {}).await.unwrap();
    let terminal = bench.new_terminal(1).await;
    let card = bench.new_card().await;
    let mut client = Client(bench.institution(Some(&terminal.identity)).await);
    let kept = payment(&terminal, &card, 1, "2.50");
    let kept_approval = client.authorise(kept.clone()).await;
    // The copy is made beside the running server.
    back_up_store(&bank, &copy).unwrap();
    assert_eq!(std::fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
    back_up_store(&bank, &copy).unwrap_err();
    let lost = payment(&terminal, &card, 2, "1.50");
    let lost_approval = client.authorise(lost.clone()).await;
    let lost_capture = client.capture(capture_of(&lost)).await;
    let generation = lost_capture.store_generation.clone();
    assert_eq!(generation.len(), 16);

    // The store is lost, and the copy is put back: it is not served before somebody decides.
    let put_back = || {
        for file in ["institution.sqlite-wal", "institution.sqlite-shm"] {
            let _ = std::fs::remove_file(bank.join(file));
        }
        std::fs::remove_file(bank.join("institution.sqlite")).unwrap();
        std::fs::copy(&copy, bank.join("institution.sqlite")).unwrap();
    };
    let refused = bench.restart(put_back).await.unwrap_err().to_string();
    assert!(refused.contains("store adopt"), "{refused}");
    adopt_store(&bank, "anna", "the disk was lost", now()).unwrap();
    bench.restart(|| {}).await.unwrap();

    let mut client = Client(bench.institution(Some(&terminal.identity)).await);
    let unknown = client.inquire(inquiry_of(&lost)).await;
    assert_eq!(state_of(unknown.state), TransactionState::Unknown);
    assert_ne!(unknown.store_generation, generation, "the terminal sees that it has to present");
    // The used command is good for nothing new, also not under its own id.
    let declined = client.authorise(payment(&terminal, &card, 3, "1.50")).await;
    assert_eq!(state_of(declined.state), TransactionState::Declined, "sealed to the key of before");
    let present = PresentRequest {
        transaction_id: lost.transaction_id.clone(),
        terminal_id: terminal.id.clone(),
        offer: lost.offer.clone(),
        sealed_command: lost.sealed_command.clone(),
        receipt: lost_capture.receipt.clone(),
        exclusion: lost_capture.exclusion.clone(),
        sequence: lost.sequence,
    };
    let presented = client.0.present(present.clone()).await.unwrap().into_inner().transaction;
    let presented = presented.unwrap();
    assert_eq!(state_of(presented.state), TransactionState::Captured);
    assert_eq!(presented.receipt, lost_capture.receipt);
    assert_eq!(client.0.present(present).await.unwrap().into_inner().transaction, Some(presented));
    assert_eq!(client.authorise(lost).await.receipt, lost_approval.receipt);
    // What the copy had is settled as ever.
    assert_eq!(client.inquire(inquiry_of(&kept)).await.receipt, kept_approval.receipt);
    assert_eq!(state_of(client.capture(capture_of(&kept)).await.state), TransactionState::Captured);
    assert_eq!(bench.institution.check_ledger().unwrap().faults, []);
    // New commands are sealed to the new key.
    let published =
        bench.enrolment().await.get_keyring(GetKeyringRequest {}).await.unwrap().into_inner();
    let response =
        EnrolTerminalResponse { keyring: published.keyring, ..terminal.response.clone() };
    let terminal = EnrolledTerminal { response, ..terminal };
    let approved = client.authorise(payment(&terminal, &card, 4, "1.00")).await;
    assert_eq!(state_of(approved.state), TransactionState::Approved);
}

#[tokio::test]
async fn a_directory_without_its_note_of_what_was_served_is_not_served() {
    let mut bench = Bench::start().await;
    let note = bench.directory.path().join("bank/serving.json");
    bench.restart(|| {}).await.unwrap();
    bench.restart(|| {}).await.unwrap();
    let refused = bench.restart(|| std::fs::remove_file(&note).unwrap()).await.unwrap_err();
    assert!(refused.to_string().contains("store adopt"), "{refused}");
}

#[tokio::test]
async fn a_terminal_renews_with_the_certificate_that_it_has() {
    let mut bench = Bench::start().await;
    let terminal = bench.new_terminal(1).await;
    let mut old = bench.institution(Some(&terminal.identity)).await;
    let key = KeyPair::generate().unwrap();
    let request = RenewTerminalRequest {
        certificate_signing_request: signing_request(&key),
        terminal_id: terminal.id.clone(),
    };
    let renewed = old.renew_terminal(request).await.unwrap().into_inner();
    let certificate = Signed::decode(&renewed.terminal_certificate).unwrap();
    let certificate =
        TerminalCertificate::verify(&certificate, &keyring(&terminal), now()).unwrap();
    assert_eq!(certificate.channel_key, channel_key().public_key());
    let inquiry =
        || GetTransactionRequest { transaction_id: uuid(9), terminal_id: terminal.id.clone() };
    old.get_transaction(inquiry()).await.unwrap();
    let identity = Identity::from_pem(&renewed.client_certificate_pem, key.serialize_pem());
    let mut new = bench.institution(Some(&identity)).await;
    new.get_transaction(inquiry()).await.unwrap();
    refused(old.get_transaction(inquiry()).await, Code::Unauthenticated, "was replaced");
}

#[tokio::test]
async fn the_keyring_is_given_to_anybody() {
    let bench = Bench::start().await;
    let published =
        bench.enrolment().await.get_keyring(GetKeyringRequest {}).await.unwrap().into_inner();
    let root = VerifyingKey::from_sec1(&published.root_public_key).unwrap();
    assert_eq!(&root, bench.institution.keys().root_public_key());
    Keyring::verify(&Signed::decode(&published.keyring).unwrap(), &root).unwrap();
}

#[tokio::test]
async fn a_cardholder_asks_with_a_fresh_challenge_and_the_card_s_signature() {
    let mut bench = Bench::start().await;
    let terminal = bench.new_terminal(1).await;
    let (card, key) = bench.new_card().await;
    let request = payment(&terminal, &(card, key.clone()), 1, "2.50");
    let mut payments = Client(bench.institution(Some(&terminal.identity)).await);
    let approved = payments.authorise(request.clone()).await;
    let mut client = CardholderClient::new(bench.endpoint(None).connect().await.unwrap());
    let given = client.get_challenge(GetChallengeRequest {}).await.unwrap().into_inner();
    assert_eq!(given.valid_for_s, 60);
    let ask = |challenge: &[u8], about, key: &SigningKey| {
        let question = Question {
            challenge: challenge.to_vec(),
            card_id: card.as_octets().to_vec(),
            about: Some(about),
        };
        let question = sign_cardholder_question(question.encode_to_vec(), key).encode();
        AskRequest { question }
    };
    let about_payment = question::About::Payment(PaymentQuestion {
        transaction_id: request.transaction_id.clone(),
        terminal_id: terminal.id.clone(),
        command_digest: SealedCommand::digest_of_encoded(&request.sealed_command).0.to_vec(),
    });
    let good = ask(&given.challenge, about_payment, &key);
    let answer = client.ask(good).await.unwrap().into_inner().answer.unwrap();
    let transaction = Some(approved.clone());
    assert_eq!(answer, ask_response::Answer::Payment(PaymentAnswer { transaction }));
    let list =
        |count_max| question::About::Payments(PaymentsQuestion { before_number: 0, count_max });
    let answer = client.ask(ask(&given.challenge, list(10), &key)).await.unwrap().into_inner();
    let Some(ask_response::Answer::Payments(listed)) = answer.answer else { panic!("{answer:?}") };
    assert_eq!(listed.payments.len(), 1);
    assert_eq!(listed.payments[0].transaction, Some(approved));
    assert_eq!(listed.payments[0].merchant_name, "Corner Kiosk");
    let about_card = question::About::Card(CardQuestion {});
    let answer =
        client.ask(ask(&given.challenge, about_card.clone(), &key)).await.unwrap().into_inner();
    let Some(ask_response::Answer::Card(standing)) = answer.answer else { panic!("{answer:?}") };
    assert_eq!((standing.counter, standing.currency.as_str()), (1, "EUR"));

    let stale = client.ask(ask(&[0; 56], about_card.clone(), &key)).await;
    refused(stale, Code::FailedPrecondition, "get a new challenge");
    let thief = SigningKey::from_scalar(&[6; 32]).unwrap();
    let forged = client.ask(ask(&given.challenge, about_card.clone(), &thief)).await;
    refused(forged, Code::Unauthenticated, "no enrolled card");
    let many = client.ask(ask(&given.challenge, list(101), &key)).await;
    refused(many, Code::InvalidArgument, "count_max");
    let unreadable = client.ask(AskRequest { question: vec![1, 2, 3] }).await;
    refused(unreadable, Code::InvalidArgument, "question");
    // That were four failures of this address; after ten it waits.
    for _ in 0..6 {
        client.ask(AskRequest::default()).await.unwrap_err();
    }
    let late = client.ask(ask(&given.challenge, about_card.clone(), &key)).await;
    refused(late, Code::ResourceExhausted, "wait a minute");
}

#[tokio::test]
async fn one_code_enrols_one_of_many_at_the_same_time() {
    let mut bench = Bench::start().await;
    let (_, code) = bench.add_terminal(1, tomorrow());
    let mut racers = tokio::task::JoinSet::new();
    for _ in 0..6 {
        let mut client = bench.enrolment().await;
        let request = EnrolTerminalRequest {
            code: code.clone(),
            certificate_signing_request: signing_request(&KeyPair::generate().unwrap()),
            channel_key: channel_key().public_key().to_vec(),
            channel_key_proof: bench.channel_key_proof(&code),
        };
        racers.spawn(async move {
            client.enrol_terminal(request).await.map_err(|status| status.code())
        });
    }
    let results = racers.join_all().await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    for result in results {
        assert!(matches!(result, Ok(_) | Err(Code::FailedPrecondition)));
    }
}

#[tokio::test]
async fn only_tls_1_3_and_only_this_server() {
    let bench = Bench::start().await;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(bench.root_pem.as_bytes()).unwrap()).unwrap();
    let connect = |version: &'static rustls::SupportedProtocolVersion, name: &'static str| {
        let mut configuration = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        configuration.alpn_protocols = vec![b"h2".to_vec()];
        let connector = tokio_rustls::TlsConnector::from(Arc::new(configuration));
        async move {
            let stream = TcpStream::connect(bench.address).await.unwrap();
            connector.connect(ServerName::try_from(name).unwrap(), stream).await.map(drop)
        }
    };
    connect(&rustls::version::TLS13, "localhost").await.unwrap();
    connect(&rustls::version::TLS12, "localhost").await.unwrap_err();
    connect(&rustls::version::TLS13, "example.org").await.unwrap_err();
    // Plain text, and silence.
    let mut plain = TcpStream::connect(bench.address).await.unwrap();
    plain.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    connect(&rustls::version::TLS13, "localhost").await.unwrap();
}

#[tokio::test]
async fn it_ends_in_order_and_what_it_answered_is_there_afterwards() {
    let mut bench = Bench::start().await;
    let terminal = bench.new_terminal(1).await;
    let card = bench.new_card().await;
    let mut client = bench.institution(Some(&terminal.identity)).await;
    let request = payment(&terminal, &card, 1, "2.50");
    let approved =
        client.authorise(request.clone()).await.unwrap().into_inner().transaction.unwrap();
    // The connection stays open, and still the server ends soon.
    let ended =
        tokio::time::timeout(Duration::from_secs(8), bench.server.take().unwrap().shut_down())
            .await;
    ended.unwrap().unwrap();
    client.authorise(request.clone()).await.unwrap_err();
    TcpStream::connect(bench.address).await.unwrap_err();

    let path = bench.directory.path().join("bank");
    let opened = open_institution(&path).unwrap();
    let server = Server::start(opened, "127.0.0.1:0".parse().unwrap()).await.unwrap();
    bench.address = server.local_address();
    bench.server = Some(server);
    let mut client = bench.institution(Some(&terminal.identity)).await;
    let again = client.authorise(request).await.unwrap().into_inner().transaction.unwrap();
    assert_eq!(again, approved);
}

fn order_of(request: &AuthoriseRequest) -> Option<PaymentOrder> {
    let AuthoriseRequest { transaction_id, terminal_id, .. } = request.clone();
    Some(PaymentOrder { transaction_id, terminal_id, reason: "the goods were bad".to_owned() })
}

fn question_of(request: &AuthoriseRequest) -> GetPaymentRequest {
    let AuthoriseRequest { transaction_id, terminal_id, .. } = request.clone();
    GetPaymentRequest { transaction_id, terminal_id }
}

/// The payment of an order that was carried out.
fn payment_of(outcome: Option<OrderOutcome>) -> Payment {
    match outcome.unwrap().outcome.unwrap() {
        order_outcome::Outcome::Payment(payment) => payment,
        order_outcome::Outcome::Approval(number) => panic!("approval {number} waits"),
    }
}

#[tokio::test]
async fn operators_end_and_refund_payments_under_their_own_names() {
    let mut bench = Bench::start().await;
    let terminal = bench.new_terminal(1).await;
    let card = bench.new_card().await;
    let operator = bench.new_operator("anna");
    let mut client = Client(bench.institution(Some(&terminal.identity)).await);
    let requests: Vec<_> =
        (1..=3).map(|number| payment(&terminal, &card, number, "2.50")).collect();
    for request in &requests {
        client.authorise(request.clone()).await;
    }
    let mut anna = bench.administration(Some(&operator)).await;
    let seen = anna.get_payment(question_of(&requests[0])).await.unwrap().into_inner();
    assert_eq!(state_of(seen.payment.unwrap().state), TransactionState::Approved);
    let order = order_of(&requests[0]);
    let captured = anna.capture_payment(CapturePaymentRequest { order }).await.unwrap();
    let captured = payment_of(captured.into_inner().outcome);
    assert_eq!(state_of(captured.state), TransactionState::Captured);
    let order = order_of(&requests[1]);
    let reversed = anna.reverse_payment(ReversePaymentRequest { order }).await.unwrap();
    assert_eq!(
        state_of(payment_of(reversed.into_inner().outcome).state),
        TransactionState::Reversed
    );
    let order = order_of(&requests[2]);
    let written_off = anna.write_off_payment(WriteOffPaymentRequest { order }).await.unwrap();
    assert!(payment_of(written_off.into_inner().outcome).is_written_off);
    let refund = RefundPaymentRequest {
        order: order_of(&requests[0]),
        refund_id: vec![7; 16],
        amount_minor: 100,
    };
    for _ in 0..2 {
        let refunded = anna.refund_payment(refund.clone()).await.unwrap().into_inner();
        assert_eq!(payment_of(refunded.outcome).refunded_minor, 100);
    }
    let more = RefundPaymentRequest { refund_id: vec![8; 16], amount_minor: 151, ..refund.clone() };
    refused(anna.refund_payment(more).await, Code::FailedPrecondition, "1.50 EUR of it");
    let other = RefundPaymentRequest { amount_minor: 99, ..refund.clone() };
    refused(anna.refund_payment(other).await, Code::AlreadyExists, "a new id");
    let no_id = RefundPaymentRequest { refund_id: vec![8; 15], ..refund };
    refused(anna.refund_payment(no_id).await, Code::InvalidArgument, "refund_id");
    let no_order = CapturePaymentRequest { order: None };
    refused(anna.capture_payment(no_order).await, Code::InvalidArgument, "order");
    let unseen = GetPaymentRequest { transaction_id: uuid(9), ..question_of(&requests[0]) };
    refused(anna.get_payment(unseen).await, Code::NotFound, "no transaction");
    // The terminal sees the newer receipt.
    let answer = client.inquire(inquiry_of(&requests[0])).await;
    let receipt = Signed::decode(&answer.receipt).unwrap();
    let receipt = verify_receipt(&receipt, &keyring(&terminal), now()).unwrap();
    assert!(matches!(receipt.status, ReceiptStatus::Captured { refunded_minor: 100, .. }));
    let log = bench.institution.newest_audit_entries(None, 9).unwrap();
    assert_eq!(log.len(), 4);
    assert!(log.iter().all(|(_, entry)| entry.operator == "anna"));
    assert_eq!(bench.institution.check_ledger().unwrap().faults, []);
}

#[tokio::test]
async fn only_an_operators_newest_certificate_administers_and_no_terminals() {
    let mut bench = Bench::start().await;
    let terminal = bench.new_terminal(1).await;
    let card = bench.new_card().await;
    let request = payment(&terminal, &card, 1, "2.50");
    let mut client = Client(bench.institution(Some(&terminal.identity)).await);
    client.authorise(request.clone()).await;
    let question = question_of(&request);
    for identity in [None, Some(&terminal.identity)] {
        let mut nobody = bench.administration(identity).await;
        let words = "operator's client certificate";
        refused(nobody.get_payment(question.clone()).await, Code::Unauthenticated, words);
        let order = order_of(&request);
        let refund = RefundPaymentRequest { order, refund_id: vec![7; 16], amount_minor: 0 };
        refused(nobody.refund_payment(refund).await, Code::Unauthenticated, words);
        let confirm = ConfirmApprovalRequest { approval: 1 };
        refused(nobody.confirm_approval(confirm).await, Code::Unauthenticated, words);
    }
    let first = bench.new_operator("anna");
    let mut anna = bench.administration(Some(&first)).await;
    anna.get_payment(question.clone()).await.unwrap();
    // An operator is no terminal.
    let mut as_terminal = bench.institution(Some(&first)).await;
    let inquiry = inquiry_of(&request);
    refused(as_terminal.get_transaction(inquiry).await, Code::Unauthenticated, "no terminal");
    let second = bench.new_operator("anna");
    refused(anna.get_payment(question.clone()).await, Code::Unauthenticated, "operator add anna");
    let mut anna = bench.administration(Some(&second)).await;
    anna.get_payment(question.clone()).await.unwrap();
    bench.institution.remove_operator(&"anna".parse().unwrap(), now()).unwrap();
    refused(anna.get_payment(question).await, Code::Unauthenticated, "not good any more");
}

/// The terminal's own way to the institution, and the institution, as they are.
#[cfg(feature = "terminal")]
mod relay {
    use florin::domain::{DeclineReason, ReversalReason, TransactionState};
    use florin::institution_address::InstitutionAddress;
    use florin::relay::{GrpcRelay, Relay, TlsFiles, enrol_terminal};
    use florin::terminal::{InstitutionAnswer, InstitutionRequest};

    use super::{
        AuthoriseRequest, Bench, EnrolTerminalResponse, EnrolledTerminal, Identity, KeyPair,
        TransactionId, channel_key, now, payment, signing_request, tomorrow,
    };

    const TIMEOUT_MS: u64 = 5_000;

    /// A terminal that the relay has enrolled, and its way to the institution.
    async fn enrolled(bench: &mut Bench) -> (EnrolledTerminal, GrpcRelay) {
        let (id, code) = bench.add_terminal(1, tomorrow());
        let key = KeyPair::generate().unwrap();
        let address: InstitutionAddress =
            format!("https://localhost:{}", bench.address.port()).parse().unwrap();
        let root = &bench.root_pem;
        let wrong =
            enrol_terminal(&address, root, "0", signing_request(&key), &channel_key(), now()).await;
        assert!(wrong.unwrap_err().to_string().contains("16 letters and digits"));
        let enrolled =
            enrol_terminal(&address, root, &code, signing_request(&key), &channel_key(), now())
                .await;
        let enrolled = enrolled.unwrap();
        assert_eq!(enrolled.terminal_id, id.as_str());
        let terminal = EnrolledTerminal {
            id: enrolled.terminal_id.clone(),
            identity: Identity::from_pem(&enrolled.client_certificate_pem, key.serialize_pem()),
            response: EnrolTerminalResponse {
                terminal_id: enrolled.terminal_id,
                client_certificate_pem: enrolled.client_certificate_pem.clone(),
                terminal_certificate: enrolled.terminal_certificate,
                keyring: enrolled.keyring,
                root_public_key: enrolled.root_public_key,
            },
        };
        let key_pem = key.serialize_pem();
        let files = TlsFiles {
            root_certificates_pem: root,
            client: Some((&enrolled.client_certificate_pem, &key_pem)),
        };
        (terminal, GrpcRelay::new(address, &files, id).unwrap())
    }

    fn id_of(request: &AuthoriseRequest) -> TransactionId {
        TransactionId::from_octets(&request.transaction_id).unwrap()
    }

    fn authorise(request: &AuthoriseRequest) -> InstitutionRequest {
        InstitutionRequest::Authorise {
            transaction_id: id_of(request),
            offer: request.offer.clone(),
            offer_age_ms: request.offer_age_ms,
            sealed_command: request.sealed_command.clone(),
            sequence: request.sequence,
        }
    }

    /// How the transaction stands by the institution's answer, and whether it has a receipt.
    async fn state(relay: &GrpcRelay, request: InstitutionRequest) -> (TransactionState, bool) {
        match relay.ask(request, TIMEOUT_MS).await {
            InstitutionAnswer::Transaction(claim) => (claim.state, claim.receipt.is_some()),
            InstitutionAnswer::NotSent { detail }
            | InstitutionAnswer::Refused { detail }
            | InstitutionAnswer::Unanswered { detail } => panic!("{detail}"),
        }
    }

    #[tokio::test]
    async fn the_terminals_relay_and_the_institution_understand_each_other() {
        let mut bench = Bench::start().await;
        let card = bench.new_card().await;
        let (terminal, relay) = enrolled(&mut bench).await;
        relay.check_reachable().await.unwrap();

        let first = payment(&terminal, &card, 1, "2.50");
        let transaction_id = id_of(&first);
        let inquire = InstitutionRequest::Inquire { transaction_id };
        assert_eq!(state(&relay, inquire.clone()).await, (TransactionState::Unknown, false));
        assert_eq!(state(&relay, authorise(&first)).await, (TransactionState::Approved, true));
        assert_eq!(state(&relay, authorise(&first)).await, (TransactionState::Approved, true));
        let capture = InstitutionRequest::Capture { transaction_id };
        assert_eq!(state(&relay, capture.clone()).await, (TransactionState::Captured, true));
        assert_eq!(state(&relay, inquire).await, (TransactionState::Captured, true));
        let reason = ReversalReason::DispenseFailed;
        let reverse = InstitutionRequest::Reverse { transaction_id, reason };
        let refused = relay.ask(reverse, TIMEOUT_MS).await;
        assert!(matches!(refused, InstitutionAnswer::Refused { .. }), "{refused:?}");
        assert_eq!(state(&relay, capture).await, (TransactionState::Captured, true));
        assert_eq!(state(&relay, authorise(&first)).await, (TransactionState::Approved, true));

        let declined = payment(&terminal, &card, 2, "50.01");
        let over_limit = (TransactionState::Declined(DeclineReason::OverLimit), true);
        assert_eq!(state(&relay, authorise(&declined)).await, over_limit);
        let third = payment(&terminal, &card, 3, "2.50");
        let (transaction_id, reason) = (id_of(&third), ReversalReason::Unanswered);
        let reverse = InstitutionRequest::Reverse { transaction_id, reason };
        assert_eq!(state(&relay, reverse).await, (TransactionState::Reversed, false));
        assert_eq!(state(&relay, authorise(&third)).await, (TransactionState::Reversed, false));
        assert_eq!(bench.institution.check_ledger().unwrap().faults, []);
    }
}

/// The wallet's own enrolment, and the institution, as they are.
#[cfg(feature = "wallet")]
#[tokio::test]
async fn the_wallet_enrols_its_card() {
    use florin::wallet::{EnrolmentRequest, InstitutionContact, WalletDirectory, enrol_card};

    let mut bench = Bench::start().await;
    let currency = "EUR".parse().unwrap();
    let account = bench.institution.create_account("Alice", currency, None, now()).unwrap();
    let terms = CardTerms { account, payment_limit: euros("50.00"), verification_limit: None };
    let code = EnrolmentCode::from_random([30; 16]);
    let id = CardId::from_octets(&[0xab; 16]).unwrap();
    bench.institution.add_card(id, terms, &code, tomorrow(), now()).unwrap();
    let directory = WalletDirectory::open(bench.directory.path().join("wallet")).unwrap();
    let request = |code: &str| EnrolmentRequest {
        institution: InstitutionContact {
            address: format!("https://localhost:{}", bench.address.port()).parse().unwrap(),
            root_pem: bench.root_pem.clone().into_bytes(),
        },
        code: code.to_owned().into(),
        name: None,
    };
    let refused = enrol_card(&directory, request("0000-0000-0000-0000")).await.unwrap_err();
    assert!(refused.to_string().contains("not known"), "{refused}");
    let typed = code.expose_text().to_lowercase();
    let card = enrol_card(&directory, request(&typed)).await.unwrap();
    assert_eq!((card.card_id(), card.payment_limit()), (&id, euros("50.00")));
    assert_eq!(card.keyring().institution_name, "Example Bank");
    let stored = &bench.institution.cards().unwrap()[0];
    assert_eq!(stored.public_key, Some(card.key().verifying_key()));
}
