//! Keeps one advertisement on the air, at the pace that is asked for, and looks after it and the adapter.
//!
//! A task of its own: BlueZ takes its time over an advertisement, and phones that are connected must not feel it.
//!
//! BlueZ has no way to change an advertisement's interval, so it is registered anew. The new one goes up before the old
//! one comes down, so that a phone that is looking never finds nothing; where the controller has room for one only,
//! the old one goes first.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bluer::adv::{Advertisement, AdvertisementHandle, Type};
use bluer::{Adapter, Uuid};
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::fault::RadioFault;
use crate::domain::TerminalId;
use crate::protocol::{SERVICE_UUID, advertised_name};
use crate::terminal::AdvertisingPace;

/// How often the adapter and the advertisement are looked at, in milliseconds.
const CHECK_INTERVAL_MS: u64 = 2_000;
/// How long after a phone's leaving the advertisement is put up anew, in milliseconds: several leave together at times.
const RENEW_DELAY_MS: u64 = 200;
/// How long BlueZ gets to take an advertisement down before the next attempt, in milliseconds.
const TAKE_DOWN_MS: u64 = 200;
/// How long BlueZ gets to answer, in milliseconds. It answers within a few, or hangs.
const ANSWER_TIMEOUT_MS: u64 = 5_000;

/// The task that advertises. Dropping it takes the advertisement down.
pub(super) struct Advertising {
    pace: watch::Sender<AdvertisingPace>,
    renew: Arc<Notify>,
    fault: oneshot::Receiver<RadioFault>,
    task: JoinHandle<()>,
}

impl Advertising {
    /// Returns once phones can find the terminal.
    pub(super) async fn start(
        adapter: Adapter,
        terminal_id: TerminalId,
        pace: AdvertisingPace,
    ) -> Result<Self, RadioFault> {
        let (pace, pace_asked) = watch::channel(pace);
        let renew = Arc::new(Notify::new());
        let (failed, fault) = oneshot::channel();
        let mut advertiser = Advertiser { adapter, terminal_id, pace: pace_asked, handle: None };
        advertiser.put_up().await?;
        let renewed = Arc::clone(&renew);
        let task = tokio::spawn(async move {
            let fault = advertiser.run(&renewed).await;
            let _ = failed.send(fault);
        });
        Ok(Self { pace, renew, fault, task })
    }

    pub(super) fn pace(&self) -> AdvertisingPace {
        *self.pace.borrow()
    }

    /// Advertises at this pace from now on.
    pub(super) fn set_pace(&self, pace: AdvertisingPace) {
        self.pace.send_if_modified(|known| std::mem::replace(known, pace) != pace);
    }

    /// Puts the advertisement up anew soon: after a connection it may have vanished without a word (bluez issues 12, 644
    /// and 1015).
    pub(super) fn renew(&self) {
        self.renew.notify_one();
    }

    /// When it cannot go on. Cancel-safe; not to be called again after it has returned.
    pub(super) async fn failed(&mut self) -> RadioFault {
        (&mut self.fault).await.unwrap_or(RadioFault::BlueZChanged)
    }
}

impl Drop for Advertising {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Advertiser {
    adapter: Adapter,
    terminal_id: TerminalId,
    pace: watch::Receiver<AdvertisingPace>,
    handle: Option<AdvertisementHandle>,
}

impl Advertiser {
    async fn run(&mut self, renew: &Notify) -> RadioFault {
        loop {
            if let Err(fault) = self.look_after(renew).await {
                return fault;
            }
        }
    }

    async fn look_after(&mut self, renew: &Notify) -> Result<(), RadioFault> {
        let mut check = interval(Duration::from_millis(CHECK_INTERVAL_MS));
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        check.reset();
        loop {
            tokio::select! {
                changed = self.pace.changed() => match changed {
                    Ok(()) => self.put_up().await?,
                    // The service is being dropped, and this task with it.
                    Err(_) => std::future::pending().await,
                },
                () = renew.notified() => {
                    sleep(Duration::from_millis(RENEW_DELAY_MS)).await;
                    self.put_up().await?;
                }
                _ = check.tick() => self.check().await?,
            }
        }
    }

    async fn put_up(&mut self) -> Result<(), RadioFault> {
        let advertisement = advertisement(&self.terminal_id, *self.pace.borrow_and_update());
        let fault = |error| RadioFault::of(&error, self.adapter.name(), "advertising");
        let handle = match in_time(self.adapter.advertise(advertisement.clone())).await? {
            Ok(handle) => handle,
            Err(error) if self.handle.is_none() => return Err(fault(error)),
            Err(_) => {
                self.handle = None;
                // Dropping the handle asks BlueZ to take it down, but does not wait for it.
                sleep(Duration::from_millis(TAKE_DOWN_MS)).await;
                in_time(self.adapter.advertise(advertisement)).await?.map_err(fault)?
            }
        };
        self.handle = Some(handle);
        Ok(())
    }

    /// Looks whether the adapter is on and the advertisement there.
    async fn check(&mut self) -> Result<(), RadioFault> {
        let name = self.adapter.name().to_owned();
        let fault = |error| {
            let fault = RadioFault::of(&error, &name, "looking after the adapter");
            // The object has lost its interface: the adapter was taken away.
            if matches!(fault, RadioFault::NoAdvertising(_)) { RadioFault::NoAdapter } else { fault }
        };
        if !in_time(self.adapter.is_powered()).await?.map_err(fault)? {
            return Err(RadioFault::PoweredOff(name));
        }
        if in_time(self.adapter.active_advertising_instances()).await?.map_err(fault)? == 0 {
            tracing::info!("the advertisement had vanished; it is put up anew");
            self.put_up().await?;
        }
        Ok(())
    }
}

async fn in_time<T>(question: impl Future<Output = T>) -> Result<T, RadioFault> {
    timeout(Duration::from_millis(ANSWER_TIMEOUT_MS), question)
        .await
        .map_err(|_| RadioFault::NoBlueZ(format!("no answer within {ANSWER_TIMEOUT_MS} ms")))
}

/// Flags and the service's UUID fill 21 of a legacy packet's 31 octets; BlueZ puts the name into the scan response.
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
