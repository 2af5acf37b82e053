//! One HTTP/2 connection to the institution, over TLS 1.3, established before anything is sent over
//! it.
//!
//! The connection is made here, not by a channel that connects by itself, for two reasons: it is
//! certain whether a fault came before the first request, and TLS can be held to version 1.3. In
//! TLS 1.3 a server refuses a client's certificate only after the client has finished its part of
//! the handshake, so a connection counts as established when the server's first octets have
//! arrived over it.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::{Frame, Incoming, SizeHint};
use hyper::client::conn::http2::{self, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio_rustls::TlsConnector;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, StdError};

use super::super::{ConnectError, ConnectStage, HandshakeFault};
use super::alternatives::first_success;
use super::delivery::DeliveryEvidence;
use super::handshake_fault::handshake_fault;
use super::progress::Progress;
use crate::institution_address::InstitutionAddress;
use crate::io_error_text::io_error_text;

/// How long one address may take to accept a connection, in milliseconds: two round trips and some
/// retransmissions over a poor mobile network.
const TCP_TIMEOUT_MS: u64 = 5_000;
/// How long TLS may take from there to the server's first octets, in milliseconds.
const TLS_TIMEOUT_MS: u64 = 5_000;
/// How many requests may be under way at once, until the server says how many it accepts.
const CONCURRENT_REQUESTS_MAX: usize = 32;

/// How many connections this process has made, to tell one from another.
static CONNECTIONS: AtomicU64 = AtomicU64::new(0);

/// A live connection. Clones share it; it closes when the last is gone.
///
/// It sends no pings. Servers that are built on grpc-core end a connection for pings without
/// requests, and a ping would only say that the server was there some time ago. Each request has a
/// time limit of its own, and the connection is asked when it matters (`standing`).
#[derive(Clone)]
pub(super) struct Connection {
    sender: SendRequest<Body>,
    number: u64,
}

/// What became of one address.
#[derive(Debug)]
enum AddressFault {
    Tcp(String),
    Tls(HandshakeFault),
}

impl Connection {
    /// Connects to whichever of the addresses comes to speak first, and waits for the server's
    /// first octets.
    pub(super) async fn establish(
        address: &InstitutionAddress,
        addresses: Vec<SocketAddr>,
        tls: &Arc<ClientConfig>,
        progress: &Progress,
    ) -> Result<Self, ConnectError> {
        progress.reach(ConnectStage::Tcp);
        let connecting = first_success(addresses, |socket_address, acceptance| {
            let (tls, name, progress) = (Arc::clone(tls), address.server_name(), progress.clone());
            async move {
                let tcp = within(TCP_TIMEOUT_MS, TcpStream::connect(socket_address))
                    .await
                    .unwrap_or_else(|| Err(io::Error::other(no_answer(TCP_TIMEOUT_MS))))
                    .and_then(|tcp| tcp.set_nodelay(true).map(|()| tcp))
                    .map_err(|error| AddressFault::Tcp(io_error_text(&error)))?;
                acceptance.note();
                progress.reach(ConnectStage::Tls);
                within(TLS_TIMEOUT_MS, secure(tcp, tls, name))
                    .await
                    .unwrap_or(Err(HandshakeFault::Silent { timeout_ms: TLS_TIMEOUT_MS }))
                    .map_err(AddressFault::Tls)
            }
        });
        connecting.await.map_err(|faults| connect_error(address, faults))
    }

    /// Whether requests can still be sent over it, as far as is known.
    pub(super) fn is_alive(&self) -> bool {
        !self.sender.is_closed()
    }

    /// Whether it is the same one.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.number == other.number
    }

    /// The connection for one request, with the evidence of what happens to that.
    pub(super) fn observed(&self, evidence: &DeliveryEvidence) -> ObservedConnection {
        ObservedConnection { sender: self.sender.clone(), evidence: evidence.clone() }
    }
}

/// TLS and HTTP/2 over a connection, until the server has spoken.
async fn secure(
    tcp: TcpStream,
    tls: Arc<ClientConfig>,
    name: ServerName<'static>,
) -> Result<Connection, HandshakeFault> {
    let stream = TlsConnector::from(tls)
        .connect(name, tcp)
        .await
        .map_err(|error| handshake_fault(&error))?;
    if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
        return Err(HandshakeFault::OtherServer("it does not speak HTTP/2".into()));
    }
    let (stream, first_octets) = FirstOctets::of(stream);
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_max_send_streams(CONCURRENT_REQUESTS_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| HandshakeFault::Other(with_causes(&error)))?;
    let (ended, end) = oneshot::channel();
    tokio::spawn(async move {
        let result = connection.await;
        if let Err(error) = &result {
            tracing::debug!(error = with_causes(error), "the connection to the institution ended");
        }
        let _ = ended.send(result.map_err(|error| with_causes(&error)));
    });
    tokio::select! {
        biased;
        Ok(first_octets) = first_octets => first_octets.map(|()| Connection {
            sender,
            number: CONNECTIONS.fetch_add(1, Ordering::Relaxed),
        }),
        result = end => Err(HandshakeFault::Other(match result {
            Ok(Err(detail)) => detail,
            Ok(Ok(())) | Err(_) => "the server closed the connection".into(),
        })),
    }
}

async fn within<T>(timeout_ms: u64, work: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(Duration::from_millis(timeout_ms), work).await.ok()
}

pub(super) fn no_answer(timeout_ms: u64) -> String {
    format!("no answer within {timeout_ms} ms")
}

/// What became of the addresses, in one error: that of the address that came furthest.
fn connect_error(
    address: &InstitutionAddress,
    faults: Vec<(SocketAddr, AddressFault)>,
) -> ConnectError {
    let address = address.to_string();
    let mut details = Vec::new();
    for (socket_address, fault) in faults {
        match fault {
            AddressFault::Tls(fault) => return ConnectError::Handshake { address, fault },
            AddressFault::Tcp(detail) => details.push(format!("{socket_address}: {detail}")),
        }
    }
    ConnectError::Unreachable { address, detail: details.join("; ") }
}

/// An error and what caused it, in one line.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// The connection as the gRPC client sees it.
#[derive(Clone)]
pub(super) struct ObservedConnection {
    sender: SendRequest<Body>,
    evidence: DeliveryEvidence,
}

impl Service<Request<Body>> for ObservedConnection {
    type Response = Response<ObservedBody>;
    type Error = StdError;
    type Future = BoxFuture<Self::Response, StdError>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), StdError>> {
        self.sender.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let evidence = self.evidence.clone();
        evidence.hand_over();
        let sending = self.sender.try_send_request(request);
        Box::pin(async move {
            let response = sending.await.map_err(|mut error| {
                if error.take_message().is_some() {
                    evidence.give_back();
                }
                error.into_error()
            })?;
            let is_grpc = response.status() == hyper::StatusCode::OK
                && response
                    .headers()
                    .get("content-type")
                    .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
            if is_grpc {
                note_status(&evidence, response.headers());
            }
            Ok(response.map(|body| ObservedBody { body, evidence: is_grpc.then_some(evidence) }))
        })
    }
}

fn note_status(evidence: &DeliveryEvidence, headers: &hyper::HeaderMap) {
    let status = headers.get("grpc-status").and_then(|value| value.to_str().ok());
    if let Some(code) = status.and_then(|text| text.parse().ok()) {
        evidence.server_status(code);
    }
}

/// The answer's body. It notes the server's status in the trailers.
pub(super) struct ObservedBody {
    body: Incoming,
    evidence: Option<DeliveryEvidence>,
}

impl hyper::body::Body for ObservedBody {
    type Data = hyper::body::Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let (Some(Ok(frame)), Some(evidence)) = (&frame, &self.evidence)
            && let Some(trailers) = frame.trailers_ref()
        {
            note_status(evidence, trailers);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A stream that reports when the first octets have arrived, or why none came. It is told here,
/// because the HTTP/2 library keeps only the text of an error.
struct FirstOctets<S> {
    stream: S,
    arrived: Option<oneshot::Sender<Result<(), HandshakeFault>>>,
}

impl<S> FirstOctets<S> {
    fn of(stream: S) -> (Self, oneshot::Receiver<Result<(), HandshakeFault>>) {
        let (arrived, first_octets) = oneshot::channel();
        (Self { stream, arrived: Some(arrived) }, first_octets)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for FirstOctets<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let filled = buffer.filled().len();
        let read = ready!(Pin::new(&mut self.stream).poll_read(context, buffer));
        let news = match &read {
            Err(error) => Some(Err(handshake_fault(error))),
            Ok(()) => (buffer.filled().len() > filled).then_some(Ok(())),
        };
        if let Some(news) = news
            && let Some(arrived) = self.arrived.take()
        {
            let _ = arrived.send(news);
        }
        Poll::Ready(read)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for FirstOctets<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, octets)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
