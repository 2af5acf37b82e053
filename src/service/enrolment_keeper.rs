//! Keeps the enrolment of the running service current: renews certificates and keyring in time, and
//! takes over what was written to the enrolment's file, by itself or by `florin enrol --replace`.
//!
//! It is a thread of its own, since a disk may hang and must hold up nobody.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::Instant;

use super::Enrolment;
use super::clock::wall_clock;
use super::enrolment::{
    ENROLMENT_FILE, EnrolmentError, check_clock, is_due, refresh_keyring, renew,
};
use super::renewal::Renewal;
use crate::relay::{Relay, RenewalError};

/// How often the enrolment's file is looked at, in milliseconds.
const LOOK_INTERVAL_MS: u64 = 2_000;
/// The first wait after a renewal that failed, in seconds. It doubles each time.
const RETRY_S_MIN: u64 = 60;
/// The longest such wait, in seconds.
const RETRY_S_MAX: u64 = 3_600;
/// How long after one that succeeded the next one comes at the earliest, in seconds: an hour. An
/// institution that was restored has a new keyring, and until it is known nobody can pay.
const AGAIN_S: u64 = 3_600;

/// Which writing of the file it is: each one makes a new file.
type Writing = (u64, i64, i64);

/// Does one thing again and again: soon after it failed, an hour after it succeeded.
struct Schedule {
    next_at: Instant,
    retry_s: u64,
}

impl Schedule {
    fn now() -> Self {
        Self { next_at: Instant::now(), retry_s: RETRY_S_MIN }
    }

    fn is_due(&self) -> bool {
        Instant::now() >= self.next_at
    }

    fn succeeded(&mut self) {
        *self = Self { next_at: Instant::now() + Duration::from_secs(AGAIN_S), ..Self::now() };
    }

    fn failed(&mut self) {
        self.next_at = Instant::now() + Duration::from_secs(self.retry_s);
        self.retry_s = (2 * self.retry_s).min(RETRY_S_MAX);
    }
}

struct Keeper<R> {
    state_directory: PathBuf,
    relay: Arc<R>,
    enrolment: Enrolment,
    seen: Option<Writing>,
    renewals: Schedule,
    keyrings: Schedule,
    /// Of the institution's store, as far as is known.
    generation: Option<Vec<u8>>,
    renewed: watch::Sender<Option<Renewal>>,
}

/// Starts the thread. It ends when `stopped` says so or is dropped.
///
/// # Errors
/// The system's, if there can be no more threads.
pub(super) fn keep_enrolment<R: Relay + 'static>(
    state_directory: PathBuf,
    enrolment: Enrolment,
    relay: Arc<R>,
    mut stopped: watch::Receiver<bool>,
) -> io::Result<watch::Receiver<Option<Renewal>>> {
    let (renewed, renewals) = watch::channel(None);
    let seen = writing(&state_directory);
    let mut keeper = Keeper {
        state_directory,
        relay,
        enrolment,
        seen,
        renewals: Schedule::now(),
        keyrings: Schedule::now(),
        generation: None,
        renewed,
    };
    let runtime = Handle::current();
    thread::Builder::new().name("enrolment".into()).spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = stopped.wait_for(|stopped| *stopped) => {}
                () = keeper.run() => {}
            }
        });
    })?;
    Ok(renewals)
}

impl<R: Relay> Keeper<R> {
    async fn run(&mut self) {
        loop {
            tokio::time::sleep(Duration::from_millis(LOOK_INTERVAL_MS)).await;
            self.take_changed().await;
            // By a clock that was never set nothing is due, and nothing could be verified.
            if check_clock(wall_clock()).is_err() {
                continue;
            }
            self.renew_in_time().await;
            self.refresh_keyring().await;
        }
    }

    async fn renew_in_time(&mut self) {
        let certificates = self.enrolment.certificates();
        let is_time = certificates.is_ok_and(|periods| is_due(&periods, wall_clock()));
        if !is_time || !self.renewals.is_due() {
            return;
        }
        match renew(&self.state_directory, self.relay.as_ref(), wall_clock()).await {
            Ok(()) => {
                self.renewals.succeeded();
                tracing::info!("the terminal's certificates were renewed");
            }
            Err(EnrolmentError::Renewal(RenewalError::NotOffered)) => self.renewals.succeeded(),
            Err(error) => {
                self.renewals.failed();
                tracing::warn!(
                    %error,
                    "the terminal's certificates could not be renewed; the old ones stay in use, \
                     and it is tried again"
                );
            }
        }
        self.take_changed().await;
    }

    async fn refresh_keyring(&mut self) {
        let generation = self.relay.store_generation();
        if generation != self.generation {
            self.generation = generation;
            self.keyrings = Schedule::now();
        }
        if !self.keyrings.is_due() {
            return;
        }
        match refresh_keyring(&self.state_directory, self.relay.as_ref()).await {
            Ok(is_newer) => {
                self.keyrings.succeeded();
                if is_newer {
                    tracing::info!("the institution has a newer keyring");
                }
            }
            Err(EnrolmentError::Renewal(RenewalError::NotOffered)) => self.keyrings.succeeded(),
            Err(error) => {
                self.keyrings.failed();
                tracing::info!(%error, "the institution's newest keyring is not known yet");
            }
        }
        self.take_changed().await;
    }

    /// Takes over what was written to the enrolment's file since it was last looked at.
    async fn take_changed(&mut self) {
        let writing = writing(&self.state_directory);
        if writing == self.seen {
            return;
        }
        self.seen = writing;
        match self.take(Enrolment::read(&self.state_directory)).await {
            Ok(()) => tracing::info!("the service goes on with the renewed enrolment"),
            Err(problem) => tracing::error!(
                problem,
                "the enrolment has changed, and the service goes on with the one that it had"
            ),
        }
    }

    async fn take(&mut self, read: Result<Enrolment, EnrolmentError>) -> Result<(), String> {
        let enrolment = read.map_err(|error| error.to_string())?;
        if !enrolment.continues(&self.enrolment) {
            return Err("it is another terminal's, another institution's, or has another channel \
                        key; restart the service to take it over"
                .to_owned());
        }
        self.relay
            .use_credentials(&enrolment.tls_files())
            .await
            .map_err(|error| error.to_string())?;
        let identity = enrolment.identity.clone();
        let validity = enrolment.validity().ok();
        self.enrolment = enrolment;
        self.renewed.send_replace(Some(Renewal { identity, validity }));
        Ok(())
    }
}

fn writing(state_directory: &std::path::Path) -> Option<Writing> {
    let metadata = fs::metadata(state_directory.join(ENROLMENT_FILE)).ok()?;
    Some((metadata.ino(), metadata.mtime(), metadata.mtime_nsec()))
}
