//! One payment with all parties in one process, without a radio: the institution with TLS on loopback,
//! the terminal with its journal, the wallet on the emulated link.
//!
//! All parts are the real ones but for the radio; the demo only sets them up, plays the till and
//! the person, and tells what it sees. Nothing else uses it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::{broadcast, oneshot};

use florin::domain::{Amount, HolderVerification, TransactionId, UnixTime};
use florin::journal::SqliteJournal;
use florin::link::{EmulatedAir, EmulatedPhoneLink, PhoneLinkError, Traffic};
use florin::service::{Driver, Front};
use florin::terminal::{PaymentRequest, PaymentState, PaymentView, Settings, TillRequest};
use florin::till::{TillCall, TillPort};
use florin::wallet::{
    Card, Connector, DirectoryStore, DriverSettings, PaymentStore, Reported, SessionEnd,
    SessionSettings,
};

use super::event::{self, Event, Story};
use super::observed_relay::ObservedRelay;
use super::parties::{self, Parties, Storyteller};
use super::silent_proxy::SilentProxy;

/// The ATT MTU of the emulated connection: what Android asks for and BlueZ grants.
const ATT_MTU: usize = 517;
/// How long the whole may take before the demo gives up: well over the time-outs of the silent
/// institution.
const TIMEOUT: Duration = Duration::from_secs(60);
/// How long an authorisation may take in the demo, in milliseconds; nobody wants to watch ten
/// seconds of silence.
const AUTHORISATION_TIMEOUT_MS: u64 = 1_500;

/// What is to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scenario {
    /// Everything goes well: approved, released, captured.
    Approved,
    /// There is not enough money in the account.
    Declined,
    /// The terminal shows the phone one amount and asks the institution for ten times as much.
    TamperedOffer,
    /// Somebody copied the card, and the copy pays with a counter that the card has used.
    StolenCounter,
    /// Approved, but the goods cannot be released.
    DispenseFailed,
    /// The institution decides, and its answer never arrives.
    InstitutionSilent,
}

/// What to play.
#[derive(Debug, Clone)]
pub struct DemoSettings {
    /// How much is paid.
    pub amount: Amount,
    /// What is to happen.
    pub scenario: Scenario,
    /// Where everything is kept; a temporary directory, gone afterwards, if none.
    pub directory: Option<PathBuf>,
}

/// Plays the payment and tells it step by step. Returns whether it went as the scenario says.
///
/// # Errors
/// What kept a party from starting, in words.
pub async fn run(settings: DemoSettings, story: Story) -> anyhow::Result<bool> {
    let temporary = match settings.directory {
        Some(_) => None,
        None => Some(temporary_directory()?),
    };
    let directory = settings
        .directory
        .clone()
        .or_else(|| temporary.as_ref().map(|temporary| temporary.0.clone()))
        .context("no directory to keep things in")?;
    let played = tokio::time::timeout(TIMEOUT, play(&settings, directory, &story)).await;
    played.context("the payment did not come to an end within a minute")?
}

async fn play(settings: &DemoSettings, directory: PathBuf, story: &Story) -> anyhow::Result<bool> {
    let scenario = settings.scenario;
    let parties = Parties::set_up(&directory, settings).await?;
    story.begin(settings.amount, scenario, &directory);

    let proxy = SilentProxy::start(parties.institution_address()).await?;
    let relay = parties.relay(proxy.address())?;
    // A terminal that waits has its connection; and what is to be lost in the silence is the
    // answer, not the way.
    relay.check_reachable().await?;
    let relay = ObservedRelay::new(relay, story.clone(), scenario == Scenario::TamperedOffer);
    let (air, link) = EmulatedAir::new();
    let (till, till_end) = TillPort::new();
    let engine_settings =
        Settings { authorisation_timeout_ms: AUTHORISATION_TIMEOUT_MS, ..Settings::default() };
    let journal_path = parties.journal_path();
    let (identity, journal) = (parties.identity(), SqliteJournal::open(&journal_path)?);
    let (stop, stopped) = oneshot::channel::<()>();
    let terminal = tokio::spawn(async move {
        let mut front = Front::new(link, till_end);
        let seed = parties::random();
        let driver =
            Driver::start(identity, engine_settings, seed, journal, Arc::new(relay), &mut front)
                .await?;
        driver
            .run(async {
                let _ = stopped.await;
            })
            .await
    });

    let (card, mut wallet) = parties.card(false)?;
    if scenario == Scenario::StolenCounter {
        // The holder pays first; then the thief, with a copy that was made before.
        let thief = parties.card(true)?;
        story.note("the card's holder pays");
        let held = pay(&till, &air, card, &mut wallet, settings, story, None).await?;
        settle(&till, held.transaction_id, true, story).await?;
        story.note("a thief pays with a copy of the card, made before: its counter is behind");
        story.restart();
        let (copy, mut thief) = thief;
        let paid = pay(&till, &air, copy, &mut thief, settings, story, None).await?;
        settle(&till, paid.transaction_id, true, story).await?;
        return finish(parties, settings, story, paid, terminal, stop, till).await;
    }
    let silence = (scenario == Scenario::InstitutionSilent).then_some(&proxy);
    let mut paid =
        pay(&till, &air, Arc::clone(&card), &mut wallet, settings, story, silence).await?;
    let ended =
        settle(&till, paid.transaction_id, scenario != Scenario::DispenseFailed, story).await?;
    if scenario == Scenario::DispenseFailed && ended.state.is_final() {
        story.note("the phone comes back and asks what became of its payment");
        ask_again(&air, card, &mut wallet, &mut paid, story).await?;
    }
    finish(parties, settings, story, paid, terminal, stop, till).await
}

/// What the person's side of a payment came to.
struct Paid {
    transaction_id: TransactionId,
    reported: Reported,
    traffic: Arc<Traffic>,
    round_trips: u32,
    hello_to_result: Option<Duration>,
}

/// One payment: the till offers, the phone pays.
async fn pay(
    till: &TillPort,
    air: &EmulatedAir,
    card: Arc<Card>,
    store: &mut DirectoryStore,
    settings: &DemoSettings,
    story: &Story,
    silence: Option<&SilentProxy>,
) -> anyhow::Result<Paid> {
    let mut updates = till.listen();
    let created = create(till, settings, story).await?;
    let transaction_id = created.transaction_id;
    if let Some(proxy) = silence {
        proxy.stop_answering();
        story.note("from here on, what the institution answers is lost on its way");
    }
    let mut connector = EmulatedConnector { air: air.clone(), traffic: None };
    let mut person = Storyteller::new(story.clone(), silence.cloned());
    let reported =
        florin::wallet::pay(&mut connector, card, wallet_settings(), store, &mut person).await?;
    drain(&mut updates, story);
    let traffic = connector.traffic.context("the phone never connected")?;
    Ok(Paid {
        transaction_id,
        reported,
        traffic,
        round_trips: person.round_trips(),
        hello_to_result: person.hello_to_result(),
    })
}

fn wallet_settings() -> DriverSettings {
    let session = SessionSettings {
        value_octets_max: ATT_MTU - 3,
        link: None,
        short_code: None,
        limit: None,
        offer_wait_ms: 10_000,
        holder_verification: HolderVerification::Consent,
        wall_clock: unix_time(),
    };
    DriverSettings { session, vanish_after_command: false }
}

/// The phone asks on a new connection.
async fn ask_again(
    air: &EmulatedAir,
    card: Arc<Card>,
    store: &mut DirectoryStore,
    paid: &mut Paid,
    story: &Story,
) -> anyhow::Result<()> {
    let record =
        store.record(&paid.transaction_id)?.context("the phone has no record of its payment")?;
    let mut connector = EmulatedConnector { air: air.clone(), traffic: None };
    let mut person = Storyteller::new(story.clone(), None);
    let asked =
        florin::wallet::ask(&mut connector, card, record, wallet_settings(), store, &mut person)
            .await?;
    paid.reported.end = asked.end;
    Ok(())
}

/// The books, and the summary.
async fn finish(
    parties: Parties,
    settings: &DemoSettings,
    story: &Story,
    paid: Paid,
    terminal: tokio::task::JoinHandle<Result<(), florin::service::DriverError>>,
    stop: oneshot::Sender<()>,
    till: TillPort,
) -> anyhow::Result<bool> {
    let transaction_id = paid.transaction_id;
    let ended = till.call(|answer| TillCall::Read { transaction_id, answer }).await??;
    let _ = stop.send(());
    terminal.await.context("the terminal's task failed")??;
    tell_receipt(&paid.reported, story);
    tell_journal(&parties, paid.transaction_id, story)?;
    let is_balanced = parties.close_and_tell_ledger(story).await?;

    let outcome =
        if ended.state == PaymentState::Captured { "approved" } else { ended.state.name() };
    let expected = match settings.scenario {
        Scenario::Approved => "approved",
        Scenario::Declined | Scenario::TamperedOffer | Scenario::StolenCounter => "declined",
        Scenario::DispenseFailed | Scenario::InstitutionSilent => "reversed",
    };
    story.tell(Event::Summary {
        scenario: settings.scenario.name(),
        outcome,
        reason: ended.state.reason(),
        wallet_outcome: paid.reported.end.name(),
        captured: ended.state == PaymentState::Captured,
        reversed: matches!(ended.state, PaymentState::Reversed(_)),
        ledger_balanced: is_balanced,
        round_trips: paid.round_trips,
        octets_to_phone: paid.traffic.octets_to_phone(),
        octets_to_terminal: paid.traffic.octets_to_terminal(),
        hello_to_result_ms: paid.hello_to_result.map(event::milliseconds),
        transaction_id: paid.transaction_id.to_string(),
    });
    Ok(outcome == expected && is_balanced)
}

async fn create(
    till: &TillPort,
    settings: &DemoSettings,
    story: &Story,
) -> anyhow::Result<PaymentView> {
    let request = TillRequest::Create(PaymentRequest {
        amount: settings.amount,
        reference: "demo".into(),
        items: Vec::new(),
        capture_after_dispense: true,
        valid_for_s: None,
        idempotency_key: None,
    });
    story.step(
        "till",
        "terminal",
        format!("offer {}, captured after the release", settings.amount),
        None,
    );
    loop {
        let request = request.clone();
        let view = till.call(|answer| TillCall::Request { request, answer }).await?;
        match view {
            // The emulated air takes a moment to be up.
            Err(florin::terminal::TillRefusal::OutOfService(_)) => tokio::task::yield_now().await,
            view => return Ok(view?),
        }
    }
}

/// Waits until the payment is final; releases the goods, or not, when told to.
async fn settle(
    till: &TillPort,
    transaction_id: TransactionId,
    dispensed: bool,
    story: &Story,
) -> anyhow::Result<PaymentView> {
    let mut updates = till.listen();
    let mut reported = false;
    loop {
        let view = till.call(|answer| TillCall::Read { transaction_id, answer }).await??;
        if view.state.is_final() {
            story.step("terminal", "till", event::told(&view), None);
            return Ok(view);
        }
        if view.state == PaymentState::Approved && !reported {
            reported = true;
            story.step("terminal", "till", "approved: release the goods".into(), None);
            let said = if dispensed {
                "the goods are released"
            } else {
                "the goods could not be released"
            };
            story.step("till", "terminal", said.into(), None);
            let request = TillRequest::Complete { transaction_id, dispensed };
            till.call(|answer| TillCall::Request { request, answer }).await??;
            continue;
        }
        match updates.recv().await {
            Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => anyhow::bail!("the terminal stopped"),
        }
    }
}

fn drain(updates: &mut broadcast::Receiver<PaymentView>, story: &Story) {
    while let Ok(view) = updates.try_recv() {
        if view.state == PaymentState::Unresolved {
            story.step("terminal", "till", "pending: do not release".into(), None);
        }
    }
}

fn tell_receipt(reported: &Reported, story: &Story) {
    let offer = reported.offer.as_ref().map(|view| &view.offer);
    story.tell(Event::Receipt {
        outcome: reported.end.name(),
        message: reported.end.message(),
        verified: reported.end.receipt().is_some(),
        merchant: offer.map(|offer| offer.merchant_name().to_owned()).unwrap_or_default(),
        amount: offer.map(|offer| offer.amount().to_string()).unwrap_or_default(),
        approval_code: reported.end.receipt().and_then(event::approval_code).unwrap_or_default(),
        is_pending: matches!(reported.end, SessionEnd::Pending(_)),
    });
}

fn tell_journal(
    parties: &Parties,
    transaction_id: TransactionId,
    story: &Story,
) -> anyhow::Result<()> {
    let journal = SqliteJournal::open(&parties.journal_path())?;
    for change in journal.changes(transaction_id)? {
        story.tell(Event::Journal {
            record: change.record,
            at: change.at.to_string(),
            state: change.state.name(),
            reason: change.state.reason(),
        });
    }
    Ok(())
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

/// A directory that is removed when it is dropped.
struct TemporaryDirectory(PathBuf);

impl Drop for TemporaryDirectory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn temporary_directory() -> anyhow::Result<TemporaryDirectory> {
    let number = u64::from_le_bytes(parties::random::<8>());
    let path = std::env::temp_dir().join(format!("florin-demo-{number:016x}"));
    florin::private_file::create_directory(&path).context("cannot make a temporary directory")?;
    Ok(TemporaryDirectory(path))
}

pub(super) fn unix_time() -> UnixTime {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    UnixTime { seconds: since.map_or(0, |since| since.as_secs()) }
}

impl Scenario {
    /// Every scenario.
    pub const ALL: [Self; 6] = [
        Self::Approved,
        Self::Declined,
        Self::TamperedOffer,
        Self::StolenCounter,
        Self::DispenseFailed,
        Self::InstitutionSilent,
    ];

    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Approved => "approved",
            Self::Declined => "declined",
            Self::TamperedOffer => "tampered-offer",
            Self::StolenCounter => "stolen-counter",
            Self::DispenseFailed => "dispense-failed",
            Self::InstitutionSilent => "institution-silent",
        }
    }
}
