//! The live connection to the institution: made when there is something to ask, and made again
//! when it was lost.
//!
//! A connection is made by a task of its own, for all who wait for it: none of their deadlines cuts
//! short what the next one needs.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::Uri;
use rustls::ClientConfig;
use tokio::net::lookup_host;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

use super::super::interface::milliseconds_since;
use super::super::{ConnectError, TlsFiles};
use super::connection::{Connection, ObservedConnection, no_answer};
use super::delivery::DeliveryEvidence;
use super::progress::Progress;
use super::tls::tls_configuration;
use crate::domain::TerminalId;
use crate::institution_address::InstitutionAddress;
use crate::institution_api;
use crate::institution_api::enrolment_client::EnrolmentClient;
use crate::institution_api::payments_client::PaymentsClient;
use crate::io_error_text::io_error_text;

/// How long the name may take, in milliseconds. The system's resolver gives a name server that is
/// silent 5 s before it asks the next one.
const NAME_TIMEOUT_MS: u64 = 8_000;
/// How long a caller without a deadline of its own waits for a connection, in milliseconds: for
/// the name, and then for one address after another, each with its own time.
const CONNECT_TIMEOUT_MS: u64 = 30_000;
/// The longest answer, in octets. A transaction with its receipt has a few hundred.
const ANSWER_OCTETS_MAX: usize = 64 * 1024;

type Outcome = Option<Result<Connection, ConnectError>>;

/// One terminal's connection, shared by all its questions.
pub(super) struct Channel {
    pub(super) address: InstitutionAddress,
    pub(super) terminal_id: TerminalId,
    origin: Uri,
    tls: Mutex<Arc<ClientConfig>>,
    slot: Arc<Mutex<Slot>>,
    /// What the newest answer said; none before the first.
    store_generation: Mutex<Option<Vec<u8>>>,
}

/// The connection that new questions get.
#[derive(Default)]
struct Slot {
    live: Option<Connection>,
    coming: Option<Coming>,
    /// Counts the credentials: a connection that was begun with others is not kept.
    credentials: u64,
}

/// A connection that is being made.
#[derive(Clone)]
struct Coming {
    outcome: watch::Receiver<Outcome>,
    progress: Progress,
}

impl Channel {
    /// Connects to nothing yet.
    pub(super) fn new(
        address: InstitutionAddress,
        files: &TlsFiles<'_>,
        terminal_id: TerminalId,
    ) -> Result<Self, ConnectError> {
        let no_uri = || ConnectError::Credentials("the address is no URI".into());
        Ok(Self {
            origin: address.origin().ok_or_else(no_uri)?,
            tls: Mutex::new(tls_configuration(files)?),
            address,
            terminal_id,
            slot: Arc::default(),
            store_generation: Mutex::default(),
        })
    }

    /// Speaks over this connection; what becomes of it is seen in `evidence`.
    pub(super) fn client(
        &self,
        connection: &Connection,
        evidence: &DeliveryEvidence,
    ) -> PaymentsClient<ObservedConnection> {
        PaymentsClient::with_origin(connection.observed(evidence), self.origin.clone())
            .max_decoding_message_size(ANSWER_OCTETS_MAX)
    }

    /// The connection that is there, as far as is known.
    pub(super) fn held_connection(&self) -> Option<Connection> {
        lock(&self.slot).live.clone().filter(Connection::is_alive)
    }

    /// The connection, made now if there is none; by `deadline`. What was begun goes on after that,
    /// for the next question.
    pub(super) async fn live_connection(
        &self,
        deadline: Instant,
    ) -> Result<Connection, ConnectError> {
        let started = Instant::now();
        let mut coming = {
            let mut slot = lock(&self.slot);
            if let Some(connection) = slot.live.as_ref().filter(|live| live.is_alive()) {
                return Ok(connection.clone());
            }
            let credentials = slot.credentials;
            slot.coming.get_or_insert_with(|| self.connect(credentials)).clone()
        };
        let silent = |progress: &Progress| ConnectError::Silent {
            address: self.address.to_string(),
            timeout_ms: milliseconds_since(started),
            stage: progress.stage(),
        };
        let outcome = timeout_at(deadline, coming.outcome.wait_for(Option::is_some)).await;
        match outcome.ok().and_then(Result::ok).and_then(|outcome| outcome.clone()) {
            Some(outcome) => outcome,
            None => Err(silent(&coming.progress)),
        }
    }

    /// Begins to connect with the credentials of this number.
    fn connect(&self, credentials: u64) -> Coming {
        let (address, tls) = (self.address.clone(), Arc::clone(&lock(&self.tls)));
        let (slot, progress) = (Arc::clone(&self.slot), Progress::new());
        let (told, outcome) = watch::channel(None);
        let reached = progress.clone();
        tokio::spawn(async move {
            let connected = connect(&address, &tls, &reached).await;
            {
                let mut slot = lock(&slot);
                if slot.credentials == credentials {
                    slot.coming = None;
                    slot.live = connected.as_ref().ok().cloned();
                }
            }
            if connected.is_ok() {
                tracing::debug!(%address, "connected to the institution");
            }
            told.send_replace(Some(connected));
        });
        Coming { outcome, progress }
    }

    /// Notes which life of the institution's store has answered.
    pub(super) fn note_generation(&self, transaction: Option<&institution_api::Transaction>) {
        let said = transaction.map(|transaction| &transaction.store_generation);
        if let Some(generation) = said.filter(|generation| !generation.is_empty()) {
            *lock(&self.store_generation) = Some(generation.clone());
        }
    }

    pub(super) fn store_generation(&self) -> Option<Vec<u8>> {
        lock(&self.store_generation).clone()
    }

    /// The next question is asked with these credentials, over a connection of its own; those that
    /// are under way go on.
    pub(super) fn use_credentials(&self, files: &TlsFiles<'_>) -> Result<(), ConnectError> {
        let tls = tls_configuration(files)?;
        let mut slot = lock(&self.slot);
        *lock(&self.tls) = tls;
        *slot = Slot { credentials: slot.credentials + 1, ..Slot::default() };
        Ok(())
    }

    /// Speaks to the service that answers everybody.
    pub(super) fn public_client(
        &self,
        connection: &Connection,
    ) -> EnrolmentClient<ObservedConnection> {
        let observed = connection.observed(&DeliveryEvidence::default());
        EnrolmentClient::with_origin(observed, self.origin.clone())
            .max_decoding_message_size(ANSWER_OCTETS_MAX)
    }

    /// The next question gets another connection; those that are under way keep this one.
    pub(super) fn forget(&self, connection: &Connection) {
        let mut slot = lock(&self.slot);
        if slot.live.as_ref().is_some_and(|live| live.is_same(connection)) {
            slot.live = None;
        }
    }
}

fn lock<T>(guarded: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it holds one of these locks.
    guarded.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Connects: the name, then its addresses.
pub(super) async fn connect(
    address: &InstitutionAddress,
    tls: &Arc<ClientConfig>,
    progress: &Progress,
) -> Result<Connection, ConnectError> {
    let addresses = resolve(address).await?;
    Connection::establish(address, addresses, tls, progress).await
}

async fn resolve(address: &InstitutionAddress) -> Result<Vec<SocketAddr>, ConnectError> {
    let fault = |detail| ConnectError::Name { host: address.host().to_owned(), detail };
    let looking = lookup_host((address.host(), address.port()));
    let found = timeout(Duration::from_millis(NAME_TIMEOUT_MS), looking)
        .await
        .map_err(|_| fault(no_answer(NAME_TIMEOUT_MS)))?
        .map_err(|error| fault(io_error_text(&error)))?;
    let addresses: Vec<SocketAddr> = found.collect();
    if addresses.is_empty() { Err(fault("it has no address".into())) } else { Ok(addresses) }
}

pub(super) fn connect_timeout() -> Duration {
    Duration::from_millis(CONNECT_TIMEOUT_MS)
}
