//! The reference institution's protocol: gRPC over TLS 1.3, where the terminal is who its client
//! certificate says.
//!
//! Whether a request was sent and what a failure means is decided in `sent`.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use hyper::Uri;
use rustls::ClientConfig;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};
use tonic::Status;

use super::Relay;
use super::connection::{
    ConnectError, Connection, InstitutionAddress, ObservedConnection, TlsFiles, tls_configuration,
};
use super::sent::{Observed, answered, not_sent};
use crate::domain::{DeclineReason, ReversalReason, TerminalId, TransactionId};
use crate::institution_api;
use crate::institution_api::payments_client::PaymentsClient;
use crate::terminal::{InstitutionAnswer, InstitutionRequest, TransactionState};

/// How long connecting may take, in milliseconds, within the time that the request has: two round
/// trips and some retransmissions over a poor mobile network.
pub const CONNECT_TIMEOUT_MS: u64 = 5_000;
/// The longest answer, in octets. A transaction with its receipt has a few hundred.
const ANSWER_OCTETS_MAX: usize = 64 * 1024;

/// The way to the reference institution. Connects when there is something to ask, and again when
/// that was lost.
pub struct GrpcRelay {
    address: InstitutionAddress,
    origin: Uri,
    tls: Arc<ClientConfig>,
    terminal_id: TerminalId,
    connection: Mutex<Option<Connection>>,
}

impl fmt::Debug for GrpcRelay {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("GrpcRelay").field("address", &self.address).finish_non_exhaustive()
    }
}

impl GrpcRelay {
    /// A relay for this terminal.
    ///
    /// # Errors
    /// [`ConnectError::Credentials`] if the certificates or the key cannot be used.
    pub fn new(
        address: InstitutionAddress,
        files: &TlsFiles<'_>,
        terminal_id: TerminalId,
    ) -> Result<Self, ConnectError> {
        Ok(Self {
            origin: address.origin()?,
            tls: tls_configuration(files)?,
            address,
            terminal_id,
            connection: Mutex::new(None),
        })
    }

    /// Connects if there is no live connection: whether the institution can be reached and takes
    /// the certificate.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn check_reachable(&self) -> Result<(), ConnectError> {
        let deadline = Instant::now() + Duration::from_millis(CONNECT_TIMEOUT_MS);
        self.live_connection(deadline).await.map(drop)
    }

    pub(super) fn terminal_id(&self) -> TerminalId {
        self.terminal_id
    }

    /// Speaks over this connection; what becomes of it is seen in `observed`.
    pub(super) fn client(
        &self,
        connection: &Connection,
        observed: &Observed,
    ) -> PaymentsClient<ObservedConnection> {
        PaymentsClient::with_origin(connection.observed(observed), self.origin.clone())
            .max_decoding_message_size(ANSWER_OCTETS_MAX)
    }

    pub(super) async fn live_connection(
        &self,
        deadline: Instant,
    ) -> Result<Connection, ConnectError> {
        let started = Instant::now();
        let silent = |_| {
            let timeout_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
            ConnectError::Silent { address: self.address.clone(), timeout_ms }
        };
        // Held while connecting: the others want the same connection.
        let mut slot = timeout_at(deadline, self.connection.lock()).await.map_err(silent)?;
        if let Some(connection) = slot.as_ref().filter(|connection| connection.is_alive()) {
            return Ok(connection.clone());
        }
        *slot = None;
        let deadline = deadline.min(Instant::now() + Duration::from_millis(CONNECT_TIMEOUT_MS));
        let connecting = Connection::establish(&self.address, &self.tls);
        let connection = timeout_at(deadline, connecting).await.map_err(silent)??;
        tracing::debug!(address = %self.address, "connected to the institution");
        *slot = Some(connection.clone());
        Ok(connection)
    }

    /// The next question gets a connection of its own; those that are under way keep this one.
    async fn forget_connection(&self) {
        *self.connection.lock().await = None;
    }

    async fn exchange(
        &self,
        connection: &Connection,
        observed: &Observed,
        request: InstitutionRequest,
    ) -> Result<Option<institution_api::Transaction>, Status> {
        self.call(&mut self.client(connection, observed), request).await
    }

    async fn call(
        &self,
        client: &mut PaymentsClient<ObservedConnection>,
        request: InstitutionRequest,
    ) -> Result<Option<institution_api::Transaction>, Status> {
        let terminal_id = self.terminal_id.to_string();
        let octets = |id: TransactionId| id.as_octets().to_vec();
        Ok(match request {
            InstitutionRequest::Authorise {
                transaction_id,
                offer,
                offer_age_ms,
                sealed_command,
            } => {
                let message = institution_api::AuthoriseRequest {
                    transaction_id: octets(transaction_id),
                    terminal_id,
                    offer,
                    offer_age_ms,
                    sealed_command,
                };
                client.authorise(message).await?.into_inner().transaction
            }
            InstitutionRequest::Inquire { transaction_id } => {
                let message = institution_api::GetTransactionRequest {
                    transaction_id: octets(transaction_id),
                    terminal_id,
                };
                client.get_transaction(message).await?.into_inner().transaction
            }
            InstitutionRequest::Capture { transaction_id } => {
                let message = institution_api::CaptureRequest {
                    transaction_id: octets(transaction_id),
                    terminal_id,
                };
                client.capture(message).await?.into_inner().transaction
            }
            InstitutionRequest::Reverse { transaction_id, reason } => {
                let reason = match reason {
                    ReversalReason::Unanswered => institution_api::ReversalReason::Unanswered,
                    ReversalReason::DispenseFailed => {
                        institution_api::ReversalReason::DispenseFailed
                    }
                    ReversalReason::Cancelled => institution_api::ReversalReason::Cancelled,
                    ReversalReason::DispenseUnknown => {
                        institution_api::ReversalReason::DispenseUnknown
                    }
                }
                .into();
                let message = institution_api::ReverseRequest {
                    transaction_id: octets(transaction_id),
                    terminal_id,
                    reason,
                };
                client.reverse(message).await?.into_inner().transaction
            }
        })
    }
}

impl Relay for GrpcRelay {
    async fn prepare(&self) {
        if let Err(error) = self.check_reachable().await {
            tracing::info!(%error, "the institution is not reached yet");
        }
    }

    async fn ask(&self, request: InstitutionRequest, timeout_ms: u64) -> InstitutionAnswer {
        let started = Instant::now();
        let deadline = started + Duration::from_millis(timeout_ms);
        let (transaction_id, question) = (request.transaction_id(), request.name());
        let mut may_reconnect = true;
        let answer = loop {
            let connection = match self.live_connection(deadline).await {
                Ok(connection) => connection,
                Err(error) => break not_sent(error),
            };
            let observed = Observed::default();
            match timeout_at(deadline, self.exchange(&connection, &observed, request.clone())).await
            {
                Ok(Ok(transaction)) => {
                    break answered(read_transaction(transaction, transaction_id));
                }
                // The connection had closed before, and nobody had noticed: the request came back
                // whole.
                Ok(Err(_)) if may_reconnect && observed.is_unsent() => may_reconnect = false,
                Ok(Err(status)) => break observed.failure(&status),
                Err(_) => break observed.time_over(timeout_ms),
            }
            self.forget_connection().await;
        };
        match &answer {
            InstitutionAnswer::Transaction { state, .. } => {
                let duration_ms = started.elapsed().as_millis();
                tracing::debug!(%transaction_id, question, ?state, duration_ms, "the institution answered");
            }
            InstitutionAnswer::Refused { detail } => {
                tracing::warn!(%transaction_id, question, detail, "the institution refused");
            }
            InstitutionAnswer::NotSent { detail } => {
                tracing::warn!(%transaction_id, question, detail, "the institution was not reached");
            }
            InstitutionAnswer::Unanswered { detail } => {
                tracing::warn!(%transaction_id, question, detail, "the institution has not answered");
                self.forget_connection().await;
            }
        }
        answer
    }
}

/// Takes the institution's word only where it is about this transaction and can be understood.
fn read_transaction(
    transaction: Option<institution_api::Transaction>,
    transaction_id: TransactionId,
) -> Result<(TransactionState, Option<Vec<u8>>), String> {
    let transaction = transaction.ok_or("no transaction in it")?;
    if transaction.transaction_id != transaction_id.as_octets() {
        return Err("it is about another transaction".into());
    }
    let state = read_state(&transaction)?;
    Ok((state, Some(transaction.receipt).filter(|receipt| !receipt.is_empty())))
}

/// How a transaction stands, where that can be understood.
pub(super) fn read_state(
    transaction: &institution_api::Transaction,
) -> Result<TransactionState, String> {
    Ok(match transaction.state() {
        institution_api::TransactionState::Unknown => TransactionState::Unknown,
        institution_api::TransactionState::Declined => {
            // Whatever the reason, it is the institution's word that nothing is charged.
            let reason = DeclineReason::heard(transaction.decline_reason);
            TransactionState::Declined(reason.ok_or("a decline for no reason")?)
        }
        institution_api::TransactionState::Approved => TransactionState::Approved,
        institution_api::TransactionState::Captured => TransactionState::Captured,
        institution_api::TransactionState::Reversed => TransactionState::Reversed,
        institution_api::TransactionState::Unspecified => {
            return Err(format!("the state {}", transaction.state));
        }
    })
}
