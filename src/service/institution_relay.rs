//! The relay to the institution that this terminal is enrolled with.

use super::{Configuration, Enrolment, ServiceError};
use crate::relay::GrpcRelay;

/// A relay to the reference institution's protocol, at the configured address or else the one of
/// the enrolment. Connects to nothing yet.
///
/// Where the institution speaks another protocol, another [`crate::relay::Relay`] takes its place
/// in [`super::serve`], [`super::reconcile`] and [`super::examine`].
///
/// # Errors
/// [`ServiceError::Institution`] if the enrolment's certificates or key cannot be used.
pub fn grpc_relay(
    configuration: &Configuration,
    enrolment: &Enrolment,
) -> Result<GrpcRelay, ServiceError> {
    let address =
        configuration.institution.clone().unwrap_or_else(|| enrolment.institution.clone());
    Ok(GrpcRelay::new(address, &enrolment.tls_files(), enrolment.identity.terminal_id())?)
}
