//! Keeps one advertisement registered at the requested pace, and checks it and the adapter.
//!
//! It is a task of its own, so that connected phones do not wait while BlueZ registers an
//! advertisement, which takes its time. A fault that a new registration cannot repair ends the
//! task, and the service with it.
//!
//! bluer cannot change an advertisement, so a new one is registered. It is registered before the
//! old one is removed, so that a phone that scans finds one at any time. If the controller has room
//! for one only, the old one is removed first.
//!
//! BlueZ and the kernel may count an advertisement as active that is no longer on the air: it can
//! vanish after a connection (bluez issues 12, 644 and 1015), and only another controller would
//! notice. So it is renewed every few seconds in any case. The old one is then removed first: on a
//! Bluetooth 4 controller the kernel only schedules a second advertisement, and does not report
//! when that fails.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bluer::adv::{Advertisement, AdvertisementHandle, Type};
use bluer::{Adapter, Uuid};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::adapter::{connected_phones, power_off_fault};
use super::answer_timeout::with_answer_timeout;
use super::bluez_session::BlueZSession;
use super::failure_limits::FailureLimits;
use super::fault::RadioFault;
use crate::domain::TerminalId;
use crate::link::{LinkEvent, RecoveryAction};
use crate::protocol::{SERVICE_UUID, advertised_name};
use crate::terminal::AdvertisingPace;

/// How often the adapter is checked and the advertisement renewed. Registration included, an
/// advertisement that vanished unnoticed is back within five seconds.
const CHECK_INTERVAL: Duration = Duration::from_secs(3);
/// The pause between a phone's connecting or leaving and a new registration: several phones leave
/// together at times.
const REFRESH_DELAY: Duration = Duration::from_millis(200);
/// How long BlueZ gets to remove an advertisement before the next is registered.
const REMOVAL_DELAY: Duration = Duration::from_millis(20);
/// The same before the second attempt at a registration.
const SECOND_ATTEMPT_DELAY: Duration = Duration::from_millis(200);
/// If BlueZ loses the advertisement twice within this time, registering it again does not help.
const LOSS_INTERVAL_MIN: Duration = Duration::from_secs(10);

/// The task that advertises. Dropping it removes the advertisement.
pub(super) struct Advertising {
    pace: watch::Sender<AdvertisingPace>,
    refresh: Arc<Notify>,
    check: Arc<Notify>,
    fault: oneshot::Receiver<RadioFault>,
    task: JoinHandle<()>,
}

impl Advertising {
    /// Returns once phones can find the terminal. Reports its recovery actions to `events`.
    pub(super) async fn start(
        registrar: BlueZSession,
        adapter: Adapter,
        terminal_id: TerminalId,
        pace: AdvertisingPace,
        events: mpsc::Sender<LinkEvent>,
    ) -> Result<Self, RadioFault> {
        let (pace, requested_pace) = watch::channel(pace);
        let (refresh, check) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (fault_sender, fault) = oneshot::channel();
        let mut advertiser = Advertiser {
            registrar: Some(Arc::new(registrar)),
            adapter,
            terminal_id,
            pace: requested_pace,
            events,
            registered: None,
            lost_at: None,
            limits: FailureLimits::default(),
            start: Instant::now(),
        };
        advertiser.register().await?;
        let (refresh_requested, check_requested) = (Arc::clone(&refresh), Arc::clone(&check));
        let task = tokio::spawn(async move {
            let fault = advertiser.run(&refresh_requested, &check_requested).await;
            let _ = fault_sender.send(fault);
        });
        Ok(Self { pace, refresh, check, fault, task })
    }

    pub(super) fn pace(&self) -> AdvertisingPace {
        *self.pace.borrow()
    }

    /// Advertises at this pace from now on.
    pub(super) fn set_pace(&self, pace: AdvertisingPace) {
        self.pace.send_if_modified(|known| std::mem::replace(known, pace) != pace);
    }

    /// Registers the advertisement again soon: a connection has begun or ended, and the
    /// advertisement may have vanished with that.
    pub(super) fn refresh(&self) {
        self.refresh.notify_one();
    }

    /// Checks the adapter now: it was added, removed or switched.
    pub(super) fn check(&self) {
        self.check.notify_one();
    }

    /// Waits for the fault that ends the task. Cancel-safe; must not be called again after it has
    /// returned.
    pub(super) async fn failure(&mut self) -> RadioFault {
        (&mut self.fault).await.unwrap_or(RadioFault::BlueZRestarted)
    }
}

impl Drop for Advertising {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An advertisement, and the session over which it was registered: without the session, BlueZ would
/// remove it.
struct RegisteredAdvertisement {
    _handle: AdvertisementHandle,
    _session: Arc<BlueZSession>,
}

struct Advertiser {
    /// The session over which advertisements are registered. If BlueZ refuses one or does not
    /// answer, bluer keeps the object that it has put on the bus for it as long as the session
    /// (0.17.4, `Advertisement::register`). So this session has no other use, and a new one
    /// replaces it after such a failure: none until then.
    registrar: Option<Arc<BlueZSession>>,
    adapter: Adapter,
    terminal_id: TerminalId,
    pace: watch::Receiver<AdvertisingPace>,
    events: mpsc::Sender<LinkEvent>,
    registered: Option<RegisteredAdvertisement>,
    /// When BlueZ last had no advertisement any more.
    lost_at: Option<Instant>,
    limits: FailureLimits,
    start: Instant,
}

impl Advertiser {
    async fn run(&mut self, refresh: &Notify, check: &Notify) -> RadioFault {
        let mut due = interval(CHECK_INTERVAL);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        due.reset();
        loop {
            let done = tokio::select! {
                changed = self.pace.changed() => match changed {
                    Ok(()) => self.register().await,
                    // The service is being dropped, and this task with it.
                    Err(_) => std::future::pending().await,
                },
                () = refresh.notified() => {
                    sleep(REFRESH_DELAY).await;
                    self.register().await
                }
                () = check.notified() => self.check().await,
                _ = due.tick() => match self.check().await {
                    Ok(()) => self.renew().await,
                    Err(fault) => Err(fault),
                },
            };
            match done {
                Ok(()) => self.limits.record_answer(),
                Err(RadioFault::AnswerTimeout(_)) if self.limits.accept_timeout() => {
                    tracing::debug!(
                        "BlueZ has not answered in time; the check is repeated at once"
                    );
                    due.reset_immediately();
                }
                Err(fault) => return fault,
            }
        }
    }

    /// Removes the advertisement and registers it again: only that shows whether the controller
    /// still advertises.
    async fn renew(&mut self) -> Result<(), RadioFault> {
        if self.registered.take().is_some() {
            sleep(REMOVAL_DELAY).await;
        }
        self.register().await
    }

    /// Registers an advertisement at the requested pace, in place of the one that there is.
    async fn register(&mut self) -> Result<(), RadioFault> {
        let advertisement = advertisement(&self.terminal_id, *self.pace.borrow_and_update());
        if self.register_once(&advertisement).await?.is_ok() {
            return Ok(());
        }
        // There may have been no room beside the old one. Dropping it asks BlueZ to remove it, but
        // does not wait for that.
        self.registered = None;
        sleep(SECOND_ATTEMPT_DELAY).await;
        let Err(refusal) = self.register_once(&advertisement).await? else { return Ok(()) };
        if !with_answer_timeout(self.adapter.is_powered()).await?.unwrap_or(true) {
            return Err(power_off_fault(&self.adapter));
        }
        let is_accepted = self.limits.accept_refusal(self.start.elapsed());
        if is_accepted && !connected_phones(&self.adapter).await?.is_empty() {
            // Not every controller can advertise while a phone is connected. The registration is
            // repeated, also when the phone has left.
            tracing::debug!(%refusal, "the advertisement was refused while a phone is connected");
            return Ok(());
        }
        Err(RadioFault::of(&refusal, self.adapter.name(), "advertising"))
    }

    /// Makes one attempt: the inner error is BlueZ's refusal.
    async fn register_once(
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
        let registered = with_answer_timeout(registering).await?;
        Ok(registered.map(|handle| {
            let session = Arc::clone(&registrar);
            self.registered = Some(RegisteredAdvertisement { _handle: handle, _session: session });
            self.registrar = Some(registrar);
            self.limits.record_advertising();
        }))
    }

    /// Checks that the adapter is on and that BlueZ counts the advertisement as active.
    async fn check(&mut self) -> Result<(), RadioFault> {
        let name = self.adapter.name().to_owned();
        let fault = |error| {
            let fault = RadioFault::of(&error, &name, "checking the adapter");
            // The object has lost its interface: the adapter was removed.
            if matches!(fault, RadioFault::AdvertisingUnsupported(_)) {
                RadioFault::NoAdapter
            } else {
                fault
            }
        };
        if !with_answer_timeout(self.adapter.is_powered()).await?.map_err(fault)? {
            return Err(power_off_fault(&self.adapter));
        }
        let active = with_answer_timeout(self.adapter.active_advertising_instances()).await?;
        // If none is registered, the controller had no room for one beside a connection.
        if active.map_err(fault)? == 0 && self.registered.is_some() {
            self.replace_lost_advertisement().await?;
        }
        Ok(())
    }

    async fn replace_lost_advertisement(&mut self) -> Result<(), RadioFault> {
        let previous = self.lost_at.replace(Instant::now());
        if previous.is_some_and(|previous| previous.elapsed() < LOSS_INTERVAL_MIN) {
            return Err(RadioFault::AdvertisementLost(self.adapter.name().to_owned()));
        }
        let reason = "BlueZ no longer has this terminal's advertisement".into();
        let _ = self
            .events
            .send(LinkEvent::Recovering { action: RecoveryAction::RestartAdvertising, reason })
            .await;
        self.registered = None;
        self.register().await
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
