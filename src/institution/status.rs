//! Which gRPC status an error is.

use tonic::Status;

use super::certificate_authority::CertificateError;
use super::error::InstitutionError;
use super::randomness::RandomnessError;
use super::request_queue::QueueError;
use super::store::StoreError;

/// The status of a request that was not done.
pub(super) fn status(error: QueueError) -> Status {
    let message = error.to_string();
    match error {
        QueueError::Busy | QueueError::Late | QueueError::Ended => Status::unavailable(message),
        QueueError::Failed => Status::internal(message),
        QueueError::Institution(error) => match error {
            InstitutionError::InvalidRequest { .. } => Status::invalid_argument(message),
            InstitutionError::OtherContent(_) => Status::already_exists(message),
            InstitutionError::NotCapturable { .. }
            | InstitutionError::CodeExpired(_)
            | InstitutionError::CodeUsed => Status::failed_precondition(message),
            InstitutionError::NotFound { .. } => Status::not_found(message),
            InstitutionError::CodeUnknown | InstitutionError::Blocked(_) => {
                Status::permission_denied(message)
            }
            InstitutionError::CertificateReplaced(_) => Status::unauthenticated(message),
            InstitutionError::Store(StoreError::Busy) => Status::unavailable(
                "the institution's store is busy; nothing was changed; send the same request again \
                 later",
            ),
            InstitutionError::Store(
                error @ (StoreError::Failed { .. }
                | StoreError::Corrupt { .. }
                | StoreError::RuleBroken { .. }),
            ) => {
                // Only the operator can repair it: the terminal is told what it can do itself.
                tracing::error!("{error}");
                Status::internal(
                    "the institution cannot read or write its store; its operator has to repair \
                     it; send the same request again later",
                )
            }
        },
    }
}

/// The status of an enrolment whose client certificate could not be made.
pub(super) fn certificate_status(error: CertificateError) -> Status {
    tracing::error!(%error, "a client certificate could not be made");
    Status::internal(format!("{error}; the code may be used again with the same keys"))
}

/// The status of a request for which there are no random octets.
pub(super) fn no_randomness(error: RandomnessError) -> Status {
    tracing::error!("{error}");
    Status::unavailable(
        "the institution's machine gives no random octets at the moment; nothing was begun; send \
         the same request again later",
    )
}
