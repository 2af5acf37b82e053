//! Keeps a GATT service running: starts one, and after each failure another.

use std::time::Duration;

use bluer::Session;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::answer_timeout::with_answer_timeout;
use super::bluez_session::BlueZSession;
use super::bus_watch::BusWatch;
use super::fault::RadioFault;
use super::recovery::RecoveryPolicy;
use super::service::Service;
use super::settings::PeripheralSettings;
use crate::link::{COMMANDS_MAX, EVENTS_MAX, LinkCommand, LinkEvent, RecoveryAction, TerminalLink};
use crate::terminal::AdvertisingPace;

/// The retry backoff after a first failure, and the shortest pause between two attempts.
const RETRY_BACKOFF_MIN: Duration = Duration::from_millis(500);
/// The longest pause between two attempts, if no change on the bus ends it earlier. Starting the
/// service takes a second more, so phones find a terminal again within five seconds.
const RETRY_BACKOFF_MAX: Duration = Duration::from_secs(3);

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

struct Supervisor {
    settings: PeripheralSettings,
    events: mpsc::Sender<LinkEvent>,
    commands: mpsc::Receiver<LinkCommand>,
    pace: AdvertisingPace,
    /// Numbering continues from one service to the next: no number is used twice.
    next_phone: u64,
    /// It outlives services, so that it also sees what happens between them.
    bus: Option<BusWatch>,
    recovery: RecoveryPolicy,
    start: Instant,
}

/// Why no service is running.
struct Outage {
    fault: RadioFault,
    /// How long the service had been up; none if it could not be started.
    uptime: Option<Duration>,
}

impl From<RadioFault> for Outage {
    fn from(fault: RadioFault) -> Self {
        Self { fault, uptime: None }
    }
}

impl Supervisor {
    async fn run(mut self) {
        let mut backoff = RETRY_BACKOFF_MIN;
        let mut reported = None;
        let mut action = None;
        loop {
            let (supervisor, ended) = self.serve(action).await;
            self = supervisor;
            let Outage { fault, uptime } = match ended {
                Ok(()) => return,
                Err(outage) => outage,
            };
            if uptime.is_some() {
                (reported, backoff) = (None, RETRY_BACKOFF_MIN);
            }
            let reason = fault.to_string();
            action = self.recovery.next_action(&fault, uptime, self.start.elapsed());
            if reported.as_ref() != Some(&(reason.clone(), action)) {
                tracing::debug!(reason, "the GATT service is down");
                reported = Some((reason.clone(), action));
                if !self.report(reason, action).await {
                    return;
                }
            }
            if !self.wait_for_retry(backoff).await {
                return;
            }
            backoff = (backoff * 2).min(RETRY_BACKOFF_MAX);
        }
    }

    /// Reports that the link is down, and the recovery action. False if the link was dropped.
    async fn report(&self, reason: String, action: Option<RecoveryAction>) -> bool {
        let recovering =
            action.map(|action| LinkEvent::Recovering { action, reason: reason.clone() });
        for event in [Some(LinkEvent::Down { reason }), recovering].into_iter().flatten() {
            if self.events.send(event).await.is_err() {
                return false;
            }
        }
        true
    }

    /// Starts a service and runs it to its end: `Ok` once the link was dropped.
    async fn serve(mut self, action: Option<RecoveryAction>) -> (Self, Result<(), Outage>) {
        match self.connect().await {
            Ok((session, registrar)) => {
                // The service does everything on its session's thread, and ends with the session.
                let run = |bluez| async move {
                    let ended = self.run_service(bluez, registrar, action).await;
                    (self, ended)
                };
                session.run(run).await
            }
            Err(fault) => (self, Err(fault.into())),
        }
    }

    /// Starts to watch the bus, and opens two sessions: for the service and for advertisements.
    async fn connect(&mut self) -> Result<(BlueZSession, BlueZSession), RadioFault> {
        // The watch starts before BlueZ is called, so that it sees every restart from then on.
        let bus = self.bus.take().filter(BusWatch::is_connected);
        let watching = async {
            match bus {
                Some(bus) => Ok(bus),
                None => with_answer_timeout(BusWatch::start()).await?,
            }
        };
        let (bus, session, registrar) =
            tokio::try_join!(watching, BlueZSession::open(), BlueZSession::open())?;
        let bus = self.bus.insert(bus);
        bus.discard_pending();
        // The end of the watch's own connection may have been among the discarded events.
        if bus.is_connected() { Ok((session, registrar)) } else { Err(RadioFault::BlueZRestarted) }
    }

    async fn run_service(
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
        let up_since = Instant::now();
        let ended = service.run(bus, &self.events, &mut self.commands).await;
        (self.pace, self.next_phone) = (service.pace(), service.next_phone());
        ended.map_err(|fault| Outage { fault, uptime: Some(up_since.elapsed()) })
    }

    /// Waits before the next attempt; a change on the bus ends the wait early. Takes commands
    /// meanwhile, although no phone is connected. False if the link was dropped.
    async fn wait_for_retry(&mut self, backoff: Duration) -> bool {
        let begin = Instant::now();
        let (earliest, latest) = (begin + RETRY_BACKOFF_MIN, begin + backoff);
        loop {
            let change = async {
                // An earlier change may come from our own attempt; it counts after the shortest
                // pause.
                sleep_until(earliest).await;
                match self.bus.as_mut().filter(|bus| bus.is_connected()) {
                    Some(bus) => bus.wait_for_change().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = sleep_until(latest) => return true,
                () = change => return true,
                command = self.commands.recv() => match command {
                    Some(LinkCommand::Advertise(pace)) => self.pace = pace,
                    Some(LinkCommand::Notify { .. } | LinkCommand::Disconnect { .. }) => {}
                    None => return false,
                },
            }
        }
    }
}
