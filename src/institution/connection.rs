//! Connections to the server: TCP, TLS 1.3, and who is at the other end.
//!
//! tonic's own TLS accepts version 1.2 as well, so the handshake is done here. The services decide
//! what a peer may do.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;
use tonic::{Request, Status};

use super::certificate_authority::{
    CertificateAuthority, ClientIdentity, OperatorIdentity, ServerIdentity,
};

/// How many connections are open at once. A terminal keeps one.
const CONNECTIONS_MAX: usize = 4_096;
/// How long a TLS handshake may take, in milliseconds: a slow mobile network takes a few seconds.
const HANDSHAKE_TIMEOUT_MS: u64 = 10_000;
/// How long to wait after the system refused to accept a connection, in milliseconds: it has no
/// file descriptor left, and would refuse the next one at once.
const ACCEPT_PAUSE_MS: u64 = 100;

/// Who is at the other end of a connection.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    pub address: IpAddr,
    /// None without a client certificate; a message if the certificate names no terminal.
    pub identity: Option<Result<ClientIdentity, String>>,
    /// The operator whom the client certificate names, if it names one.
    pub operator: Option<OperatorIdentity>,
}

/// One connection after its handshake.
pub(super) struct Connection {
    stream: TlsStream<TcpStream>,
    peer: Peer,
    /// One of [`CONNECTIONS_MAX`]; it is free again when the connection is dropped.
    _permit: OwnedSemaphorePermit,
}

/// TLS 1.3 only. A client certificate is optional, and verified against this authority if there is
/// one.
pub(super) fn tls_configuration(
    authority: &CertificateAuthority,
    identity: ServerIdentity,
) -> Result<ServerConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate().clone())?;
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
    let mut configuration = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(identity.chain, identity.key)?;
    configuration.alpn_protocols = vec![b"h2".to_vec()];
    Ok(configuration)
}

/// Accepts connections until the receiver is dropped, and sends each after its handshake.
pub(super) async fn accept_connections(
    listener: TcpListener,
    configuration: ServerConfig,
    connections: mpsc::Sender<io::Result<Connection>>,
) {
    let acceptor = TlsAcceptor::from(Arc::new(configuration));
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        // Before the next is accepted: those above the bound wait in the system's queue.
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
        let accepted = tokio::select! {
            () = connections.closed() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection; trying again");
                tokio::time::sleep(Duration::from_millis(ACCEPT_PAUSE_MS)).await;
                continue;
            }
        };
        let (acceptor, connections) = (acceptor.clone(), connections.clone());
        tokio::spawn(async move {
            match tokio::time::timeout(
                Duration::from_millis(HANDSHAKE_TIMEOUT_MS),
                shake_hands(&acceptor, stream, address),
            )
            .await
            {
                Ok(Ok((stream, peer))) => {
                    let _ =
                        connections.send(Ok(Connection { stream, peer, _permit: permit })).await;
                }
                Ok(Err(error)) => tracing::info!(%address, %error, "a TLS handshake failed"),
                Err(_) => tracing::info!(
                    %address,
                    "a TLS handshake took longer than {HANDSHAKE_TIMEOUT_MS} ms"
                ),
            }
        });
    }
}

async fn shake_hands(
    acceptor: &TlsAcceptor,
    stream: TcpStream,
    address: SocketAddr,
) -> io::Result<(TlsStream<TcpStream>, Peer)> {
    // A request is one small write that waits for its answer, so nothing is gained by delaying it.
    stream.set_nodelay(true)?;
    let stream = acceptor.accept(stream).await?;
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let identity = certificate.map(|certificate| {
        ClientIdentity::of_certificate(certificate).map_err(|error| error.to_string())
    });
    let operator =
        certificate.and_then(|certificate| OperatorIdentity::of_certificate(certificate));
    Ok((stream, Peer { address: address.ip(), identity, operator }))
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
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

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// Who sent a request.
pub(super) fn peer<T>(request: &Request<T>) -> Result<Peer, Status> {
    request.extensions().get::<Peer>().cloned().ok_or_else(|| {
        Status::unauthenticated("the connection did not come through the server's TLS")
    })
}
