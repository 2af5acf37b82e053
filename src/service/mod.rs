//! Composition: what runs the pure engine among its adapters.

mod begun_elsewhere;
mod clock;
mod configuration;
mod doctor;
mod driver;
mod enrolment;
mod enrolment_keeper;
mod exit_code;
mod frontend;
mod institution_relay;
mod institution_watch;
mod metrics;
mod randomness;
mod reconcile;
mod renewal;
mod supervisor;
mod systemd;
mod terminal_service;
mod toml_place;
mod volatile_storage;

pub use clock::wall_clock;
pub use configuration::{
    CONFIGURATION_PATH, Configuration, ConfigurationError, TILL_ADDRESS, till_address,
};
pub use doctor::{Extent, Finding, Verdict, examine};
pub use driver::{Driver, DriverError};
pub use enrolment::{Enrolment, EnrolmentError, Replacement, check_clock, enrol};
pub use exit_code::{ServiceError, ServiceExit};
pub use frontend::Frontend;
pub use institution_relay::grpc_relay;
pub use reconcile::reconcile;
pub use terminal_service::serve;
pub use toml_place::Place;
