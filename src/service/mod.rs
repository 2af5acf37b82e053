//! Composition: what runs the pure engine among its adapters.

mod begun_elsewhere;
mod clock;
mod configuration;
mod doctor;
mod driver;
mod enrolment;
mod exit_code;
mod front;
mod metrics;
mod reconcile;
mod systemd;
mod terminal_service;

pub use clock::wall_clock;
pub use configuration::{
    CONFIGURATION_PATH, Configuration, ConfigurationError, Place, TILL_ADDRESS, till_address,
};
pub use doctor::{Extent, Finding, Verdict, examine};
pub use driver::{Driver, DriverError};
pub use enrolment::{Enrolment, EnrolmentError, check_clock, enrol};
pub use exit_code::{ServiceError, ServiceExit};
pub use front::Front;
pub use reconcile::reconcile;
pub use terminal_service::serve;
