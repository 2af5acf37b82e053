//! Composition: what runs the pure engine among its adapters.

mod configuration;
mod driver;
mod enrolment;

pub use configuration::{CONFIGURATION_PATH, Configuration, ConfigurationError, Place, TILL_ADDRESS};
pub use driver::{Driver, DriverError};
pub use enrolment::{Enrolment, EnrolmentError, check_clock, enrol};
