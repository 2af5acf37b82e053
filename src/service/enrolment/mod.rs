//! The terminal's enrolment: made once with a one-time code, kept in the state directory, read at
//! each start.
//!
//! It is one file, so that it is there whole or not at all, and only the service's user may read
//! it. What the institution gave is verified before it is kept; at a start it is checked against
//! the clock.

mod encoding;
mod enrol;
mod error;
mod keys;
mod machine;
mod renew;
mod stored;
mod validity;

pub use enrol::{Replacement, enrol};
pub use error::EnrolmentError;
pub(super) use machine::moved_machine;
pub(super) use renew::{is_due, refresh_keyring, renew};
pub(super) use stored::ENROLMENT_FILE;
pub use stored::Enrolment;
pub use validity::check_clock;
pub(super) use validity::{CertificatePeriod, EXPIRY_WARNING_S, Validity};
