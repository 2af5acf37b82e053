//! A way to the institution on which its answers can be lost.

use std::net::SocketAddr;

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Passes octets on between the terminal and the institution. While it is silent, it drops the
/// institution's octets.
#[derive(Debug, Clone)]
pub(super) struct SilentProxy {
    address: SocketAddr,
    is_silent: watch::Sender<bool>,
}

impl SilentProxy {
    /// Listens on loopback and passes everything on to `institution`.
    pub(super) async fn start(institution: SocketAddr) -> anyhow::Result<Self> {
        let listener =
            TcpListener::bind(("127.0.0.1", 0)).await.context("cannot listen on loopback")?;
        let address = listener.local_addr()?;
        let (is_silent, silence) = watch::channel(false);
        tokio::spawn(async move {
            while let Ok((terminal, _)) = listener.accept().await {
                tokio::spawn(pass_on(terminal, institution, silence.clone()));
            }
        });
        Ok(Self { address, is_silent })
    }

    /// Where the terminal connects.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The institution's octets are lost from now on.
    pub(super) fn stop_answering(&self) {
        self.is_silent.send_replace(true);
    }

    /// Connections that lost octets are ended; new ones work.
    pub(super) fn resume(&self) {
        self.is_silent.send_replace(false);
    }
}

async fn pass_on(terminal: TcpStream, institution: SocketAddr, mut silence: watch::Receiver<bool>) {
    let Ok(institution) = TcpStream::connect(institution).await else { return };
    let _ = terminal.set_nodelay(true);
    let _ = institution.set_nodelay(true);
    let (mut from_terminal, mut to_terminal) = terminal.into_split();
    let (mut from_institution, mut to_institution) = institution.into_split();
    let there = async { tokio::io::copy(&mut from_terminal, &mut to_institution).await.map(drop) };
    let back = async {
        let mut octets = vec![0; 16 * 1024];
        let mut has_lost = false;
        loop {
            tokio::select! {
                read = from_institution.read(&mut octets) => match read? {
                    0 => return Ok(()),
                    count if *silence.borrow() => has_lost |= count > 0,
                    count => to_terminal.write_all(&octets[..count]).await?,
                },
                changed = silence.changed() => {
                    if changed.is_err() || (has_lost && !*silence.borrow()) {
                        return Ok::<(), std::io::Error>(());
                    }
                }
            }
        }
    };
    tokio::select! {
        _ = there => {}
        _ = back => {}
    }
}
