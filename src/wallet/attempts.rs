//! Pays over links that may fail: tries again where nothing was sent, asks where something was.
//!
//! How to reach the terminal is the connector's business.

use std::sync::Arc;
use std::time::Duration;

use rand::TryRngCore;
use rand::rngs::OsRng;

use super::{
    Card, DriverSettings, PaymentRecord, PaymentStatus, PaymentStore, Person, Reported, SessionEnd,
    SessionSeed, StoreError, drive,
};
use crate::link::PhoneLink;

/// How often a payment is tried where no command was sent. Radios fail often enough that one try is
/// too few; after three a person has to look.
pub const PAY_ATTEMPTS_MAX: u32 = 3;
/// How often the result is asked for at once after the connection was lost.
pub const ASK_ATTEMPTS_MAX: u32 = 3;
/// How long to wait between two connections, in milliseconds: some stacks need a moment to see that
/// one has ended.
pub const PAUSE_MS: u64 = 500;

/// Makes connections to one terminal.
pub trait Connector: Send {
    /// What it makes.
    type Link: PhoneLink;
    /// Why it cannot.
    type Error: std::error::Error + Send;

    /// A connected and subscribed link.
    fn connect(&mut self) -> impl Future<Output = Result<Self::Link, Self::Error>> + Send;
}

/// Pays once.
///
/// Connects and pays; tries again as long as nothing was sent and the fault may go away by itself.
/// Where the connection was lost after the command, it connects again and asks for the result,
/// unless the settings say to vanish.
///
/// # Errors
/// The connector's, where not even the first connection came about.
pub async fn pay<C: Connector>(
    connector: &mut C,
    card: Arc<Card>,
    settings: DriverSettings,
    store: &mut dyn PaymentStore,
    person: &mut dyn Person,
) -> Result<Reported, C::Error> {
    let mut reported = run(connector.connect().await?, &card, None, &settings, store, person).await;
    for _ in 1..PAY_ATTEMPTS_MAX {
        if !reported.end.may_retry() {
            break;
        }
        pause().await;
        let Ok(link) = connector.connect().await else { break };
        reported = run(link, &card, None, &settings, store, person).await;
    }
    if settings.vanish_after_command {
        return Ok(reported);
    }
    let Some(record) = record_to_ask_about(&reported, &settings, store) else {
        return Ok(in_view_of_earlier(reported, &settings, store));
    };
    for _ in 0..ASK_ATTEMPTS_MAX {
        pause().await;
        let Ok(link) = connector.connect().await else { continue };
        let asked = run(link, &card, Some(record.clone()), &settings, store, person).await;
        if asked.end.is_an_answer() {
            reported.end = asked.end;
            reported.store_error = asked.store_error;
            break;
        }
    }
    Ok(in_view_of_earlier(reported, &settings, store))
}

/// Where the link's payment was ordered before and was not offered again, its end is the earlier
/// order's.
fn in_view_of_earlier(
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
/// The connector's, where no connection came about.
pub async fn ask<C: Connector>(
    connector: &mut C,
    card: Arc<Card>,
    record: PaymentRecord,
    settings: DriverSettings,
    store: &mut dyn PaymentStore,
    person: &mut dyn Person,
) -> Result<Reported, C::Error> {
    let mut reported =
        run(connector.connect().await?, &card, Some(record.clone()), &settings, store, person)
            .await;
    for _ in 1..ASK_ATTEMPTS_MAX {
        if !reported.end.may_retry() {
            break;
        }
        pause().await;
        let Ok(link) = connector.connect().await else { break };
        reported = run(link, &card, Some(record.clone()), &settings, store, person).await;
    }
    reported.end = reported.end.given_earlier(record.status);
    Ok(reported)
}

async fn run<L: PhoneLink>(
    link: L,
    card: &Arc<Card>,
    record: Option<PaymentRecord>,
    settings: &DriverSettings,
    store: &mut dyn PaymentStore,
    person: &mut dyn Person,
) -> Reported {
    let mut octets = [0; 65];
    if let Err(error) = OsRng.try_fill_bytes(&mut octets) {
        let mut link = link;
        link.disconnect().await;
        let store_error =
            Some(StoreError::Other(format!("the system gives no random numbers: {error}")));
        return Reported { end: SessionEnd::StoreFailed, offer: None, store_error };
    }
    let seed = SessionSeed::from_random(&octets);
    drive(link, Arc::clone(card), record, settings.clone(), seed, store, person).await
}

async fn pause() {
    tokio::time::sleep(Duration::from_millis(PAUSE_MS)).await;
}

/// The record of the payment that is to be asked about, where it is pending.
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
