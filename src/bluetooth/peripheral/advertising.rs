//! Keeps one advertisement on the air, at the pace that is asked for.
//!
//! BlueZ has no way to change an advertisement's interval, so it is registered anew. The new one goes up before the old
//! one comes down, so that a phone that is looking never finds nothing; where the controller has room for one only,
//! the old one goes first.

use std::collections::BTreeSet;
use std::time::Duration;

use bluer::adv::{Advertisement, AdvertisementHandle, Type};
use bluer::{Adapter, Uuid};
use tokio::time::sleep;

use super::fault::RadioFault;
use crate::domain::TerminalId;
use crate::protocol::{SERVICE_UUID, advertised_name};
use crate::terminal::AdvertisingPace;

/// How long BlueZ gets to take an advertisement down before the next attempt, in milliseconds.
const TAKE_DOWN_MS: u64 = 200;

/// The advertisement that is on the air.
pub(super) struct Advertising {
    terminal_id: TerminalId,
    pace: AdvertisingPace,
    handle: Option<AdvertisementHandle>,
}

impl Advertising {
    pub(super) async fn start(
        adapter: &Adapter,
        terminal_id: TerminalId,
        pace: AdvertisingPace,
    ) -> Result<Self, RadioFault> {
        let mut advertising = Self { terminal_id, pace, handle: None };
        advertising.renew(adapter).await?;
        Ok(advertising)
    }

    pub(super) fn pace(&self) -> AdvertisingPace {
        self.pace
    }

    /// Advertises at this pace from now on.
    pub(super) async fn set_pace(
        &mut self,
        adapter: &Adapter,
        pace: AdvertisingPace,
    ) -> Result<(), RadioFault> {
        if self.pace == pace {
            return Ok(());
        }
        self.pace = pace;
        self.renew(adapter).await
    }

    /// Puts the advertisement up anew: after a connection it may have vanished without a word (bluez issues 12, 644 and
    /// 1015).
    pub(super) async fn renew(&mut self, adapter: &Adapter) -> Result<(), RadioFault> {
        let fault = |error| RadioFault::of(&error, adapter.name(), "advertising");
        let first = adapter.advertise(advertisement(&self.terminal_id, self.pace)).await;
        let handle = match first {
            Ok(handle) => handle,
            Err(error) if self.handle.is_none() => return Err(fault(error)),
            Err(_) => {
                self.handle = None;
                // Dropping the handle asks BlueZ to take it down, but does not wait for it.
                sleep(Duration::from_millis(TAKE_DOWN_MS)).await;
                adapter.advertise(advertisement(&self.terminal_id, self.pace)).await.map_err(fault)?
            }
        };
        self.handle = Some(handle);
        Ok(())
    }
}

/// Flags and the service's UUID fill 21 of a legacy packet's 31 octets; BlueZ puts the name into the scan response.
fn advertisement(terminal_id: &TerminalId, pace: AdvertisingPace) -> Advertisement {
    let (min_interval_ms, max_interval_ms) = match pace {
        AdvertisingPace::Fast => (20, 100),
        AdvertisingPace::Slow => (1_000, 1_200),
    };
    Advertisement {
        advertisement_type: Type::Peripheral,
        service_uuids: BTreeSet::from([Uuid::from_u128(SERVICE_UUID)]),
        local_name: Some(advertised_name(terminal_id)),
        discoverable: Some(true),
        min_interval: Some(Duration::from_millis(min_interval_ms)),
        max_interval: Some(Duration::from_millis(max_interval_ms)),
        ..Advertisement::default()
    }
}
