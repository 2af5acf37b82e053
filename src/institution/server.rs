//! The institution's server: it listens, serves, and shuts down in order.
//!
//! The services are in `payments_service`, `enrolment_service` and `administration_service`; who
//! connects is in `connection`.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;

use super::administration_service::AdministrationService;
use super::attempt_limit::AttemptLimit;
use super::cardholder_service::CardholderService;
use super::certificate_authority::CertificateError;
use super::challenge::ChallengeKey;
use super::connection::{accept_connections, tls_configuration};
use super::directory::OpenedInstitution;
use super::enrolment_service::EnrolmentService;
use super::error::InstitutionError;
use super::payments_service::{PaymentsService, StoreGeneration};
use super::randomness::{RandomnessError, random};
use super::request_queue::RequestQueue;
use super::wall_clock::unix_time;
use crate::institution_api::administration_server::AdministrationServer;
use crate::institution_api::cardholder_server::CardholderServer;
use crate::institution_api::enrolment_server::EnrolmentServer;
use crate::institution_api::payments_server::PaymentsServer;

/// The longest request, in octets: an offer and a command of the longest kind.
const REQUEST_OCTETS_MAX: usize = 40 * 1024;
/// How long the server works on one request at most, in milliseconds. Terminals wait about as long.
const REQUEST_TIMEOUT_MS: u64 = 10_000;
/// How many requests one connection may have under way. A terminal has one payment, and a few older
/// ones to settle.
const REQUESTS_PER_CONNECTION_MAX: u32 = 64;
/// After how long a silent connection is probed, in milliseconds.
const KEEPALIVE_INTERVAL_MS: u64 = 30_000;
/// How long the answer to a probe may take, in milliseconds.
const KEEPALIVE_TIMEOUT_MS: u64 = 10_000;
/// How long connections may take to close when the server shuts down, in milliseconds.
const SHUTDOWN_GRACE_MS: u64 = 5_000;
/// How many connections may wait between their handshake and the server.
const HANDSHAKES_DONE_MAX: usize = 64;

/// Why the server does not run.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address is in use, not allowed, or not this machine's.
    #[error("cannot listen on {address}: {}", listen_advice(error))]
    Listen { address: SocketAddr, error: io::Error },
    /// The server's certificate cannot be made.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The TLS library refuses the server's key or certificate.
    #[error(
        "TLS cannot be set up with the institution's root.pem and keys/tls-authority-key.pem: {0}; \
         restore both from one backup"
    )]
    Tls(#[from] rustls::Error),
    /// The operating system gives no random octets.
    #[error(transparent)]
    Randomness(#[from] RandomnessError),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] InstitutionError),
    /// The operating system starts no thread.
    #[error("cannot start a thread: {0}; check the limits on this user's processes and memory")]
    Thread(io::Error),
    /// The gRPC server has stopped.
    #[error("the gRPC server has stopped: {0}; start it again")]
    Transport(#[from] tonic::transport::Error),
    /// The task of the gRPC server has panicked.
    #[error(
        "the gRPC server has stopped because of a fault in the program; start it again, and please \
         report the fault"
    )]
    Task,
}

/// The most likely reasons why an address cannot be listened on, and what to do.
const LISTEN_ADVICE: [(io::ErrorKind, &str); 3] = [
    (
        io::ErrorKind::AddrInUse,
        "another program is using it; stop that program, or name another address with --listen",
    ),
    (
        io::ErrorKind::AddrNotAvailable,
        "this machine does not have that address; name one that it has with --listen",
    ),
    (io::ErrorKind::PermissionDenied, "permission denied; name a port from 1024 on with --listen"),
];

fn listen_advice(error: &io::Error) -> String {
    match LISTEN_ADVICE.iter().find(|(kind, _)| *kind == error.kind()) {
        Some((_, advice)) => (*advice).to_owned(),
        None => format!("{error}; name another address with --listen"),
    }
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    local_address: SocketAddr,
    shutdown: watch::Sender<bool>,
    serving: JoinHandle<Result<(), tonic::transport::Error>>,
    worker: thread::JoinHandle<()>,
}

impl Server {
    /// Starts to serve the institution on an address; port 0 takes any that is free. Needs a tokio
    /// runtime.
    ///
    /// # Errors
    /// [`ServerError`].
    pub async fn start(
        opened: OpenedInstitution,
        address: SocketAddr,
    ) -> Result<Self, ServerError> {
        let OpenedInstitution { mut institution, authority, host_names, serving, .. } = opened;
        let generation = StoreGeneration(institution.store_life()?.generation);
        let serial = random()?;
        let identity = authority.issue_server(&host_names, unix_time(), *serial)?;
        let configuration = tls_configuration(&authority, identity)?;
        let refused = |error| ServerError::Listen { address, error };
        let listener = TcpListener::bind(address).await.map_err(refused)?;
        let local_address = listener.local_addr().map_err(refused)?;
        let (queue, worker) = RequestQueue::start(institution).map_err(ServerError::Thread)?;
        let authority = Arc::new(authority);
        let enrolment = EnrolmentService {
            queue: queue.clone(),
            authority: Arc::clone(&authority),
            attempts: Mutex::new(AttemptLimit::default()),
            started: Instant::now(),
        };
        let cardholder = CardholderService {
            queue: queue.clone(),
            generation,
            challenges: ChallengeKey::new(*random()?),
            attempts: Mutex::new(AttemptLimit::default()),
            started: Instant::now(),
        };
        let (shutdown, shut_down) = watch::channel(false);
        if let Some(serving) = serving {
            tokio::spawn(serving.note_progress(queue.clone(), shut_down.clone()));
        }
        let router = tonic::transport::Server::builder()
            .timeout(Duration::from_millis(REQUEST_TIMEOUT_MS))
            .max_concurrent_streams(REQUESTS_PER_CONNECTION_MAX)
            .http2_keepalive_interval(Some(Duration::from_millis(KEEPALIVE_INTERVAL_MS)))
            .http2_keepalive_timeout(Some(Duration::from_millis(KEEPALIVE_TIMEOUT_MS)))
            .add_service(
                AdministrationServer::new(AdministrationService { queue: queue.clone() })
                    .max_decoding_message_size(REQUEST_OCTETS_MAX),
            )
            .add_service(
                PaymentsServer::new(PaymentsService { queue, authority, generation })
                    .max_decoding_message_size(REQUEST_OCTETS_MAX),
            )
            .add_service(
                EnrolmentServer::new(enrolment).max_decoding_message_size(REQUEST_OCTETS_MAX),
            )
            .add_service(
                CardholderServer::new(cardholder).max_decoding_message_size(REQUEST_OCTETS_MAX),
            );

        let (connections, incoming) = mpsc::channel(HANDSHAKES_DONE_MAX);
        tokio::spawn(accept_connections(listener, configuration, connections));
        let mut grace = shut_down.clone();
        let serving = tokio::spawn(async move {
            let serve = router
                .serve_with_incoming_shutdown(ReceiverStream::new(incoming), wait_for(shut_down));
            tokio::select! {
                served = serve => served,
                () = async {
                    let _ = grace.wait_for(|told| *told).await;
                    tokio::time::sleep(Duration::from_millis(SHUTDOWN_GRACE_MS)).await;
                } => Ok(()),
            }
        });
        Ok(Self { local_address, shutdown, serving, worker })
    }

    /// The address it listens on, with its real port.
    pub fn local_address(&self) -> SocketAddr {
        self.local_address
    }

    /// Serves until `stop`, then shuts down in order: it takes no new connections, answers the
    /// requests under way, and has closed the store when this returns.
    ///
    /// # Errors
    /// [`ServerError`] if the server failed.
    pub async fn serve_until(self, stop: impl Future<Output = ()>) -> Result<(), ServerError> {
        let Self { shutdown, mut serving, worker, .. } = self;
        let served = tokio::select! {
            served = &mut serving => served,
            () = stop => {
                shutdown.send_replace(true);
                serving.await
            }
        };
        // The worker ends when the last service is dropped, which connections that outlive the
        // grace may delay.
        let ended = tokio::task::spawn_blocking(move || worker.join());
        let ended = tokio::time::timeout(Duration::from_millis(SHUTDOWN_GRACE_MS), ended).await;
        if !matches!(ended, Ok(Ok(Ok(())))) {
            tracing::warn!(
                "the store was not closed within {SHUTDOWN_GRACE_MS} ms; the process ends all the \
                 same, and no answered request is lost"
            );
        }
        Ok(served.map_err(|_| ServerError::Task)??)
    }

    /// Shuts down in order, now.
    ///
    /// # Errors
    /// [`ServerError`] if the server had failed before.
    pub async fn shut_down(self) -> Result<(), ServerError> {
        self.serve_until(std::future::ready(())).await
    }
}

async fn wait_for(mut told: watch::Receiver<bool>) {
    let _ = told.wait_for(|told| *told).await;
}
