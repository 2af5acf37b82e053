//! The time limit on every call to BlueZ.

use std::time::Duration;

use tokio::time::timeout;

use super::fault::RadioFault;

/// How long BlueZ may take to answer. It needs a few milliseconds, a second if D-Bus has to start
/// it first; one that takes longer hangs.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// BlueZ's answer, or [`RadioFault::AnswerTimeout`]. bluer itself would wait for two minutes.
pub(super) async fn with_answer_timeout<T>(call: impl Future<Output = T>) -> Result<T, RadioFault> {
    timeout(ANSWER_TIMEOUT, call).await.map_err(|_| RadioFault::AnswerTimeout(ANSWER_TIMEOUT))
}
