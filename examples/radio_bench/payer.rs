//! A till that makes an offer, and a phone that pays it: one payment at a time, as fast as
//! possible.

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use florin::domain::HolderVerification;
use florin::link::PhoneLink;
use florin::service::wall_clock;
use florin::till::{NewPayment, TillAddress, TillClient};
use florin::wallet::{
    Card, Cardholder, Decision, DirectoryStore, DriverSettings, Notice, OfferView, SessionSeed,
    SessionSettings, WalletDirectory, drive,
};
use rand::TryRngCore;
use tokio::time::Instant;

/// A request of the phone and the answer to it, in octets of values.
#[derive(Debug, Clone, Copy)]
pub struct Trip {
    /// Octets from the phone.
    pub up: usize,
    /// Octets to the phone.
    pub down: usize,
    /// When the phone began to write, and when it had the whole answer, both since the wallet got
    /// the subscribed link.
    pub times: [Duration; 2],
}

/// One wallet with its card, and the till of the machine that it pays at.
pub struct Payer {
    card: Arc<Card>,
    store: DirectoryStore,
    till: TillClient,
}

impl Payer {
    /// Opens the wallet in this directory, which has one card.
    pub fn open(directory: &Path, till: TillAddress) -> anyhow::Result<Self> {
        let directory = WalletDirectory::open(directory)?;
        let name = directory.card_names()?.pop().context("there is no card")?;
        let card = Arc::new(directory.card(&name)?);
        Ok(Self { card, store: directory.store(&name), till: TillClient::new(till) })
    }

    /// Makes an offer and pays it over a link that is subscribed. Returns how long the payment took
    /// from there to the result, and its trips.
    pub async fn pay(&mut self, link: impl PhoneLink) -> anyhow::Result<(Duration, Vec<Trip>)> {
        let payment = NewPayment {
            amount_minor: 1,
            currency: "EUR".into(),
            reference: "bench".into(),
            items: Vec::new(),
            capture: "at_once",
            valid_for_s: None,
        };
        let (offered, _) = self.till.create(&payment, None).await?;
        let settings = DriverSettings {
            session: SessionSettings {
                value_octets_max: 0,
                link: None,
                short_code: None,
                limit: None,
                offer_wait_ms: 10_000,
                holder_verification: HolderVerification::None,
                wall_clock: wall_clock(),
            },
            busy_wait_ms: 0,
            vanish_after_command: false,
        };
        let mut octets = [0; 65];
        rand::rngs::OsRng.try_fill_bytes(&mut octets)?;
        let mut stopwatch = Stopwatch {
            begin: Instant::now(),
            result_after: None,
            trips: Vec::new(),
            is_sending: false,
        };
        let seed = SessionSeed::from_random(&octets);
        let card = Arc::clone(&self.card);
        let reported =
            drive(link, card, None, settings, seed, &mut self.store, &mut stopwatch).await;
        let Some(duration) = stopwatch.result_after.filter(|_| reported.end.name() == "approved")
        else {
            bail!(
                "payment {} ended as {}: {}",
                offered.transaction_id,
                reported.end.name(),
                reported.end.message()
            );
        };
        Ok((duration, stopwatch.trips))
    }
}

/// Consents to every offer, and records the time of each message.
struct Stopwatch {
    begin: Instant,
    result_after: Option<Duration>,
    trips: Vec<Trip>,
    is_sending: bool,
}

impl Cardholder for Stopwatch {
    fn tell(&mut self, notice: &Notice) {
        if self.result_after.is_some() {
            return;
        }
        match notice {
            Notice::MessageSent { octets, .. } => {
                if !self.is_sending {
                    let now = self.begin.elapsed();
                    self.trips.push(Trip { up: 0, down: 0, times: [now, now] });
                }
                self.is_sending = true;
                if let Some(trip) = self.trips.last_mut() {
                    trip.up += octets;
                }
            }
            Notice::MessageReceived { message, octets } => {
                self.is_sending = false;
                if let Some(trip) = self.trips.last_mut() {
                    trip.down += octets;
                    trip.times[1] = self.begin.elapsed();
                }
                if *message == "result" {
                    self.result_after = Some(self.begin.elapsed());
                }
            }
            Notice::NothingToPay | Notice::CommandSent | Notice::Working | Notice::Pending => {}
        }
    }

    fn ask(&mut self, _: &OfferView) -> Pin<Box<dyn Future<Output = Decision> + Send>> {
        Box::pin(std::future::ready(Decision::Pay))
    }
}
