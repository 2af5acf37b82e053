//! Runs one engine after another: an engine whose journal fails is given up, and the next one is
//! made from the journal as soon as that can be trusted again.
//!
//! Between two engines the terminal is out of service and says why.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::Instant;

use super::begun_elsewhere::begun_by_another;
use super::frontend::{Frontend, LinkStopped};
use super::randomness::random_octets;
use super::systemd::tell_systemd;
use super::volatile_storage::volatile_file_system;
use super::{Configuration, Driver, DriverError, ServiceError};
use crate::journal::{Journal, RecoveryLevel, SqliteJournal};
use crate::private_file;
use crate::relay::Relay;
use crate::terminal::Identity;

/// The first wait before the journal is tried again, in milliseconds. It doubles each time.
const JOURNAL_RETRY_MS_MIN: u64 = 1_000;
/// The longest such wait, in milliseconds.
const JOURNAL_RETRY_MS_MAX: u64 = 30_000;
/// How long it may take to write the recovery marker, in milliseconds.
const MARKER_TIMEOUT_MS: u64 = 1_000;
/// After an engine has run for so long, in seconds, the next fault is a new one, and the waits
/// begin anew.
const ENGINE_WELL_S: u64 = 60;

/// What every engine of one service is made of.
pub(super) struct Supervisor<R> {
    configuration: Configuration,
    identity: Identity,
    relay: Arc<R>,
    /// The greatest of this process; beside the file may be the marker of an earlier one.
    recovery_level: RecoveryLevel,
    /// How long the journal is left alone before it is opened next.
    wait_ms: u64,
    retry_ms: u64,
}

impl<R: Relay + 'static> Supervisor<R> {
    pub(super) fn new(configuration: Configuration, identity: Identity, relay: Arc<R>) -> Self {
        Self {
            configuration,
            identity,
            relay,
            recovery_level: RecoveryLevel::Open,
            wait_ms: 0,
            retry_ms: JOURNAL_RETRY_MS_MIN,
        }
    }

    /// Runs until `stop` is ready, or until something fails that only an operator can mend.
    pub(super) async fn run(
        &mut self,
        frontend: &mut Frontend,
        mut stop: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<(), ServiceError> {
        loop {
            let opening =
                open_journal(self.configuration.clone(), self.recovery_level, self.wait_ms);
            let opened = tokio::select! {
                () = &mut stop => return Ok(()),
                opened = frontend.serve_without_engine(opening) => match opened {
                    Ok(opened) => opened,
                    Err(LinkStopped) => return Err(DriverError::LinkStopped.into()),
                },
            };
            let fault = match opened {
                Ok(journal) => match self.run_engine(journal, frontend, stop.as_mut()).await {
                    Err(ServiceError::Driver(DriverError::Journal(error))) => error.into(),
                    Err(error @ ServiceError::Journal(_)) => error,
                    ended => return ended,
                },
                Err(fault) => fault,
            };
            self.take_out_of_service(&fault, frontend).await;
        }
    }

    /// Runs one engine until `stop` is ready, or it cannot go on.
    async fn run_engine(
        &mut self,
        mut journal: SqliteJournal,
        frontend: &mut Frontend,
        stop: impl Future<Output = ()>,
    ) -> Result<(), ServiceError> {
        self.recovery_level = RecoveryLevel::Open;
        let identity = frontend.newest_identity().unwrap_or_else(|| self.identity.clone());
        let terminal_id = identity.terminal_id();
        tell_systemd(&[NotifyState::Status(&format!("terminal {terminal_id}"))]);
        let started = Instant::now();
        let open = journal.payments(true, usize::MAX)?;
        if let Some(begun_by) = begun_by_another(&open, terminal_id) {
            return Err(ServiceError::OtherTerminal {
                path: self.configuration.journal(),
                begun_by,
                terminal_id,
            });
        }
        let settings = self.configuration.settings.clone();
        let (seed, relay) = (random_octets()?, Arc::clone(&self.relay));
        let driver = Driver::start(identity, settings, seed, journal, relay, frontend).await?;
        let ended = driver.run(stop).await;
        if started.elapsed() > Duration::from_secs(ENGINE_WELL_S) {
            self.retry_ms = JOURNAL_RETRY_MS_MIN;
        }
        Ok(ended?)
    }

    async fn take_out_of_service(&mut self, fault: &ServiceError, frontend: &mut Frontend) {
        tracing::error!(
            %fault, retry_ms = self.retry_ms,
            "out of service: without its journal the terminal takes no payments"
        );
        if let ServiceError::Journal(error) = fault {
            // A later fault may say nothing of the disk. It takes back nothing of an earlier one.
            self.recovery_level = self.recovery_level.max(error.recovery_level());
            require_recovery(self.configuration.journal(), self.recovery_level).await;
        }
        tell_systemd(&[NotifyState::Status(&format!("out of service: {fault}"))]);
        frontend.journal_failed(fault.to_string()).await;
        self.wait_ms = self.retry_ms;
        self.retry_ms = (self.retry_ms * 2).min(JOURNAL_RETRY_MS_MAX);
    }
}

/// Opens the journal after a while. On threads of their own: to write it anew takes long, and a
/// disk may hang.
async fn open_journal(
    configuration: Configuration,
    level: RecoveryLevel,
    wait_ms: u64,
) -> Result<SqliteJournal, ServiceError> {
    tokio::time::sleep(Duration::from_millis(wait_ms)).await;
    let opening = tokio::task::spawn_blocking(move || {
        let state_directory = &configuration.state_directory;
        private_file::create_directory(state_directory)?;
        if !configuration.allows_volatile_state
            && let Some(file_system) = volatile_file_system(state_directory)
        {
            let path = state_directory.clone();
            return Err(ServiceError::VolatileState { path, file_system });
        }
        let path = configuration.journal();
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
async fn require_recovery(journal: PathBuf, level: RecoveryLevel) {
    let marking =
        tokio::task::spawn_blocking(move || SqliteJournal::require_recovery(&journal, level));
    let _ = tokio::time::timeout(Duration::from_millis(MARKER_TIMEOUT_MS), marking).await;
}
