//! How the way to the institution is: reached, how long a question takes, what its clock says.
//!
//! What the figures mean is the doctor's business.

use std::time::{Duration, UNIX_EPOCH};

use tokio::time::{Instant, timeout_at};

use super::super::interface::milliseconds_since;
use super::super::{ConnectError, InstitutionExamination};
use super::channel::{Channel, connect_timeout};
use super::delivery::DeliveryEvidence;
use crate::domain::{TransactionId, UnixTime};
use crate::institution_api;

/// How long the institution may take to its answer, in milliseconds.
const ANSWER_TIMEOUT_MS: u64 = 10_000;

/// Connects and asks once.
pub(super) async fn examine(
    channel: &Channel,
    unused: TransactionId,
) -> Result<InstitutionExamination, ConnectError> {
    let started = Instant::now();
    let connection = channel.live_connection(started + connect_timeout()).await?;
    let connect_ms = milliseconds_since(started);
    let message = institution_api::GetTransactionRequest {
        transaction_id: unused.as_octets().to_vec(),
        terminal_id: channel.terminal_id.to_string(),
    };
    let evidence = DeliveryEvidence::default();
    let mut client = channel.client(&connection, &evidence);
    let asked = Instant::now();
    let deadline = asked + Duration::from_millis(ANSWER_TIMEOUT_MS);
    let answer = timeout_at(deadline, client.get_transaction(message)).await;
    let round_trip_ms = milliseconds_since(asked);
    let (clock, refusal) = match &answer {
        Ok(Ok(answer)) => (date(answer.metadata()), None),
        Ok(Err(status)) => {
            (date(status.metadata()), Some(format!("{:?}: {}", status.code(), status.message())))
        }
        Err(_) => (None, Some(format!("no answer within {ANSWER_TIMEOUT_MS} ms"))),
    };
    Ok(InstitutionExamination { connect_ms, round_trip_ms, clock, refusal })
}

/// The header `Date` (RFC 9110, 6.6.1), which HTTP servers with a clock send.
fn date(headers: &tonic::metadata::MetadataMap) -> Option<UnixTime> {
    let date = httpdate::parse_http_date(headers.get("date")?.to_str().ok()?).ok()?;
    date.duration_since(UNIX_EPOCH).ok().map(|since| UnixTime { seconds: since.as_secs() })
}
