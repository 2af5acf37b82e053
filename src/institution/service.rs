//! The gRPC services: messages in and out, who may ask, and which status an error is.
//!
//! A thin edge: it supplies clock and randomness and leaves every decision to [`Institution`].
//!
//! [`Institution`]: super::Institution

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::attempt_limit::AttemptLimit;
use super::certificate_authority::{
    CertificateAuthority, CertificateError, ClientIdentity, ClientRequest,
};
use super::connection::Peer;
use super::institution_thread::{InstitutionThread, ThreadError};
use super::processing::{AuthorisationRequest, InstitutionError, Transaction};
use super::randomness::{RandomnessError, random};
use super::store::TransactionState;
use crate::domain::{Moment, ReversalReason, TerminalId, TransactionId, UnixTime};
use crate::institution_api;
use crate::institution_api::enrolment_server::Enrolment;
use crate::institution_api::payments_server::Payments;

/// The longest offer or sealed command that is looked at, in octets: the longest message between
/// phone and terminal.
const PART_OCTETS_MAX: usize = crate::protocol::MESSAGE_OCTETS_MAX;
/// How many transactions of a reconciliation wait for a slow terminal.
const RECONCILIATION_QUEUE_MAX: usize = 64;

/// The wall clock.
pub(super) fn unix_time() -> UnixTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixTime { seconds: since.as_secs() }
}

/// The gRPC service `Payments`, which terminals call.
pub(super) struct InstitutionService {
    pub institution: InstitutionThread,
}

/// The gRPC service `Enrolment`, which terminals and phones call before they are known.
pub(super) struct EnrolmentService {
    pub institution: InstitutionThread,
    pub authority: Arc<CertificateAuthority>,
    pub attempts: Mutex<AttemptLimit>,
    pub started: Instant,
}

impl InstitutionService {
    /// The terminal that asks: who its client certificate says, and nobody else in the message.
    async fn terminal<T>(&self, request: &Request<T>, named: &str) -> Result<TerminalId, Status> {
        let identity = match peer(request)?.identity {
            Some(Ok(identity)) => identity,
            Some(Err(detail)) => return Err(Status::unauthenticated(detail)),
            None => {
                return Err(Status::unauthenticated(
                    "this service needs a terminal's client certificate; enrol the terminal, then connect with the \
                     certificate it got",
                ));
            }
        };
        let ClientIdentity { terminal_id, key_digest } = identity;
        if named != terminal_id.as_str() {
            return Err(Status::permission_denied(format!(
                "terminal_id: the client certificate is terminal {terminal_id}'s, the message names another"
            )));
        }
        self.institution
            .run(move |institution| institution.check_client_key(terminal_id, &key_digest))
            .await
            .map_err(status)?;
        Ok(terminal_id)
    }
}

#[tonic::async_trait]
impl Payments for InstitutionService {
    async fn authorise(
        &self,
        request: Request<institution_api::AuthoriseRequest>,
    ) -> Result<Response<institution_api::AuthoriseResponse>, Status> {
        let heard_at = Instant::now();
        let terminal_id = self.terminal(&request, &request.get_ref().terminal_id).await?;
        let message = request.into_inner();
        for (field, part) in
            [("offer", &message.offer), ("sealed_command", &message.sealed_command)]
        {
            if part.len() > PART_OCTETS_MAX {
                return Err(Status::invalid_argument(format!(
                    "{field}: longer than {PART_OCTETS_MAX} octets"
                )));
            }
        }
        let mut request = AuthorisationRequest {
            terminal_id,
            transaction_id: transaction_id(&message.transaction_id)?,
            offer: message.offer,
            offer_age_ms: message.offer_age_ms,
            sealed_command: message.sealed_command,
        };
        let octets = random().map_err(no_randomness)?;
        let transaction = self
            .institution
            .run(move |institution| {
                request.offer_age_ms = age_by_now(request.offer_age_ms, heard_at);
                institution.authorise(&request, unix_time(), *octets)
            })
            .await
            .map_err(status)?;
        tracing::info!(terminal = %terminal_id, transaction = %transaction.id, state = transaction.state.name(),
            reason = transaction.decline_reason.map(|reason| reason.name()), "authorise");
        Ok(Response::new(institution_api::AuthoriseResponse {
            transaction: Some(message_of(transaction)),
        }))
    }

    async fn capture(
        &self,
        request: Request<institution_api::CaptureRequest>,
    ) -> Result<Response<institution_api::CaptureResponse>, Status> {
        let terminal = self.terminal(&request, &request.get_ref().terminal_id).await?;
        let id = transaction_id(&request.get_ref().transaction_id)?;
        let transaction = self
            .institution
            .run(move |institution| institution.capture(terminal, id, unix_time()))
            .await
            .map_err(status)?;
        tracing::info!(%terminal, transaction = %id, state = transaction.state.name(), "capture");
        Ok(Response::new(institution_api::CaptureResponse {
            transaction: Some(message_of(transaction)),
        }))
    }

    async fn reverse(
        &self,
        request: Request<institution_api::ReverseRequest>,
    ) -> Result<Response<institution_api::ReverseResponse>, Status> {
        let terminal = self.terminal(&request, &request.get_ref().terminal_id).await?;
        let id = transaction_id(&request.get_ref().transaction_id)?;
        let reason = match request.get_ref().reason() {
            institution_api::ReversalReason::Unanswered => ReversalReason::Unanswered,
            institution_api::ReversalReason::DispenseFailed => ReversalReason::DispenseFailed,
            institution_api::ReversalReason::Cancelled => ReversalReason::Cancelled,
            institution_api::ReversalReason::DispenseUnknown => ReversalReason::DispenseUnknown,
            institution_api::ReversalReason::Unspecified => {
                return Err(Status::invalid_argument(
                    "reason: none, or one that this version does not know",
                ));
            }
        };
        let transaction = self
            .institution
            .run(move |institution| institution.reverse(terminal, id, reason, unix_time()))
            .await
            .map_err(status)?;
        tracing::info!(%terminal, transaction = %id, state = transaction.state.name(), reason = reason.name(),
            "reverse");
        Ok(Response::new(institution_api::ReverseResponse {
            transaction: Some(message_of(transaction)),
        }))
    }

    async fn get_transaction(
        &self,
        request: Request<institution_api::GetTransactionRequest>,
    ) -> Result<Response<institution_api::GetTransactionResponse>, Status> {
        let terminal = self.terminal(&request, &request.get_ref().terminal_id).await?;
        let id = transaction_id(&request.get_ref().transaction_id)?;
        let transaction = self
            .institution
            .run(move |institution| institution.transaction(terminal, id))
            .await
            .map_err(status)?;
        Ok(Response::new(institution_api::GetTransactionResponse {
            transaction: Some(message_of(transaction)),
        }))
    }

    type ReconcileStream = Pin<
        Box<dyn Stream<Item = Result<institution_api::ReconcileResponse, Status>> + Send + 'static>,
    >;

    async fn reconcile(
        &self,
        request: Request<institution_api::ReconcileRequest>,
    ) -> Result<Response<Self::ReconcileStream>, Status> {
        let terminal = self.terminal(&request, &request.get_ref().terminal_id).await?;
        let from = UnixTime { seconds: request.get_ref().from_unix_s };
        let until = UnixTime { seconds: request.get_ref().until_unix_s };
        let institution = self.institution.clone();
        // The first page before the answer, so that a wrong period is a status and not a broken
        // stream.
        let (mut page, mut next) = institution
            .run(move |institution| institution.reconcile(terminal, from, until, None))
            .await
            .map_err(status)?;
        let (responses, stream) = mpsc::channel(RECONCILIATION_QUEUE_MAX);
        tokio::spawn(async move {
            loop {
                for transaction in page {
                    let response = institution_api::ReconcileResponse {
                        transaction: Some(message_of(transaction)),
                    };
                    if responses.send(Ok(response)).await.is_err() {
                        return;
                    }
                }
                if next.is_none() {
                    return;
                }
                let after = next;
                match institution
                    .run(move |institution| institution.reconcile(terminal, from, until, after))
                    .await
                {
                    Ok(following) => (page, next) = following,
                    Err(error) => {
                        let _ = responses.send(Err(status(error))).await;
                        return;
                    }
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }
}

impl EnrolmentService {
    fn now(&self) -> Moment {
        let milliseconds = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        Moment { milliseconds }
    }

    /// Refuses an address that failed too often of late.
    fn admit<T>(&self, request: &Request<T>) -> Result<Peer, Status> {
        let peer = peer(request)?;
        let attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        if attempts.admits(peer.address, self.now()) {
            Ok(peer)
        } else {
            Err(Status::resource_exhausted(
                "too many enrolments from this address have failed; wait a minute, and check the code",
            ))
        }
    }

    fn count_failure(&self, peer: &Peer) {
        let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        attempts.count_failure(peer.address, self.now());
    }

    async fn try_enrol_terminal(
        &self,
        message: institution_api::EnrolTerminalRequest,
    ) -> Result<institution_api::EnrolTerminalResponse, Status> {
        let request =
            ClientRequest::read(&message.certificate_signing_request).map_err(|error| {
                Status::invalid_argument(format!("certificate_signing_request: {error}"))
            })?;
        let channel_key: [u8; 32] = message
            .channel_key
            .as_slice()
            .try_into()
            .map_err(|_| Status::invalid_argument("channel_key: expected 32 octets"))?;
        let now = unix_time();
        let serial = random().map_err(no_randomness)?;
        let key_digest = request.key_digest();
        let enrolment = self
            .institution
            .run(move |institution| {
                institution.enrol_terminal(&message.code, &channel_key, &key_digest, now)
            })
            .await
            .map_err(status)?;
        let client_certificate_pem = self
            .authority
            .issue_client(&request, enrolment.terminal_id, now, enrolment.not_after, *serial)
            .map_err(certificate_status)?;
        tracing::info!(terminal = %enrolment.terminal_id, "a terminal enrolled");
        Ok(institution_api::EnrolTerminalResponse {
            terminal_id: enrolment.terminal_id.to_string(),
            client_certificate_pem,
            terminal_certificate: enrolment.terminal_certificate,
            keyring: enrolment.keyring,
            root_public_key: enrolment.root_public_key,
        })
    }

    async fn try_enrol_card(
        &self,
        message: institution_api::EnrolCardRequest,
    ) -> Result<institution_api::EnrolCardResponse, Status> {
        let enrolment = self
            .institution
            .run(move |institution| {
                let now = unix_time();
                institution.enrol_card(&message.code, &message.card_public_key, &message.proof, now)
            })
            .await
            .map_err(status)?;
        tracing::info!(card_hint = enrolment.card_id.hint(), "a card enrolled");
        Ok(institution_api::EnrolCardResponse {
            card_id: enrolment.card_id.as_octets().to_vec(),
            keyring: enrolment.keyring,
            root_public_key: enrolment.root_public_key,
            not_after_unix_s: enrolment.not_after.seconds,
            payment_limit_minor: enrolment.payment_limit_minor,
            currency: enrolment.currency.to_string(),
        })
    }
}

#[tonic::async_trait]
impl Enrolment for EnrolmentService {
    async fn enrol_terminal(
        &self,
        request: Request<institution_api::EnrolTerminalRequest>,
    ) -> Result<Response<institution_api::EnrolTerminalResponse>, Status> {
        let peer = self.admit(&request)?;
        let answer = self.try_enrol_terminal(request.into_inner()).await;
        answer.map(Response::new).inspect_err(|_| self.count_failure(&peer))
    }

    async fn enrol_card(
        &self,
        request: Request<institution_api::EnrolCardRequest>,
    ) -> Result<Response<institution_api::EnrolCardResponse>, Status> {
        let peer = self.admit(&request)?;
        let answer = self.try_enrol_card(request.into_inner()).await;
        answer.map(Response::new).inspect_err(|_| self.count_failure(&peer))
    }
}

fn peer<T>(request: &Request<T>) -> Result<Peer, Status> {
    request.extensions().get::<Peer>().cloned().ok_or_else(|| {
        Status::unauthenticated("the connection did not come through the server's TLS")
    })
}

/// How old an offer is by now that was so old when the request was heard.
fn age_by_now(age_ms: u64, heard_at: Instant) -> u64 {
    age_ms.saturating_add(u64::try_from(heard_at.elapsed().as_millis()).unwrap_or(u64::MAX))
}

fn transaction_id(octets: &[u8]) -> Result<TransactionId, Status> {
    TransactionId::from_octets(octets).map_err(|_| {
        Status::invalid_argument(format!("transaction_id: {} octets, expected 16", octets.len()))
    })
}

fn message_of(transaction: Transaction) -> institution_api::Transaction {
    institution_api::Transaction {
        transaction_id: transaction.id.as_octets().to_vec(),
        state: match transaction.state {
            TransactionState::Unknown => institution_api::TransactionState::Unknown,
            TransactionState::Declined => institution_api::TransactionState::Declined,
            TransactionState::Approved => institution_api::TransactionState::Approved,
            TransactionState::Captured => institution_api::TransactionState::Captured,
            TransactionState::Reversed => institution_api::TransactionState::Reversed,
        }
        .into(),
        decline_reason: transaction.decline_reason.map_or(0, |reason| reason.code()),
        amount_minor: transaction.amount.map_or(0, |amount| amount.minor()),
        currency: transaction
            .amount
            .map_or_else(String::new, |amount| amount.currency().to_string()),
        receipt: transaction.receipt,
        created_at_unix_s: transaction.created_at.seconds,
    }
}

/// The one place where an error becomes a gRPC status.
fn status(error: ThreadError) -> Status {
    let words = error.to_string();
    match error {
        ThreadError::Busy | ThreadError::Ended => Status::unavailable(words),
        ThreadError::Failed => Status::internal(words),
        ThreadError::Institution(error) => match error {
            InstitutionError::InvalidRequest { .. } => Status::invalid_argument(words),
            InstitutionError::OtherContent(_) => Status::already_exists(words),
            InstitutionError::NotCapturable { .. }
            | InstitutionError::CodeExpired(_)
            | InstitutionError::CodeUsed => Status::failed_precondition(words),
            InstitutionError::NotFound { .. } => Status::not_found(words),
            InstitutionError::CodeUnknown | InstitutionError::Blocked(_) => {
                Status::permission_denied(words)
            }
            InstitutionError::CertificateReplaced(_) => Status::unauthenticated(words),
            InstitutionError::Store(error) if error.is_busy() => Status::unavailable(
                "the institution's store is busy; nothing was changed; send the same request again later",
            ),
            InstitutionError::Store(error) => {
                // The operator's to mend: the terminal is told only what it can do.
                tracing::error!(%error, "the store failed");
                Status::internal(
                    "the institution cannot read or write its store; its operator has to mend that; send the same \
                     request again later",
                )
            }
        },
    }
}

fn certificate_status(error: CertificateError) -> Status {
    tracing::error!(%error, "a client certificate could not be made");
    Status::internal(format!("{error}; the code may be used again with the same keys"))
}

fn no_randomness(error: RandomnessError) -> Status {
    tracing::error!(%error, "no randomness");
    Status::unavailable(
        "the institution has no randomness at the moment; nothing was begun; send the request again",
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_offer_grows_older_while_its_request_waits_here() {
        let Some(heard_at) = Instant::now().checked_sub(Duration::from_secs(3)) else { return };
        assert!((4_000..60_000).contains(&age_by_now(1_000, heard_at)));
        assert_eq!(age_by_now(u64::MAX, heard_at), u64::MAX);
    }
}
