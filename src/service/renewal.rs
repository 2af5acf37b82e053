//! What changes in a running service when its enrolment was renewed.

use super::enrolment::Validity;
use crate::terminal::Identity;

/// What the service needs of a renewed enrolment.
#[derive(Debug, Clone)]
pub(super) struct Renewal {
    pub identity: Identity,
    /// None if the client certificate cannot be read.
    pub validity: Option<Validity>,
}
