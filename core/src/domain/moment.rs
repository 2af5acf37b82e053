//! Time as the core sees it: an input.

use std::fmt;
use std::str::FromStr;

/// A point of the monotonic clock, in milliseconds since an origin that only the driver knows.
/// Deadlines use it.
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

/// Seconds since 1970-01-01T00:00:00Z by some party's wall clock. A Pi has none of its own: never
/// used for deadlines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UnixTime {
    /// Seconds since 1970-01-01T00:00:00Z.
    pub seconds: u64,
}

impl fmt::Display for UnixTime {
    /// Prints `2026-11-23T06:12:00Z`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let days = self.seconds / 86_400;
        let (hour, minute, second) =
            (self.seconds / 3600 % 24, self.seconds / 60 % 60, self.seconds % 60);
        // Days to a date of the proleptic Gregorian calendar, with years that start in March (H.
        // Hinnant, 2013).
        let shifted = days + 719_468;
        let era = shifted / 146_097;
        let day_of_era = shifted % 146_097;
        let year_of_era =
            (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        let year = year_of_era + era * 400 + u64::from(month <= 2);
        write!(formatter, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

/// Why a text is no point in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected a date such as 2026-11-23, or a time in UTC such as 2026-11-23T06:12:00Z, from 1970 \
     on"
)]
pub struct UnixTimeError;

impl FromStr for UnixTime {
    type Err = UnixTimeError;

    /// Reads `2026-11-23` (its first second, in UTC) or `2026-11-23T06:12:00Z`.
    fn from_str(text: &str) -> Result<Self, UnixTimeError> {
        let (date, time) = text.split_once('T').unwrap_or((text, "00:00:00Z"));
        let numbers = |text: &str, separator, digits: [usize; 3]| -> Option<[u64; 3]> {
            let parts: Vec<&str> = text.split(separator).collect();
            let mut numbers = [0; 3];
            if parts.len() != 3 {
                return None;
            }
            for ((number, part), digits) in numbers.iter_mut().zip(&parts).zip(digits) {
                let is_number =
                    part.len() == digits && part.bytes().all(|octet| octet.is_ascii_digit());
                *number = part.parse().ok().filter(|_| is_number)?;
            }
            Some(numbers)
        };
        let [year, month, day] = numbers(date, '-', [4, 2, 2]).ok_or(UnixTimeError)?;
        let time = time.strip_suffix('Z').ok_or(UnixTimeError)?;
        let [hour, minute, second] = numbers(time, ':', [2, 2, 2]).ok_or(UnixTimeError)?;
        if !(1..=12).contains(&month)
            || !(1..=31).contains(&day)
            || hour > 23
            || minute > 59
            || second > 59
        {
            return Err(UnixTimeError);
        }
        // The inverse of what printing does.
        let year = year - u64::from(month <= 2);
        let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
        let day_of_era = year % 400 * 365 + year % 400 / 4 - year % 400 / 100 + day_of_year;
        let days = (year / 400 * 146_097 + day_of_era).checked_sub(719_468).ok_or(UnixTimeError)?;
        let read = Self { seconds: days * 86_400 + hour * 3600 + minute * 60 + second };
        // The 31st of a month of thirty days comes out as another date.
        if read.to_string().starts_with(date) { Ok(read) } else { Err(UnixTimeError) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_time_prints_and_reads_as_rfc_3339() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_795_414_320, "2026-11-23T06:12:00Z"),
            (4_102_444_799, "2099-12-31T23:59:59Z"),
        ] {
            assert_eq!(UnixTime { seconds }.to_string(), text);
        }
        for second in (0..4_102_444_799).step_by(86_400 * 13 + 3_661) {
            let time = UnixTime { seconds: second };
            assert_eq!(time.to_string().parse(), Ok(time));
        }
        assert_eq!("2026-11-23".parse(), Ok(UnixTime { seconds: 1_795_392_000 }));
        for wrong in [
            "",
            "2026-11",
            "2026-11-31",
            "2025-02-29",
            "2026-13-01",
            "2026-11-23T24:00:00Z",
            "2026-11-23T06:12:00",
            "26-11-23",
            "0000-00-00",
            "1969-12-31",
            "2026-1-023",
            "+026-11-23",
            "yesterday",
        ] {
            assert_eq!(wrong.parse::<UnixTime>(), Err(UnixTimeError), "{wrong}");
        }
        let _ = UnixTime { seconds: u64::MAX - 719_468 * 86_400 }.to_string();
    }
}
