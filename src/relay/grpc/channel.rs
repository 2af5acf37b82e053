//! The live connection to the institution: made when there is something to ask, and made again
//! when it was lost.

use std::sync::Arc;
use std::time::Duration;

use hyper::Uri;
use rustls::ClientConfig;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};

use super::super::ConnectError;
use super::super::interface::milliseconds_since;
use super::connection::{Connection, ObservedConnection};
use super::delivery::DeliveryEvidence;
use super::tls::tls_configuration;
use super::{InstitutionAddress, TlsFiles};
use crate::domain::TerminalId;
use crate::institution_api::enrolment_client::EnrolmentClient;
use crate::institution_api::payments_client::PaymentsClient;

/// How long connecting may take, in milliseconds, within the time that the request has: two round
/// trips and some retransmissions over a poor mobile network.
pub(super) const CONNECT_TIMEOUT_MS: u64 = 5_000;
/// The longest answer, in octets. A transaction with its receipt has a few hundred.
const ANSWER_OCTETS_MAX: usize = 64 * 1024;

/// One terminal's connection, shared by all its questions.
pub(super) struct Channel {
    pub(super) address: InstitutionAddress,
    pub(super) terminal_id: TerminalId,
    origin: Uri,
    tls: Mutex<Arc<ClientConfig>>,
    connection: Mutex<Option<Connection>>,
}

impl Channel {
    /// Connects to nothing yet.
    pub(super) fn new(
        address: InstitutionAddress,
        files: &TlsFiles<'_>,
        terminal_id: TerminalId,
    ) -> Result<Self, ConnectError> {
        Ok(Self {
            origin: address.origin()?,
            tls: Mutex::new(tls_configuration(files)?),
            address,
            terminal_id,
            connection: Mutex::new(None),
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

    /// The connection, made now if there is none; by `deadline`, and within
    /// [`CONNECT_TIMEOUT_MS`].
    pub(super) async fn live_connection(
        &self,
        deadline: Instant,
    ) -> Result<Connection, ConnectError> {
        let started = Instant::now();
        let silent = |_| ConnectError::Silent {
            address: self.address.to_string(),
            timeout_ms: milliseconds_since(started),
        };
        // Held while connecting: the others want the same connection.
        let mut slot = timeout_at(deadline, self.connection.lock()).await.map_err(silent)?;
        if let Some(connection) = slot.as_ref().filter(|connection| connection.is_alive()) {
            return Ok(connection.clone());
        }
        *slot = None;
        let deadline = deadline.min(Instant::now() + connect_timeout());
        let tls = Arc::clone(&*self.tls.lock().await);
        let connecting = Connection::establish(&self.address, &tls);
        let connection = timeout_at(deadline, connecting).await.map_err(silent)??;
        tracing::debug!(address = %self.address, "connected to the institution");
        *slot = Some(connection.clone());
        Ok(connection)
    }

    /// The next question is asked with these credentials, over a connection of its own.
    pub(super) async fn use_credentials(&self, files: &TlsFiles<'_>) -> Result<(), ConnectError> {
        *self.tls.lock().await = tls_configuration(files)?;
        self.forget_connection().await;
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

    /// The next question gets a connection of its own; those that are under way keep this one.
    pub(super) async fn forget_connection(&self) {
        *self.connection.lock().await = None;
    }
}

pub(super) fn connect_timeout() -> Duration {
    Duration::from_millis(CONNECT_TIMEOUT_MS)
}
