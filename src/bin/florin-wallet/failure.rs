//! Errors that end `florin-wallet` before a session does: their names and exit codes.

use std::path::PathBuf;

use florin::bluetooth::CentralError;
use florin::private_file::PrivateFileError;
use florin::wallet::{DirectoryError, EnrolmentError, OnlineError};

use crate::radio_error::RadioError;

/// The options of the command line do not fit together.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// No card, or not clear which.
#[derive(Debug, thiserror::Error)]
pub enum NoCard {
    #[error("there is no card in {}; put one in with `florin-wallet enrol`", .0.display())]
    None(PathBuf),
    #[error("there are several cards ({0}); say which one with --card")]
    Several(String),
}

/// The name and the exit code of an error. `arguments.rs` lists the codes for people.
pub fn name_and_exit_code(error: &anyhow::Error) -> (&'static str, u8) {
    if error.is::<Usage>() {
        ("usage", 2)
    } else if let Some(error) = error.downcast_ref::<RadioError>() {
        match error {
            RadioError::Central(error) => of_central(error),
            RadioError::EmulatedAir(_) => ("link_failed", 8),
            RadioError::NotFound { .. } => ("no_terminal", 7),
            RadioError::OutOfService(_) => ("out_of_service", 7),
            RadioError::NotChosen => ("cancelled", 6),
        }
    } else if let Some(error) = error.downcast_ref::<CentralError>() {
        of_central(error)
    } else if let Some(error) = error.downcast_ref::<EnrolmentError>() {
        match error {
            EnrolmentError::Directory(_) => ("wallet", 11),
            EnrolmentError::Contact(_)
            | EnrolmentError::Refused(_)
            | EnrolmentError::Failed(_)
            | EnrolmentError::Answer(_)
            | EnrolmentError::Random(_) => ("enrolment_failed", 10),
        }
    } else if let Some(error) = error.downcast_ref::<OnlineError>() {
        match error {
            OnlineError::Directory(_) | OnlineError::Store(_) => ("wallet", 11),
            OnlineError::NoContact
            | OnlineError::Contact(_)
            | OnlineError::TooSlow(_)
            | OnlineError::Refused(_)
            | OnlineError::Failed(_)
            | OnlineError::Answer(_) => ("institution", 10),
        }
    } else if error.is::<DirectoryError>() || error.is::<PrivateFileError>() || error.is::<NoCard>()
    {
        ("wallet", 11)
    } else {
        ("error", 1)
    }
}

fn of_central(error: &CentralError) -> (&'static str, u8) {
    if error.is_about_this_machine() { ("no_bluetooth", 9) } else { ("link_failed", 8) }
}
