//! Why there is no usable enrolment.

use std::path::PathBuf;

use crate::credential::CredentialError;
use crate::domain::{TerminalId, UnixTime};
use crate::journal::SqliteJournalError;
use crate::plural::counted;
use crate::private_file::PrivateFileError;
use crate::relay::{EnrolError, RenewalError};

/// Why there is no usable enrolment.
#[derive(Debug, thiserror::Error)]
pub enum EnrolmentError {
    /// Nothing was enrolled here.
    #[error(
        "this terminal is not enrolled (there is no {}); ask the institution for a code and run \
         `florin enrol`",
        .0.display()
    )]
    NotEnrolled(PathBuf),
    /// There is an enrolment already.
    #[error(
        "this terminal is already enrolled{} ({}); add --replace to give that enrolment up",
        terminal_id.as_ref().map(|id| format!(" as {id}")).unwrap_or_default(),
        path.display()
    )]
    Enrolled {
        /// The terminal of that enrolment; none if it cannot be read.
        terminal_id: Option<String>,
        path: PathBuf,
    },
    /// The file cannot be read or written.
    #[error(transparent)]
    File(#[from] PrivateFileError),
    /// The file is not what `florin enrol` writes.
    #[error(
        "{} cannot be used: {problem}; enrol again with `florin enrol --replace`",
        path.display()
    )]
    Damaged { path: PathBuf, problem: String },
    #[error(
        "the {certificate} expired at {until}, and the clock says {now}; if the clock is right, \
         enrol again: `florin enrol --replace`"
    )]
    Expired { certificate: &'static str, until: UnixTime, now: UnixTime },
    #[error(
        "the {certificate} is valid from {from}, and the clock says {now}; set the clock \
         (`timedatectl` shows whether it is synchronised)"
    )]
    NotYetValid { certificate: &'static str, from: UnixTime, now: UnixTime },
    /// The clock shows a time before this program was built.
    #[error(
        "the clock says {now}, which is before this program was built ({built_at}); set the clock, \
         or wait until it is synchronised (`timedatectl`)"
    )]
    ClockUnset { now: UnixTime, built_at: UnixTime },
    #[error(transparent)]
    Enrol(#[from] EnrolError),
    #[error(transparent)]
    Renewal(#[from] RenewalError),
    /// The parts of the institution's answer do not belong together.
    #[error(
        "the institution's answer cannot be trusted: {0}; nothing was stored. Check that --root \
         and --institution are this institution's"
    )]
    Untrusted(String),
    /// The journal, which may hold open payments of the enrolment that is to be replaced.
    #[error("cannot see whether payments are open, so nothing was replaced: {0}")]
    Journal(#[from] SqliteJournalError),
    /// They could not be settled afterwards.
    #[error(
        "{}. Terminal {terminal_id} could not settle open payments with this institution: another \
         terminal began them, or they are with another institution. Nothing was replaced. Start \
         the service as it is, wait until `florin payments --open` lists none, and enrol again \
         with the same code",
        counted(*count as u64, "payment is open", "payments are open")
    )]
    OpenPayments {
        count: usize,
        /// The terminal that it was to become.
        terminal_id: TerminalId,
    },
    #[error("cannot make the terminal's keys: {0}")]
    Keys(String),
}

impl From<CredentialError> for EnrolmentError {
    fn from(error: CredentialError) -> Self {
        Self::Untrusted(error.to_string())
    }
}
