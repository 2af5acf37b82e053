//! Durations for people, in the largest unit that they fill: `40 seconds`, `1 day`.

use crate::plural::counted;

const MINUTE_S: u64 = 60;
const HOUR_S: u64 = 60 * MINUTE_S;
const DAY_S: u64 = 24 * HOUR_S;

/// Rounded down to whole units.
pub fn duration_text(seconds: u64) -> String {
    if seconds >= DAY_S {
        counted(seconds / DAY_S, "day", "days")
    } else if seconds >= HOUR_S {
        counted(seconds / HOUR_S, "hour", "hours")
    } else if seconds >= MINUTE_S {
        counted(seconds / MINUTE_S, "minute", "minutes")
    } else {
        counted(seconds, "second", "seconds")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_told_in_its_largest_unit_and_agrees_with_it() {
        for (seconds, text) in [
            (0, "0 seconds"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "1 minute"),
            (7_199, "1 hour"),
            (86_399, "23 hours"),
            (86_400, "1 day"),
            (30 * 86_400, "30 days"),
        ] {
            assert_eq!(duration_text(seconds), text);
        }
    }
}
