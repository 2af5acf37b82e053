//! The terminal's side of the air: a GATT service over BlueZ, advertised, for any number of phones.
//!
//! Carries values and says who is connected; knows no messages. It keeps itself up: whatever BlueZ
//! or the adapter do, it reports [`LinkEvent::Down`] in words, tries again, and reports
//! [`LinkEvent::Up`] once phones can find it. A new attempt calls BlueZ, and D-Bus starts
//! bluetoothd for that where it is not running: Debian's bookworm does not start one that crashed
//! by itself. Who wants it to stay stopped masks its unit.
//!
//! What BlueZ does decides the form (read from its sources):
//!
//! - Writes come by callback ([`CharacteristicWriteMethod::Fun`]), since the sockets that BlueZ
//!   offers instead are, before 5.76, one for a characteristic: a second phone's writes come in
//!   over the first one's socket. bluer starts a task for each write; they keep their order on
//!   tokio's current-thread runtime, whose queue is first in, first out, and which a session has
//!   (`bluez_session`).
//! - Notifications go out over sockets ([`CharacteristicNotifyMethod::Io`]), which since 5.76 are
//!   one for each phone. Before, all subscribers share the first one's, and all get what is written
//!   to it; there a value for a phone without a socket of its own goes over the shared one, and
//!   phones leave what has not their tag (`protocol::fragment`). Which of the two it is, the
//!   adapter's device id says, which holds BlueZ's version.
//! - Whoever connects is noticed at once (`bus_watch`), also one that neither writes nor
//!   subscribes: it holds one of the few connections that a controller carries. And the
//!   advertisement is put up anew then: it ends with each connection, and neither BlueZ nor the
//!   kernel begins it again before that connection has ended.
//!
//! [`CharacteristicWriteMethod::Fun`]: bluer::gatt::local::CharacteristicWriteMethod::Fun
//! [`CharacteristicNotifyMethod::Io`]: bluer::gatt::local::CharacteristicNotifyMethod::Io

mod advertising;
mod bluez;
mod bluez_session;
mod bus_watch;
mod examination;
mod fault;
mod fault_tolerance;
mod outbox;
mod phones;
mod radio;
mod recovery;
mod service;

use std::time::Duration;

use bluer::Session;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

pub use bluez::{
    GATT_CLIENT_SETTING_SINCE as BLUEZ_GATT_CLIENT_SETTING_SINCE, TRIED_SINCE as BLUEZ_TRIED_SINCE,
};
pub use bluez_session::tasks_of_sessions;
pub use examination::{RadioExamination, examine_radio, probe_registration};
pub use fault::RadioFault;

use crate::domain::TerminalId;
use crate::link::{COMMANDS_MAX, EVENTS_MAX, LinkCommand, LinkEvent, RecoveryAction, TerminalLink};
use crate::protocol::{Info, VERSION};
use crate::terminal::AdvertisingPace;
use bluez_session::BlueZSession;
use bus_watch::BusWatch;
use radio::in_time;
use recovery::RecoveryPolicy;
use service::{Ended, Service};

/// How long to wait before the first new attempt after a fault, in milliseconds, and the least
/// between two.
const RETRY_MS_MIN: u64 = 500;
/// How long at most, in milliseconds, where nothing is heard of the cause's going away: with the
/// second that setting up takes, a terminal is found again within five.
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

/// Starts serving phones, now and whenever BlueZ can. It ends when the link is dropped. Needs a
/// tokio runtime.
pub fn start_peripheral(settings: PeripheralSettings) -> TerminalLink {
    let (events, event_receiver) = mpsc::channel(EVENTS_MAX);
    let (command_sender, commands) = mpsc::channel(COMMANDS_MAX);
    let supervisor = Supervisor {
        settings,
        events,
        commands,
        pace: AdvertisingPace::Slow,
        next_phone: 1,
        bus: None,
        recovery: RecoveryPolicy::default(),
        start: Instant::now(),
    };
    tokio::spawn(supervisor.run());
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
    /// It outlives services, so that what happens between them is heard.
    bus: Option<BusWatch>,
    recovery: RecoveryPolicy,
    start: Instant,
}

/// Why there is no service, and for how long there had been one.
struct Outage {
    fault: RadioFault,
    up_ms: u64,
}

impl From<RadioFault> for Outage {
    fn from(fault: RadioFault) -> Self {
        Self { fault, up_ms: 0 }
    }
}

impl Supervisor {
    async fn run(mut self) {
        let mut retry_ms = RETRY_MS_MIN;
        let mut told = None;
        let mut action = None;
        loop {
            let (supervisor, served) = self.serve(action).await;
            self = supervisor;
            let Outage { fault, up_ms } = match served {
                Ok(()) => return,
                Err(outage) => outage,
            };
            if up_ms > 0 {
                (told, retry_ms) = (None, RETRY_MS_MIN);
            }
            let reason = fault.to_string();
            let next = self.recovery.next_action(&fault, up_ms, milliseconds(self.start.elapsed()));
            if told.as_ref() != Some(&(reason.clone(), next)) {
                tracing::debug!(reason, "the GATT service is down");
                told = Some((reason.clone(), next));
                let action =
                    next.map(|action| LinkEvent::Recovering { action, reason: reason.clone() });
                for event in [Some(LinkEvent::Down { reason }), action].into_iter().flatten() {
                    if self.events.send(event).await.is_err() {
                        return;
                    }
                }
            }
            action = next;
            if !self.pause(retry_ms).await {
                return;
            }
            retry_ms = (retry_ms * 2).min(RETRY_MS_MAX);
        }
    }

    /// Sets a service up and runs it to its end: `Ok` once nobody listens any more.
    async fn serve(mut self, action: Option<RecoveryAction>) -> (Self, Result<(), Outage>) {
        match self.connect().await {
            Ok((session, registrar)) => {
                // All of a service's life is on its session's thread, and ends with that.
                let life = |bluez| async move {
                    let served = self.live(bluez, registrar, action).await;
                    (self, served)
                };
                session.run(life).await
            }
            Err(fault) => (self, Err(fault.into())),
        }
    }

    /// Listens to the bus, and connects to it for the service and for advertisements.
    async fn connect(&mut self) -> Result<(BlueZSession, BlueZSession), RadioFault> {
        // Before anything is asked of BlueZ, so that no restart of it falls between.
        let bus = self.bus.take().filter(BusWatch::is_alive);
        let watching = async {
            match bus {
                Some(bus) => Ok(bus),
                None => in_time(BusWatch::start()).await?,
            }
        };
        let (bus, session, registrar) =
            tokio::try_join!(watching, BlueZSession::open(), BlueZSession::open())?;
        let bus = self.bus.insert(bus);
        bus.forget();
        // What was forgotten may have been the end of the bus that it listens to.
        if bus.is_alive() { Ok((session, registrar)) } else { Err(RadioFault::BlueZRestarted) }
    }

    async fn live(
        &mut self,
        bluez: Session,
        registrar: BlueZSession,
        action: Option<RecoveryAction>,
    ) -> Result<(), Outage> {
        let Some(bus) = &mut self.bus else { return Err(RadioFault::BlueZRestarted.into()) };
        let mut service = Service::start(
            &bluez,
            registrar,
            &self.settings,
            self.pace,
            self.next_phone,
            action,
            &self.events,
        )
        .await?;
        tracing::debug!(adapter = service.adapter_name(), "the GATT service is up");
        if self.events.send(LinkEvent::Up).await.is_err() {
            return Ok(());
        }
        let begin = Instant::now();
        let ended = service.run(bus, &self.events, &mut self.commands).await;
        (self.pace, self.next_phone) = (service.pace(), service.next_phone());
        match ended {
            Ended::NobodyListens => Ok(()),
            Ended::Fault(fault) => {
                Err(Outage { fault, up_ms: milliseconds(begin.elapsed()).max(1) })
            }
        }
    }

    /// Waits, and takes commands meanwhile: there is nobody to send to. It ends early when
    /// something stirs on the bus. False if nobody gives commands any more.
    async fn pause(&mut self, retry_ms: u64) -> bool {
        let begin = Instant::now();
        let (earliest, latest) =
            (begin + Duration::from_millis(RETRY_MS_MIN), begin + Duration::from_millis(retry_ms));
        loop {
            let changed_event = async {
                // What stirs at once may be our own attempt's; it is heeded after the least pause.
                sleep_until(earliest).await;
                match self.bus.as_mut().filter(|bus| bus.is_alive()) {
                    Some(bus) => bus.changed_event().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = sleep_until(latest) => return true,
                () = changed_event => return true,
                command = self.commands.recv() => match command {
                    Some(LinkCommand::Advertise(pace)) => self.pace = pace,
                    Some(LinkCommand::Notify { .. } | LinkCommand::Disconnect { .. }) => {}
                    None => return false,
                },
            }
        }
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
