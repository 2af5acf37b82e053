//! One HTTP/2 connection to the institution, over TLS 1.3, established before anything is sent over
//! it.
//!
//! It is made here, not by a channel that connects by itself, for two reasons: what failed before
//! the first request is certain then, and the version of TLS can be held to 1.3. In TLS 1.3 a
//! server refuses a client's certificate only after the client has finished its part of the
//! handshake, so a connection counts as established when the server's first octets have come
//! through it.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::{Frame, Incoming, SizeHint};
use hyper::client::conn::http2::{self, SendRequest};
use hyper::http::uri::Authority;
use hyper::{Request, Response, Uri};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio_rustls::TlsConnector;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, StdError};

use super::sent::Observed;

/// How often an idle connection is tried, in milliseconds: routers forget a silent connection after
/// some minutes, some mobile networks after half of one, and a payment should not be what finds
/// out.
const KEEP_ALIVE_INTERVAL_MS: u64 = 15_000;
/// How long the answer to such a try may take, in milliseconds; then the connection is given up.
const KEEP_ALIVE_TIMEOUT_MS: u64 = 5_000;
/// How many requests may be under way at once, before the server says how many it takes.
const CONCURRENT_REQUESTS_MAX: usize = 32;
const DEFAULT_PORT: u16 = 443;

/// Where the institution is: `https://host[:port]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstitutionAddress {
    host: String,
    port: u16,
}

/// Why a text is no address of an institution.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an address of an institution; expected https://host or https://host:port")]
pub struct InstitutionAddressError(String);

impl FromStr for InstitutionAddress {
    type Err = InstitutionAddressError;

    fn from_str(text: &str) -> Result<Self, InstitutionAddressError> {
        let fault = || InstitutionAddressError(text.chars().take(120).collect());
        let uri: Uri = text.parse().map_err(|_| fault())?;
        let path_is_plain = matches!(uri.path(), "" | "/") && uri.query().is_none();
        let authority = uri
            .authority()
            .filter(|authority| !authority.as_str().contains('@'))
            .ok_or_else(fault)?;
        if uri.scheme_str() != Some("https") || !path_is_plain || authority.host().is_empty() {
            return Err(fault());
        }
        let port = match authority.port() {
            Some(port) => port.as_str().parse().map_err(|_| fault())?,
            None => DEFAULT_PORT,
        };
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        ServerName::try_from(host.clone()).map_err(|_| fault())?;
        Ok(Self { host, port })
    }
}

impl fmt::Display for InstitutionAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "https://{}", self.authority_text())
    }
}

impl InstitutionAddress {
    fn authority_text(&self) -> String {
        let host =
            if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == DEFAULT_PORT { host } else { format!("{host}:{}", self.port) }
    }

    /// The URI that requests start from.
    pub(super) fn origin(&self) -> Result<Uri, ConnectError> {
        let authority: Authority = self
            .authority_text()
            .parse()
            .map_err(|_| ConnectError::Credentials("the address is no URI".into()))?;
        Uri::builder()
            .scheme("https")
            .authority(authority)
            .path_and_query("/")
            .build()
            .map_err(|error| ConnectError::Credentials(error.to_string()))
    }
}

/// What TLS needs, in PEM.
pub struct TlsFiles<'pem> {
    /// Who may vouch for the server.
    pub root_certificates_pem: &'pem str,
    /// The terminal's own certificate with its issuer, and its key; none at enrolment.
    pub client: Option<(&'pem str, &'pem str)>,
}

impl fmt::Debug for TlsFiles<'_> {
    /// Leaves the key out.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("TlsFiles").finish_non_exhaustive()
    }
}

/// Why there is no connection. Nothing was asked.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// What TLS needs is not usable.
    #[error("the TLS credentials cannot be used: {0}")]
    Credentials(String),
    /// No name, no route, nobody listening, or cut off.
    #[error("cannot connect to {address}: {source}")]
    Unreachable {
        /// Where.
        address: InstitutionAddress,
        /// Why.
        source: io::Error,
    },
    /// One side does not accept the other.
    #[error("{address} and this terminal do not accept each other: {detail}")]
    Handshake {
        /// Where.
        address: InstitutionAddress,
        /// What was said.
        detail: String,
    },
    /// It takes too long.
    #[error("{address} did not answer within {timeout_ms} ms")]
    Silent {
        /// Where.
        address: InstitutionAddress,
        /// How long it had.
        timeout_ms: u64,
    },
}

/// Reads what TLS needs. TLS 1.3 only.
pub(super) fn tls_configuration(files: &TlsFiles<'_>) -> Result<Arc<ClientConfig>, ConnectError> {
    let fault = |what: &str, error: String| ConnectError::Credentials(format!("{what}: {error}"));
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(files.root_certificates_pem.as_bytes()) {
        let certificate =
            certificate.map_err(|error| fault("the root certificate", error.to_string()))?;
        roots.add(certificate).map_err(|error| fault("the root certificate", error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(fault("the root certificate", "there is none in the PEM".into()));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| fault("TLS 1.3", error.to_string()))?
        .with_root_certificates(roots);
    let mut configuration = match files.client {
        None => builder.with_no_client_auth(),
        Some((certificates, key)) => {
            let chain = CertificateDer::pem_slice_iter(certificates.as_bytes())
                .collect::<Result<Vec<_>, _>>()
                .map_err(|error| fault("the client certificate", error.to_string()))?;
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
                .map_err(|_| fault("the client key", "it is no key in PEM".into()))?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| fault("the client certificate", error.to_string()))?
        }
    };
    configuration.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(configuration))
}

/// A live connection. Clones share it; it closes when the last is gone.
#[derive(Clone)]
pub(super) struct Connection {
    sender: SendRequest<Body>,
}

impl Connection {
    /// Connects, and waits until the server has spoken through the connection.
    pub(super) async fn establish(
        address: &InstitutionAddress,
        tls: &Arc<ClientConfig>,
    ) -> Result<Self, ConnectError> {
        let unreachable = |source| ConnectError::Unreachable { address: address.clone(), source };
        let handshake =
            |detail: String| ConnectError::Handshake { address: address.clone(), detail };
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

    /// Whether requests can still be sent over it, as far as anybody knows.
    pub(super) fn is_alive(&self) -> bool {
        !self.sender.is_closed()
    }

    /// For one request, noting what happens to it.
    pub(super) fn observed(&self, observed: &Observed) -> ObservedConnection {
        ObservedConnection { sender: self.sender.clone(), observed: observed.clone() }
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
    observed: Observed,
}

impl Service<Request<Body>> for ObservedConnection {
    type Response = Response<ObservedBody>;
    type Error = StdError;
    type Future = BoxFuture<Self::Response, StdError>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), StdError>> {
        self.sender.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let observed = self.observed.clone();
        observed.hand_over();
        let sending = self.sender.try_send_request(request);
        Box::pin(async move {
            let response = sending.await.map_err(|mut error| {
                if error.take_message().is_some() {
                    observed.give_back();
                }
                error.into_error()
            })?;
            let is_grpc = response.status() == hyper::StatusCode::OK
                && response
                    .headers()
                    .get("content-type")
                    .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
            if is_grpc {
                note_status(&observed, response.headers());
            }
            Ok(response.map(|body| ObservedBody { body, observed: is_grpc.then_some(observed) }))
        })
    }
}

fn note_status(observed: &Observed, headers: &hyper::HeaderMap) {
    let status = headers.get("grpc-status").and_then(|value| value.to_str().ok());
    if let Some(code) = status.and_then(|text| text.parse().ok()) {
        observed.server_status(code);
    }
}

/// The answer's body; notes the server's status when it passes.
pub(super) struct ObservedBody {
    body: Incoming,
    observed: Option<Observed>,
}

impl hyper::body::Body for ObservedBody {
    type Data = hyper::body::Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let (Some(Ok(frame)), Some(observed)) = (&frame, &self.observed)
            && let Some(trailers) = frame.trailers_ref()
        {
            note_status(observed, trailers);
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

/// A stream that says when the first octets have come through it.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_and_print() {
        for (text, printed) in [
            ("https://bank.example", "https://bank.example"),
            ("https://bank.example/", "https://bank.example"),
            ("https://127.0.0.1:7443", "https://127.0.0.1:7443"),
            ("https://[::1]:7443", "https://[::1]:7443"),
        ] {
            let address: InstitutionAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), printed);
            address.origin().unwrap();
        }
        for text in [
            "",
            "bank.example",
            "http://bank.example",
            "https://",
            "https://a/b",
            "https://a?b",
            "https://u@a",
        ] {
            assert!(text.parse::<InstitutionAddress>().is_err(), "{text}");
        }
    }
}
