//! `florin serve`: reads the enrolment, opens what the service needs, and runs engines among its
//! adapters until it is told to stop.
//!
//! The order decides who hears of a fault. What an operator has to mend stops the start, with its
//! own exit code. What can mend itself (BlueZ, the adapter, the institution, the journal's disk,
//! the clock) is reported and tried again while the service runs.

use std::fs::{File, TryLockError};
use std::future::poll_fn;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::task::Poll;

use sd_notify::NotifyState;
use tokio::sync::watch;

use super::clock::wall_clock;
use super::enrolment::{EXPIRY_WARNING_S, moved_machine};
use super::enrolment_keeper::keep_enrolment;
use super::frontend::Frontend;
use super::supervisor::Supervisor;
use super::systemd::tell_systemd;
use super::{Configuration, Enrolment, ServiceError};
use crate::bluetooth::{PeripheralSettings, start_peripheral};
use crate::domain::TerminalId;
use crate::io_error_text::io_error_text;
use crate::link::{AirAddress, TerminalLink, start_socket_air};
use crate::relay::Relay;
use crate::till::{TillListener, TillPort};

/// Runs the terminal until `stop` is ready, with the relay that `connect` makes for its enrolment.
///
/// With `air` it serves phones over that Unix socket in place of BlueZ: nobody can pay over
/// Bluetooth then.
///
/// # Errors
/// [`ServiceError`]; its exit code says what has to be mended.
pub async fn serve<R: Relay + 'static>(
    configuration: Configuration,
    connect: impl FnOnce(&Configuration, &Enrolment) -> Result<R, ServiceError>,
    air: Option<AirAddress>,
    stop: impl Future<Output = ()>,
) -> Result<(), ServiceError> {
    let enrolment = Enrolment::read(&configuration.state_directory)?;
    let terminal_id = enrolment.identity.terminal_id();
    let sticker = enrolment.identity.engagement_link();
    let _only_one = lock(&configuration.state_directory)?;
    let listener = TillListener::bind(&configuration.till_address).await?;
    let relay = Arc::new(connect(&configuration, &enrolment)?);
    let is_emulated = air.is_some();
    let link = start_link(&configuration, air, terminal_id)?;
    let (port, till) = TillPort::new();
    let mut frontend = Frontend::new(link, till);
    frontend.watch_certificates(enrolment.validity()?);
    note_expiry(&enrolment, &frontend);
    if let Some(moved) = moved_machine(&configuration.state_directory) {
        tracing::warn!("{moved}");
    }
    tracing::info!(
        %terminal_id,
        merchant = enrolment.identity.certificate.merchant_name,
        till = %listener.address(),
        institution = relay.address(),
        version = env!("CARGO_PKG_VERSION"),
        "the terminal runs"
    );
    let (stopping, mut stopped) = watch::channel(false);
    let identity = enrolment.identity.clone();
    let state_directory = configuration.state_directory.clone();
    let renewals =
        keep_enrolment(state_directory, enrolment, Arc::clone(&relay), stopping.subscribe())
            .map_err(|error| ServiceError::System {
                what: "a thread",
                detail: io_error_text(&error),
            })?;
    frontend.watch_renewals(renewals);
    let serving = tokio::spawn(listener.serve(port, sticker, async move {
        let _ = stopped.wait_for(|stopped| *stopped).await;
    }));
    // The till is answered from here on. To open the journal may take long.
    tell_systemd(&[NotifyState::Ready, NotifyState::Status("opening the journal")]);
    let stop = std::pin::pin!(stays_ready(stop));
    let mut configuration = configuration;
    // Nobody can pay over Bluetooth then, so that nothing of worth is lost.
    configuration.allows_volatile_state |= is_emulated;
    let mut supervisor = Supervisor::new(configuration, identity, relay);
    let result = supervisor.run(&mut frontend, stop).await;
    tell_systemd(&[NotifyState::Stopping]);
    let _ = stopping.send(true);
    let _ = serving.await;
    tracing::info!("the terminal has stopped");
    result
}

/// Keeps a second service from the same state directory. The lock ends with the process.
fn lock(state_directory: &Path) -> Result<File, ServiceError> {
    let unusable = |error: io::Error| ServiceError::StateDirectoryUnusable {
        path: state_directory.to_path_buf(),
        detail: io_error_text(&error),
    };
    let directory = File::open(state_directory).map_err(unusable)?;
    match directory.try_lock() {
        Ok(()) => Ok(directory),
        Err(TryLockError::WouldBlock) => {
            Err(ServiceError::StateDirectoryInUse(state_directory.to_path_buf()))
        }
        Err(TryLockError::Error(error)) => Err(unusable(error)),
    }
}

fn start_link(
    configuration: &Configuration,
    air: Option<AirAddress>,
    terminal_id: TerminalId,
) -> Result<TerminalLink, ServiceError> {
    let Some(air) = air else {
        let adapter = configuration.adapter.clone();
        return Ok(start_peripheral(PeripheralSettings { adapter, terminal_id }));
    };
    tracing::warn!(
        %air,
        "no Bluetooth: only programs on this machine that know this socket can pay"
    );
    Ok(start_socket_air(&air, terminal_id)?)
}

fn note_expiry(enrolment: &Enrolment, frontend: &Frontend) {
    let Ok(until) = enrolment.good_until() else { return };
    frontend.metrics.certificates_good_until(until.seconds);
    if until.seconds.saturating_sub(wall_clock().seconds) < EXPIRY_WARNING_S {
        tracing::warn!(
            %until,
            "a certificate expires soon; enrol again: `florin enrol --replace`"
        );
    }
}

/// Once `stop` is ready it stays so: an engine that was told to stop may still find that its
/// journal fails.
fn stays_ready(stop: impl Future<Output = ()>) -> impl Future<Output = ()> {
    let mut stop = Box::pin(stop);
    let mut is_ready = false;
    poll_fn(move |context| {
        is_ready = is_ready || stop.as_mut().poll(context).is_ready();
        if is_ready { Poll::Ready(()) } else { Poll::Pending }
    })
}
