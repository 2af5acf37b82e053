//! Pays over links that may fail: tries again if nothing was sent, asks for the result if something
//! was. The connector knows how to reach the terminal.

use std::sync::Arc;
use std::time::Duration;

use rand::TryRngCore;
use rand::rngs::OsRng;

use tokio::time::Instant;

use super::{
    Card, Cardholder, DriverSettings, LinkFault, NotPaid, PaymentRecord, PaymentStatus,
    PaymentStore, Reported, SessionEnd, SessionSeed, StoreError, drive,
};
use crate::link::PhoneLink;
use crate::protocol::WireError;

/// How often a payment is tried if no command was sent. Radios fail often enough that one attempt
/// is too few; after three a person has to look. A terminal without room is tried more often, see
/// [`DriverSettings::busy_wait_ms`].
pub const PAY_ATTEMPTS_MAX: u32 = 3;
/// How often the result is asked for after the connection was lost.
pub const ASK_ATTEMPTS_MAX: u32 = 3;
/// The first and the longest pause before a terminal without room is tried again, in milliseconds.
/// It doubles each time.
const BUSY_PAUSES_MS: (u64, u64) = (250, 4_000);
/// How long to wait between two connections, in milliseconds: some Bluetooth stacks take a moment
/// to notice that one has ended.
pub const PAUSE_MS: u64 = 500;

/// Makes connections to one terminal.
pub trait Connector: Send {
    type Link: PhoneLink;
    type Error: std::error::Error + Send;

    /// Makes a connected and subscribed link.
    fn connect(&mut self) -> impl Future<Output = Result<Self::Link, Self::Error>> + Send;
}

/// Pays once.
///
/// Connects and pays; tries again as long as nothing was sent and the fault may be transient. If
/// the connection is lost after the command, it connects again and asks for the result, unless
/// `vanish_after_command` is set.
///
/// # Errors
/// The connector's, if the first connection fails.
pub async fn pay<C: Connector>(
    connector: &mut C,
    card: Arc<Card>,
    settings: DriverSettings,
    store: &mut dyn PaymentStore,
    cardholder: &mut dyn Cardholder,
) -> Result<Reported, C::Error> {
    let mut reported =
        run(connector.connect().await?, &card, None, &settings, store, cardholder).await;
    let mut attempts = Attempts::new(PAY_ATTEMPTS_MAX, &settings);
    while attempts.may_go_on(&reported).await {
        let Ok(link) = connector.connect().await else { continue };
        reported = run(link, &card, None, &settings, store, cardholder).await;
    }
    if settings.vanish_after_command {
        return Ok(reported);
    }
    let Some(record) = record_to_ask_about(&reported, &settings, store) else {
        return Ok(with_earlier_order(reported, &settings, store));
    };
    for _ in 0..ASK_ATTEMPTS_MAX {
        pause().await;
        let Ok(link) = connector.connect().await else { continue };
        let asked = run(link, &card, Some(record.clone()), &settings, store, cardholder).await;
        if asked.end.is_an_answer() {
            reported.end = asked.end;
            reported.store_error = asked.store_error;
            break;
        }
    }
    Ok(with_earlier_order(reported, &settings, store))
}

/// If the engagement link's payment was ordered before and was not offered again, its end is that
/// of the earlier order.
fn with_earlier_order(
    mut reported: Reported,
    settings: &DriverSettings,
    store: &dyn PaymentStore,
) -> Reported {
    let transaction_id = settings.session.link.as_ref().and_then(|link| link.transaction_id);
    if let (None, Some(transaction_id)) = (&reported.offer, transaction_id)
        && let Ok(Some(record)) = store.record(&transaction_id)
    {
        reported.end = reported.end.given_earlier(record.status);
    }
    reported
}

/// Asks for the result of an earlier command.
///
/// # Errors
/// The connector's, if the first connection fails.
pub async fn ask<C: Connector>(
    connector: &mut C,
    card: Arc<Card>,
    record: PaymentRecord,
    settings: DriverSettings,
    store: &mut dyn PaymentStore,
    cardholder: &mut dyn Cardholder,
) -> Result<Reported, C::Error> {
    let mut reported =
        run(connector.connect().await?, &card, Some(record.clone()), &settings, store, cardholder)
            .await;
    let mut attempts = Attempts::new(ASK_ATTEMPTS_MAX, &settings);
    while attempts.may_go_on(&reported).await {
        let Ok(link) = connector.connect().await else { continue };
        reported = run(link, &card, Some(record.clone()), &settings, store, cardholder).await;
    }
    reported.end = reported.end.given_earlier(record.status);
    Ok(reported)
}

/// How often it was tried, and until when a terminal without room is tried.
struct Attempts {
    made: u32,
    attempts_max: u32,
    busy_until: Instant,
}

impl Attempts {
    /// The first is made.
    fn new(attempts_max: u32, settings: &DriverSettings) -> Self {
        let busy_until = Instant::now() + Duration::from_millis(settings.busy_wait_ms);
        Self { made: 1, attempts_max, busy_until }
    }

    /// Whether to try once more. If so, waits for the pause before that.
    async fn may_go_on(&mut self, reported: &Reported) -> bool {
        let pause_ms = if found_no_room(reported) {
            busy_pause_ms(self.made, OsRng.try_next_u64().unwrap_or(u64::MAX))
        } else {
            PAUSE_MS
        };
        let pause = Duration::from_millis(pause_ms);
        let is_in_time = found_no_room(reported) && Instant::now() + pause <= self.busy_until;
        if !reported.end.may_retry() || !(is_in_time || self.made < self.attempts_max) {
            return false;
        }
        self.made = self.made.saturating_add(1);
        tokio::time::sleep(pause).await;
        true
    }
}

/// The terminal had no room, or may have had none: a phone that is sent away before it has said
/// hello may hear no reason.
fn found_no_room(reported: &Reported) -> bool {
    let is_turned_away = matches!(
        reported.end,
        SessionEnd::NotPaid(NotPaid::Terminal(WireError::Busy))
            | SessionEnd::LinkFailed(LinkFault::Lost)
    );
    is_turned_away && reported.offer.is_none()
}

/// The pause after so many attempts: a random one in the upper half, so that the phones at one
/// terminal do not come back in step.
fn busy_pause_ms(attempts: u32, random: u64) -> u64 {
    let (min_ms, max_ms) = BUSY_PAUSES_MS;
    let half_ms = (min_ms << attempts.saturating_sub(1).min(10)).min(max_ms) / 2;
    half_ms + random % (half_ms + 1)
}

async fn run<L: PhoneLink>(
    link: L,
    card: &Arc<Card>,
    record: Option<PaymentRecord>,
    settings: &DriverSettings,
    store: &mut dyn PaymentStore,
    cardholder: &mut dyn Cardholder,
) -> Reported {
    let mut octets = [0; 65];
    if let Err(error) = OsRng.try_fill_bytes(&mut octets) {
        let mut link = link;
        link.disconnect().await;
        let store_error =
            Some(StoreError(format!("the system gives no random numbers: {error}").into()));
        return Reported { end: SessionEnd::StoreFailed, offer: None, store_error };
    }
    let seed = SessionSeed::from_random(&octets);
    drive(link, Arc::clone(card), record, settings.clone(), seed, store, cardholder).await
}

async fn pause() {
    tokio::time::sleep(Duration::from_millis(PAUSE_MS)).await;
}

/// The record of the payment to ask about, if it is pending.
fn record_to_ask_about(
    reported: &Reported,
    settings: &DriverSettings,
    store: &dyn PaymentStore,
) -> Option<PaymentRecord> {
    let offered = reported.offer.as_ref().map(|view| view.offer.transaction_id());
    let linked = settings.session.link.as_ref().and_then(|link| link.transaction_id);
    let transaction_id = reported.end.to_ask_about(offered, linked)?;
    let record = store.record(&transaction_id).ok()??;
    (record.status == PaymentStatus::Pending).then_some(record)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pauses_before_a_terminal_without_room_is_tried_again_grow_and_differ() {
        let bounds = |attempts| (busy_pause_ms(attempts, 0), busy_pause_ms(attempts, u64::MAX / 2));
        for (attempts, half_ms) in [(1, 125), (2, 250), (3, 500), (5, 2_000), (6, 2_000)] {
            let (least_ms, other_ms) = bounds(attempts);
            assert_eq!(least_ms, half_ms);
            assert!(other_ms > least_ms && other_ms <= 2 * half_ms, "{other_ms}");
        }
        assert_eq!(busy_pause_ms(u32::MAX, 0), 2_000);
    }
}
