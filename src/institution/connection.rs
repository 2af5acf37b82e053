//! Connections to the server: TCP, TLS 1.3, and who is at the other end.
//!
//! tonic's own TLS accepts version 1.2 as well, so the handshake is done here. The services decide
//! what a peer may do.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;
use tonic::{Request, Status};

use super::certificate_authority::{CertificateAuthority, ClientIdentity, ServerIdentity};
use super::places::{Place, Places};
use crate::domain::TerminalId;

/// How many connections of terminals are open at once. A terminal keeps one.
const TERMINALS_MAX: usize = 4_096;
/// How many connections one terminal has at once: one, and those that it has given up and a router
/// has not.
const PER_TERMINAL_MAX: usize = 8;
/// How many connections are open at once of which nobody knows whose they are: in their handshake,
/// or of a wallet or a terminal that enrols. They have places of their own, so that they take none
/// from terminals.
const UNKNOWN_MAX: usize = 512;
/// How many of these come from one address, or one /64 of IPv6: a shop's terminals may share one.
const UNKNOWN_PER_ADDRESS_MAX: usize = 32;
/// How long a connection without a certificate lasts at most, in milliseconds: an enrolment takes a
/// second or two.
const UNKNOWN_TIMEOUT_MS: u64 = 60_000;
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
}

/// One connection after its handshake.
pub(super) struct Connection {
    stream: TlsStream<TcpStream>,
    peer: Peer,
    /// Ready when the connection has to end. It holds the connection's place.
    end: Pin<Box<dyn Future<Output = io::Error> + Send>>,
}

/// The places of connections, of both kinds.
#[derive(Clone)]
struct Room {
    unknown: Places<IpAddr>,
    terminals: Places<TerminalId>,
}

impl Room {
    fn new() -> Self {
        Self {
            unknown: Places::new(UNKNOWN_MAX, UNKNOWN_PER_ADDRESS_MAX),
            terminals: Places::new(TERMINALS_MAX, PER_TERMINAL_MAX),
        }
    }

    /// When a connection has to end, from what its handshake has shown. A terminal's gets a place
    /// among terminals and gives the other one back.
    fn end_of(
        &self,
        peer: &Peer,
        unknown: Place<IpAddr>,
    ) -> Pin<Box<dyn Future<Output = io::Error> + Send>> {
        match &peer.identity {
            Some(Ok(identity)) => {
                let mut place = self.terminals.take(identity.terminal_id);
                Box::pin(async move {
                    place.lost().await;
                    io::Error::other("another connection took the place of this one")
                })
            }
            Some(Err(_)) | None => Box::pin(end_of_unknown(unknown)),
        }
    }
}

async fn end_of_unknown(mut place: Place<IpAddr>) -> io::Error {
    match tokio::time::timeout(Duration::from_millis(UNKNOWN_TIMEOUT_MS), place.lost()).await {
        Ok(()) => io::Error::other("another connection took the place of this one"),
        Err(_) => io::Error::other("a connection without a certificate lasts 60 s at most"),
    }
}

/// What counts as one address: an IPv6 network gives each of its machines very many.
fn origin(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let network = u128::from(address) >> 64 << 64;
            IpAddr::V6(Ipv6Addr::from(network))
        }
    }
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
    let room = Room::new();
    loop {
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
        let (room, mut place) = (room.clone(), room.unknown.take(origin(address.ip())));
        tokio::spawn(async move {
            let time_limit = Duration::from_millis(HANDSHAKE_TIMEOUT_MS);
            let handshake =
                tokio::time::timeout(time_limit, shake_hands(&acceptor, stream, address));
            let shaken = tokio::select! {
                shaken = handshake => shaken,
                () = place.lost() => {
                    tracing::info!(%address, "a TLS handshake made room for another connection");
                    return;
                }
            };
            match shaken {
                Ok(Ok((stream, peer))) => {
                    let end = room.end_of(&peer, place);
                    let _ = connections.send(Ok(Connection { stream, peer, end })).await;
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
    let identity =
        stream.get_ref().1.peer_certificates().and_then(|chain| chain.first()).map(|certificate| {
            ClientIdentity::of_certificate(certificate).map_err(|error| error.to_string())
        });
    Ok((stream, Peer { address: address.ip(), identity }))
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
        if let Poll::Ready(error) = self.end.as_mut().poll(context) {
            // Nothing reads from a connection that has failed.
            self.end = Box::pin(std::future::pending());
            return Poll::Ready(Err(error));
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(identity: Option<Result<ClientIdentity, String>>) -> Peer {
        Peer { address: IpAddr::from([127, 0, 0, 1]), identity }
    }

    fn terminal(number: u8) -> Option<Result<ClientIdentity, String>> {
        let terminal_id = TerminalId::from_random([number; 10]);
        Some(Ok(ClientIdentity { terminal_id, key_digest: [number; 32] }))
    }

    /// After how many seconds of an hour a connection ends, if it does.
    async fn ends_after_s(peer: &Peer) -> Option<u64> {
        let room = Room::new();
        let end = room.end_of(peer, room.unknown.take(peer.address));
        let begun = tokio::time::Instant::now();
        let ended = tokio::time::timeout(Duration::from_secs(3_600), end).await;
        ended.is_ok().then(|| begun.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_terminal_stays_longer_than_an_enrolment_takes() {
        assert_eq!(ends_after_s(&peer(None)).await, Some(60));
        assert_eq!(ends_after_s(&peer(Some(Err("no terminal in it".into())))).await, Some(60));
        assert_eq!(ends_after_s(&peer(terminal(1))).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn however_many_come_without_a_certificate_terminals_keep_their_places() {
        let room = Room::new();
        let soon = Duration::from_secs(1);
        let peer = peer(terminal(1));
        let mut of_terminal = room.end_of(&peer, room.unknown.take(peer.address));
        let crowd: Vec<_> = (0..2 * UNKNOWN_MAX)
            .map(|number| {
                let number = u16::try_from(number).unwrap().to_be_bytes();
                end_of_unknown(room.unknown.take(IpAddr::from([10, 0, number[0], number[1]])))
            })
            .collect();
        assert!(tokio::time::timeout(soon, &mut of_terminal).await.is_err());
        let mut ended = 0;
        for end in crowd {
            ended += usize::from(tokio::time::timeout(soon, end).await.is_ok());
        }
        assert_eq!(ended, UNKNOWN_MAX, "the first half made room for the second");
    }

    #[test]
    fn one_network_of_ipv6_counts_as_one_address() {
        let origin = |text: &str| super::origin(text.parse().unwrap());
        assert_eq!(origin("2001:db8::1"), origin("2001:db8::ffff:2"));
        assert_ne!(origin("2001:db8::1"), origin("2001:db8:0:1::1"));
        assert_ne!(origin("192.0.2.1"), origin("192.0.2.2"));
        assert_eq!(origin("::ffff:192.0.2.1"), origin("192.0.2.1"));
    }
}
