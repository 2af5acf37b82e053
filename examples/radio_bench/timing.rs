//! Durations as the benchmark prints them: in milliseconds, and by their median.

use std::time::Duration;

/// A duration in milliseconds.
pub fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// The median; of an even number of durations, the upper of the two in the middle.
pub fn median(durations: &mut [Duration]) -> Duration {
    durations.sort_unstable();
    durations.get(durations.len() / 2).copied().unwrap_or_default()
}
