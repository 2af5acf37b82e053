//! The wall clock, for the edges: the institution takes the time as an input.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::domain::UnixTime;

/// The time now; 1970-01-01 for a clock that is set to an earlier time.
pub(super) fn unix_time() -> UnixTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixTime { seconds: since.as_secs() }
}
