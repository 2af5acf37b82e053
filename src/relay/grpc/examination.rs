//! How the way to the institution is: reached, how long a question takes, what its clock says.
//!
//! What the figures mean is the doctor's business.

use std::time::UNIX_EPOCH;

use tokio::time::Instant;

use super::super::interface::milliseconds_since;
use super::super::{ConnectError, InstitutionExamination};
use super::channel::{Channel, connect_timeout};
use super::standing::ask_once;
use crate::domain::UnixTime;

/// Connects and asks once how this terminal stands.
pub(super) async fn examine(channel: &Channel) -> Result<InstitutionExamination, ConnectError> {
    let started = Instant::now();
    let connection = channel.live_connection(started + connect_timeout()).await?;
    let connect_ms = milliseconds_since(started);
    let asked = Instant::now();
    let (word, headers) = ask_once(channel, &connection).await;
    let round_trip_ms = milliseconds_since(asked);
    let clock = headers.as_ref().and_then(date);
    Ok(InstitutionExamination { connect_ms, round_trip_ms, clock, refusal: word.err() })
}

/// The header `Date` (RFC 9110, 6.6.1), which HTTP servers with a clock send.
fn date(headers: &tonic::metadata::MetadataMap) -> Option<UnixTime> {
    let date = httpdate::parse_http_date(headers.get("date")?.to_str().ok()?).ok()?;
    date.duration_since(UNIX_EPOCH).ok().map(|since| UnixTime { seconds: since.as_secs() })
}
