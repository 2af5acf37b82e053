//! Pays over links that may fail: tries again if nothing was sent, asks for the result if something
//! was. The connector knows how to reach the terminal.

use std::sync::Arc;
use std::time::Duration;

use rand::TryRngCore;
use rand::rngs::OsRng;

use super::{
    Card, Cardholder, DriverSettings, PaymentRecord, PaymentStore, Reported, SessionEnd,
    SessionSeed, StoreError, drive,
};
use crate::link::PhoneLink;

/// How often a payment is tried if no command was sent. Radios fail often enough that one attempt
/// is too few; after three a person has to look.
pub const PAY_ATTEMPTS_MAX: u32 = 3;
/// How often the result is asked for after the connection was lost.
pub const ASK_ATTEMPTS_MAX: u32 = 3;
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
    for _ in 1..PAY_ATTEMPTS_MAX {
        if !reported.end.may_retry() {
            break;
        }
        pause().await;
        let Ok(link) = connector.connect().await else { break };
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
    for _ in 1..ASK_ATTEMPTS_MAX {
        if !reported.end.may_retry() {
            break;
        }
        pause().await;
        let Ok(link) = connector.connect().await else { break };
        reported = run(link, &card, Some(record.clone()), &settings, store, cardholder).await;
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
    cardholder: &mut dyn Cardholder,
) -> Reported {
    let mut octets = [0; SessionSeed::OCTETS];
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

/// The record of the payment to ask about, if it is open.
fn record_to_ask_about(
    reported: &Reported,
    settings: &DriverSettings,
    store: &dyn PaymentStore,
) -> Option<PaymentRecord> {
    let offered = reported.offer.as_ref().map(|view| view.offer.transaction_id());
    let linked = settings.session.link.as_ref().and_then(|link| link.transaction_id);
    let transaction_id = reported.end.to_ask_about(offered, linked)?;
    let record = store.record(&transaction_id).ok()??;
    record.is_open().then_some(record)
}
