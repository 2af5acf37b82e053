//! Repeats calls of the till API whose answer may have been lost: a restart of the service takes a
//! few seconds.

use std::time::Duration;

use florin::till::{NewPayment, PaymentJson, TillClient, TillClientError};
use tokio::time::{Instant, sleep};

/// How long a call is repeated while the service does not answer, in milliseconds.
const RESTART_TIMEOUT_MS: u64 = 30_000;
/// How long to wait between two attempts, in milliseconds.
pub const RETRY_PAUSE_MS: u64 = 500;

/// Since when the service has not answered.
#[derive(Debug, Default)]
pub struct Unanswered(Option<Instant>);

impl Unanswered {
    /// Notes a call without an answer; true if the service has been silent for too long.
    pub fn is_too_long(&mut self) -> bool {
        let since = *self.0.get_or_insert_with(Instant::now);
        since.elapsed() > Duration::from_millis(RESTART_TIMEOUT_MS)
    }

    /// Notes an answer.
    pub fn end(&mut self) {
        self.0 = None;
    }
}

/// Offers the payment. If the answer is lost, asks again with the same key; if the service cannot
/// be reached at all, nothing was asked, and this fails at once.
pub async fn create(
    client: &TillClient,
    payment: &NewPayment,
    key: &str,
) -> Result<(PaymentJson, String), TillClientError> {
    match client.create(payment, Some(key)).await {
        Err(error @ TillClientError::Unreachable { .. }) => Err(error),
        Err(error) if is_transient(&error) => {
            match until_answered(|| client.create(payment, Some(key))).await {
                // The service is gone; it may have done the first call before.
                Err(TillClientError::Unreachable { .. }) => Err(error),
                result => result,
            }
        }
        result => result,
    }
}

/// Repeats an idempotent call until the service answers it, for a bounded time.
pub async fn until_answered<T>(
    mut call: impl AsyncFnMut() -> Result<T, TillClientError>,
) -> Result<T, TillClientError> {
    let mut unanswered = Unanswered::default();
    loop {
        match call().await {
            Err(error) if !is_transient(&error) || unanswered.is_too_long() => return Err(error),
            Err(_) => sleep(Duration::from_millis(RETRY_PAUSE_MS)).await,
            result => return result,
        }
    }
}

/// Whether the same call may succeed later: the service was not reached, gave no answer, is
/// stopping, or has too much to do.
pub fn is_transient(error: &TillClientError) -> bool {
    match error {
        TillClientError::Unreachable { .. } | TillClientError::Lost(_) => true,
        TillClientError::Refused { kind, .. } => {
            let transient = ["busy", "stopping", "no-answer"];
            kind.strip_prefix("urn:florin:problem:").is_some_and(|name| transient.contains(&name))
        }
        TillClientError::Foreign { .. } => false,
    }
}
