//! What the institution holds of this terminal's transactions: of a period, or one by one.
//!
//! Reads only. What it means is `terminal::Reconciliation`'s business.

use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};
use tonic::Status;

use super::connection::ConnectError;
use super::grpc::{CONNECT_TIMEOUT_MS, GrpcRelay, read_state};
use super::sent::Observed;
use crate::domain::{Amount, TransactionId, UnixTime};
use crate::institution_api;
use crate::terminal::InstitutionTransaction;

/// How long the institution may take to one answer, or to the next transaction of a list, in
/// milliseconds.
const ANSWER_TIMEOUT_MS: u64 = 30_000;

/// Why the institution's transactions are not known.
#[derive(Debug, thiserror::Error)]
pub enum StatementError {
    /// There is no way to the institution.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// It answered with a failure, or not at all.
    #[error("the institution did not give its transactions: {0}; try again later")]
    Failed(String),
}

impl From<Status> for StatementError {
    fn from(status: Status) -> Self {
        Self::Failed(format!("{}: {}", status.code(), status.message()))
    }
}

impl GrpcRelay {
    /// Every transaction of this terminal in a period by the institution's clock, oldest first:
    /// from included, until excluded. Each is handed to `take` as it comes.
    ///
    /// # Errors
    /// [`StatementError`]; what was taken before stands.
    pub async fn statement(
        &self,
        from: UnixTime,
        until: UnixTime,
        mut take: impl FnMut(InstitutionTransaction),
    ) -> Result<(), StatementError> {
        let message = institution_api::ReconcileRequest {
            terminal_id: self.terminal_id().to_string(),
            from_unix_s: from.seconds,
            until_unix_s: until.seconds,
        };
        let connection = self.live_connection(Instant::now() + connect_timeout()).await?;
        let observed = Observed::default();
        let mut client = self.client(&connection, &observed);
        let mut answers = in_time(client.reconcile(message)).await?.into_inner();
        while let Some(answer) = in_time(answers.message()).await? {
            let transaction =
                answer.transaction.ok_or_else(|| failed("an answer without a transaction"))?;
            take(read(transaction)?);
        }
        Ok(())
    }

    /// One transaction, as the institution holds it.
    ///
    /// # Errors
    /// [`StatementError`].
    pub async fn transaction(
        &self,
        transaction_id: TransactionId,
    ) -> Result<InstitutionTransaction, StatementError> {
        let message = institution_api::GetTransactionRequest {
            transaction_id: transaction_id.as_octets().to_vec(),
            terminal_id: self.terminal_id().to_string(),
        };
        let deadline =
            Instant::now() + connect_timeout() + Duration::from_millis(ANSWER_TIMEOUT_MS);
        let connection = self.live_connection(deadline).await?;
        let observed = Observed::default();
        let mut client = self.client(&connection, &observed);
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
}

fn connect_timeout() -> Duration {
    Duration::from_millis(CONNECT_TIMEOUT_MS)
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
