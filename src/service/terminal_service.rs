//! `florin serve`: reads the enrolment, opens what the service needs, and runs the driver with all its adapters.
//!
//! The order decides who hears of a fault: what an operator has to mend stops the start, with its own exit code; what
//! mends itself (BlueZ, the adapter, the acquirer) is reported and tried again while the service runs.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use rand::TryRngCore;
use sd_notify::NotifyState;
use tokio::sync::watch;

use super::{Configuration, Driver, Enrolment, ServiceError};
use crate::bluetooth::{PeripheralSettings, check_radio, start_peripheral};
use crate::domain::UnixTime;
use crate::journal::SqliteJournal;
use crate::private_file;
use crate::relay::GrpcRelay;
use crate::till::{TillListener, TillPort};

/// In the state directory.
const JOURNAL_FILE: &str = "journal.sqlite";
/// A certificate that runs out within so many seconds is warned of at each start: 30 days.
const EXPIRY_WARNING_S: u64 = 30 * 24 * 3600;

/// Runs the terminal until `stop` is ready. For a current-thread runtime: the order of a phone's writes depends on it.
///
/// # Errors
/// [`ServiceError`]; its exit code says what has to be mended.
pub async fn serve(configuration: Configuration, stop: impl Future<Output = ()>) -> Result<(), ServiceError> {
    let enrolment = load_enrolment(&configuration)?;
    let terminal_id = enrolment.identity.terminal_id();
    let sticker = enrolment.identity.engagement_link();
    let listener = TillListener::bind(&configuration.till_address).await?;
    let journal = open_journal(&configuration.state_directory)?;
    let relay = relay(&configuration, &enrolment)?;
    let link = start_peripheral(PeripheralSettings { adapter: configuration.adapter.clone(), terminal_id });
    let (port, till) = TillPort::new();
    let driver = Driver::start(
        enrolment.identity.clone(),
        configuration.settings.clone(),
        random_seed()?,
        journal,
        link,
        relay,
        till,
    )
    .await?;
    tracing::info!(
        %terminal_id,
        merchant = enrolment.identity.certificate.merchant_name,
        till = %listener.address(),
        version = env!("CARGO_PKG_VERSION"),
        "the terminal runs"
    );
    tell_systemd(&[NotifyState::Ready, NotifyState::Status(&format!("terminal {terminal_id}"))]);

    let (stopping, mut stopped) = watch::channel(false);
    let serving = tokio::spawn(listener.serve(port, sticker, async move {
        let _ = stopped.wait_for(|stopped| *stopped).await;
    }));
    let result = driver.run(stop).await;
    tell_systemd(&[NotifyState::Stopping]);
    let _ = stopping.send(true);
    let _ = serving.await;
    tracing::info!("the terminal has stopped");
    Ok(result?)
}

/// What a check found, in the order in which `serve` needs it: what was looked at, and what is right or wrong with it.
pub type Finding = (&'static str, Result<String, ServiceError>);

/// Looks at everything that `serve` needs, without serving. Switches the Bluetooth adapter on, changes nothing else.
pub async fn check(configuration: &Configuration) -> Vec<Finding> {
    let mut findings: Vec<Finding> = Vec::new();
    let enrolment = match load_enrolment(configuration) {
        Ok(enrolment) => {
            let until = enrolment.good_until().map_or_else(|problem| problem, |until| until.to_string());
            let terminal_id = enrolment.identity.terminal_id();
            findings.push(("enrolment", Ok(format!("terminal {terminal_id}, good until {until}"))));
            Some(enrolment)
        }
        Err(error) => {
            findings.push(("enrolment", Err(error)));
            None
        }
    };
    let path = configuration.state_directory.join(JOURNAL_FILE);
    let journal = if path.exists() {
        open_journal(&configuration.state_directory).map(|_| path.display().to_string())
    } else {
        Ok(format!("{} will be made", path.display()))
    };
    findings.push(("journal", journal));
    let adapter = check_radio(configuration.adapter.as_deref()).await;
    findings.push(("bluetooth", adapter.map_err(ServiceError::from)));
    if let Some(enrolment) = enrolment {
        let address = configuration.acquirer.clone().unwrap_or_else(|| enrolment.acquirer.clone());
        let reached = match relay(configuration, &enrolment) {
            Ok(relay) => relay.check_reachable().await,
            Err(error) => {
                findings.push(("acquirer", Err(error)));
                return findings;
            }
        };
        findings.push(("acquirer", reached.map(|()| address.to_string()).map_err(ServiceError::from)));
    }
    findings
}

/// The terminal's wall clock, as its certificates are judged by it.
pub fn wall_clock() -> UnixTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    UnixTime { seconds: since.map_or(0, |since| since.as_secs()) }
}

fn load_enrolment(configuration: &Configuration) -> Result<Enrolment, ServiceError> {
    let now = wall_clock();
    let enrolment = Enrolment::load(&configuration.state_directory, now)?;
    if let Ok(until) = enrolment.good_until()
        && until.seconds.saturating_sub(now.seconds) < EXPIRY_WARNING_S
    {
        tracing::warn!(%until, "the certificates run out soon; enrol again with `florin enrol --replace`");
    }
    Ok(enrolment)
}

fn open_journal(state_directory: &Path) -> Result<SqliteJournal, ServiceError> {
    private_file::create_directory(state_directory)?;
    let path = state_directory.join(JOURNAL_FILE);
    // Before SQLite makes it: its side files get the permissions of this one.
    private_file::ensure(&path)?;
    Ok(SqliteJournal::open(&path)?)
}

fn relay(configuration: &Configuration, enrolment: &Enrolment) -> Result<GrpcRelay, ServiceError> {
    let address = configuration.acquirer.clone().unwrap_or_else(|| enrolment.acquirer.clone());
    Ok(GrpcRelay::new(address, &enrolment.tls_files(), enrolment.identity.terminal_id())?)
}

fn random_seed() -> Result<[u8; 32], ServiceError> {
    let mut seed = [0; 32];
    rand::rngs::OsRng
        .try_fill_bytes(&mut seed)
        .map_err(|error| ServiceError::System { what: "randomness", detail: error.to_string() })?;
    Ok(seed)
}

/// Nobody listens where systemd did not start the service; that is no fault.
fn tell_systemd(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "systemd was not told");
    }
}
