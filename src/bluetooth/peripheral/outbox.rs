//! One notification socket of BlueZ: takes values, sends them in order, says when it is closed.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram as StdUnixDatagram;

use bluer::gatt::CharacteristicWriter;
use tokio::net::UnixDatagram;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::link::VALUES_WAITING_MAX;

/// A socket over which BlueZ notifies one phone, or before 5.76 all of them.
pub(super) struct Outbox {
    values: mpsc::Sender<Vec<u8>>,
    sending: JoinHandle<()>,
}

impl Outbox {
    /// Takes the socket over. `on_closed` is done once BlueZ has closed it.
    ///
    /// bluer's own writer refuses values longer than the MTU at subscription less 5, so 18 octets
    /// where a phone has subscribed before it exchanged the MTU, which is less than the
    /// protocol's shortest value. BlueZ itself takes what the connection's MTU allows at the
    /// moment of sending. So the socket is used without the writer, and whoever sends cuts
    /// values by the MTU that the last write has told.
    pub(super) fn start(
        writer: CharacteristicWriter,
        on_closed: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<Self> {
        let socket = UnixDatagram::from_std(StdUnixDatagram::from(owned_descriptor(writer)?))?;
        Ok(Self::over(socket, on_closed))
    }

    pub(super) fn over(
        socket: UnixDatagram,
        on_closed: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        let (values, receiver) = mpsc::channel(VALUES_WAITING_MAX);
        let sending = tokio::spawn(async move {
            if let Err(error) = send_all(&socket, receiver).await {
                tracing::debug!(%error, "a notification socket failed");
            }
            on_closed.await;
        });
        Self { values, sending }
    }

    /// Whether it leads anywhere.
    pub(super) fn is_open(&self) -> bool {
        !self.values.is_closed()
    }

    /// Whether the value was taken. It was not if too many wait, or the socket is closed.
    pub(super) fn send(&self, value: Vec<u8>) -> bool {
        self.values.try_send(value).is_ok()
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.sending.abort();
    }
}

#[allow(unsafe_code)]
fn owned_descriptor(writer: CharacteristicWriter) -> io::Result<OwnedFd> {
    let descriptor = writer.into_raw_fd()?;
    // SAFETY: into_raw_fd has just given up its ownership of this open descriptor, and nothing else
    // has it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Until BlueZ closes the socket.
async fn send_all(socket: &UnixDatagram, mut values: mpsc::Receiver<Vec<u8>>) -> io::Result<()> {
    loop {
        tokio::select! {
            closed = is_closed(socket) => if closed? { return Ok(()) },
            value = values.recv() => match value {
                Some(value) => {
                    socket.send(&value).await?;
                }
                None => return Ok(()),
            },
        }
    }
}

/// Waits for something to read. An octet is BlueZ's acknowledgement of an indication (5.80 and
/// later), not the end.
async fn is_closed(socket: &UnixDatagram) -> io::Result<bool> {
    let mut octet = [0];
    Ok(socket.recv(&mut octet).await? == 0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// An outbox, BlueZ's end of its socket, and what says that the outbox has told its end.
    fn outbox(room: usize) -> (Outbox, UnixDatagram, mpsc::Receiver<()>) {
        let (ours, bluez) = UnixDatagram::pair().unwrap();
        let (closed, is_closed) = mpsc::channel(room);
        // The queue is full: whoever tells has to wait.
        while closed.try_send(()).is_ok() {}
        let outbox = Outbox::over(ours, async move {
            let _ = closed.send(()).await;
        });
        (outbox, bluez, is_closed)
    }

    #[tokio::test]
    async fn values_go_out_in_their_order() {
        let (outbox, bluez, _is_closed) = outbox(1);
        assert!(outbox.send(vec![1]) && outbox.send(vec![2, 2]));
        let mut buffer = [0; 8];
        assert_eq!(bluez.recv(&mut buffer).await.unwrap(), 1);
        assert_eq!(bluez.recv(&mut buffer).await.unwrap(), 2);
        assert!(outbox.is_open());
    }

    #[tokio::test]
    async fn its_end_is_told_however_full_the_queue_is() {
        let (outbox, bluez, mut is_closed) = outbox(1);
        drop(bluez);
        outbox.send(vec![1]);
        while outbox.is_open() {
            tokio::task::yield_now().await;
        }
        assert!(!outbox.send(vec![2]));
        assert_eq!(is_closed.recv().await, Some(()), "what was there before");
        assert_eq!(is_closed.recv().await, Some(()));
        assert_eq!(is_closed.recv().await, None, "once");
    }
}
