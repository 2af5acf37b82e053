//! One notification socket of BlueZ: queues values, sends them in order, reports when BlueZ closes
//! it.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram as StdUnixDatagram;

use bluer::gatt::CharacteristicWriter;
use tokio::net::UnixDatagram;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::link::VALUES_WAITING_MAX;

/// A socket over which BlueZ notifies one phone; before 5.76, all phones.
pub(super) struct NotificationSocket {
    values: mpsc::Sender<Vec<u8>>,
    sending: JoinHandle<()>,
}

impl NotificationSocket {
    /// Takes over bluer's socket. `on_closed` runs once BlueZ has closed it.
    ///
    /// bluer's own writer refuses values that are longer than the MTU at subscription less 5. That
    /// is 18 octets if a phone subscribed before it exchanged the MTU: less than the protocol's
    /// shortest value. BlueZ itself takes what the connection's MTU allows when a value is sent. So
    /// the socket is used without that writer, and the sender limits values by the MTU that came
    /// with the phone's last write.
    pub(super) fn start(
        writer: CharacteristicWriter,
        on_closed: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<Self> {
        let socket = UnixDatagram::from_std(StdUnixDatagram::from(owned_descriptor(writer)?))?;
        Ok(Self::over(socket, on_closed))
    }

    /// Sends over any datagram socket; [`start`](Self::start) gives it BlueZ's.
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

    /// Whether BlueZ still reads from it.
    pub(super) fn is_open(&self) -> bool {
        !self.values.is_closed()
    }

    /// Queues a value. False if the queue is full or the socket is closed.
    pub(super) fn send(&self, value: Vec<u8>) -> bool {
        self.values.try_send(value).is_ok()
    }
}

impl Drop for NotificationSocket {
    fn drop(&mut self) {
        self.sending.abort();
    }
}

#[allow(unsafe_code)]
fn owned_descriptor(writer: CharacteristicWriter) -> io::Result<OwnedFd> {
    let descriptor = writer.into_raw_fd()?;
    // SAFETY: into_raw_fd has just given up its ownership of this open descriptor, and nothing else
    // owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Sends values until BlueZ closes the socket.
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

/// Waits until the socket can be read; true if BlueZ has closed it. An octet is BlueZ's
/// acknowledgement of an indication (5.80 and later).
async fn is_closed(socket: &UnixDatagram) -> io::Result<bool> {
    let mut octet = [0];
    Ok(socket.recv(&mut octet).await? == 0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// A socket, BlueZ's end of it, and the queue that `on_closed` reports to. That queue is full,
    /// so `on_closed` has to wait.
    fn socket(capacity: usize) -> (NotificationSocket, UnixDatagram, mpsc::Receiver<()>) {
        let (ours, bluez) = UnixDatagram::pair().unwrap();
        let (closed, is_closed) = mpsc::channel(capacity);
        while closed.try_send(()).is_ok() {}
        let socket = NotificationSocket::over(ours, async move {
            let _ = closed.send(()).await;
        });
        (socket, bluez, is_closed)
    }

    #[tokio::test]
    async fn values_are_sent_in_order() {
        let (socket, bluez, _is_closed) = socket(1);
        assert!(socket.send(vec![1]) && socket.send(vec![2, 2]));
        let mut buffer = [0; 8];
        assert_eq!(bluez.recv(&mut buffer).await.unwrap(), 1);
        assert_eq!(bluez.recv(&mut buffer).await.unwrap(), 2);
        assert!(socket.is_open());
    }

    #[tokio::test]
    async fn a_closed_socket_is_reported_although_the_queue_is_full() {
        let (socket, bluez, mut is_closed) = socket(1);
        drop(bluez);
        socket.send(vec![1]);
        while socket.is_open() {
            tokio::task::yield_now().await;
        }
        assert!(!socket.send(vec![2]));
        assert_eq!(is_closed.recv().await, Some(()), "the queue was full");
        assert_eq!(is_closed.recv().await, Some(()));
        assert_eq!(is_closed.recv().await, None, "reported once");
    }
}
