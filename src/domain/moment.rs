//! Time as the core sees it: an input.

use std::fmt;

/// A point of the monotonic clock, in milliseconds since an origin that only the driver knows. Deadlines use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Moment {
    /// Milliseconds since the driver's origin.
    pub milliseconds: u64,
}

impl Moment {
    /// The moment that many milliseconds later; stays at the end of time rather than wrapping.
    #[must_use]
    pub fn plus_ms(self, milliseconds: u64) -> Self {
        Self { milliseconds: self.milliseconds.saturating_add(milliseconds) }
    }

    /// Milliseconds since `earlier`, 0 if it is later.
    pub fn since_ms(self, earlier: Self) -> u64 {
        self.milliseconds.saturating_sub(earlier.milliseconds)
    }
}

/// Seconds since 1970-01-01T00:00:00Z by some party's wall clock. A Pi has none of its own: never used for deadlines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UnixTime {
    /// Seconds since 1970-01-01T00:00:00Z.
    pub seconds: u64,
}

impl fmt::Display for UnixTime {
    /// Prints `2026-11-23T06:12:00Z`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let days = self.seconds / 86_400;
        let (hour, minute, second) = (self.seconds / 3600 % 24, self.seconds / 60 % 60, self.seconds % 60);
        // Days to a date of the proleptic Gregorian calendar, with years that start in March (H. Hinnant, 2013).
        let shifted = days + 719_468;
        let era = shifted / 146_097;
        let day_of_era = shifted % 146_097;
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        let year = year_of_era + era * 400 + u64::from(month <= 2);
        write!(formatter, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_time_prints_as_rfc_3339() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_795_414_320, "2026-11-23T06:12:00Z"),
            (4_102_444_799, "2099-12-31T23:59:59Z"),
        ] {
            assert_eq!(UnixTime { seconds }.to_string(), text);
        }
        let _ = UnixTime { seconds: u64::MAX - 719_468 * 86_400 }.to_string();
    }
}
