//! Listens for tills and serves their connections, with limits on their number and on how slow they
//! may be. `routes` has the paths.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::routes::{CONNECTIONS_MAX, router};
use super::{TillAddress, TillPort};
use crate::protocol::EngagementLink;

/// How long a till may take to send a request's head, and how long a connection may stay idle, in
/// milliseconds.
const HEAD_TIMEOUT_MS: u64 = 30_000;
/// The largest head of a request, in octets: the smallest limit that the HTTP library allows.
const HEAD_OCTETS_MAX: usize = 8 * 1024;
/// How long open connections get to finish when the service stops, in milliseconds.
const STOP_TIMEOUT_MS: u64 = 1_000;
/// How long to wait after the system refused a connection (no file descriptors left), in
/// milliseconds.
const ACCEPT_PAUSE_MS: u64 = 100;
/// The mode of the socket: owner and group may use it.
const SOCKET_MODE: u32 = 0o660;

/// Why the till API cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum TillListenError {
    /// Another process listens there.
    #[error(
        "{0} is in use: another florin service runs, or another program listens there. Stop it \
         (`systemctl stop florin`), or give this service another address ([till] listen)"
    )]
    InUse(TillAddress),
    /// The file at the socket's path is not a socket.
    #[error("{} exists and is not a socket; move it away or change [till] listen", .0.display())]
    NotASocket(PathBuf),
    /// The operating system refused.
    #[error(
        "cannot listen on {address}: {source}; check that its directory exists and may be written, \
         or change [till] listen"
    )]
    System { address: TillAddress, source: io::Error },
}

/// An open till API that does not serve yet. Removes its Unix socket when dropped.
#[derive(Debug)]
pub struct TillListener {
    socket: Socket,
    address: TillAddress,
}

#[derive(Debug)]
enum Socket {
    Unix(UnixListener),
    Tcp(TcpListener),
}

impl TillListener {
    /// Opens the address. A socket file that no process listens on any more is replaced. Needs a
    /// tokio runtime.
    ///
    /// # Errors
    /// [`TillListenError`].
    pub async fn bind(address: &TillAddress) -> Result<Self, TillListenError> {
        let system = |source: io::Error| {
            if source.kind() == io::ErrorKind::AddrInUse {
                TillListenError::InUse(address.clone())
            } else {
                TillListenError::System { address: address.clone(), source }
            }
        };
        let (socket, address) = match address {
            TillAddress::Unix(path) => {
                remove_stale(path, address)?;
                let listener = UnixListener::bind(path).map_err(system)?;
                fs::set_permissions(path, fs::Permissions::from_mode(SOCKET_MODE))
                    .map_err(system)?;
                (Socket::Unix(listener), address.clone())
            }
            TillAddress::Loopback(wanted) => {
                let listener = TcpListener::bind(wanted).await.map_err(system)?;
                let bound = listener.local_addr().map_err(system)?;
                (Socket::Tcp(listener), TillAddress::Loopback(bound))
            }
        };
        Ok(Self { socket, address })
    }

    /// Where it listens; with the port that the system chose if 0 was asked for.
    pub fn address(&self) -> &TillAddress {
        &self.address
    }

    /// Serves tills until `stop` completes. `sticker` is the engagement link without a transaction.
    pub async fn serve(
        self,
        port: TillPort,
        sticker: EngagementLink,
        stop: impl Future<Output = ()>,
    ) {
        let is_tcp = matches!(self.socket, Socket::Tcp(_));
        let router = router(port, sticker, is_tcp);
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let (stopping, stopped) = watch::channel(false);
        let mut connections = JoinSet::new();
        let mut stop = pin!(stop);
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { break };
            tokio::select! {
                () = &mut stop => break,
                accepted = self.accept() => match accepted {
                    Ok(stream) => {
                        let serving = serve_connection(stream, router.clone(), stopped.clone());
                        connections.spawn(async move {
                            serving.await;
                            drop(place);
                        });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a till's connection");
                        sleep(Duration::from_millis(ACCEPT_PAUSE_MS)).await;
                    }
                },
            }
            // Drops the connections that have ended.
            while connections.try_join_next().is_some() {}
        }
        let _ = stopping.send(true);
        let finish = async { while connections.join_next().await.is_some() {} };
        let _ = timeout(Duration::from_millis(STOP_TIMEOUT_MS), finish).await;
    }

    async fn accept(&self) -> io::Result<Box<dyn Stream>> {
        match &self.socket {
            Socket::Unix(listener) => Ok(Box::new(listener.accept().await?.0)),
            Socket::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Box::new(stream))
            }
        }
    }
}

impl Drop for TillListener {
    fn drop(&mut self) {
        if let TillAddress::Unix(path) = &self.address {
            let _ = fs::remove_file(path);
        }
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

async fn serve_connection(
    stream: Box<dyn Stream>,
    router: Router,
    mut stopped: watch::Receiver<bool>,
) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(HEAD_TIMEOUT_MS))
        .max_buf_size(HEAD_OCTETS_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = pin!(connection);
    let stop = async move { stopped.wait_for(|stopped| *stopped).await.is_ok() };
    let result = tokio::select! {
        result = &mut connection => result,
        _ = stop => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a till's connection ended");
    }
}

/// Removes a socket that a killed service left behind, and nothing else.
fn remove_stale(path: &Path, address: &TillAddress) -> Result<(), TillListenError> {
    let Ok(metadata) = fs::symlink_metadata(path) else { return Ok(()) };
    if !metadata.file_type().is_socket() {
        return Err(TillListenError::NotASocket(path.to_path_buf()));
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path)
            .map_err(|source| TillListenError::System { address: address.clone(), source }),
        Ok(_) | Err(_) => Err(TillListenError::InUse(address.clone())),
    }
}
