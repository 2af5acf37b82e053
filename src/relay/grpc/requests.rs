//! The engine's requests as calls of the reference institution, each sent once.
//!
//! Whether a request was sent and what a failure means is decided in `delivery`.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use tonic::Status;

use super::channel::Channel;
use super::connection::ObservedConnection;
use super::delivery::{DeliveryEvidence, answered, not_sent};
use super::transaction::read_transaction;
use crate::domain::{ReversalReason, TransactionId};
use crate::institution_api;
use crate::institution_api::payments_client::PaymentsClient;
use crate::terminal::{InstitutionAnswer, InstitutionRequest, TransactionClaim};

/// Asks once, and says what became of it within `timeout_ms`.
pub(super) async fn ask(
    channel: &Channel,
    request: InstitutionRequest,
    timeout_ms: u64,
) -> InstitutionAnswer {
    let started = Instant::now();
    let deadline = started + Duration::from_millis(timeout_ms);
    let (transaction_id, question) = (request.transaction_id(), request.name());
    let mut may_reconnect = true;
    let answer = loop {
        let connection = match channel.live_connection(deadline).await {
            Ok(connection) => connection,
            Err(error) => break not_sent(error),
        };
        let evidence = DeliveryEvidence::default();
        let mut client = channel.client(&connection, &evidence);
        let terminal_id = channel.terminal_id.to_string();
        let calling = call(&mut client, terminal_id, request.clone());
        let answer = match timeout_at(deadline, calling).await {
            Ok(Ok(transaction)) => {
                channel.note_generation(transaction.as_ref());
                answered(read_transaction(transaction, transaction_id))
            }
            // The connection had closed before, and nobody had noticed: the request came back
            // whole.
            Ok(Err(_)) if may_reconnect && evidence.is_unsent() => {
                may_reconnect = false;
                channel.forget(&connection);
                continue;
            }
            Ok(Err(status)) => evidence.failure(&status),
            Err(_) => evidence.time_over(timeout_ms),
        };
        if let InstitutionAnswer::Unanswered { .. } = &answer {
            channel.forget(&connection);
        }
        break answer;
    };
    log_answer(&answer, transaction_id, question, started);
    answer
}

fn log_answer(
    answer: &InstitutionAnswer,
    transaction_id: TransactionId,
    question: &str,
    started: Instant,
) {
    match answer {
        InstitutionAnswer::Transaction(TransactionClaim { state, .. }) => {
            let duration_ms = started.elapsed().as_millis();
            tracing::debug!(
                %transaction_id, question, ?state, duration_ms,
                "the institution answered"
            );
        }
        InstitutionAnswer::Refused { detail } => {
            tracing::warn!(%transaction_id, question, detail, "the institution refused");
        }
        // Not one line for each attempt: the service says when it loses the institution.
        InstitutionAnswer::NotSent { detail } => {
            tracing::debug!(
                %transaction_id, question, detail,
                "cannot reach the institution; nothing was sent"
            );
        }
        InstitutionAnswer::Unanswered { detail } => {
            tracing::debug!(
                %transaction_id, question, detail,
                "the institution has not answered; the outcome is not known"
            );
        }
    }
}

async fn call(
    client: &mut PaymentsClient<ObservedConnection>,
    terminal_id: String,
    request: InstitutionRequest,
) -> Result<Option<institution_api::Transaction>, Status> {
    let octets = |id: TransactionId| id.as_octets().to_vec();
    Ok(match request {
        InstitutionRequest::Authorise {
            transaction_id,
            offer,
            offer_age_ms,
            sealed_command,
            sequence,
        } => {
            let message = institution_api::AuthoriseRequest {
                transaction_id: octets(transaction_id),
                terminal_id,
                offer,
                offer_age_ms,
                sealed_command,
                sequence,
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
            let message = institution_api::ReverseRequest {
                transaction_id: octets(transaction_id),
                terminal_id,
                reason: reversal_reason(reason).into(),
            };
            client.reverse(message).await?.into_inner().transaction
        }
        InstitutionRequest::Present {
            transaction_id,
            offer,
            sealed_command,
            receipt,
            exclusion,
            sequence,
        } => {
            let message = institution_api::PresentRequest {
                transaction_id: octets(transaction_id),
                terminal_id,
                offer,
                sealed_command,
                receipt,
                exclusion,
                sequence,
            };
            client.present(message).await?.into_inner().transaction
        }
    })
}

fn reversal_reason(reason: ReversalReason) -> institution_api::ReversalReason {
    match reason {
        ReversalReason::Unanswered => institution_api::ReversalReason::Unanswered,
        ReversalReason::DispenseFailed => institution_api::ReversalReason::DispenseFailed,
        ReversalReason::Cancelled => institution_api::ReversalReason::Cancelled,
        ReversalReason::DispenseUnknown => institution_api::ReversalReason::DispenseUnknown,
        ReversalReason::NotUsed => institution_api::ReversalReason::NotUsed,
    }
}
