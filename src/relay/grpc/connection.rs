//! One HTTP/2 connection to the institution, over TLS 1.3, established before anything is sent over
//! it.
//!
//! The connection is made here, not by a channel that connects by itself, for two reasons: it is
//! certain whether a fault came before the first request, and TLS can be held to version 1.3. In
//! TLS 1.3 a server refuses a client's certificate only after the client has finished its part of
//! the handshake, so a connection counts as established when the server's first octets have
//! arrived over it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
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

use super::super::ConnectError;
use super::InstitutionAddress;
use super::delivery::DeliveryEvidence;
use crate::io_error_text::io_error_text;

/// How often an idle connection is tested, in milliseconds. Routers forget a silent connection
/// after some minutes, some mobile networks after half a minute, and a lost connection should be
/// noticed before the next payment.
const KEEP_ALIVE_INTERVAL_MS: u64 = 15_000;
/// How long the answer to such a test may take, in milliseconds; then the connection is given up.
const KEEP_ALIVE_TIMEOUT_MS: u64 = 5_000;
/// How many requests may be under way at once, until the server says how many it accepts.
const CONCURRENT_REQUESTS_MAX: usize = 32;

/// A live connection. Clones share it; it closes when the last is gone.
#[derive(Clone)]
pub(super) struct Connection {
    sender: SendRequest<Body>,
}

impl Connection {
    /// Connects, and waits for the server's first octets.
    pub(super) async fn establish(
        address: &InstitutionAddress,
        tls: &Arc<ClientConfig>,
    ) -> Result<Self, ConnectError> {
        let unreachable = |error: io::Error| ConnectError::Unreachable {
            address: address.to_string(),
            detail: io_error_text(&error),
        };
        let handshake =
            |detail: String| ConnectError::Handshake { address: address.to_string(), detail };
        let tcp =
            TcpStream::connect((address.host.as_str(), address.port)).await.map_err(unreachable)?;
        tcp.set_nodelay(true).map_err(unreachable)?;
        let name = ServerName::try_from(address.host.clone())
            .map_err(|error| handshake(error.to_string()))?;
        let stream = TlsConnector::from(Arc::clone(tls))
            .connect(name, tcp)
            .await
            .map_err(|error| handshake(error.to_string()))?;
        if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err(handshake("the server does not speak HTTP/2".into()));
        }
        let (stream, first_octets) = FirstOctets::of(stream);
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(Duration::from_millis(KEEP_ALIVE_INTERVAL_MS))
            .keep_alive_timeout(Duration::from_millis(KEEP_ALIVE_TIMEOUT_MS))
            .keep_alive_while_idle(true)
            .initial_max_send_streams(CONCURRENT_REQUESTS_MAX)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| handshake(with_causes(&error)))?;
        let (ended, end) = oneshot::channel();
        tokio::spawn(async move {
            let result = connection.await;
            if let Err(error) = &result {
                tracing::debug!(
                    error = with_causes(error),
                    "the connection to the institution ended"
                );
            }
            let _ = ended.send(result.map_err(|error| with_causes(&error)));
        });
        tokio::select! {
            biased;
            Ok(()) = first_octets => Ok(Self { sender }),
            result = end => Err(handshake(match result {
                Ok(Err(detail)) => detail,
                Ok(Ok(())) | Err(_) => "the server closed the connection".into(),
            })),
        }
    }

    /// Whether requests can still be sent over it, as far as is known.
    pub(super) fn is_alive(&self) -> bool {
        !self.sender.is_closed()
    }

    /// The connection for one request, with the evidence of what happens to that.
    pub(super) fn observed(&self, evidence: &DeliveryEvidence) -> ObservedConnection {
        ObservedConnection { sender: self.sender.clone(), evidence: evidence.clone() }
    }
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

/// A stream that reports when the first octets have arrived.
struct FirstOctets<S> {
    stream: S,
    arrived: Option<oneshot::Sender<()>>,
}

impl<S> FirstOctets<S> {
    fn of(stream: S) -> (Self, oneshot::Receiver<()>) {
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
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        if buffer.filled().len() > filled
            && let Some(arrived) = self.arrived.take()
        {
            let _ = arrived.send(());
        }
        Poll::Ready(Ok(()))
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
