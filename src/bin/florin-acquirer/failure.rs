//! Errors that end `florin-acquirer`: what they say and their exit codes. `arguments.rs` lists the
//! codes for people.

use std::io;

use florin::causes::with_causes;
use florin::institution::{DirectoryError, InstitutionError, ServerError, SqliteOpenError};

/// The command line is right in form and wrong in what it says.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// The words that a person typed name nothing, or several things.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NotFound(pub String);

/// Whether the reader of the output has closed it.
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// What happened and what to do, with options and commands of this program.
pub fn message(error: &anyhow::Error) -> String {
    match error.downcast_ref::<InstitutionError>() {
        Some(InstitutionError::InvalidRequest { field, detail }) => {
            format!("--{}: {detail}", field.replace('_', "-"))
        }
        Some(InstitutionError::NotFound { what, id }) => {
            let group = what.split(' ').next().unwrap_or(what);
            format!("there is no {what} {id}; see `florin-acquirer {group} list`")
        }
        Some(_) | None => with_causes(error.as_ref()),
    }
}

/// The exit code of an error.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    if error.is::<Usage>() {
        return 2;
    }
    if error.is::<NotFound>() {
        return 3;
    }
    let of_directory = match error.downcast_ref() {
        Some(DirectoryError::Institution(error)) => Some(error),
        _ => None,
    };
    if let Some(error) = error.downcast_ref::<InstitutionError>().or(of_directory) {
        return match error {
            InstitutionError::Store(_) => 5,
            InstitutionError::InvalidRequest { .. }
            | InstitutionError::OtherContent(_)
            | InstitutionError::NotCapturable { .. }
            | InstitutionError::NotReversible { .. }
            | InstitutionError::NotWrittenOff { .. }
            | InstitutionError::NotRefundable { .. }
            | InstitutionError::RefundUsed(_)
            | InstitutionError::HoldEnded { .. }
            | InstitutionError::TooManyTombstones(_)
            | InstitutionError::SamePerson { .. }
            | InstitutionError::RequestDecided(_)
            | InstitutionError::OperatorRefused(_)
            | InstitutionError::NotFound { .. }
            | InstitutionError::CodeUnknown
            | InstitutionError::CodeExpired(_)
            | InstitutionError::CodeUsed
            | InstitutionError::Blocked(_)
            | InstitutionError::CertificateReplaced(_)
            | InstitutionError::TerminalCopied(_)
            | InstitutionError::NotCopied(_)
            | InstitutionError::NotPresentable { .. }
            | InstitutionError::CardNotProved => 3,
        };
    }
    if let Some(error) = error.downcast_ref::<DirectoryError>() {
        return match error {
            DirectoryError::Store(SqliteOpenError::File(_)) => 4,
            DirectoryError::Store(
                SqliteOpenError::NewerSchema { .. } | SqliteOpenError::Store { .. },
            ) => 5,
            DirectoryError::Invalid { .. }
            | DirectoryError::NoName(_)
            | DirectoryError::Certificate(_)
            | DirectoryError::Institution(_) => 3,
            DirectoryError::Randomness(_) | DirectoryError::Unlucky(_) => 7,
            DirectoryError::Served(_) => 6,
            DirectoryError::Initialised(_)
            | DirectoryError::NotEmpty(_)
            | DirectoryError::NotInitialised(_)
            | DirectoryError::Damaged { .. }
            | DirectoryError::Keys { .. }
            | DirectoryError::Restored { .. }
            | DirectoryError::RootKeyElsewhere(_)
            | DirectoryError::System { .. }
            | DirectoryError::File(_) => 4,
        };
    }
    if error.is::<ServerError>() { 6 } else { 7 }
}
