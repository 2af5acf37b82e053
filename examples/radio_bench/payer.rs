//! A phone that pays whatever the till offers, and a till that offers: one payment at a time, as
//! fast as they can.

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

/// What went over the air one way and then the other, in octets of values.
#[derive(Debug, Clone, Copy)]
pub struct Trip {
    /// From the phone.
    pub up: usize,
    /// To the phone.
    pub down: usize,
    /// When the phone began to write, and when it had the whole answer: since the link was
    /// subscribed.
    pub times: [Duration; 2],
}

/// One wallet before one machine.
pub struct Payer {
    card: Arc<Card>,
    store: DirectoryStore,
    till: TillClient,
}

impl Payer {
    /// With the one card of the wallet's directory.
    pub fn open(directory: &Path, till: TillAddress) -> anyhow::Result<Self> {
        let directory = WalletDirectory::open(directory)?;
        let name = directory.card_names()?.pop().context("there is no card")?;
        let card = Arc::new(directory.card(&name)?);
        Ok(Self { card, store: directory.store(&name), till: TillClient::new(till) })
    }

    /// Offers and pays once over a link that is subscribed: how long it took from there to the
    /// result.
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
            vanish_after_command: false,
        };
        let mut octets = [0; 65];
        rand::rngs::OsRng.try_fill_bytes(&mut octets)?;
        let mut watch =
            Watch { begin: Instant::now(), result_after: None, trips: Vec::new(), is_up: false };
        let seed = SessionSeed::from_random(&octets);
        let card = Arc::clone(&self.card);
        let reported = drive(link, card, None, settings, seed, &mut self.store, &mut watch).await;
        let Some(duration) = watch.result_after.filter(|_| reported.end.name() == "approved")
        else {
            bail!(
                "payment {} ended as {}: {}",
                offered.transaction_id,
                reported.end.name(),
                reported.end.message()
            );
        };
        Ok((duration, watch.trips))
    }
}

/// Says yes, and looks at the clock.
struct Watch {
    begin: Instant,
    result_after: Option<Duration>,
    trips: Vec<Trip>,
    is_up: bool,
}

impl Cardholder for Watch {
    fn tell(&mut self, notice: &Notice) {
        if self.result_after.is_some() {
            return;
        }
        match notice {
            Notice::MessageSent { octets, .. } => {
                if !self.is_up {
                    let now = self.begin.elapsed();
                    self.trips.push(Trip { up: 0, down: 0, times: [now, now] });
                }
                self.is_up = true;
                if let Some(trip) = self.trips.last_mut() {
                    trip.up += octets;
                }
            }
            Notice::MessageReceived { message, octets } => {
                self.is_up = false;
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
