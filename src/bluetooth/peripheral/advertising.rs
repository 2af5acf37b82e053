//! Keeps one advertisement on the air, at the pace that is asked for, and looks after it and the
//! adapter.
//!
//! A task of its own: BlueZ takes its time over an advertisement, and phones that are connected
//! must not feel it. It does not set anything else up; what it cannot mend by advertising anew ends
//! it, and the service with it.
//!
//! Through bluer an advertisement cannot be changed, so it is registered anew. The new one goes up
//! before the old one comes down, so that a phone that is looking never finds nothing; where the
//! controller has room for one only, the old one goes first.
//!
//! What BlueZ and the kernel believe to be on the air need not be there: an advertisement may
//! vanish after a connection (bluez issues 12, 644 and 1015), and nobody but another controller
//! would see it. So it is put up anew every few seconds, seen to be gone or not; then the old one
//! goes first, since for a second one of a controller of Bluetooth 4 the kernel only notes that it
//! is to be put up, and tells nobody when that fails.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bluer::adv::{Advertisement, AdvertisementHandle, Type};
use bluer::{Adapter, Uuid};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::bluez_session::BlueZSession;
use super::fault::RadioFault;
use super::fault_tolerance::FaultTolerance;
use super::milliseconds;
use super::radio::{connected_phones, in_time, switched_off};
use crate::domain::TerminalId;
use crate::link::{LinkEvent, RecoveryAction};
use crate::protocol::{SERVICE_UUID, advertised_name};
use crate::terminal::AdvertisingPace;

/// How often the adapter is looked at and the advertisement put up anew, in milliseconds. With the
/// setting up, one that vanished without a word is back within five seconds.
const CHECK_INTERVAL_MS: u64 = 3_000;
/// How long after a phone's leaving the advertisement is put up anew, in milliseconds: several
/// leave together at times.
const RENEW_DELAY_MS: u64 = 200;
/// How long BlueZ gets to take an advertisement down before the next goes up, in milliseconds.
const TAKE_DOWN_MS: u64 = 20;
/// How long it gets before a second attempt, in milliseconds.
const TRY_AGAIN_MS: u64 = 200;
/// An advertisement that is seen to be gone twice within so many milliseconds is not to be had by
/// putting it up.
const VANISHES_AGAIN_MS: u64 = 10_000;

/// The task that advertises. Dropping it takes the advertisement down.
pub(super) struct Advertising {
    pace: watch::Sender<AdvertisingPace>,
    renew: Arc<Notify>,
    look: Arc<Notify>,
    fault: oneshot::Receiver<RadioFault>,
    task: JoinHandle<()>,
}

impl Advertising {
    /// Returns once phones can find the terminal. Tells `events` of its actions.
    pub(super) async fn start(
        registrar: BlueZSession,
        adapter: Adapter,
        terminal_id: TerminalId,
        pace: AdvertisingPace,
        events: mpsc::Sender<LinkEvent>,
    ) -> Result<Self, RadioFault> {
        let (pace, pace_asked) = watch::channel(pace);
        let (renew, look) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (failed, fault) = oneshot::channel();
        let mut advertiser = Advertiser {
            registrar: Some(Arc::new(registrar)),
            adapter,
            terminal_id,
            pace: pace_asked,
            events,
            on_the_air: None,
            vanished: None,
            fault_tolerance: FaultTolerance::default(),
            start: Instant::now(),
        };
        advertiser.put_up().await?;
        let (renewed, looked) = (Arc::clone(&renew), Arc::clone(&look));
        let task = tokio::spawn(async move {
            let fault = advertiser.run(&renewed, &looked).await;
            let _ = failed.send(fault);
        });
        Ok(Self { pace, renew, look, fault, task })
    }

    pub(super) fn pace(&self) -> AdvertisingPace {
        *self.pace.borrow()
    }

    /// Advertises at this pace from now on.
    pub(super) fn set_pace(&self, pace: AdvertisingPace) {
        self.pace.send_if_modified(|known| std::mem::replace(known, pace) != pace);
    }

    /// Puts the advertisement up anew soon: a connection has ended, and it may have vanished with
    /// it.
    pub(super) fn renew(&self) {
        self.renew.notify_one();
    }

    /// Looks at the adapter now: it was switched, or went.
    pub(super) fn look(&self) {
        self.look.notify_one();
    }

    /// When it cannot go on. Cancel-safe; not to be called again after it has returned.
    pub(super) async fn failed(&mut self) -> RadioFault {
        (&mut self.fault).await.unwrap_or(RadioFault::BlueZRestarted)
    }
}

impl Drop for Advertising {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An advertisement, and the session that it was registered over: without that, it would come down.
struct OnTheAir {
    _handle: AdvertisementHandle,
    _session: Arc<BlueZSession>,
}

struct Advertiser {
    /// The session over which advertisements are registered. bluer keeps what it has put on the
    /// bus for one that BlueZ refuses, or does not answer, as long as the session (0.17.4,
    /// `Advertisement::register`). So it is for this alone, and is left for a new one then:
    /// none until that is needed.
    registrar: Option<Arc<BlueZSession>>,
    adapter: Adapter,
    terminal_id: TerminalId,
    pace: watch::Receiver<AdvertisingPace>,
    events: mpsc::Sender<LinkEvent>,
    on_the_air: Option<OnTheAir>,
    /// When it was last seen to be gone.
    vanished: Option<Instant>,
    fault_tolerance: FaultTolerance,
    start: Instant,
}

impl Advertiser {
    async fn run(&mut self, renew: &Notify, look: &Notify) -> RadioFault {
        let mut due = interval(Duration::from_millis(CHECK_INTERVAL_MS));
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        due.reset();
        loop {
            let done = tokio::select! {
                changed = self.pace.changed() => match changed {
                    Ok(()) => self.put_up().await,
                    // The service is being dropped, and this task with it.
                    Err(_) => std::future::pending().await,
                },
                () = renew.notified() => {
                    sleep(Duration::from_millis(RENEW_DELAY_MS)).await;
                    self.put_up().await
                }
                () = look.notified() => self.look().await,
                _ = due.tick() => match self.look().await {
                    Ok(()) => self.renew().await,
                    Err(fault) => Err(fault),
                },
            };
            match done {
                Ok(()) => self.fault_tolerance.answered(),
                Err(RadioFault::Silent(_)) if self.fault_tolerance.tolerates_timeout() => {
                    tracing::debug!("BlueZ has not answered in time; it is asked again");
                    due.reset_immediately();
                }
                Err(fault) => return fault,
            }
        }
    }

    /// Takes it down and puts it up again: whether it can be put up shows only so.
    async fn renew(&mut self) -> Result<(), RadioFault> {
        if self.on_the_air.take().is_some() {
            sleep(Duration::from_millis(TAKE_DOWN_MS)).await;
        }
        self.put_up().await
    }

    async fn put_up(&mut self) -> Result<(), RadioFault> {
        let advertisement = advertisement(&self.terminal_id, *self.pace.borrow_and_update());
        if self.try_once(&advertisement).await?.is_ok() {
            return Ok(());
        }
        // There may have been no room beside the old one. Dropping it asks BlueZ to take it down,
        // but does not wait for it.
        self.on_the_air = None;
        sleep(Duration::from_millis(TRY_AGAIN_MS)).await;
        let Err(refused) = self.try_once(&advertisement).await? else { return Ok(()) };
        if !in_time(self.adapter.is_powered()).await?.unwrap_or(true) {
            return Err(switched_off(&self.adapter));
        }
        let is_tolerated =
            self.fault_tolerance.tolerates_refusal(milliseconds(self.start.elapsed()));
        if is_tolerated && !connected_phones(&self.adapter).await?.is_empty() {
            // Not every controller can be found while it is connected. It is tried again, and when
            // the phone has left.
            tracing::debug!(%refused, "no advertisement beside a phone");
            return Ok(());
        }
        Err(RadioFault::of(&refused, self.adapter.name(), "advertising"))
    }

    async fn try_once(
        &mut self,
        advertisement: &Advertisement,
    ) -> Result<Result<(), bluer::Error>, RadioFault> {
        let registrar = match self.registrar.take() {
            Some(registrar) => registrar,
            None => Arc::new(BlueZSession::open().await?),
        };
        let (name, advertisement) = (self.adapter.name().to_owned(), advertisement.clone());
        let registering = registrar
            .run(|bluez| async move { bluez.adapter(&name)?.advertise(advertisement).await });
        let registered = in_time(registering).await?;
        Ok(registered.map(|handle| {
            self.on_the_air = Some(OnTheAir { _handle: handle, _session: Arc::clone(&registrar) });
            self.registrar = Some(registrar);
            self.fault_tolerance.advertised();
        }))
    }

    /// Looks whether the adapter is on and the advertisement there, as far as BlueZ knows.
    async fn look(&mut self) -> Result<(), RadioFault> {
        let name = self.adapter.name().to_owned();
        let fault = |error| {
            let fault = RadioFault::of(&error, &name, "looking after the adapter");
            // The object has lost its interface: the adapter was taken away.
            if matches!(fault, RadioFault::NoAdvertising(_)) {
                RadioFault::NoAdapter
            } else {
                fault
            }
        };
        if !in_time(self.adapter.is_powered()).await?.map_err(fault)? {
            return Err(switched_off(&self.adapter));
        }
        let active = in_time(self.adapter.active_advertising_instances()).await?.map_err(fault)?;
        // Without a handle the controller had no room for it beside a connection.
        if active == 0 && self.on_the_air.is_some() {
            self.seen_to_be_gone().await?;
        }
        Ok(())
    }

    async fn seen_to_be_gone(&mut self) -> Result<(), RadioFault> {
        let again = Duration::from_millis(VANISHES_AGAIN_MS);
        if self.vanished.replace(Instant::now()).is_some_and(|before| before.elapsed() < again) {
            return Err(RadioFault::AdvertisementLost(self.adapter.name().to_owned()));
        }
        let reason = "BlueZ has no advertisement of this terminal any more".into();
        let _ = self
            .events
            .send(LinkEvent::Recovering { action: RecoveryAction::RestartAdvertising, reason })
            .await;
        self.on_the_air = None;
        self.put_up().await
    }
}

/// Flags and the service's UUID fill 21 of a legacy packet's 31 octets; BlueZ puts the name into
/// the scan response.
fn advertisement(terminal_id: &TerminalId, pace: AdvertisingPace) -> Advertisement {
    let (min_interval_ms, max_interval_ms) = match pace {
        AdvertisingPace::Fast => (20, 100),
        AdvertisingPace::Slow | AdvertisingPace::OutOfService => (1_000, 1_200),
    };
    let is_out_of_service = pace == AdvertisingPace::OutOfService;
    Advertisement {
        advertisement_type: Type::Peripheral,
        service_uuids: BTreeSet::from([Uuid::from_u128(SERVICE_UUID)]),
        local_name: Some(advertised_name(terminal_id, is_out_of_service)),
        discoverable: Some(true),
        min_interval: Some(Duration::from_millis(min_interval_ms)),
        max_interval: Some(Duration::from_millis(max_interval_ms)),
        ..Advertisement::default()
    }
}
