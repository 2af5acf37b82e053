//! The relay against a server that stops, resets, goes silent or answers nonsense, at each point of
//! an exchange.

mod every_point;
mod reachability;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::super::{ConnectError, Relay, TlsFiles};
use super::*;
use crate::domain::{DeclineReason, ReversalReason, TransactionId};
use crate::institution_api;
use crate::terminal::{InstitutionAnswer, InstitutionRequest, TransactionClaim, TransactionState};

/// How long each question has here, in milliseconds.
const TIMEOUT_MS: u64 = 1_000;

fn id() -> TransactionId {
    TransactionId::from_random([7; 16])
}

fn inquiry() -> InstitutionRequest {
    InstitutionRequest::Inquire { transaction_id: id() }
}

/// An authority with a server's and a client's certificate.
struct Credentials {
    root_pem: String,
    server_pem: String,
    server_key_pem: String,
    client_pem: String,
    client_key_pem: String,
}

fn credentials() -> Credentials {
    credentials_from(rcgen::date_time_ymd(2000, 1, 1))
}

fn credentials_from(first_day: time::OffsetDateTime) -> Credentials {
    let mut root = CertificateParams::new(Vec::new()).unwrap();
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = CertifiedIssuer::self_signed(root, KeyPair::generate().unwrap()).unwrap();
    let leaf = |name: &str, usage| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.extended_key_usages = vec![usage];
        params.not_before = first_day;
        (params.signed_by(&key, &root).unwrap().pem(), key.serialize_pem())
    };
    let (server_pem, server_key_pem) = leaf("localhost", ExtendedKeyUsagePurpose::ServerAuth);
    let (client_pem, client_key_pem) = leaf("terminal", ExtendedKeyUsagePurpose::ClientAuth);
    Credentials { root_pem: root.pem(), server_pem, server_key_pem, client_pem, client_key_pem }
}

fn acceptor(credentials: &Credentials, clients_root_pem: &str) -> TlsAcceptor {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(clients_root_pem.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
        Arc::new(roots),
        Arc::clone(&provider),
    )
    .build()
    .unwrap();
    let mut configuration = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(credentials.server_pem.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(credentials.server_key_pem.as_bytes()).unwrap(),
        )
        .unwrap();
    configuration.alpn_protocols = vec![b"h2".to_vec()];
    TlsAcceptor::from(Arc::new(configuration))
}

fn relay_to(port: u16, credentials: &Credentials) -> GrpcRelay {
    let files = TlsFiles {
        root_certificates_pem: &credentials.root_pem,
        client: Some((&credentials.client_pem, &credentials.client_key_pem)),
    };
    let address = format!("https://localhost:{port}").parse().unwrap();
    GrpcRelay::new(address, &files, "0123456789".parse().unwrap()).unwrap()
}

/// A server that does with each TCP connection what it is told.
async fn tcp_server<F, R>(serve: F) -> (u16, JoinHandle<()>)
where
    F: Fn(TcpStream) -> R + Send + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let task = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    (port, task)
}

type Answer = Response<BoxBody<Bytes, Infallible>>;

/// What a gRPC server does with a request.
#[derive(Clone, Copy, Debug)]
enum Conduct {
    Answer(institution_api::TransactionState, u64),
    Standing(institution_api::Standing),
    AnotherTransaction,
    NoTransaction,
    Status(i32),
    StatusInTrailers(i32),
    HttpStatus(u16),
    /// A 200 that is no gRPC, with a gRPC status in it.
    NotGrpc,
    Silence,
    SilenceAfterHeaders,
    /// Ends the connection without an answer.
    HangUp,
    /// Answers, then ends the connection.
    AnswerAndHangUp,
}

fn framed(message: &impl Message) -> Bytes {
    let encoded = message.encode_to_vec();
    let mut octets = vec![0];
    octets.extend_from_slice(&u32::try_from(encoded.len()).unwrap().to_be_bytes());
    octets.extend_from_slice(&encoded);
    Bytes::from(octets)
}

fn with_status(body: Bytes, code: i32) -> Answer {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", code.into());
    let body = Full::new(body).with_trailers(async move { Some(Ok(trailers)) });
    Response::builder().header("content-type", "application/grpc").body(body.boxed()).unwrap()
}

fn transaction(
    state: institution_api::TransactionState,
    decline_reason: u64,
) -> institution_api::Transaction {
    institution_api::Transaction {
        transaction_id: id().as_octets().to_vec(),
        state: state.into(),
        decline_reason,
        receipt: vec![1, 2, 3],
        ..Default::default()
    }
}

async fn answer(conduct: Conduct, request: Request<Incoming>) -> Answer {
    let asks_for_standing = request.uri().path().ends_with("/CheckStanding");
    let _ = request.into_body().collect().await;
    let standing = |standing: institution_api::Standing| {
        let answer = institution_api::CheckStandingResponse {
            standing: standing.into(),
            detail: "because".into(),
        };
        with_status(framed(&answer), 0)
    };
    let wrap = |transaction| framed(&institution_api::GetTransactionResponse { transaction });
    match conduct {
        Conduct::Standing(answer) => standing(answer),
        Conduct::Answer(..) | Conduct::AnswerAndHangUp if asks_for_standing => {
            standing(institution_api::Standing::Good)
        }
        Conduct::Answer(state, reason) => with_status(wrap(Some(transaction(state, reason))), 0),
        Conduct::AnswerAndHangUp => {
            with_status(wrap(Some(transaction(institution_api::TransactionState::Approved, 0))), 0)
        }
        Conduct::AnotherTransaction => with_status(
            wrap(Some(institution_api::Transaction {
                transaction_id: vec![8; 16],
                ..transaction(institution_api::TransactionState::Approved, 0)
            })),
            0,
        ),
        Conduct::NoTransaction => with_status(wrap(None), 0),
        Conduct::Status(code) => Response::builder()
            .header("content-type", "application/grpc")
            .header("grpc-status", code)
            .header("grpc-message", "because")
            .body(Full::default().boxed())
            .unwrap(),
        Conduct::StatusInTrailers(code) => with_status(Bytes::new(), code),
        Conduct::HttpStatus(status) => {
            Response::builder().status(status).body(Full::default().boxed()).unwrap()
        }
        Conduct::NotGrpc => Response::builder()
            .header("content-type", "text/html")
            .header("grpc-status", 7)
            .body(Full::default().boxed())
            .unwrap(),
        Conduct::Silence | Conduct::HangUp => std::future::pending().await,
        Conduct::SilenceAfterHeaders => {
            let body = Full::new(Bytes::new()).with_trailers(std::future::pending());
            Response::builder()
                .header("content-type", "application/grpc")
                .body(body.boxed())
                .unwrap()
        }
    }
}

/// A gRPC server; also counts its connections and its requests.
async fn grpc_server(
    credentials: &Credentials,
    conduct: Conduct,
) -> (u16, JoinHandle<()>, Arc<[AtomicUsize; 2]>) {
    let acceptor = acceptor(credentials, &credentials.root_pem);
    let counts: Arc<[AtomicUsize; 2]> = Arc::default();
    let counted = Arc::clone(&counts);
    let (port, task) = tcp_server(move |stream| {
        let (acceptor, counts) = (acceptor.clone(), Arc::clone(&counted));
        async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            counts[0].fetch_add(1, Ordering::Relaxed);
            let (seen, mut was_seen) = tokio::sync::mpsc::unbounded_channel();
            let service = service_fn(|request| {
                counts[1].fetch_add(1, Ordering::Relaxed);
                let _ = seen.send(());
                async move { Ok::<_, Infallible>(answer(conduct, request).await) }
            });
            let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service);
            let hang_up = async {
                was_seen.recv().await;
                if matches!(conduct, Conduct::AnswerAndHangUp) {
                    // Long enough for the answer to arrive.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                } else if !matches!(conduct, Conduct::HangUp) {
                    std::future::pending().await
                }
            };
            tokio::select! {
                _ = connection => {}
                () = hang_up => {}
            }
        }
    })
    .await;
    (port, task, counts)
}

async fn ask(conduct: Conduct) -> InstitutionAnswer {
    let credentials = credentials();
    let (port, _server, _) = grpc_server(&credentials, conduct).await;
    relay_to(port, &credentials).ask(inquiry(), TIMEOUT_MS).await
}

#[tokio::test]
async fn the_institutions_answer_comes_back() {
    use institution_api::TransactionState as Wire;
    for (wire, reason, state) in [
        (Wire::Unknown, 0, TransactionState::Unknown),
        (Wire::Approved, 0, TransactionState::Approved),
        (Wire::Captured, 0, TransactionState::Captured),
        (Wire::Reversed, 0, TransactionState::Reversed),
        (Wire::Declined, 8, TransactionState::Declined(DeclineReason::InsufficientFunds)),
        (Wire::Declined, 99, TransactionState::Declined(DeclineReason::Other)),
    ] {
        let answer = ask(Conduct::Answer(wire, reason)).await;
        assert_eq!(
            answer,
            InstitutionAnswer::Transaction(TransactionClaim {
                receipt: Some(vec![1, 2, 3]),
                ..TransactionClaim::bare(state)
            })
        );
    }
}

#[tokio::test]
async fn every_question_has_its_call() {
    let credentials = credentials();
    let conduct = Conduct::Answer(institution_api::TransactionState::Approved, 0);
    let (port, _server, counts) = grpc_server(&credentials, conduct).await;
    let relay = relay_to(port, &credentials);
    for request in [
        InstitutionRequest::Authorise {
            transaction_id: id(),
            offer: vec![1],
            offer_age_ms: 5,
            sealed_command: vec![2],
            sequence: 1,
        },
        inquiry(),
        InstitutionRequest::Capture { transaction_id: id() },
        InstitutionRequest::Reverse { transaction_id: id(), reason: ReversalReason::Unanswered },
    ] {
        assert!(matches!(
            relay.ask(request, TIMEOUT_MS).await,
            InstitutionAnswer::Transaction { .. }
        ));
    }
    assert_eq!(counts[0].load(Ordering::Relaxed), 1, "one connection serves them all");
    assert_eq!(counts[1].load(Ordering::Relaxed), 4);
}

#[tokio::test]
async fn an_examination_says_how_long_it_takes_and_what_time_it_is_there() {
    let credentials = credentials();
    let conduct = Conduct::Answer(institution_api::TransactionState::Unknown, 0);
    let (port, _server, counts) = grpc_server(&credentials, conduct).await;
    let examined = relay_to(port, &credentials).examine(id()).await.unwrap();
    assert_eq!(examined.refusal, None);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert!(examined.clock.unwrap().seconds.abs_diff(now) < 3600, "{examined:?}");
    assert_eq!((counts[0].load(Ordering::Relaxed), counts[1].load(Ordering::Relaxed)), (1, 1));

    let (port, _server, _) = grpc_server(&credentials, Conduct::Status(7)).await;
    let examined = relay_to(port, &credentials).examine(id()).await.unwrap();
    let refusal = examined.refusal.unwrap();
    assert_eq!(refusal.name(), "terminal_not_accepted");
    assert!(refusal.to_string().contains("PermissionDenied: because"), "{refusal}");
    let nobody = relay_to(1, &credentials).examine(id()).await;
    assert!(matches!(nobody, Err(ConnectError::Unreachable { .. })), "{nobody:?}");
}

#[tokio::test]
async fn nobody_listening_is_not_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let answer = relay_to(port, &credentials()).ask(inquiry(), TIMEOUT_MS).await;
    assert!(matches!(answer, InstitutionAnswer::NotSent { .. }), "{answer:?}");
}

#[tokio::test]
async fn a_server_that_fails_before_it_has_spoken_is_not_sent() {
    let credentials = credentials();
    let (hangs_up, _server) = tcp_server(|stream| async move { drop(stream) }).await;
    let (silent, _server_2) = tcp_server(|stream| async move {
        let _stream = stream;
        std::future::pending().await
    })
    .await;
    // In TLS 1.3 the client is done before the server has looked at its certificate.
    let after_tls = acceptor(&credentials, &credentials.root_pem);
    let (hangs_up_after_tls, _server_3) = tcp_server(move |stream| {
        let after_tls = after_tls.clone();
        async move { drop(after_tls.accept(stream).await) }
    })
    .await;
    let after_tls = acceptor(&credentials, &credentials.root_pem);
    let (silent_after_tls, _server_4) = tcp_server(move |stream| {
        let after_tls = after_tls.clone();
        async move {
            let mut stream = after_tls.accept(stream).await.unwrap();
            let mut octets = [0; 1024];
            while stream.read(&mut octets).await.is_ok_and(|count| count > 0) {}
        }
    })
    .await;
    for port in [hangs_up, silent, hangs_up_after_tls, silent_after_tls] {
        let answer = relay_to(port, &credentials).ask(inquiry(), TIMEOUT_MS).await;
        assert!(matches!(answer, InstitutionAnswer::NotSent { .. }), "{answer:?}");
    }
}

#[tokio::test]
async fn a_server_that_does_not_accept_the_certificate_is_not_sent_and_says_why() {
    let (credentials, others) = (credentials(), credentials());
    let strict = acceptor(&credentials, &others.root_pem);
    let (port, _server) = tcp_server(move |stream| {
        let strict = strict.clone();
        async move { drop(strict.accept(stream).await) }
    })
    .await;
    let answer = relay_to(port, &credentials).ask(inquiry(), TIMEOUT_MS).await;
    let InstitutionAnswer::NotSent { detail } = answer else { panic!("{answer:?}") };
    assert!(detail.contains("refuses this terminal's certificate"), "{detail}");
    // And the other way round: a server that our root does not vouch for.
    let (port, _server, _) = grpc_server(&others, Conduct::Silence).await;
    let answer = relay_to(port, &credentials).ask(inquiry(), TIMEOUT_MS).await;
    let InstitutionAnswer::NotSent { detail } = answer else { panic!("{answer:?}") };
    assert!(detail.contains("another server answers"), "{detail}");
}

#[tokio::test]
async fn what_the_server_itself_refuses_is_refused() {
    for code in [3, 5, 7, 9, 12, 16] {
        for conduct in [Conduct::Status(code), Conduct::StatusInTrailers(code)] {
            let answer = ask(conduct).await;
            assert!(matches!(answer, InstitutionAnswer::Refused { .. }), "{conduct:?}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn everything_else_after_sending_is_unanswered() {
    use institution_api::TransactionState as Wire;
    for conduct in [
        Conduct::Status(14),
        // ALREADY_EXISTS: it may hold an approval of this id.
        Conduct::Status(6),
        Conduct::Status(2),
        Conduct::Status(13),
        Conduct::Status(8),
        Conduct::StatusInTrailers(14),
        // A proxy's own errors, which a gRPC client translates into codes that mean a refusal.
        Conduct::HttpStatus(400),
        Conduct::HttpStatus(401),
        Conduct::HttpStatus(403),
        Conduct::HttpStatus(404),
        Conduct::HttpStatus(502),
        Conduct::NotGrpc,
        Conduct::Silence,
        Conduct::SilenceAfterHeaders,
        Conduct::HangUp,
        Conduct::AnotherTransaction,
        Conduct::NoTransaction,
        Conduct::Answer(Wire::Unspecified, 0),
        Conduct::Answer(Wire::Declined, 0),
    ] {
        let answer = ask(conduct).await;
        assert!(matches!(answer, InstitutionAnswer::Unanswered { .. }), "{conduct:?}: {answer:?}");
    }
}

#[tokio::test]
async fn a_connection_that_was_closed_is_made_anew() {
    let credentials = credentials();
    let (port, server, counts) = grpc_server(&credentials, Conduct::AnswerAndHangUp).await;
    let relay = relay_to(port, &credentials);
    for connections in 1..=3 {
        assert!(matches!(
            relay.ask(inquiry(), TIMEOUT_MS).await,
            InstitutionAnswer::Transaction { .. }
        ));
        assert_eq!(counts[0].load(Ordering::Relaxed), connections);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    server.abort();
    let _ = server.await;
    let answer = relay.ask(inquiry(), TIMEOUT_MS).await;
    assert!(matches!(answer, InstitutionAnswer::NotSent { .. }), "{answer:?}");
}

#[tokio::test]
async fn the_time_for_a_question_holds_also_in_a_queue_of_connecting_ones() {
    let (port, _server) = tcp_server(|stream| async move {
        let _stream = stream;
        std::future::pending().await
    })
    .await;
    let relay = Arc::new(relay_to(port, &credentials()));
    let started = std::time::Instant::now();
    let questions: Vec<_> = (0..4)
        .map(|_| {
            let relay = Arc::clone(&relay);
            tokio::spawn(async move { relay.ask(inquiry(), TIMEOUT_MS).await })
        })
        .collect();
    for question in questions {
        assert!(matches!(question.await.unwrap(), InstitutionAnswer::NotSent { .. }));
    }
    assert!(started.elapsed() < Duration::from_millis(2 * TIMEOUT_MS));
}
