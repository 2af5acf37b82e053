//! Composition: what runs the pure engine among its adapters.

mod driver;

pub use driver::{Driver, DriverError};
