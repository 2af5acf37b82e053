//! The way to the institution where some of it does not work: addresses, names, TLS.

use std::net::SocketAddr;

use tokio::net::TcpSocket;

use super::super::connection::Connection;
use super::super::progress::Progress;
use super::super::tls::tls_configuration;
use super::*;
use crate::relay::{ConnectStage, HandshakeFault, StandingError};

async fn connect(
    port: u16,
    addresses: Vec<SocketAddr>,
    credentials: &Credentials,
) -> Result<Connection, ConnectError> {
    let files = TlsFiles {
        root_certificates_pem: &credentials.root_pem,
        client: Some((&credentials.client_pem, &credentials.client_key_pem)),
    };
    let address = format!("https://localhost:{port}").parse().unwrap();
    let tls = tls_configuration(&files).unwrap();
    Connection::establish(&address, addresses, &tls, &Progress::new()).await
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// An address that answers nothing at all: its queue is full, and the system drops what comes.
struct BlackHole {
    address: SocketAddr,
    _listener: TcpListener,
    _queued: Vec<JoinHandle<std::io::Result<TcpStream>>>,
}

async fn black_hole() -> BlackHole {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(loopback(0)).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let queued = (0..4).map(|_| tokio::spawn(TcpStream::connect(address))).collect();
    loop {
        let probe = TcpStream::connect(address);
        if tokio::time::timeout(Duration::from_millis(200), probe).await.is_err() {
            return BlackHole { address, _listener: listener, _queued: queued };
        }
    }
}

#[tokio::test]
async fn a_dead_first_address_keeps_nobody_from_the_second() {
    let credentials = credentials();
    let conduct = Conduct::Answer(institution_api::TransactionState::Approved, 0);
    let (port, _server, counts) = grpc_server(&credentials, conduct).await;
    let dead = black_hole().await;
    let (silent, _silent_server) = tcp_server(|stream| async move {
        let _stream = stream;
        std::future::pending().await
    })
    .await;
    for first in [dead.address, loopback(silent), loopback(1)] {
        connect(port, vec![first, loopback(port)], &credentials).await.unwrap();
    }
    assert_eq!(counts[0].load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn where_no_address_works_each_is_named_with_its_fault() {
    let credentials = credentials();
    let dead = black_hole().await;
    let error = connect(7443, vec![dead.address, loopback(1)], &credentials).await.err().unwrap();
    let ConnectError::Unreachable { address, detail } = error else { panic!("{error:?}") };
    assert_eq!(address, "https://localhost:7443");
    assert!(detail.contains("127.0.0.1:1: Connection refused"), "{detail}");
    assert!(detail.contains(&format!("{}: no answer within 5000 ms", dead.address)), "{detail}");
}

#[tokio::test]
async fn a_name_that_nobody_knows_is_named() {
    let credentials = credentials();
    let files = TlsFiles { root_certificates_pem: &credentials.root_pem, client: None };
    let address = "https://no-such-bank.invalid".parse().unwrap();
    let relay = GrpcRelay::new(address, &files, "0123456789".parse().unwrap()).unwrap();
    let error = relay.check_reachable().await.unwrap_err();
    assert!(matches!(&error, ConnectError::Name { host, .. } if host == "no-such-bank.invalid"));
}

#[tokio::test]
async fn what_answers_in_the_institutions_place_is_told_from_a_wrong_clock() {
    let (ours, others) = (credentials(), credentials());
    let (portal, _portal) = tcp_server(|mut stream| async move {
        use tokio::io::AsyncWriteExt;
        let page = b"HTTP/1.1 302 Found\r\nLocation: http://login.example/\r\n\r\n";
        let _ = stream.write_all(page).await;
        let mut octets = [0; 1024];
        while stream.read(&mut octets).await.is_ok_and(|count| count > 0) {}
    })
    .await;
    let (intercepted, _interceptor, _) = grpc_server(&others, Conduct::Silence).await;
    for port in [portal, intercepted] {
        let error = connect(port, vec![loopback(port)], &ours).await.err().unwrap();
        let is_other =
            matches!(error, ConnectError::Handshake { fault: HandshakeFault::OtherServer(_), .. });
        assert!(is_other, "{error}");
    }
    let future = credentials_from(rcgen::date_time_ymd(4000, 1, 1));
    let (port, _server, _) = grpc_server(&future, Conduct::Silence).await;
    let error = connect(port, vec![loopback(port)], &future).await.err().unwrap();
    let ConnectError::Handshake { fault, .. } = error else { panic!("{error}") };
    assert!(matches!(fault, HandshakeFault::ServerCertificatePeriod(_)), "{fault}");
}

#[tokio::test]
async fn a_question_whose_time_ends_says_how_far_it_came_and_the_next_one_gains_from_it() {
    let credentials = credentials();
    let go_on = Arc::new(tokio::sync::Notify::new());
    let acceptor = acceptor(&credentials, &credentials.root_pem);
    let (waited, connections) = (Arc::clone(&go_on), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&connections);
    let (port, _server) = tcp_server(move |stream| {
        counted.fetch_add(1, Ordering::Relaxed);
        let (acceptor, waited) = (acceptor.clone(), Arc::clone(&waited));
        async move {
            waited.notified().await;
            let stream = acceptor.accept(stream).await.unwrap();
            let approved = Conduct::Answer(institution_api::TransactionState::Approved, 0);
            let service = service_fn(|request| async move {
                Ok::<_, Infallible>(answer(approved, request).await)
            });
            let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        }
    })
    .await;
    let relay = relay_to(port, &credentials);
    let InstitutionAnswer::NotSent { detail } = relay.ask(inquiry(), 300).await else {
        panic!("nobody has spoken")
    };
    assert!(detail.contains(&ConnectStage::Tls.to_string()), "{detail}");
    go_on.notify_one();
    let answer = relay.ask(inquiry(), 60_000).await;
    assert!(matches!(answer, InstitutionAnswer::Transaction { .. }), "{answer:?}");
    assert_eq!(connections.load(Ordering::Relaxed), 1, "it goes on with the same connection");
}

/// Passes octets on, until it is told to forget the connections that it has, as a router does:
/// nobody hears of it.
struct Router {
    port: u16,
    epoch: tokio::sync::watch::Sender<u32>,
    _task: JoinHandle<()>,
}

impl Router {
    async fn before(port: u16) -> Self {
        let (epoch, epochs) = tokio::sync::watch::channel(0);
        let (own_port, task) = tcp_server(move |mut stream| {
            let mut epochs = epochs.clone();
            let begun_in = *epochs.borrow_and_update();
            async move {
                let mut there = TcpStream::connect(loopback(port)).await.unwrap();
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut stream, &mut there) => {}
                    () = async { drop(epochs.wait_for(|epoch| *epoch != begun_in).await) } => {
                        // Both ends stay open, and nothing passes.
                        std::future::pending().await
                    }
                }
            }
        })
        .await;
        Self { port: own_port, epoch, _task: task }
    }

    fn forget_connections(&self) {
        self.epoch.send_modify(|epoch| *epoch += 1);
    }
}

async fn standing(relay: &GrpcRelay) -> Result<(), StandingError> {
    relay.check_standing(id()).await
}

#[tokio::test]
async fn a_connection_that_a_router_has_forgotten_is_replaced_before_somebody_pays() {
    let credentials = credentials();
    let conduct = Conduct::Answer(institution_api::TransactionState::Approved, 0);
    let (port, _server, counts) = grpc_server(&credentials, conduct).await;
    let router = Router::before(port).await;
    let relay = relay_to(router.port, &credentials);
    standing(&relay).await.unwrap();
    standing(&relay).await.unwrap();
    assert_eq!(counts[0].load(Ordering::Relaxed), 1, "a live connection is kept");
    router.forget_connections();
    standing(&relay).await.unwrap();
    assert_eq!(counts[0].load(Ordering::Relaxed), 2);
    let answer = relay.ask(inquiry(), TIMEOUT_MS).await;
    assert!(matches!(answer, InstitutionAnswer::Transaction { .. }), "{answer:?}");
    assert_eq!(counts[0].load(Ordering::Relaxed), 2, "the payment goes over the new one");
}

#[tokio::test]
async fn every_way_in_which_nobody_can_pay_has_its_name() {
    use institution_api::Standing;
    let credentials = credentials();
    for (conduct, name) in [
        (Conduct::Standing(Standing::Blocked), "terminal_blocked"),
        (Conduct::Standing(Standing::Unknown), "terminal_blocked"),
        (Conduct::Standing(Standing::Unspecified), "institution_failed"),
        (Conduct::Status(16), "terminal_not_accepted"),
        (Conduct::Status(7), "terminal_not_accepted"),
        (Conduct::Status(9), "terminal_blocked"),
        (Conduct::StatusInTrailers(14), "institution_failed"),
        // A proxy's own word is nobody's.
        (Conduct::HttpStatus(403), "institution_unreachable"),
        (Conduct::NotGrpc, "institution_unreachable"),
        (Conduct::HangUp, "institution_unreachable"),
        (Conduct::Silence, "institution_unreachable"),
    ] {
        let (port, _server, _) = grpc_server(&credentials, conduct).await;
        let relay = relay_to(port, &credentials);
        let error = standing(&relay).await.unwrap_err();
        assert_eq!(error.name(), name, "{conduct:?}: {error}");
    }
    let nobody = standing(&relay_to(1, &credentials)).await.unwrap_err();
    assert_eq!(nobody.name(), "institution_unreachable");
}

#[tokio::test]
async fn one_failure_on_the_old_connection_is_no_verdict() {
    let credentials = credentials();
    let conduct = Conduct::Standing(institution_api::Standing::Good);
    let (port, _server, _) = grpc_server(&credentials, conduct).await;
    let (failing, _failing, _) = grpc_server(&credentials, Conduct::Status(14)).await;
    // The first connection leads to a server that fails, the next one to one that works.
    let taken = Arc::new(AtomicUsize::new(0));
    let (router, _router) = tcp_server(move |mut stream| {
        let to = if taken.fetch_add(1, Ordering::Relaxed) == 0 { failing } else { port };
        async move {
            let mut there = TcpStream::connect(loopback(to)).await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut stream, &mut there).await;
        }
    })
    .await;
    let relay = relay_to(router, &credentials);
    relay.check_reachable().await.unwrap();
    standing(&relay).await.unwrap();
}
