//! The gRPC service `florin.institution.v1.Payments`: messages in and out, and who may ask.
//!
//! It reads the clock and draws randomness, and leaves every decision to [`Institution`].
//!
//! [`Institution`]: super::Institution

use std::pin::Pin;
use std::time::Instant;

use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::certificate_authority::ClientIdentity;
use super::connection::peer;
use super::presented_payment::AuthorisationRequest;
use super::randomness::random;
use super::request_queue::RequestQueue;
use super::standing::StandingFault;
use super::status::{no_randomness, status};
use super::transaction::Transaction;
use super::wall_clock::unix_time;
use crate::domain::{ReversalReason, TerminalId, TransactionId, TransactionState, UnixTime};
use crate::institution_api;
use crate::institution_api::payments_server::Payments;

/// The longest offer or sealed command that is accepted, in octets: the longest message between
/// phone and terminal.
const PART_OCTETS_MAX: usize = crate::protocol::MESSAGE_OCTETS_MAX;
/// How many transactions of a reconciliation may wait for a slow terminal.
const RECONCILIATION_QUEUE_MAX: usize = 64;

/// The gRPC service `florin.institution.v1.Payments`.
pub(super) struct PaymentsService {
    pub queue: RequestQueue,
}

impl PaymentsService {
    /// The terminal that asks, by its client certificate. The message has to name the same one.
    async fn terminal<T>(
        &self,
        heard_at: Instant,
        request: &Request<T>,
        named: &str,
    ) -> Result<TerminalId, Status> {
        let identity = match peer(request)?.identity {
            Some(Ok(identity)) => identity,
            Some(Err(detail)) => return Err(Status::unauthenticated(detail)),
            None => {
                return Err(Status::unauthenticated(
                    "this service needs a terminal's client certificate; enrol the terminal, and \
                     connect with the certificate that it gets",
                ));
            }
        };
        let ClientIdentity { terminal_id, key_digest } = identity;
        if named != terminal_id.as_str() {
            return Err(Status::permission_denied(format!(
                "terminal_id: the client certificate is terminal {terminal_id}'s, and the message \
                 names another"
            )));
        }
        self.queue
            .run(heard_at, move |institution| {
                institution.check_client_key(terminal_id, &key_digest)
            })
            .await
            .map_err(status)?;
        Ok(terminal_id)
    }
}

#[tonic::async_trait]
impl Payments for PaymentsService {
    async fn authorise(
        &self,
        request: Request<institution_api::AuthoriseRequest>,
    ) -> Result<Response<institution_api::AuthoriseResponse>, Status> {
        let heard_at = Instant::now();
        let terminal_id = self.terminal(heard_at, &request, &request.get_ref().terminal_id).await?;
        let message = request.into_inner();
        check_length("offer", &message.offer)?;
        check_length("sealed_command", &message.sealed_command)?;
        let mut request = AuthorisationRequest {
            terminal_id,
            transaction_id: transaction_id(&message.transaction_id)?,
            offer: message.offer,
            offer_age_ms: message.offer_age_ms,
            sealed_command: message.sealed_command,
        };
        let age_when_heard_ms = request.offer_age_ms;
        let octets = random().map_err(no_randomness)?;
        let transaction = self
            .queue
            .run(heard_at, move |institution| {
                // At each attempt: the wait for the store's lock counts.
                request.offer_age_ms = age_by_now(age_when_heard_ms, heard_at);
                institution.authorise(&request, unix_time(), *octets)
            })
            .await
            .map_err(status)?;
        tracing::info!(
            terminal = %terminal_id,
            transaction = %transaction.id,
            state = transaction.state.name(),
            reason = transaction.decline_reason().map(|reason| reason.name()),
            "authorise"
        );
        Ok(Response::new(institution_api::AuthoriseResponse {
            transaction: Some(message_of(transaction)),
        }))
    }

    async fn capture(
        &self,
        request: Request<institution_api::CaptureRequest>,
    ) -> Result<Response<institution_api::CaptureResponse>, Status> {
        let heard_at = Instant::now();
        let terminal = self.terminal(heard_at, &request, &request.get_ref().terminal_id).await?;
        let id = transaction_id(&request.get_ref().transaction_id)?;
        let transaction = self
            .queue
            .run(heard_at, move |institution| institution.capture(terminal, id, unix_time()))
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
        let heard_at = Instant::now();
        let terminal = self.terminal(heard_at, &request, &request.get_ref().terminal_id).await?;
        let id = transaction_id(&request.get_ref().transaction_id)?;
        let reason = reversal_reason(request.get_ref().reason())?;
        let transaction = self
            .queue
            .run(heard_at, move |institution| {
                institution.reverse(terminal, id, reason, unix_time())
            })
            .await
            .map_err(status)?;
        let state = transaction.state.name();
        tracing::info!(%terminal, transaction = %id, state, reason = reason.name(), "reverse");
        Ok(Response::new(institution_api::ReverseResponse {
            transaction: Some(message_of(transaction)),
        }))
    }

    async fn get_transaction(
        &self,
        request: Request<institution_api::GetTransactionRequest>,
    ) -> Result<Response<institution_api::GetTransactionResponse>, Status> {
        let heard_at = Instant::now();
        let terminal = self.terminal(heard_at, &request, &request.get_ref().terminal_id).await?;
        let id = transaction_id(&request.get_ref().transaction_id)?;
        let transaction = self
            .queue
            .run(heard_at, move |institution| institution.transaction(terminal, id))
            .await
            .map_err(status)?;
        Ok(Response::new(institution_api::GetTransactionResponse {
            transaction: Some(message_of(transaction)),
        }))
    }

    async fn check_standing(
        &self,
        request: Request<institution_api::CheckStandingRequest>,
    ) -> Result<Response<institution_api::CheckStandingResponse>, Status> {
        let heard_at = Instant::now();
        let terminal = self.terminal(heard_at, &request, &request.get_ref().terminal_id).await?;
        let standing = self
            .queue
            .run(heard_at, move |institution| institution.standing(terminal))
            .await
            .map_err(status)?;
        Ok(Response::new(standing_message(standing)))
    }

    type ReconcileStream = Pin<
        Box<dyn Stream<Item = Result<institution_api::ReconcileResponse, Status>> + Send + 'static>,
    >;

    async fn reconcile(
        &self,
        request: Request<institution_api::ReconcileRequest>,
    ) -> Result<Response<Self::ReconcileStream>, Status> {
        let heard_at = Instant::now();
        let terminal = self.terminal(heard_at, &request, &request.get_ref().terminal_id).await?;
        let from = UnixTime { seconds: request.get_ref().from_unix_s };
        let until = UnixTime { seconds: request.get_ref().until_unix_s };
        let queue = self.queue.clone();
        // The first page is read before the answer, so that a wrong period is a status and not a
        // broken stream.
        let (mut page, mut next) = queue
            .run(heard_at, move |institution| institution.reconcile(terminal, from, until, None))
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
                match queue
                    .run(heard_at, move |institution| {
                        institution.reconcile(terminal, from, until, after)
                    })
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

fn check_length(field: &str, octets: &[u8]) -> Result<(), Status> {
    if octets.len() <= PART_OCTETS_MAX {
        return Ok(());
    }
    let length = octets.len();
    let message = format!("{field}: longer than {PART_OCTETS_MAX} octets, it has {length}");
    Err(Status::invalid_argument(message))
}

fn reversal_reason(reason: institution_api::ReversalReason) -> Result<ReversalReason, Status> {
    match reason {
        institution_api::ReversalReason::Unanswered => Ok(ReversalReason::Unanswered),
        institution_api::ReversalReason::DispenseFailed => Ok(ReversalReason::DispenseFailed),
        institution_api::ReversalReason::Cancelled => Ok(ReversalReason::Cancelled),
        institution_api::ReversalReason::DispenseUnknown => Ok(ReversalReason::DispenseUnknown),
        institution_api::ReversalReason::Unspecified => {
            Err(Status::invalid_argument("reason: there is none, or this version does not know it"))
        }
    }
}

/// How old an offer is by now, from its age when the request was heard.
fn age_by_now(age_ms: u64, heard_at: Instant) -> u64 {
    age_ms.saturating_add(u64::try_from(heard_at.elapsed().as_millis()).unwrap_or(u64::MAX))
}

fn transaction_id(octets: &[u8]) -> Result<TransactionId, Status> {
    TransactionId::from_octets(octets).map_err(|_| {
        let message = format!("transaction_id: expected 16 octets, got {}", octets.len());
        Status::invalid_argument(message)
    })
}

fn standing_message(standing: Result<(), StandingFault>) -> institution_api::CheckStandingResponse {
    institution_api::CheckStandingResponse {
        standing: match standing {
            Ok(()) => institution_api::Standing::Good,
            Err(StandingFault::Blocked) => institution_api::Standing::Blocked,
            Err(StandingFault::Unknown) => institution_api::Standing::Unknown,
        }
        .into(),
        detail: standing.err().map_or_else(String::new, |fault| fault.to_string()),
    }
}

fn message_of(transaction: Transaction) -> institution_api::Transaction {
    institution_api::Transaction {
        transaction_id: transaction.id.as_octets().to_vec(),
        state: match transaction.state {
            TransactionState::Unknown => institution_api::TransactionState::Unknown,
            TransactionState::Declined(_) => institution_api::TransactionState::Declined,
            TransactionState::Approved => institution_api::TransactionState::Approved,
            TransactionState::Captured => institution_api::TransactionState::Captured,
            TransactionState::Reversed => institution_api::TransactionState::Reversed,
        }
        .into(),
        decline_reason: transaction.decline_reason().map_or(0, |reason| reason.code()),
        amount_minor: transaction.amount.map_or(0, |amount| amount.minor()),
        currency: transaction
            .amount
            .map_or_else(String::new, |amount| amount.currency().to_string()),
        receipt: transaction.receipt,
        created_at_unix_s: transaction.created_at.seconds,
    }
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
