//! The terminal's side: accepts connections on a Unix socket instead of advertising, and serves
//! each as a phone.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::frame::{FrameReader, write_frame};
use super::{AirAddress, value_octets_max};
use crate::domain::TerminalId;
use crate::link::{
    COMMANDS_MAX, EVENTS_MAX, LinkCommand, LinkEvent, TerminalLink, VALUES_WAITING_MAX,
};
use crate::protocol::{Info, VERSION};
use crate::terminal::PhoneId;

/// How many connections there may be: more than an engine serves, so that the engine itself can
/// turn the others away.
const CONNECTIONS_MAX: usize = 256;
/// How long a phone may take to send its MTU, and to take a value, in milliseconds.
const PHONE_TIMEOUT_MS: u64 = 5_000;
/// The pause after the system refused a connection (no file descriptors left), in milliseconds.
const ACCEPT_PAUSE_MS: u64 = 100;

/// Why the emulated air cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum SocketAirError {
    /// Another process listens there.
    #[error("another terminal listens on {0}. Stop it, or use another path")]
    InUse(AirAddress),
    /// The path is a file that is not a socket.
    #[error("{} exists and is not a socket. Move it away, or use another path", .0.display())]
    NotASocket(PathBuf),
    /// The operating system refused.
    #[error(
        "cannot listen on {address}: {source}. Check that its directory exists and that this user \
         may write there"
    )]
    System { address: AirAddress, source: io::Error },
}

/// Starts serving phones on a Unix socket. Replaces a socket's file on which no process listens any
/// more. It ends when the link is dropped. Needs a tokio runtime.
///
/// # Errors
/// [`SocketAirError`].
pub fn start_socket_air(
    address: &AirAddress,
    terminal_id: TerminalId,
) -> Result<TerminalLink, SocketAirError> {
    let listener = bind(address)?;
    let info = Info {
        versions: vec![u32::from(VERSION)],
        terminal_id: terminal_id.to_string(),
        capabilities: 0,
    };
    let (events, event_receiver) = mpsc::channel(EVENTS_MAX);
    let (command_sender, commands) = mpsc::channel(COMMANDS_MAX);
    let air = Air { events, phones: Phones::default(), info: info.encode().into(), next_phone: 1 };
    tokio::spawn(air.run(listener, commands, RemovedWhenDropped(address.path().to_owned())));
    Ok(TerminalLink { events: event_receiver, commands: command_sender })
}

fn bind(address: &AirAddress) -> Result<UnixListener, SocketAirError> {
    let path = address.path();
    let system = |source: io::Error| {
        if source.kind() == io::ErrorKind::AddrInUse {
            SocketAirError::InUse(address.clone())
        } else {
            SocketAirError::System { address: address.clone(), source }
        }
    };
    if let Ok(metadata) = fs::symlink_metadata(path) {
        if !metadata.file_type().is_socket() {
            return Err(SocketAirError::NotASocket(path.to_owned()));
        }
        if is_stale(path) {
            fs::remove_file(path).map_err(system)?;
        }
    }
    UnixListener::bind(path).map_err(system)
}

/// Whether the process that made this socket has ended.
fn is_stale(path: &Path) -> bool {
    let connected = std::os::unix::net::UnixStream::connect(path);
    connected.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

/// The socket's file, which is removed when this is dropped.
struct RemovedWhenDropped(PathBuf);

impl Drop for RemovedWhenDropped {
    fn drop(&mut self) {
        // A file that cannot be removed is replaced at the next start.
        let _ = fs::remove_file(&self.0);
    }
}

/// The queue of each phone's notifications. Removing a phone ends its connection.
#[derive(Debug, Clone, Default)]
struct Phones(Arc<Mutex<BTreeMap<PhoneId, mpsc::Sender<Vec<u8>>>>>);

impl Phones {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<PhoneId, mpsc::Sender<Vec<u8>>>> {
        // Nothing panics while it holds this lock; even after a panic, the map would be whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Air {
    events: mpsc::Sender<LinkEvent>,
    phones: Phones,
    info: Arc<[u8]>,
    next_phone: u64,
}

impl Air {
    async fn run(
        mut self,
        listener: UnixListener,
        mut commands: mpsc::Receiver<LinkCommand>,
        _file: RemovedWhenDropped,
    ) {
        if self.events.send(LinkEvent::Up).await.is_err() {
            return;
        }
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => self.accept(stream),
                    Err(error) => {
                        tracing::warn!(
                            %error,
                            "the system refused a connection to the emulated air"
                        );
                        tokio::time::sleep(Duration::from_millis(ACCEPT_PAUSE_MS)).await;
                    }
                },
                command = commands.recv() => match command {
                    Some(LinkCommand::Notify { phone, value }) => self.notify(phone, value),
                    Some(LinkCommand::Disconnect { phone }) => {
                        self.phones.lock().remove(&phone);
                    }
                    Some(LinkCommand::Advertise(_)) => {}
                    // Clearing the map ends every connection.
                    None => return self.phones.lock().clear(),
                },
            }
        }
    }

    fn accept(&mut self, stream: UnixStream) {
        let mut phones = self.phones.lock();
        if phones.len() >= CONNECTIONS_MAX {
            tracing::warn!("too many connections to the emulated air: a new one was closed");
            return;
        }
        let phone = PhoneId(self.next_phone);
        self.next_phone += 1;
        let (sender, values) = mpsc::channel(VALUES_WAITING_MAX);
        phones.insert(phone, sender);
        let connection =
            Connection { phone, events: self.events.clone(), phones: self.phones.clone() };
        tokio::spawn(connection.run(stream, values, Arc::clone(&self.info)));
    }

    fn notify(&self, phone: PhoneId, value: Vec<u8>) {
        let mut phones = self.phones.lock();
        let Some(values) = phones.get(&phone) else { return };
        if values.try_send(value).is_err() {
            tracing::warn!(?phone, "too many values wait for the phone: it is disconnected");
            phones.remove(&phone);
        }
    }
}

/// The connection of one phone.
struct Connection {
    phone: PhoneId,
    events: mpsc::Sender<LinkEvent>,
    phones: Phones,
}

impl Connection {
    async fn run(self, stream: UnixStream, values: mpsc::Receiver<Vec<u8>>, info: Arc<[u8]>) {
        let (reader, writer) = stream.into_split();
        let mut reader = FrameReader::new(reader);
        if let Err(error) = self.serve(&mut reader, writer, values, &info).await {
            let phone = self.phone;
            tracing::debug!(?phone, %error, "a connection over the emulated air failed");
        }
        self.phones.lock().remove(&self.phone);
    }

    async fn serve(
        &self,
        reader: &mut FrameReader<impl AsyncRead + Unpin>,
        mut writer: impl AsyncWrite + Unpin,
        values: mpsc::Receiver<Vec<u8>>,
        info: &[u8],
    ) -> io::Result<()> {
        with_phone_timeout(write_frame(&mut writer, info)).await?;
        let Some(first) = with_phone_timeout(reader.next()).await? else { return Ok(()) };
        let att_mtu = first.try_into().map(|octets| usize::from(u16::from_be_bytes(octets)));
        let value_octets_max = att_mtu.ok().and_then(value_octets_max).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                "the first frame is not an ATT MTU from 23 to 517",
            )
        })?;
        let phone = self.phone;
        if self.events.send(LinkEvent::Connected { phone, address: None }).await.is_err() {
            return Ok(());
        }
        let ended = tokio::select! {
            ended = self.receive(reader, value_octets_max) => ended,
            ended = send(&mut writer, values) => ended,
        };
        let _ = self.events.send(LinkEvent::Disconnected { phone }).await;
        ended
    }

    /// Passes values on until the phone closes the connection. If the driver is behind, this phone
    /// waits, and takes turns with the others.
    async fn receive(
        &self,
        reader: &mut FrameReader<impl AsyncRead + Unpin>,
        value_octets_max: usize,
    ) -> io::Result<()> {
        while let Some(value) = reader.next().await? {
            if value.len() > value_octets_max {
                let detail =
                    format!("a value of {} octets; the MTU allows {value_octets_max}", value.len());
                return Err(io::Error::new(io::ErrorKind::InvalidData, detail));
            }
            if self
                .events
                .send(LinkEvent::Wrote { phone: self.phone, value_octets_max, value })
                .await
                .is_err()
            {
                break;
            }
        }
        Ok(())
    }
}

/// Sends values until the terminal ends the connection. Earlier values still arrive.
async fn send(
    writer: &mut (impl AsyncWrite + Unpin),
    mut values: mpsc::Receiver<Vec<u8>>,
) -> io::Result<()> {
    while let Some(value) = values.recv().await {
        with_phone_timeout(write_frame(writer, &value)).await?;
    }
    Ok(())
}

/// Fails if the phone takes too long.
async fn with_phone_timeout<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let done = timeout(Duration::from_millis(PHONE_TIMEOUT_MS), work).await;
    done.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

#[cfg(all(test, feature = "wallet"))]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::link::{PhoneLink, SocketPhoneLink};

    struct Place {
        _directory: tempfile::TempDir,
        address: AirAddress,
    }

    fn place() -> Place {
        let directory = tempfile::tempdir().unwrap();
        let address = format!("unix:{}/air.sock", directory.path().display()).parse().unwrap();
        Place { _directory: directory, address }
    }

    fn terminal_id() -> TerminalId {
        "0123456789".parse().unwrap()
    }

    async fn started(place: &Place) -> TerminalLink {
        let mut link = start_socket_air(&place.address, terminal_id()).unwrap();
        assert_eq!(link.events.recv().await, Some(LinkEvent::Up));
        link
    }

    #[tokio::test]
    async fn values_pass_both_ways_and_reach_no_other_phone() {
        let place = place();
        let mut link = started(&place).await;
        let mut first = SocketPhoneLink::connect(&place.address, 517).await.unwrap();
        assert_eq!(
            link.events.recv().await,
            Some(LinkEvent::Connected { phone: PhoneId(1), address: None })
        );
        let mut second = SocketPhoneLink::connect(&place.address, 23).await.unwrap();
        assert_eq!(
            link.events.recv().await,
            Some(LinkEvent::Connected { phone: PhoneId(2), address: None })
        );
        assert_eq!(first.info().terminal_id, "0123456789");
        assert_eq!((first.value_octets_max(), second.value_octets_max()), (512, 20));

        second.write(vec![2; 20]).await.unwrap();
        let wrote =
            LinkEvent::Wrote { phone: PhoneId(2), value_octets_max: 20, value: vec![2; 20] };
        assert_eq!(link.events.recv().await, Some(wrote));
        assert!(second.write(vec![2; 21]).await.is_err());
        for (phone, octet) in [(1, 10), (2, 20), (1, 11)] {
            let command = LinkCommand::Notify { phone: PhoneId(phone), value: vec![octet] };
            link.commands.send(command).await.unwrap();
        }
        assert_eq!(first.next_value().await.unwrap(), [10]);
        assert_eq!(first.next_value().await.unwrap(), [11]);
        assert_eq!(second.next_value().await.unwrap(), [20]);
    }

    #[tokio::test]
    async fn either_side_can_end_a_connection_and_earlier_values_arrive() {
        let place = place();
        let mut link = started(&place).await;
        let mut phone = SocketPhoneLink::connect(&place.address, 100).await.unwrap();
        assert_eq!(
            link.events.recv().await,
            Some(LinkEvent::Connected { phone: PhoneId(1), address: None })
        );
        link.commands
            .send(LinkCommand::Notify { phone: PhoneId(1), value: vec![1] })
            .await
            .unwrap();
        link.commands.send(LinkCommand::Disconnect { phone: PhoneId(1) }).await.unwrap();
        assert_eq!(phone.next_value().await.unwrap(), [1]);
        assert!(phone.next_value().await.is_err());
        assert_eq!(link.events.recv().await, Some(LinkEvent::Disconnected { phone: PhoneId(1) }));

        let mut phone = SocketPhoneLink::connect(&place.address, 100).await.unwrap();
        assert_eq!(
            link.events.recv().await,
            Some(LinkEvent::Connected { phone: PhoneId(2), address: None })
        );
        phone.disconnect().await;
        assert_eq!(link.events.recv().await, Some(LinkEvent::Disconnected { phone: PhoneId(2) }));
        assert!(phone.write(vec![1]).await.is_err());
    }

    #[tokio::test]
    async fn a_phone_that_breaks_the_rules_is_disconnected() {
        let place = place();
        let mut link = started(&place).await;
        for (octets, connects) in [
            (&[0, 2, 0, 22][..], false),
            (&[0, 2, 2, 6], false),
            (&[0, 1, 100], false),
            (&[0xff, 0xff], false),
            (&[0, 2, 0, 23, 0, 21], true),
            (&[0, 2, 0, 23, 2, 1], true),
        ] {
            let mut stream = UnixStream::connect(place.address.path()).await.unwrap();
            stream.write_all(octets).await.unwrap();
            // The terminal may close the connection at once. Then this write fails, and the read
            // ends, or is reset if octets stayed unread.
            let _ = stream.write_all(&[0; 30]).await;
            let _ = stream.read_to_end(&mut Vec::new()).await;
            if connects {
                let event = link.events.recv().await;
                assert!(
                    matches!(event, Some(LinkEvent::Connected { .. })),
                    "{octets:?}: {event:?}"
                );
                let event = link.events.recv().await;
                assert!(
                    matches!(event, Some(LinkEvent::Disconnected { .. })),
                    "{octets:?}: {event:?}"
                );
            }
            assert!(link.events.try_recv().is_err(), "{octets:?}");
        }
    }

    #[tokio::test]
    async fn a_socket_in_use_is_refused_and_a_stale_one_is_replaced() {
        let place = place();
        let link = started(&place).await;
        assert!(matches!(
            start_socket_air(&place.address, terminal_id()),
            Err(SocketAirError::InUse(_))
        ));
        drop(link);
        while place.address.path().exists() {
            tokio::task::yield_now().await;
        }
        // A process that is killed leaves its socket behind like this.
        drop(std::os::unix::net::UnixListener::bind(place.address.path()).unwrap());
        drop(started(&place).await);
        while place.address.path().exists() {
            tokio::task::yield_now().await;
        }
        fs::write(place.address.path(), "precious").unwrap();
        assert!(matches!(
            start_socket_air(&place.address, terminal_id()),
            Err(SocketAirError::NotASocket(_))
        ));
    }
}
