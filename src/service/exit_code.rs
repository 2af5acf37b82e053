//! The service's exit codes: the one place that gives a fault its number.
//!
//! `florin pay` has its own, which say how a payment ended.

use std::path::PathBuf;
use std::process::ExitCode;

use super::randomness::NoRandomness;
use super::volatile_storage::volatile_storage_problem;
use super::{ConfigurationError, DriverError, EnrolmentError};
use crate::bluetooth::RadioFault;
use crate::domain::TerminalId;
use crate::journal::{JournalError, SqliteJournalError};
use crate::link::SocketAirError;
use crate::private_file::PrivateFileError;
use crate::relay::{ConnectError, HandshakeFault, StatementError};
use crate::till::TillListenError;

/// Why the service does not run.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    #[error(transparent)]
    Configuration(#[from] ConfigurationError),
    /// The enrolment, or the clock by which its certificates are checked.
    #[error(transparent)]
    Enrolment(#[from] EnrolmentError),
    #[error(transparent)]
    StateDirectory(#[from] PrivateFileError),
    #[error(
        "cannot open the state directory {}: {detail}; check that it exists and belongs to the \
         service's user",
        path.display()
    )]
    StateDirectoryUnusable {
        path: PathBuf,
        /// What the system says.
        detail: String,
    },
    #[error(
        "the state directory {} is in use: another florin service runs with it. Stop that one \
         (`systemctl stop florin`), or give this one a state directory of its own ([terminal] \
         state_directory)",
        .0.display()
    )]
    StateDirectoryInUse(PathBuf),
    /// What is written there does not survive a power cut.
    #[error("{}", volatile_storage_problem(path, file_system))]
    VolatileState { path: PathBuf, file_system: &'static str },
    #[error(transparent)]
    Journal(#[from] SqliteJournalError),
    /// The journal is another terminal's.
    #[error(
        "the journal {} holds open payments of terminal {begun_by}; this is terminal \
         {terminal_id}, which cannot settle them. Put back the enrolment of {begun_by} and run the \
         service until `florin payments --open` lists none, or put the journal back on the \
         terminal that it belongs to (docs/operations.md)",
        path.display()
    )]
    OtherTerminal {
        path: PathBuf,
        /// The terminal that began them.
        begun_by: TerminalId,
        terminal_id: TerminalId,
    },
    #[error(transparent)]
    Till(#[from] TillListenError),
    #[error("{0}{advice}", advice = advice(.0))]
    Institution(#[from] ConnectError),
    #[error(transparent)]
    Statement(#[from] StatementError),
    /// BlueZ or the adapter. Only a check ends with it: the service keeps trying.
    #[error(transparent)]
    Radio(#[from] RadioFault),
    /// The socket that was asked for in place of BlueZ.
    #[error(transparent)]
    Air(#[from] SocketAirError),
    /// It ran, and cannot go on.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// No randomness, no thread, no signal handler.
    #[error("the operating system does not provide {what}: {detail}")]
    System {
        /// What was asked for.
        what: &'static str,
        detail: String,
    },
}

/// What an operator can do where there is no connection to the institution, after the error.
fn advice(error: &ConnectError) -> &'static str {
    match error {
        ConnectError::Credentials(_) => "; enrol again: `florin enrol --replace`",
        ConnectError::Name { .. }
        | ConnectError::Unreachable { .. }
        | ConnectError::Silent { .. }
        | ConnectError::Handshake {
            fault: HandshakeFault::Silent { .. } | HandshakeFault::Other(_),
            ..
        } => "; check the network and the institution's address ([institution] url)",
        // They say so themselves.
        ConnectError::Handshake {
            fault:
                HandshakeFault::OtherServer(_)
                | HandshakeFault::ServerCertificatePeriod(_)
                | HandshakeFault::TerminalRefused(_),
            ..
        } => "",
    }
}

impl From<NoRandomness> for ServiceError {
    fn from(NoRandomness(detail): NoRandomness) -> Self {
        Self::System { what: "randomness", detail }
    }
}

impl From<JournalError> for ServiceError {
    fn from(error: JournalError) -> Self {
        Self::Journal(error.into())
    }
}

/// How the service ends, as its caller sees it. A number never changes its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ServiceExit {
    Other = 1,
    /// The configuration is wrong: the message names file, line, column and key.
    Configuration = 10,
    /// There is no enrolment, or it cannot be read.
    NotEnrolled = 11,
    /// A certificate has expired, or is not valid yet.
    Certificate = 12,
    /// The clock shows a time before the program was built.
    ClockUnset = 13,
    /// State directory or journal cannot be used.
    Journal = 14,
    /// The till API's address cannot be used.
    Till = 15,
    /// No D-Bus, or no BlueZ on it.
    BlueZNotRunning = 16,
    /// D-Bus does not let this user talk to BlueZ.
    Forbidden = 17,
    /// No adapter that is not blocked and can advertise.
    NoAdapter = 18,
    /// The institution cannot be reached, or does not accept the client certificate.
    Institution = 19,
    /// Open payments in the journal are another terminal's, or another institution's. (20 is
    /// `florin reconcile`'s.)
    OtherTerminal = 21,
}

impl From<ServiceExit> for ExitCode {
    fn from(exit: ServiceExit) -> Self {
        Self::from(exit as u8)
    }
}

impl ServiceError {
    /// The exit code of a process that ends because of it.
    pub fn exit(&self) -> ServiceExit {
        match self {
            Self::Configuration(_) => ServiceExit::Configuration,
            Self::Enrolment(error) => match error {
                EnrolmentError::Expired { .. } | EnrolmentError::NotYetValid { .. } => {
                    ServiceExit::Certificate
                }
                EnrolmentError::ClockUnset { .. } => ServiceExit::ClockUnset,
                EnrolmentError::NotEnrolled(_)
                | EnrolmentError::Damaged { .. }
                | EnrolmentError::File(_)
                | EnrolmentError::Enrolled { .. }
                | EnrolmentError::Untrusted(_)
                | EnrolmentError::Keys(_) => ServiceExit::NotEnrolled,
                EnrolmentError::Enrol(_) | EnrolmentError::Renewal(_) => ServiceExit::Institution,
                EnrolmentError::Journal(_) => ServiceExit::Journal,
                EnrolmentError::OpenPayments { .. } => ServiceExit::OtherTerminal,
            },
            Self::StateDirectory(_)
            | Self::StateDirectoryUnusable { .. }
            | Self::StateDirectoryInUse(_)
            | Self::VolatileState { .. }
            | Self::Journal(_) => ServiceExit::Journal,
            Self::OtherTerminal { .. } => ServiceExit::OtherTerminal,
            Self::Till(_) => ServiceExit::Till,
            Self::Institution(error) => match error {
                ConnectError::Credentials(_) => ServiceExit::NotEnrolled,
                ConnectError::Name { .. }
                | ConnectError::Unreachable { .. }
                | ConnectError::Handshake { .. }
                | ConnectError::Silent { .. } => ServiceExit::Institution,
            },
            Self::Statement(_) => ServiceExit::Institution,
            Self::Radio(fault) => match fault {
                RadioFault::BusUnreachable(_)
                | RadioFault::BlueZNotRunning(_)
                | RadioFault::AnswerTimeout(_)
                | RadioFault::BlueZRestarted => ServiceExit::BlueZNotRunning,
                RadioFault::AccessDenied(_) => ServiceExit::Forbidden,
                RadioFault::NoAdapter
                | RadioFault::AdapterNotFound { .. }
                | RadioFault::Blocked(_)
                | RadioFault::AdvertisingUnsupported(_)
                | RadioFault::PoweredOff(_) => ServiceExit::NoAdapter,
                RadioFault::AdvertisementLost(_) | RadioFault::Other { .. } => ServiceExit::Other,
            },
            Self::Driver(error) => match error {
                DriverError::Journal(_) | DriverError::Thread(_) | DriverError::JournalStopped => {
                    ServiceExit::Journal
                }
                DriverError::LinkStopped => ServiceExit::Other,
            },
            Self::Air(_) | Self::System { .. } => ServiceExit::Other,
        }
    }
}
