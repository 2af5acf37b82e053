//! The gRPC service `florin.institution.v1.Payments`: messages in and out, and who may ask.
//!
//! It reads the clock and draws randomness, and leaves every decision to [`Institution`].
//!
//! [`Institution`]: super::Institution

use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::certificate_authority::{CertificateAuthority, ClientRequest};
use super::connection::peer;
use super::error::InstitutionError;
use super::presentation::Presentation;
use super::presented_payment::AuthorisationRequest;
use super::randomness::random;
use super::request_fields::read_transaction_id;
use super::request_queue::{QueueError, RequestQueue};
use super::standing::StandingFault;
use super::status::{certificate_status, no_randomness, status};
use super::transaction::Transaction;
use super::wall_clock::unix_time;
use crate::domain::{ReversalReason, TerminalId, TransactionState, UnixTime};
use crate::institution_api;
use crate::institution_api::payments_server::Payments;

/// The longest offer that is accepted, in octets: the longest message between phone and terminal.
const OFFER_OCTETS_MAX: usize = crate::protocol::MESSAGE_OCTETS_MAX;
/// The longest sealed command that is accepted, in octets. Terminals take no longer one either.
const SEALED_COMMAND_OCTETS_MAX: usize = 2_048;
/// How many transactions of a reconciliation may wait for a slow terminal.
const RECONCILIATION_QUEUE_MAX: usize = 64;

/// The gRPC service `florin.institution.v1.Payments`.
pub(super) struct PaymentsService {
    pub queue: RequestQueue,
    pub authority: Arc<CertificateAuthority>,
    pub generation: StoreGeneration,
}

/// Which life of the store answers: every answer says it.
#[derive(Debug, Clone, Copy)]
pub(super) struct StoreGeneration(pub [u8; 16]);

impl StoreGeneration {
    /// The message of a transaction, as this life of the store has it.
    pub(super) fn answer(self, transaction: Transaction) -> institution_api::Transaction {
        institution_api::Transaction {
            store_generation: self.0.to_vec(),
            ..message_of(transaction)
        }
    }
}

impl PaymentsService {
    /// The terminal that asks, by its client certificate. The message has to name the same one.
    async fn terminal<T>(&self, request: &Request<T>, named: &str) -> Result<TerminalId, Status> {
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
        let terminal_id = identity.terminal_id;
        if named != terminal_id.as_str() {
            return Err(Status::permission_denied(format!(
                "terminal_id: the client certificate is terminal {terminal_id}'s, and the message \
                 names another"
            )));
        }
        self.queue
            .run(move |institution| institution.check_client(&identity))
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
        let terminal_id = self.terminal(&request, &request.get_ref().terminal_id).await?;
        let message = request.into_inner();
        check_length("offer", &message.offer, OFFER_OCTETS_MAX)?;
        check_length("sealed_command", &message.sealed_command, SEALED_COMMAND_OCTETS_MAX)?;
        let mut request = AuthorisationRequest {
            terminal_id,
            transaction_id: read_transaction_id(&message.transaction_id)?,
            offer: message.offer,
            offer_age_ms: message.offer_age_ms,
            sealed_command: message.sealed_command,
            sequence: message.sequence,
        };
        let octets = random().map_err(no_randomness)?;
        let transaction = self
            .queue
            .run(move |institution| {
                request.offer_age_ms = age_by_now(request.offer_age_ms, heard_at);
                institution.authorise(&request, unix_time(), *octets)
            })
            .await
            .inspect_err(log_copy)
            .map_err(status)?;
        tracing::info!(
            terminal = %terminal_id,
            transaction = %transaction.id,
            state = transaction.state.name(),
            reason = transaction.decline_reason().map(|reason| reason.name()),
            "authorise"
        );
        Ok(Response::new(institution_api::AuthoriseResponse {
            transaction: Some(self.generation.answer(transaction)),
        }))
    }

    async fn capture(
        &self,
        request: Request<institution_api::CaptureRequest>,
    ) -> Result<Response<institution_api::CaptureResponse>, Status> {
        let terminal = self.terminal(&request, &request.get_ref().terminal_id).await?;
        let id = read_transaction_id(&request.get_ref().transaction_id)?;
        let transaction = self
            .queue
            .run(move |institution| institution.capture(terminal, id, unix_time()))
            .await
            .map_err(status)?;
        tracing::info!(%terminal, transaction = %id, state = transaction.state.name(), "capture");
        Ok(Response::new(institution_api::CaptureResponse {
            transaction: Some(self.generation.answer(transaction)),
        }))
    }

    async fn reverse(
        &self,
        request: Request<institution_api::ReverseRequest>,
    ) -> Result<Response<institution_api::ReverseResponse>, Status> {
        let terminal = self.terminal(&request, &request.get_ref().terminal_id).await?;
        let id = read_transaction_id(&request.get_ref().transaction_id)?;
        let reason = reversal_reason(request.get_ref().reason())?;
        let transaction = self
            .queue
            .run(move |institution| institution.reverse(terminal, id, reason, unix_time()))
            .await
            .map_err(status)?;
        let state = transaction.state.name();
        tracing::info!(%terminal, transaction = %id, state, reason = reason.name(), "reverse");
        Ok(Response::new(institution_api::ReverseResponse {
            transaction: Some(self.generation.answer(transaction)),
        }))
    }

    async fn get_transaction(
        &self,
        request: Request<institution_api::GetTransactionRequest>,
    ) -> Result<Response<institution_api::GetTransactionResponse>, Status> {
        let terminal = self.terminal(&request, &request.get_ref().terminal_id).await?;
        let id = read_transaction_id(&request.get_ref().transaction_id)?;
        let transaction = self
            .queue
            .run(move |institution| institution.transaction(terminal, id))
            .await
            .map_err(status)?;
        Ok(Response::new(institution_api::GetTransactionResponse {
            transaction: Some(self.generation.answer(transaction)),
        }))
    }

    async fn present(
        &self,
        request: Request<institution_api::PresentRequest>,
    ) -> Result<Response<institution_api::PresentResponse>, Status> {
        let terminal_id = self.terminal(&request, &request.get_ref().terminal_id).await?;
        let message = request.into_inner();
        check_length("offer", &message.offer, OFFER_OCTETS_MAX)?;
        check_length("sealed_command", &message.sealed_command, SEALED_COMMAND_OCTETS_MAX)?;
        let presentation = Presentation {
            request: AuthorisationRequest {
                terminal_id,
                transaction_id: read_transaction_id(&message.transaction_id)?,
                offer: message.offer,
                offer_age_ms: 0,
                sealed_command: message.sealed_command,
                sequence: message.sequence,
            },
            receipt: message.receipt,
            exclusion: message.exclusion,
        };
        let transaction = self
            .queue
            .run(move |institution| institution.present(&presentation, unix_time()))
            .await
            .map_err(status)?;
        let state = transaction.state.name();
        tracing::info!(terminal = %terminal_id, transaction = %transaction.id, state, "present");
        Ok(Response::new(institution_api::PresentResponse {
            transaction: Some(self.generation.answer(transaction)),
        }))
    }

    async fn renew_terminal(
        &self,
        request: Request<institution_api::RenewTerminalRequest>,
    ) -> Result<Response<institution_api::RenewTerminalResponse>, Status> {
        let terminal = self.terminal(&request, &request.get_ref().terminal_id).await?;
        let request = ClientRequest::read(&request.get_ref().certificate_signing_request).map_err(
            |error| Status::invalid_argument(format!("certificate_signing_request: {error}")),
        )?;
        let now = unix_time();
        let serial = random().map_err(no_randomness)?;
        let key_digest = request.key_digest();
        let renewed = self
            .queue
            .run(move |institution| institution.renew_terminal(terminal, &key_digest, now))
            .await
            .map_err(status)?;
        let client_certificate_pem = self
            .authority
            .issue_client(&request, terminal, now, renewed.not_after, *serial)
            .map_err(certificate_status)?;
        tracing::info!(%terminal, not_after = %renewed.not_after, "a terminal renewed");
        Ok(Response::new(institution_api::RenewTerminalResponse {
            client_certificate_pem,
            terminal_certificate: renewed.terminal_certificate,
            keyring: renewed.keyring,
        }))
    }

    async fn check_standing(
        &self,
        request: Request<institution_api::CheckStandingRequest>,
    ) -> Result<Response<institution_api::CheckStandingResponse>, Status> {
        let terminal = self.terminal(&request, &request.get_ref().terminal_id).await?;
        let standing = self
            .queue
            .run(move |institution| institution.standing(terminal))
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
        let terminal = self.terminal(&request, &request.get_ref().terminal_id).await?;
        let from = UnixTime { seconds: request.get_ref().from_unix_s };
        let until = UnixTime { seconds: request.get_ref().until_unix_s };
        let (queue, generation) = (self.queue.clone(), self.generation);
        // The first page is read before the answer, so that a wrong period is a status and not a
        // broken stream.
        let (mut page, mut next) = queue
            .run(move |institution| institution.reconcile(terminal, from, until, None))
            .await
            .map_err(status)?;
        let (responses, stream) = mpsc::channel(RECONCILIATION_QUEUE_MAX);
        tokio::spawn(async move {
            loop {
                for transaction in page {
                    let response = institution_api::ReconcileResponse {
                        transaction: Some(generation.answer(transaction)),
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

/// A copy needs an operator, who is told each time.
fn log_copy(error: &QueueError) {
    if let QueueError::Institution(InstitutionError::TerminalCopied(terminal)) = error {
        tracing::error!(
            %terminal,
            "the terminal runs on two machines, and new payments of both are refused; stop one of \
             them, then give the other a new code with `florin-acquirer terminal code {terminal}`, \
             or run `florin-acquirer terminal clear-copy {terminal} --reason REASON`"
        );
    }
}

fn check_length(field: &str, octets: &[u8], octets_max: usize) -> Result<(), Status> {
    if octets.len() <= octets_max {
        return Ok(());
    }
    let length = octets.len();
    let message = format!("{field}: longer than {octets_max} octets, it has {length}");
    Err(Status::invalid_argument(message))
}

fn reversal_reason(reason: institution_api::ReversalReason) -> Result<ReversalReason, Status> {
    match reason {
        institution_api::ReversalReason::Unanswered => Ok(ReversalReason::Unanswered),
        institution_api::ReversalReason::DispenseFailed => Ok(ReversalReason::DispenseFailed),
        institution_api::ReversalReason::Cancelled => Ok(ReversalReason::Cancelled),
        institution_api::ReversalReason::DispenseUnknown => Ok(ReversalReason::DispenseUnknown),
        institution_api::ReversalReason::NotUsed => Ok(ReversalReason::NotUsed),
        institution_api::ReversalReason::Unspecified => {
            Err(Status::invalid_argument("reason: there is none, or this version does not know it"))
        }
    }
}

/// How old an offer is by now, from its age when the request was heard.
fn age_by_now(age_ms: u64, heard_at: Instant) -> u64 {
    age_ms.saturating_add(u64::try_from(heard_at.elapsed().as_millis()).unwrap_or(u64::MAX))
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

/// The message of a transaction, as every service of the institution answers with it.
pub(super) fn message_of(transaction: Transaction) -> institution_api::Transaction {
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
        decline_reason: transaction.decline_reason().map_or(0, |reason| reason.code().into()),
        amount_minor: transaction.amount.map_or(0, |amount| amount.minor()),
        currency: transaction
            .amount
            .map_or_else(String::new, |amount| amount.currency().to_string()),
        receipt: transaction.receipt,
        exclusion: transaction.exclusion,
        store_generation: Vec::new(),
        created_at_unix_s: transaction.created_at.seconds,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// The largest of everything, as docs/institution.md and the proto file promise it.
    #[test]
    fn receipts_exclusions_and_answers_keep_their_bounds() {
        use crate::credential::{SigningKey, sign_exclusion, sign_receipt};
        use crate::domain::{
            Amount, CommandDigest, DeclineReason, Exclusion, MINOR_UNITS_MAX, OfferDigest, Receipt,
            ReceiptStatus, TransactionId,
        };
        let key = SigningKey::from_scalar(&[7; 32]).unwrap();
        let id = TransactionId::from_random([0xff; 16]);
        let terminal_id = TerminalId::from_random([31; 10]);
        let amount = Amount::new(MINOR_UNITS_MAX, "KWD".parse().unwrap()).unwrap();
        let end = UnixTime { seconds: u64::MAX };
        let approval_code = "ZZZZZZ".to_owned();
        let receipt = [
            ReceiptStatus::Captured { approval_code, refunded_minor: MINOR_UNITS_MAX },
            ReceiptStatus::Declined(DeclineReason::Other),
        ]
        .map(|status| {
            let receipt = Receipt {
                transaction_id: id,
                offer_digest: OfferDigest([0xff; 32]),
                command_digest: CommandDigest([0xff; 32]),
                status,
                amount,
                terminal_id,
                decided_at: end,
            };
            sign_receipt(&receipt, &key).encode()
        })
        .into_iter()
        .max_by_key(Vec::len)
        .unwrap();
        let command_digest = Some(CommandDigest([0xff; 32]));
        let exclusion =
            Exclusion { transaction_id: id, terminal_id, command_digest, decided_at: end };
        let exclusion = sign_exclusion(&exclusion, &key).encode();
        assert!((128..=512).contains(&receipt.len()), "{}", receipt.len());
        assert!((128..=256).contains(&exclusion.len()), "{}", exclusion.len());
        let answer = Transaction {
            id,
            state: TransactionState::Reversed,
            is_too_late: true,
            amount: Some(amount),
            receipt: vec![0; 512],
            exclusion: vec![0; 256],
            created_at: end,
        };
        let answer =
            institution_api::Transaction { store_generation: vec![0xff; 16], ..message_of(answer) };
        let length = prost::Message::encoded_len(&answer);
        assert!((768..=1_024).contains(&length), "{length}");
    }

    #[test]
    fn an_offer_grows_older_while_its_request_waits_here() {
        let Some(heard_at) = Instant::now().checked_sub(Duration::from_secs(3)) else { return };
        assert!((4_000..60_000).contains(&age_by_now(1_000, heard_at)));
        assert_eq!(age_by_now(u64::MAX, heard_at), u64::MAX);
    }
}
