//! How long an enrolment code can be used.

use clap::Args;
use florin::command_line::whole_number;
use florin::domain::UnixTime;

/// How long an enrolment code can be used.
#[derive(Debug, Args)]
pub struct CodeValidity {
    /// How long the code can be used, in hours, 1 to 8760.
    #[arg(
        long,
        value_name = "HOURS",
        default_value_t = 24,
        value_parser = whole_number::<u64>("hours", 1..=8760),
    )]
    valid_for_hours: u64,
}

impl CodeValidity {
    /// The last second in which a code that is made now can be used.
    pub fn not_after(&self, now: UnixTime) -> UnixTime {
        UnixTime { seconds: now.seconds + self.valid_for_hours * 3_600 }
    }
}
