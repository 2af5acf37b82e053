//! The terminal's side of the air: a GATT service over BlueZ, advertised, for any number of phones.
//!
//! Carries values and says who is connected; knows no messages. It keeps itself up: whatever BlueZ or the adapter do,
//! it reports [`LinkEvent::Down`] in words, tries again, and reports [`LinkEvent::Up`] once phones can find it.
//! A new attempt calls BlueZ, and D-Bus starts bluetoothd for that where it is not running: Debian's bookworm does not
//! start one that crashed by itself. Who wants it to stay stopped masks its unit.
//!
//! What BlueZ does decides the form (read from its sources):
//!
//! - Writes come by callback ([`CharacteristicWriteMethod::Fun`]), since the sockets that BlueZ offers instead are, before
//!   5.76, one for a characteristic: a second phone's writes come in over the first one's socket. bluer starts a task
//!   for each write; they keep their order on tokio's current-thread runtime, whose queue is first in, first out. **Run
//!   this on a current-thread runtime.** On another, fragments may change places, which their numbers show.
//! - Notifications go out over sockets ([`CharacteristicNotifyMethod::Io`]), which since 5.76 are one for each phone.
//!   Before, all subscribers share the first one's, and all get what is written to it; there a value for a phone without
//!   a socket of its own goes over the shared one, and phones leave what has not their tag (`protocol::fragment`). Which
//!   of the two it is, the adapter's device id says, which holds BlueZ's version.
//!
//! [`CharacteristicWriteMethod::Fun`]: bluer::gatt::local::CharacteristicWriteMethod::Fun
//! [`CharacteristicNotifyMethod::Io`]: bluer::gatt::local::CharacteristicNotifyMethod::Io

mod advertising;
mod bus_watch;
mod examination;
mod fault;
mod outbox;
mod phones;
mod radio;
mod service;

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

pub use examination::{RadioExamination, examine_radio, probe_registration};
pub use fault::RadioFault;

use super::{COMMANDS_MAX, EVENTS_MAX, LinkCommand, LinkEvent, TerminalLink};
use crate::domain::TerminalId;
use crate::protocol::{Info, VERSION};
use crate::terminal::AdvertisingPace;
use service::{Ended, Service};

/// How long to wait before the first new attempt after a fault, in milliseconds.
const RETRY_MS_MIN: u64 = 500;
/// How long at most: with the second that setting up takes, a cause that goes away is over within five.
const RETRY_MS_MAX: u64 = 3_000;

/// What the GATT service is set up with.
#[derive(Debug, Clone)]
pub struct PeripheralSettings {
    /// The adapter's name, such as `hci0`; the first if none.
    pub adapter: Option<String>,
    /// Who we are: for `info` and the advertised name.
    pub terminal_id: TerminalId,
}

impl PeripheralSettings {
    fn info(&self) -> Vec<u8> {
        Info {
            versions: vec![u32::from(VERSION)],
            terminal_id: self.terminal_id.to_string(),
            capabilities: 0,
        }
        .encode()
    }
}

/// Starts serving phones, now and whenever BlueZ can. It ends when the link is dropped. Needs a tokio runtime, of the
/// current-thread kind.
pub fn start_peripheral(settings: PeripheralSettings) -> TerminalLink {
    let (events, event_receiver) = mpsc::channel(EVENTS_MAX);
    let (command_sender, commands) = mpsc::channel(COMMANDS_MAX);
    tokio::spawn(Supervisor { settings, events, commands, pace: AdvertisingPace::Slow, next_phone: 1 }.run());
    TerminalLink { events: event_receiver, commands: command_sender }
}

/// Keeps a service up, one after the other.
struct Supervisor {
    settings: PeripheralSettings,
    events: mpsc::Sender<LinkEvent>,
    commands: mpsc::Receiver<LinkCommand>,
    pace: AdvertisingPace,
    /// Numbers go on from one service to the next: none is ever used again.
    next_phone: u64,
}

impl Supervisor {
    async fn run(mut self) {
        let mut retry_ms = RETRY_MS_MIN;
        let mut told = None;
        loop {
            let fault = match Service::start(&self.settings, self.pace, self.next_phone).await {
                Ok(mut service) => {
                    tracing::debug!(adapter = service.adapter_name(), "the GATT service is up");
                    if self.events.send(LinkEvent::Up).await.is_err() {
                        return;
                    }
                    (told, retry_ms) = (None, RETRY_MS_MIN);
                    let ended = service.run(&self.events, &mut self.commands).await;
                    (self.pace, self.next_phone) = (service.pace(), service.next_phone());
                    match ended {
                        Ended::NobodyListens => return,
                        Ended::Fault(fault) => fault,
                    }
                }
                Err(fault) => fault,
            };
            let reason = fault.to_string();
            if told.as_ref() != Some(&reason) {
                tracing::debug!(reason, "the GATT service is down");
                told = Some(reason.clone());
                if self.events.send(LinkEvent::Down { reason }).await.is_err() {
                    return;
                }
            }
            if !self.pause(retry_ms).await {
                return;
            }
            retry_ms = (retry_ms * 2).min(RETRY_MS_MAX);
        }
    }

    /// Waits, and takes commands meanwhile: there is nobody to send to. False if nobody gives commands any more.
    async fn pause(&mut self, milliseconds: u64) -> bool {
        let until = Instant::now() + Duration::from_millis(milliseconds);
        loop {
            tokio::select! {
                () = sleep_until(until) => return true,
                command = self.commands.recv() => match command {
                    Some(LinkCommand::Advertise(pace)) => self.pace = pace,
                    Some(LinkCommand::Notify { .. } | LinkCommand::Disconnect { .. }) => {}
                    None => return false,
                },
            }
        }
    }
}
