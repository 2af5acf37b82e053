//! `florin serve`: reads the enrolment, opens what the service needs, and runs the driver with all
//! its adapters.
//!
//! The order decides who hears of a fault: what an operator has to mend stops the start, with its
//! own exit code; what can mend itself (BlueZ, the adapter, the institution, the journal's disk, the
//! clock) is reported and tried again while the service runs.

use std::fs::File;
use std::future::poll_fn;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use rand::TryRngCore;
use sd_notify::NotifyState;
use tokio::sync::watch;
use tokio::time::Instant;

use super::begun_elsewhere::begun_by_another;
use super::clock::wall_clock;
use super::configuration::JOURNAL_FILE;
use super::doctor::EXPIRY_WARNING_S;
use super::front::{Front, LinkStopped};
use super::systemd::tell_systemd;
use super::{Configuration, Driver, DriverError, Enrolment, ServiceError};
use crate::bluetooth::{PeripheralSettings, start_peripheral};
use crate::journal::{Journal, RecoveryLevel, SqliteJournal};
use crate::link::{AirAddress, start_socket_air};
use crate::private_file;
use crate::relay::GrpcRelay;
use crate::till::{TillListener, TillPort};

/// The first wait before the journal is tried again, in milliseconds. It doubles each time.
const JOURNAL_RETRY_MS_MIN: u64 = 1_000;
/// The longest such wait, in milliseconds.
const JOURNAL_RETRY_MS_MAX: u64 = 30_000;
/// How long it may take to write the recovery marker, in milliseconds.
const MARKER_TIMEOUT_MS: u64 = 1_000;
/// An engine that ran for so long, in seconds, was well: the next fault is a new one.
const ENGINE_WELL_S: u64 = 60;

/// Runs the terminal until `stop` is ready.
///
/// An engine whose journal fails is given up. The terminal is out of service then, says so, and
/// makes a new engine from the journal as soon as that can be trusted again.
///
/// With `air` it serves phones over that Unix socket in place of BlueZ: nobody can pay over
/// Bluetooth then.
///
/// # Errors
/// [`ServiceError`]; its exit code says what has to be mended.
pub async fn serve(
    configuration: Configuration,
    air: Option<AirAddress>,
    stop: impl Future<Output = ()>,
) -> Result<(), ServiceError> {
    let enrolment = Enrolment::read(&configuration.state_directory)?;
    let terminal_id = enrolment.identity.terminal_id();
    let sticker = enrolment.identity.engagement_link();
    let _only_one = lock(&configuration.state_directory)?;
    let listener = TillListener::bind(&configuration.till_address).await?;
    let relay = Arc::new(relay(&configuration, &enrolment)?);
    let link = match air {
        Some(air) => {
            tracing::warn!(%air, "no Bluetooth: only programs on this machine that know this path can pay");
            start_socket_air(&air, terminal_id)?
        }
        None => start_peripheral(PeripheralSettings {
            adapter: configuration.adapter.clone(),
            terminal_id,
        }),
    };
    let (port, till) = TillPort::new();
    let mut front = Front::new(link, till);
    front.judge(enrolment.validity()?);
    if let Ok(until) = enrolment.good_until() {
        front.metrics.certificates_good_until(until.seconds);
        if until.seconds.saturating_sub(wall_clock().seconds) < EXPIRY_WARNING_S {
            tracing::warn!(%until, "the certificates run out soon; enrol again with `florin enrol --replace`");
        }
    }
    tracing::info!(
        %terminal_id,
        merchant = enrolment.identity.certificate.merchant_name,
        till = %listener.address(),
        version = env!("CARGO_PKG_VERSION"),
        "the terminal runs"
    );
    let (stopping, mut stopped) = watch::channel(false);
    let serving = tokio::spawn(listener.serve(port, sticker, async move {
        let _ = stopped.wait_for(|stopped| *stopped).await;
    }));
    let mut stop = std::pin::pin!(for_good(stop));
    // The greatest of this process; beside the file may be the marker of an earlier one.
    let mut recovery_level = RecoveryLevel::Open;
    let mut wait_ms = 0;
    let mut retry_ms = JOURNAL_RETRY_MS_MIN;
    // The till is answered from here on. To open the journal may take long.
    tell_systemd(&[NotifyState::Ready, NotifyState::Status("the journal is being opened")]);
    let result = loop {
        let opening = open_journal(configuration.state_directory.clone(), recovery_level, wait_ms);
        let opened = tokio::select! {
            () = &mut stop => break Ok(()),
            opened = front.stand_in(opening) => match opened {
                Ok(opened) => opened,
                Err(LinkStopped) => break Err(DriverError::LinkStopped.into()),
            },
        };
        let fault = match opened {
            Ok(journal) => {
                recovery_level = RecoveryLevel::Open;
                tell_systemd(&[NotifyState::Status(&format!("terminal {terminal_id}"))]);
                let begun = Instant::now();
                let ended = run_engine(
                    &configuration,
                    &enrolment,
                    journal,
                    &relay,
                    &mut front,
                    stop.as_mut(),
                )
                .await;
                if begun.elapsed() > Duration::from_secs(ENGINE_WELL_S) {
                    retry_ms = JOURNAL_RETRY_MS_MIN;
                }
                match ended {
                    Err(ServiceError::Driver(DriverError::Journal(error))) => error.into(),
                    Err(error @ ServiceError::Journal(_)) => error,
                    ended => break ended,
                }
            }
            Err(error) => error,
        };
        tracing::error!(%fault, retry_ms, "out of service: there is no journal to take payments with");
        if let ServiceError::Journal(error) = &fault {
            // A later fault may be of a kind that says nothing of the disk, and takes nothing back.
            recovery_level = recovery_level.max(error.recovery_level());
            require_recovery(&configuration, recovery_level).await;
        }
        tell_systemd(&[NotifyState::Status(&format!("out of service: {fault}"))]);
        front.journal_failed(fault.to_string()).await;
        wait_ms = retry_ms;
        retry_ms = (retry_ms * 2).min(JOURNAL_RETRY_MS_MAX);
    };
    tell_systemd(&[NotifyState::Stopping]);
    let _ = stopping.send(true);
    let _ = serving.await;
    tracing::info!("the terminal has stopped");
    result
}

/// Runs one engine until `stop` is ready, or it cannot go on.
async fn run_engine(
    configuration: &Configuration,
    enrolment: &Enrolment,
    mut journal: SqliteJournal,
    relay: &Arc<GrpcRelay>,
    front: &mut Front,
    stop: impl Future<Output = ()>,
) -> Result<(), ServiceError> {
    let identity = enrolment.identity.clone();
    let terminal_id = identity.terminal_id();
    if let Some(begun_by) = begun_by_another(&journal.payments(true, usize::MAX)?, terminal_id) {
        return Err(ServiceError::OtherTerminal {
            path: configuration.journal(),
            begun_by,
            terminal_id,
        });
    }
    let settings = configuration.settings.clone();
    let driver =
        Driver::start(identity, settings, random_seed()?, journal, Arc::clone(relay), front)
            .await?;
    Ok(driver.run(stop).await?)
}

/// Opens the journal after a while. On threads of their own: to write it anew takes long, and a
/// disk may hang.
async fn open_journal(
    state_directory: PathBuf,
    level: RecoveryLevel,
    wait_ms: u64,
) -> Result<SqliteJournal, ServiceError> {
    tokio::time::sleep(Duration::from_millis(wait_ms)).await;
    let opening = tokio::task::spawn_blocking(move || {
        private_file::create_directory(&state_directory)?;
        let path = state_directory.join(JOURNAL_FILE);
        // Before SQLite makes it: its side files get the permissions of this one.
        private_file::ensure(&path)?;
        Ok(SqliteJournal::recover(&path, level)?)
    });
    opening.await.unwrap_or_else(|error| {
        Err(ServiceError::System { what: "a thread", detail: error.to_string() })
    })
}

/// Leaves the marker beside the journal at once: this process may end before the next try. A disk
/// that hangs is not waited for.
async fn require_recovery(configuration: &Configuration, level: RecoveryLevel) {
    let path = configuration.journal();
    let marking =
        tokio::task::spawn_blocking(move || SqliteJournal::require_recovery(&path, level));
    let _ = tokio::time::timeout(Duration::from_millis(MARKER_TIMEOUT_MS), marking).await;
}

/// Once it is ready it stays so: an engine that was told to stop may still find that its journal
/// fails.
fn for_good(stop: impl Future<Output = ()>) -> impl Future<Output = ()> {
    let mut stop = Box::pin(stop);
    let mut is_ready = false;
    poll_fn(move |context| {
        is_ready = is_ready || stop.as_mut().poll(context).is_ready();
        if is_ready { Poll::Ready(()) } else { Poll::Pending }
    })
}

/// Keeps a second service from the same journal. The lock ends with the process.
fn lock(state_directory: &Path) -> Result<File, ServiceError> {
    let unlocked = |error: io::Error| ServiceError::StateDirectoryInUse {
        path: state_directory.to_path_buf(),
        detail: error.to_string(),
    };
    let directory = File::open(state_directory).map_err(unlocked)?;
    directory.try_lock().map_err(|error| unlocked(error.into()))?;
    Ok(directory)
}

pub(super) fn relay(
    configuration: &Configuration,
    enrolment: &Enrolment,
) -> Result<GrpcRelay, ServiceError> {
    let address =
        configuration.institution.clone().unwrap_or_else(|| enrolment.institution.clone());
    Ok(GrpcRelay::new(address, &enrolment.tls_files(), enrolment.identity.terminal_id())?)
}

fn random_seed() -> Result<[u8; 32], ServiceError> {
    let mut seed = [0; 32];
    rand::rngs::OsRng
        .try_fill_bytes(&mut seed)
        .map_err(|error| ServiceError::System { what: "randomness", detail: error.to_string() })?;
    Ok(seed)
}
