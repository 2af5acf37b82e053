//! The phone's side of a payment, on the emulated link.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use florin::domain::{HolderVerification, TransactionId};
use florin::link::{EmulatedAir, EmulatedPhoneLink, PhoneLinkError, Traffic};
use florin::service::wall_clock;
use florin::wallet::{
    Card, Connector, DirectoryStore, DriverSettings, PaymentStore, Reported, SessionSettings,
};

use super::event::Story;
use super::silent_proxy::SilentProxy;
use super::storyteller::Storyteller;

/// The ATT MTU of the emulated connection: what Android asks for and BlueZ grants.
const ATT_MTU: usize = 517;

/// A phone with a card, and where it keeps its payments.
pub(super) struct Phone {
    pub(super) card: Arc<Card>,
    pub(super) store: DirectoryStore,
    pub(super) air: EmulatedAir,
    pub(super) story: Story,
}

/// What the phone saw of a payment.
pub(super) struct Paid {
    pub(super) transaction_id: TransactionId,
    pub(super) reported: Reported,
    pub(super) traffic: Arc<Traffic>,
    pub(super) round_trips: u32,
    pub(super) hello_to_result: Option<Duration>,
}

impl Phone {
    /// Pays what is offered. `silence` is the way to the institution where its answers are lost.
    pub(super) async fn pay(
        &mut self,
        transaction_id: TransactionId,
        silence: Option<&SilentProxy>,
    ) -> anyhow::Result<Paid> {
        let mut connector = EmulatedConnector { air: self.air.clone(), traffic: None };
        let mut person = Storyteller::new(self.story.clone(), silence.cloned());
        let (card, settings) = (Arc::clone(&self.card), settings());
        let store = &mut self.store;
        let reported =
            florin::wallet::pay(&mut connector, card, settings, store, &mut person).await?;
        Ok(Paid {
            transaction_id,
            reported,
            traffic: connector.traffic.context("the phone never connected")?,
            round_trips: person.round_trips(),
            hello_to_result: person.hello_to_result(),
        })
    }

    /// Asks on a new connection what became of the payment.
    pub(super) async fn ask_again(&mut self, paid: &mut Paid) -> anyhow::Result<()> {
        let record = self
            .store
            .record(&paid.transaction_id)?
            .context("the phone has no record of its payment")?;
        let mut connector = EmulatedConnector { air: self.air.clone(), traffic: None };
        let mut person = Storyteller::new(self.story.clone(), None);
        let (card, settings) = (Arc::clone(&self.card), settings());
        let store = &mut self.store;
        let asked =
            florin::wallet::ask(&mut connector, card, record, settings, store, &mut person).await?;
        paid.reported.end = asked.end;
        Ok(())
    }
}

fn settings() -> DriverSettings {
    let session = SessionSettings {
        value_octets_max: ATT_MTU - 3,
        link: None,
        short_code: None,
        limit: None,
        offer_wait_ms: 10_000,
        holder_verification: HolderVerification::Consent,
        wall_clock: wall_clock(),
    };
    DriverSettings { session, busy_wait_ms: 30_000, vanish_after_command: false }
}

/// Connects over the emulated air.
struct EmulatedConnector {
    air: EmulatedAir,
    traffic: Option<Arc<Traffic>>,
}

impl Connector for EmulatedConnector {
    type Link = EmulatedPhoneLink;
    type Error = PhoneLinkError;

    async fn connect(&mut self) -> Result<EmulatedPhoneLink, PhoneLinkError> {
        let link = self.air.connect(ATT_MTU).await?;
        self.traffic = Some(link.traffic());
        Ok(link)
    }
}
