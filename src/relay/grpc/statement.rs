//! What the institution holds of this terminal's transactions: of a period, or one by one.
//!
//! Reads only. What it means is `terminal::Reconciliation`'s business.

use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};
use tonic::Status;

use super::super::StatementError;
use super::channel::{Channel, connect_timeout};
use super::delivery::DeliveryEvidence;
use super::transaction::read_state;
use crate::domain::{Amount, TransactionId, UnixTime};
use crate::institution_api;
use crate::terminal::InstitutionTransaction;

/// How long the institution may take to one answer, or to the next transaction of a list, in
/// milliseconds.
const ANSWER_TIMEOUT_MS: u64 = 30_000;

impl From<Status> for StatementError {
    fn from(status: Status) -> Self {
        Self::Failed(format!("{}: {}", status.code(), status.message()))
    }
}

/// Every transaction of the period, as the institution lists them.
pub(super) async fn statement(
    channel: &Channel,
    from: UnixTime,
    until: UnixTime,
) -> Result<Vec<InstitutionTransaction>, StatementError> {
    let message = institution_api::ReconcileRequest {
        terminal_id: channel.terminal_id.to_string(),
        from_unix_s: from.seconds,
        until_unix_s: until.seconds,
    };
    let connection = channel.live_connection(Instant::now() + connect_timeout()).await?;
    let evidence = DeliveryEvidence::default();
    let mut client = channel.client(&connection, &evidence);
    let mut answers = in_time(client.reconcile(message)).await?.into_inner();
    let mut transactions = Vec::new();
    while let Some(answer) = in_time(answers.message()).await? {
        let transaction =
            answer.transaction.ok_or_else(|| failed("an answer without a transaction"))?;
        transactions.push(read(transaction)?);
    }
    Ok(transactions)
}

/// One transaction, as the institution holds it.
pub(super) async fn transaction(
    channel: &Channel,
    transaction_id: TransactionId,
) -> Result<InstitutionTransaction, StatementError> {
    let message = institution_api::GetTransactionRequest {
        transaction_id: transaction_id.as_octets().to_vec(),
        terminal_id: channel.terminal_id.to_string(),
    };
    let deadline = Instant::now() + connect_timeout() + Duration::from_millis(ANSWER_TIMEOUT_MS);
    let connection = channel.live_connection(deadline).await?;
    let evidence = DeliveryEvidence::default();
    let mut client = channel.client(&connection, &evidence);
    let answer = timeout_at(deadline, client.get_transaction(message))
        .await
        .map_err(|_| failed("it is silent"))??
        .into_inner()
        .transaction
        .ok_or_else(|| failed("an answer without a transaction"))?;
    let transaction = read(answer)?;
    if transaction.transaction_id == transaction_id {
        Ok(transaction)
    } else {
        Err(failed("its answer is about another transaction"))
    }
}

async fn in_time<T>(answer: impl Future<Output = Result<T, Status>>) -> Result<T, StatementError> {
    let answered = timeout(Duration::from_millis(ANSWER_TIMEOUT_MS), answer).await;
    Ok(answered.map_err(|_| failed("it is silent"))??)
}

fn failed(detail: impl Into<String>) -> StatementError {
    StatementError::Failed(detail.into())
}

fn read(
    transaction: institution_api::Transaction,
) -> Result<InstitutionTransaction, StatementError> {
    let transaction_id = TransactionId::from_octets(&transaction.transaction_id)
        .map_err(|error| failed(error.to_string()))?;
    let amount = match (transaction.amount_minor, transaction.currency.as_str()) {
        (0, "") => None,
        (minor, currency) => {
            let currency =
                currency.parse().map_err(|error| failed(format!("{transaction_id}: {error}")))?;
            Some(
                Amount::new(minor, currency)
                    .map_err(|error| failed(format!("{transaction_id}: {error}")))?,
            )
        }
    };
    Ok(InstitutionTransaction {
        transaction_id,
        state: read_state(&transaction)
            .map_err(|detail| failed(format!("{transaction_id}: {detail}")))?,
        amount,
        created_at: UnixTime { seconds: transaction.created_at_unix_s },
    })
}
