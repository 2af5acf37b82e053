//! How the way to the institution is: reached, how long a question takes, what its clock says.
//!
//! Asks about a transaction that nobody made, which changes nothing there. What the figures mean is
//! the doctor's business.

use std::time::{Duration, UNIX_EPOCH};

use tokio::time::{Instant, timeout_at};

use super::connection::ConnectError;
use super::grpc::{CONNECT_TIMEOUT_MS, GrpcRelay};
use super::sent::Observed;
use crate::domain::{TransactionId, UnixTime};
use crate::institution_api;

/// How long the institution may take to its answer, in milliseconds.
const ANSWER_TIMEOUT_MS: u64 = 10_000;

/// What was seen of the institution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstitutionExamination {
    /// How long it took until its first words over TLS, in milliseconds.
    pub connect_ms: u64,
    /// How long one question took over the open connection, in milliseconds.
    pub round_trip_ms: u64,
    /// Its clock, where it tells: whole seconds, at some moment of the round trip.
    pub clock: Option<UnixTime>,
    /// What it said instead of an answer.
    pub refusal: Option<String>,
}

impl GrpcRelay {
    /// Connects and asks once. `unused` is an id that was just drawn.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn examine(
        &self,
        unused: TransactionId,
    ) -> Result<InstitutionExamination, ConnectError> {
        let begun = Instant::now();
        let connection =
            self.live_connection(begun + Duration::from_millis(CONNECT_TIMEOUT_MS)).await?;
        let connect_ms = milliseconds_since(begun);
        let message = institution_api::GetTransactionRequest {
            transaction_id: unused.as_octets().to_vec(),
            terminal_id: self.terminal_id().to_string(),
        };
        let observed = Observed::default();
        let mut client = self.client(&connection, &observed);
        let asked = Instant::now();
        let answer = timeout_at(
            asked + Duration::from_millis(ANSWER_TIMEOUT_MS),
            client.get_transaction(message),
        )
        .await;
        let round_trip_ms = milliseconds_since(asked);
        let (clock, refusal) = match &answer {
            Ok(Ok(answer)) => (date(answer.metadata()), None),
            Ok(Err(status)) => (
                date(status.metadata()),
                Some(format!("{:?}: {}", status.code(), status.message())),
            ),
            Err(_) => (None, Some(format!("no answer within {ANSWER_TIMEOUT_MS} ms"))),
        };
        Ok(InstitutionExamination { connect_ms, round_trip_ms, clock, refusal })
    }
}

/// The header `Date` (RFC 9110, 6.6.1), which HTTP servers with a clock send.
fn date(headers: &tonic::metadata::MetadataMap) -> Option<UnixTime> {
    let date = httpdate::parse_http_date(headers.get("date")?.to_str().ok()?).ok()?;
    date.duration_since(UNIX_EPOCH).ok().map(|since| UnixTime { seconds: since.as_secs() })
}

fn milliseconds_since(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX)
}
