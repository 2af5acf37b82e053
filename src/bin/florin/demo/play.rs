//! One payment with all parties in one process, without a radio: the institution with TLS on
//! loopback, the terminal with its journal, the wallet on the emulated link.
//!
//! All parts are the real ones except for the radio. The demo only sets them up, plays the till
//! and the person, and tells what it sees.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use florin::domain::TransactionId;
use florin::journal::SqliteJournal;
use florin::link::{EmulatedAir, TerminalLink};
use florin::relay::Relay;
use florin::service::{Driver, DriverError, Frontend};
use florin::terminal::{PaymentState, PaymentView, Settings};
use florin::till::{TillDriverEnd, TillPort};
use florin::wallet::{Reported, SessionEnd};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::event::{Event, Story, approval_code, milliseconds};
use super::observed_relay::ObservedRelay;
use super::parties::Parties;
use super::phone::{Paid, Phone};
use super::randomness::random;
use super::scenario::{DemoSettings, Scenario};
use super::silent_proxy::SilentProxy;
use super::temporary_directory::TemporaryDirectory;
use super::till::Till;

/// How long the whole may take before the demo gives up: well over the time-outs of the silent
/// institution.
const TIMEOUT: Duration = Duration::from_secs(60);
/// How long an authorisation may take in the demo, in milliseconds; nobody wants to watch ten
/// seconds of silence.
const AUTHORISATION_TIMEOUT_MS: u64 = 1_500;

/// Plays the payment and tells it step by step. Returns whether it went as the scenario says.
/// A temporary directory is gone afterwards, also if the demo is interrupted.
///
/// # Errors
/// What kept a party from starting, in words.
pub async fn run(settings: DemoSettings, story: Story) -> anyhow::Result<bool> {
    let temporary = match settings.directory {
        Some(_) => None,
        None => Some(TemporaryDirectory::create()?),
    };
    let directory = match (&settings.directory, &temporary) {
        (Some(directory), _) => directory.as_path(),
        (None, Some(temporary)) => temporary.path(),
        (None, None) => anyhow::bail!("there is no directory for the demo's files"),
    };
    tokio::select! {
        played = tokio::time::timeout(TIMEOUT, play(&settings, directory, &story)) => {
            played.context("the payment did not end within a minute")?
        }
        _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted"),
    }
}

async fn play(settings: &DemoSettings, directory: &Path, story: &Story) -> anyhow::Result<bool> {
    let scenario = settings.scenario;
    let parties = Parties::set_up(directory, settings).await?;
    story.begin(settings.amount, scenario, settings.directory.as_deref());

    let proxy = SilentProxy::start(parties.institution_address()).await?;
    let (air, link) = EmulatedAir::new();
    let (port, till_end) = TillPort::new();
    let terminal = Terminal::start(&parties, &proxy, settings, story, link, till_end).await?;
    let mut till = Till::new(port, story.clone());
    let phone = |stolen: bool| -> anyhow::Result<Phone> {
        let (card, store) = parties.card(stolen)?;
        Ok(Phone { card, store, air: air.clone(), story: story.clone() })
    };

    let mut phone = if scenario == Scenario::StolenCounter {
        // The holder pays first; then the thief, with a copy that was made before.
        let (mut holder, thief) = (phone(false)?, phone(true)?);
        story.note("the card's holder pays");
        let transaction_id = till.offer(settings.amount).await?;
        holder.pay(transaction_id, None).await?;
        till.complete(transaction_id, true).await?;
        story.note("a thief pays with a copy of the card, made before: its counter is behind");
        story.restart();
        thief
    } else {
        phone(false)?
    };
    let transaction_id = till.offer(settings.amount).await?;
    let silence = (scenario == Scenario::InstitutionSilent).then_some(&proxy);
    if let Some(proxy) = silence {
        proxy.stop_answering();
        story.note("from here on, the institution's answers are lost on their way");
    }
    let mut paid = phone.pay(transaction_id, silence).await?;
    till.tell_pending();
    let ended = till.complete(transaction_id, scenario != Scenario::DispenseFailed).await?;
    if scenario == Scenario::DispenseFailed && ended.state.is_final() {
        story.note("the phone comes back and asks what became of its payment");
        phone.ask_again(&mut paid).await?;
    }
    let ended = till.read(transaction_id).await?;
    terminal.stop().await?;
    finish(parties, settings, story, &paid, &ended).await
}

/// The terminal among its adapters.
struct Terminal {
    stop: oneshot::Sender<()>,
    running: JoinHandle<Result<(), DriverError>>,
}

impl Terminal {
    async fn start(
        parties: &Parties,
        proxy: &SilentProxy,
        settings: &DemoSettings,
        story: &Story,
        link: TerminalLink,
        till_end: TillDriverEnd,
    ) -> anyhow::Result<Self> {
        let relay = parties.relay(proxy.address())?;
        // A terminal that waits has its connection. What is to be lost in the silence is the
        // answer, not the way.
        relay.check_reachable().await?;
        let tampers = settings.scenario == Scenario::TamperedOffer;
        let relay = Arc::new(ObservedRelay::new(relay, story.clone(), tampers));
        let identity = parties.identity();
        let journal = SqliteJournal::open(&parties.journal_path())?;
        let settings =
            Settings { authorisation_timeout_ms: AUTHORISATION_TIMEOUT_MS, ..Settings::default() };
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(async move {
            let mut frontend = Frontend::new(link, till_end);
            let seed = random();
            let driver =
                Driver::start(identity, settings, seed, journal, relay, &mut frontend).await?;
            let stop = async {
                let _ = stopped.await;
            };
            driver.run(stop).await
        });
        Ok(Self { stop, running })
    }

    async fn stop(self) -> anyhow::Result<()> {
        let _ = self.stop.send(());
        self.running.await.context("the terminal's task failed")??;
        Ok(())
    }
}

/// The receipt, the books, and the summary.
async fn finish(
    parties: Parties,
    settings: &DemoSettings,
    story: &Story,
    paid: &Paid,
    ended: &PaymentView,
) -> anyhow::Result<bool> {
    tell_receipt(&paid.reported, story);
    tell_journal(&parties.journal_path(), paid.transaction_id, story)?;
    let is_balanced = parties.close_and_tell_ledger(story).await?;
    let outcome =
        if ended.state == PaymentState::Captured { "approved" } else { ended.state.name() };
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
        hello_to_result_ms: paid.hello_to_result.map(milliseconds),
        transaction_id: paid.transaction_id.to_string(),
    });
    Ok(outcome == settings.scenario.expected_outcome() && is_balanced)
}

fn tell_receipt(reported: &Reported, story: &Story) {
    let offer = reported.offer.as_ref().map(|view| &view.offer);
    story.tell(Event::Receipt {
        outcome: reported.end.name(),
        message: reported.end.message(),
        verified: reported.end.receipt().is_some(),
        merchant: offer.map(|offer| offer.merchant_name().to_owned()).unwrap_or_default(),
        amount: offer.map(|offer| offer.amount().to_string()).unwrap_or_default(),
        approval_code: reported.end.receipt().and_then(approval_code).unwrap_or_default(),
        is_pending: matches!(reported.end, SessionEnd::Pending(_)),
    });
}

fn tell_journal(path: &Path, transaction_id: TransactionId, story: &Story) -> anyhow::Result<()> {
    let journal = SqliteJournal::open(path)?;
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
