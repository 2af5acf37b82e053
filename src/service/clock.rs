//! The machine's clocks, read here and nowhere else in the service.

use std::time::{SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use crate::domain::{Moment, UnixTime};
use crate::terminal::Now;

/// The wall clock: for people, and to check certificates. It may jump, and may be years off where
/// it was never set.
pub fn wall_clock() -> UnixTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    UnixTime { seconds: since.map_or(0, |since| since.as_secs()) }
}

/// What the engine is told: the time since `start`, which only goes forward, and the wall clock.
pub(super) fn now(start: Instant) -> Now {
    let milliseconds = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    Now { moment: Moment { milliseconds }, wall: wall_clock() }
}
