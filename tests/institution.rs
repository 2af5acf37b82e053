//! The institution over real TLS on loopback: who may ask, what is refused and in which words, and
//! that it ends in order.

#![cfg(feature = "institution")]
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Status};

use florin::credential::{
    CardCommand, Keyring, Signed, SigningKey, TerminalCertificate, VerifyingKey,
    card_enrolment_proof, verify_receipt,
};
use florin::domain::{
    Amount, CardId, HolderVerification, Offer, OfferParts, ReceiptStatus, TerminalId,
    TransactionId, UnixTime,
};
use florin::institution::{
    CardTerms, EnrolmentCode, Institution, Server, authority_certificate_path, create_institution,
    open_institution,
};
use florin::protocol::{digest_offer, encode_offer};

mod generated {
    #![allow(clippy::all, clippy::wildcard_enum_match_arm)]
    include!(concat!(env!("OUT_DIR"), "/florin.institution.v1.rs"));
}

use generated::enrolment_client::EnrolmentClient;
use generated::payments_client::PaymentsClient;
use generated::*;

const CHANNEL_KEY: [u8; 32] = [4; 32];

/// A running institution in a directory of its own, and a second hand on its store.
struct Bench {
    directory: tempfile::TempDir,
    server: Server,
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
        Self { directory, server, address, root_pem, institution }
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

    async fn enrol_terminal(&self, code: &str, key: &KeyPair) -> Result<EnrolledTerminal, Status> {
        let request = EnrolTerminalRequest {
            code: code.to_owned(),
            certificate_signing_request: signing_request(key),
            channel_key: CHANNEL_KEY.to_vec(),
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

fn capture_of(request: &AuthoriseRequest) -> CaptureRequest {
    let AuthoriseRequest { transaction_id, terminal_id, .. } = request.clone();
    CaptureRequest { transaction_id, terminal_id }
}

fn reversal_of(request: &AuthoriseRequest) -> ReverseRequest {
    let AuthoriseRequest { transaction_id, terminal_id, .. } = request.clone();
    ReverseRequest { transaction_id, terminal_id, reason: ReversalReason::DispenseFailed.into() }
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
        ("Corner Kiosk", CHANNEL_KEY)
    );

    let mut client = Client(bench.institution(Some(&terminal.identity)).await);
    let request = payment(&terminal, &card, 1, "2.50");
    let approved = client.authorise(request.clone()).await;
    assert_eq!(approved.state(), TransactionState::Approved);
    let receipt =
        verify_receipt(&Signed::decode(&approved.receipt).unwrap(), &keyring(&terminal)).unwrap();
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
    assert_eq!(captured.state(), TransactionState::Captured);
    let declined = client.authorise(payment(&terminal, &card, 2, "50.01")).await;
    assert_eq!((declined.state(), declined.decline_reason), (TransactionState::Declined, 9));
    assert_eq!(client.inquire(inquiry_of(&request)).await, captured);
    let reversed = client.reverse(reversal_of(&request)).await;
    assert_eq!(reversed.state(), TransactionState::Reversed);
    let refusal = client.0.capture(capture_of(&request)).await;
    refused(refusal, Code::FailedPrecondition, "cannot be captured");
    let tombstone = an_id_never_seen_becomes_a_tombstone(&mut client, &request).await;

    let period = ReconcileRequest {
        terminal_id: terminal.id.clone(),
        from_unix_s: now().seconds - 100,
        until_unix_s: now().seconds + 100,
    };
    assert_eq!(client.reconcile(period.clone()).await, [reversed, declined, tombstone]);
    let backwards = ReconcileRequest { until_unix_s: 0, ..period };
    refused(client.0.reconcile(backwards).await, Code::InvalidArgument, "until_unix_s");
    assert_eq!(bench.institution.check_ledger().unwrap().faults, []);
}

async fn an_id_never_seen_becomes_a_tombstone(
    client: &mut Client,
    seen: &AuthoriseRequest,
) -> Transaction {
    let unseen = AuthoriseRequest { transaction_id: vec![9; 16], ..seen.clone() };
    let unknown = client.inquire(inquiry_of(&unseen)).await;
    assert_eq!(unknown.state(), TransactionState::Unknown);
    let refusal = client.0.capture(capture_of(&unseen)).await;
    refused(refusal, Code::NotFound, "authorise it first");
    let tombstone = client.reverse(reversal_of(&unseen)).await;
    assert_eq!((tombstone.state(), tombstone.receipt.len()), (TransactionState::Reversed, 0));
    tombstone
}

#[tokio::test]
async fn the_institution_serves_nobody_but_its_terminals_as_themselves() {
    let mut bench = Bench::start().await;
    let first = bench.new_terminal(1).await;
    let second = bench.new_terminal(2).await;
    let inquiry = |terminal: &EnrolledTerminal| GetTransactionRequest {
        transaction_id: vec![1; 16],
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
async fn bad_input_is_refused_in_words() {
    let mut bench = Bench::start().await;
    let terminal = bench.new_terminal(1).await;
    let card = bench.new_card().await;
    let mut client = bench.institution(Some(&terminal.identity)).await;
    let good = payment(&terminal, &card, 1, "2.50");
    for (bad, words) in [
        (AuthoriseRequest { transaction_id: vec![1; 15], ..good.clone() }, "transaction_id"),
        (AuthoriseRequest { transaction_id: vec![1; 16], ..good.clone() }, "offer.transaction_id"),
        (AuthoriseRequest { offer: vec![], ..good.clone() }, "offer"),
        (AuthoriseRequest { offer: vec![0xff; 100], ..good.clone() }, "offer"),
        (AuthoriseRequest { offer: vec![0; 17_000], ..good.clone() }, "longer than 16384"),
        (AuthoriseRequest { sealed_command: vec![0; 17_000], ..good.clone() }, "longer than 16384"),
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
    assert_eq!(approved.state(), TransactionState::Approved);
}

/// Octets that are no message.
struct AnyOctets;

impl tonic::codec::Codec for AnyOctets {
    type Encode = Vec<u8>;
    type Decode = ();
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl tonic::codec::Encoder for AnyOctets {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(
        &mut self,
        octets: Vec<u8>,
        buffer: &mut tonic::codec::EncodeBuf<'_>,
    ) -> Result<(), Status> {
        prost::bytes::BufMut::put_slice(buffer, &octets);
        Ok(())
    }
}

impl tonic::codec::Decoder for AnyOctets {
    type Item = ();
    type Error = Status;

    fn decode(&mut self, _: &mut tonic::codec::DecodeBuf<'_>) -> Result<Option<()>, Status> {
        Ok(None)
    }
}

/// The codes of docs/institution.md for requests that no service gets to see.
#[tokio::test]
async fn what_cannot_be_read_at_all_has_the_code_of_the_document() {
    let mut bench = Bench::start().await;
    let terminal = bench.new_terminal(1).await;
    let channel = bench.endpoint(Some(&terminal.identity)).connect().await.unwrap();
    let call = async |path: &'static str, octets: Vec<u8>, encoding: Option<&'static str>| {
        let mut request = tonic::Request::new(octets);
        if let Some(encoding) = encoding {
            request.metadata_mut().insert("grpc-encoding", encoding.parse().unwrap());
        }
        let mut client = tonic::client::Grpc::new(channel.clone());
        client.ready().await.unwrap();
        let path = path.parse().unwrap();
        client.unary(request, path, AnyOctets).await.unwrap_err().code()
    };
    let authorise = "/florin.institution.v1.Payments/Authorise";
    assert_eq!(call(authorise, vec![0xff; 9], None).await, Code::Internal);
    assert_eq!(call(authorise, vec![0; 50_000], None).await, Code::OutOfRange);
    assert_eq!(call(authorise, vec![], Some("gzip")).await, Code::Unimplemented);
    let unknown = "/florin.institution.v1.Payments/Transfer";
    assert_eq!(call(unknown, vec![], None).await, Code::Unimplemented);
}

#[tokio::test]
async fn a_terminal_hears_how_it_stands() {
    let mut bench = Bench::start().await;
    let terminal = bench.new_terminal(1).await;
    let id: TerminalId = terminal.id.parse().unwrap();
    let question = CheckStandingRequest { terminal_id: terminal.id.clone() };
    let mut client = bench.institution(Some(&terminal.identity)).await;
    let good = client.check_standing(question.clone()).await.unwrap().into_inner();
    assert_eq!((good.standing(), good.detail.as_str()), (Standing::Good, ""));
    bench.institution.set_terminal_blocked(id, true).unwrap();
    let blocked = client.check_standing(question.clone()).await.unwrap().into_inner();
    assert_eq!(blocked.standing(), Standing::Blocked);
    assert!(blocked.detail.contains("unblock"), "{}", blocked.detail);
    let mut nobody = bench.institution(None).await;
    refused(nobody.check_standing(question).await, Code::Unauthenticated, "client certificate");
}

/// Another process that writes to the store, until it is dropped.
fn lock_store(bench: &Bench) -> rusqlite::Connection {
    let store = bench.directory.path().join("bank/institution.sqlite");
    let other = rusqlite::Connection::open(store).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    other
}

#[tokio::test]
async fn while_the_store_is_locked_nothing_is_begun_and_nothing_is_done_later() {
    let mut bench = Bench::start().await;
    let terminal = bench.new_terminal(1).await;
    let card = bench.new_card().await;
    let client = bench.institution(Some(&terminal.identity)).await;
    let requests: Vec<_> =
        (1..=4).map(|number| payment(&terminal, &card, number, "2.50")).collect();
    let lock = lock_store(&bench);
    let mut asking = tokio::task::JoinSet::new();
    for request in requests.clone() {
        let mut client = client.clone();
        asking.spawn(async move { client.authorise(request).await });
    }
    while let Some(answer) = asking.join_next().await {
        refused(answer.unwrap(), Code::Unavailable, "nothing was begun");
    }
    drop(lock);
    // Everything that waited is over when a later request has been answered.
    let mut client = Client(client);
    for request in &requests {
        let found = client.inquire(inquiry_of(request)).await;
        assert_eq!(found.state(), TransactionState::Unknown);
    }
    assert_eq!(client.authorise(requests[3].clone()).await.state(), TransactionState::Approved);
}

#[tokio::test]
async fn the_wait_for_the_lock_of_the_store_makes_an_offer_older() {
    let mut bench = Bench::start().await;
    let terminal = bench.new_terminal(1).await;
    let card = bench.new_card().await;
    let mut client = Client(bench.institution(Some(&terminal.identity)).await);
    let fresh = payment(&terminal, &card, 1, "2.50");
    // Good for 60 s and the grace of 2 s: half a second is left.
    let nearly_over = AuthoriseRequest { offer_age_ms: 61_500, ..fresh };
    let lock = lock_store(&bench);
    let unlocking = tokio::task::spawn_blocking(move || {
        std::thread::sleep(Duration::from_millis(1_500));
        drop(lock);
    });
    let declined = client.authorise(nearly_over).await;
    assert_eq!((declined.state(), declined.decline_reason), (TransactionState::Declined, 7));
    unlocking.await.unwrap();
}

/// Connections that say nothing.
#[tokio::test]
async fn a_crowd_without_certificates_keeps_no_terminal_out() {
    let mut bench = Bench::start().await;
    let terminal = bench.new_terminal(1).await;
    let inquiry =
        GetTransactionRequest { transaction_id: vec![1; 16], terminal_id: terminal.id.clone() };
    let mut early = bench.institution(Some(&terminal.identity)).await;
    early.get_transaction(inquiry.clone()).await.unwrap();
    let mut crowd = Vec::new();
    for _ in 0..100 {
        crowd.push(TcpStream::connect(bench.address).await.unwrap());
    }
    let mut late = bench.institution(Some(&terminal.identity)).await;
    late.get_transaction(inquiry.clone()).await.unwrap();
    early.get_transaction(inquiry).await.unwrap();
    // The oldest of the crowd made room.
    let mut octets = [0; 16];
    let read = tokio::time::timeout(Duration::from_secs(5), crowd[0].read(&mut octets)).await;
    assert!(matches!(read, Ok(Ok(0) | Err(_))), "{read:?}");
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
        channel_key: CHANNEL_KEY.to_vec(),
    };
    let bad =
        EnrolTerminalRequest { certificate_signing_request: vec![1, 2, 3], ..request.clone() };
    refused(client.enrol_terminal(bad).await, Code::InvalidArgument, "certificate_signing_request");
    let bad = EnrolTerminalRequest { channel_key: vec![1], ..request.clone() };
    refused(client.enrol_terminal(bad).await, Code::InvalidArgument, "channel_key");
    // Without hyphens and in small letters it is the same code; the same keys may come again,
    // others may not.
    let typed =
        EnrolTerminalRequest { code: good.replace('-', "").to_lowercase(), ..request.clone() };
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
    // That were seven failures of this address; after ten it waits.
    for _ in 0..3 {
        client.enrol_card(EnrolCardRequest::default()).await.unwrap_err();
    }
    refused(
        client.enrol_card(EnrolCardRequest::default()).await,
        Code::ResourceExhausted,
        "wait a minute",
    );
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
            channel_key: CHANNEL_KEY.to_vec(),
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
    let ended = tokio::time::timeout(Duration::from_secs(8), bench.server.shut_down()).await;
    ended.unwrap().unwrap();
    client.authorise(request.clone()).await.unwrap_err();
    TcpStream::connect(bench.address).await.unwrap_err();

    let path = bench.directory.path().join("bank");
    let opened = open_institution(&path).unwrap();
    bench.server = Server::start(opened, "127.0.0.1:0".parse().unwrap()).await.unwrap();
    bench.address = bench.server.local_address();
    let mut client = bench.institution(Some(&terminal.identity)).await;
    let again = client.authorise(request).await.unwrap().into_inner().transaction.unwrap();
    assert_eq!(again, approved);
}

/// The terminal's own way to the institution, and the institution, as they are.
#[cfg(feature = "terminal")]
mod relay {
    use florin::domain::{DeclineReason, ReversalReason, TransactionState};
    use florin::institution_address::InstitutionAddress;
    use florin::relay::{GrpcRelay, Relay, TlsFiles, enrol_terminal};
    use florin::terminal::{InstitutionAnswer, InstitutionRequest};

    use super::{
        AuthoriseRequest, Bench, CHANNEL_KEY, EnrolTerminalResponse, EnrolledTerminal, Identity,
        KeyPair, TransactionId, payment, signing_request, tomorrow,
    };

    const TIMEOUT_MS: u64 = 5_000;

    /// A terminal that the relay has enrolled, and its way to the institution.
    async fn enrolled(bench: &mut Bench) -> (EnrolledTerminal, GrpcRelay) {
        let (id, code) = bench.add_terminal(1, tomorrow());
        let key = KeyPair::generate().unwrap();
        let address: InstitutionAddress =
            format!("https://localhost:{}", bench.address.port()).parse().unwrap();
        let root = &bench.root_pem;
        let wrong = enrol_terminal(&address, root, "0", signing_request(&key), CHANNEL_KEY).await;
        assert!(wrong.unwrap_err().to_string().contains("16 letters and digits"));
        let enrolled =
            enrol_terminal(&address, root, &code, signing_request(&key), CHANNEL_KEY).await;
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
        }
    }

    /// How the transaction stands by the institution's answer, and whether it has a receipt.
    async fn state(relay: &GrpcRelay, request: InstitutionRequest) -> (TransactionState, bool) {
        match relay.ask(request, TIMEOUT_MS).await {
            InstitutionAnswer::Transaction { state, receipt } => (state, receipt.is_some()),
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
        assert_eq!(state(&relay, reverse).await, (TransactionState::Reversed, true));
        let refused = relay.ask(capture, TIMEOUT_MS).await;
        assert!(matches!(refused, InstitutionAnswer::Refused { .. }), "{refused:?}");
        assert_eq!(state(&relay, authorise(&first)).await, (TransactionState::Reversed, true));

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
    use florin::wallet::{EnrolmentRequest, WalletDirectory, enrol_card};

    let mut bench = Bench::start().await;
    let currency = "EUR".parse().unwrap();
    let account = bench.institution.create_account("Alice", currency, None, now()).unwrap();
    let terms = CardTerms { account, payment_limit: euros("50.00"), verification_limit: None };
    let code = EnrolmentCode::from_random([30; 16]);
    let id = CardId::from_octets(&[0xab; 16]).unwrap();
    bench.institution.add_card(id, terms, &code, tomorrow(), now()).unwrap();
    let directory = WalletDirectory::open(bench.directory.path().join("wallet")).unwrap();
    let request = |code: &str| EnrolmentRequest {
        institution: format!("https://localhost:{}", bench.address.port()).parse().unwrap(),
        root_pem: bench.root_pem.clone().into_bytes(),
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
