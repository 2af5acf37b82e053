//! `florin doctor`: examines everything that the service needs, and says of each whether it is fine
//! or what to do.
//!
//! `florin serve --check` examines only what keeps the service from running. The doctor mends
//! nothing. It changes two things: it switches the adapter on, and where BlueZ has no terminal's
//! service, it registers another one for a moment.

mod bluez_settings;
mod certificates;
mod examination;
mod extent;
mod finding;
mod institution;
mod journal;
mod radio;
mod running_service;
mod storage;
mod time;

pub use examination::examine;
pub use extent::Extent;
pub use finding::{Finding, Verdict};
