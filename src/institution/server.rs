//! The institution's server: listens, serves, and ends in order.
//!
//! What is asked and answered is in [`super::service`]; who connects, in [`super::connection`].

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;

use super::attempt_limit::AttemptLimit;
use super::certificate_authority::CertificateError;
use super::connection::{accept_connections, tls_configuration};
use super::directory::OpenedInstitution;
use super::institution_thread::InstitutionThread;
use super::randomness::{RandomnessError, random};
use super::service::{EnrolmentService, InstitutionService, unix_time};
use crate::institution_api::enrolment_server::EnrolmentServer;
use crate::institution_api::payments_server::PaymentsServer;

/// The longest request, in octets: an offer and a command of the longest kind.
const REQUEST_OCTETS_MAX: usize = 40 * 1024;
/// How long the server works on one request, in milliseconds. Terminals wait about as long.
const REQUEST_TIMEOUT_MS: u64 = 10_000;
/// How many requests one connection may have under way. A terminal has one payment, and settles a
/// few old ones.
const REQUESTS_PER_CONNECTION_MAX: u32 = 64;
/// How long a silent connection goes without a probe, and a probe without an answer, in
/// milliseconds.
const KEEPALIVE_INTERVAL_MS: u64 = 30_000;
const KEEPALIVE_TIMEOUT_MS: u64 = 10_000;
/// How long connections have to end after the server was told to, in milliseconds.
const SHUTDOWN_GRACE_MS: u64 = 5_000;
/// How many connections wait between their handshake and the server.
const HANDSHAKES_DONE_MAX: usize = 64;

/// Why the server does not run.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address is taken, or not this machine's.
    #[error(
        "cannot listen on {address}: {source}; name another address with --listen, or stop what is using it"
    )]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// Its certificate.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// TLS.
    #[error("TLS cannot be set up with the institution's keys: {0}")]
    Tls(#[from] rustls::Error),
    /// No randomness.
    #[error(transparent)]
    Randomness(#[from] RandomnessError),
    /// The system gives no thread.
    #[error("cannot start the institution's thread: {0}")]
    Thread(std::io::Error),
    /// gRPC.
    #[error("the gRPC server stopped: {0}")]
    Transport(#[from] tonic::transport::Error),
    /// A task ended that should not.
    #[error("the server's task ended before its time")]
    Task,
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    local_address: SocketAddr,
    shutdown: watch::Sender<bool>,
    serving: JoinHandle<Result<(), tonic::transport::Error>>,
    institution: thread::JoinHandle<()>,
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
        let OpenedInstitution { institution, authority, host_names, .. } = opened;
        let serial = random()?;
        let identity = authority.issue_server(&host_names, unix_time(), *serial)?;
        let configuration = tls_configuration(&authority, identity)?;
        let refused = |source| ServerError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(refused)?;
        let local_address = listener.local_addr().map_err(refused)?;
        let (institution, thread) =
            InstitutionThread::start(institution).map_err(ServerError::Thread)?;

        let enrolment = EnrolmentService {
            institution: institution.clone(),
            authority: Arc::new(authority),
            attempts: Mutex::new(AttemptLimit::default()),
            started: Instant::now(),
        };
        let router = tonic::transport::Server::builder()
            .timeout(Duration::from_millis(REQUEST_TIMEOUT_MS))
            .max_concurrent_streams(REQUESTS_PER_CONNECTION_MAX)
            .http2_keepalive_interval(Some(Duration::from_millis(KEEPALIVE_INTERVAL_MS)))
            .http2_keepalive_timeout(Some(Duration::from_millis(KEEPALIVE_TIMEOUT_MS)))
            .add_service(
                PaymentsServer::new(InstitutionService { institution })
                    .max_decoding_message_size(REQUEST_OCTETS_MAX),
            )
            .add_service(
                EnrolmentServer::new(enrolment).max_decoding_message_size(REQUEST_OCTETS_MAX),
            );

        let (connections, incoming) = mpsc::channel(HANDSHAKES_DONE_MAX);
        tokio::spawn(accept_connections(listener, configuration, connections));
        let (shutdown, shut_down) = watch::channel(false);
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
        Ok(Self { local_address, shutdown, serving, institution: thread })
    }

    /// Where it listens: the real port.
    pub fn local_address(&self) -> SocketAddr {
        self.local_address
    }

    /// Serves until `stop`, then ends in order: no new connections, requests under way are
    /// answered, and the store is closed when this returns.
    ///
    /// # Errors
    /// [`ServerError`] if the server failed.
    pub async fn serve_until(self, stop: impl Future<Output = ()>) -> Result<(), ServerError> {
        let Self { shutdown, mut serving, institution, .. } = self;
        let served = tokio::select! {
            served = &mut serving => served,
            () = stop => {
                shutdown.send_replace(true);
                serving.await
            }
        };
        // The thread ends when the last service is dropped, which connections that outlive the
        // grace may put off.
        let ended = tokio::task::spawn_blocking(move || institution.join());
        let ended = tokio::time::timeout(Duration::from_millis(SHUTDOWN_GRACE_MS), ended).await;
        if !matches!(ended, Ok(Ok(Ok(())))) {
            tracing::warn!("the institution's thread did not end in time");
        }
        Ok(served.map_err(|_| ServerError::Task)??)
    }

    /// Ends in order, now.
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
