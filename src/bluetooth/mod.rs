//! Bluetooth Low Energy: the terminal's GATT service over BlueZ, and the phone's GATT central over
//! btleplug.
//!
//! Both implement the links of [`crate::link`]. They know nothing of messages or payments.

#[cfg(feature = "wallet")]
mod central;
#[cfg(all(feature = "terminal", target_os = "linux"))]
mod peripheral;

#[cfg(feature = "wallet")]
pub use central::{Central, CentralError, CentralLink, FoundTerminal};
#[cfg(all(feature = "terminal", target_os = "linux"))]
pub use peripheral::{
    BLUEZ_GATT_CLIENT_SETTING_SINCE, BLUEZ_TRIED_SINCE, PeripheralSettings, RadioExamination,
    RadioFault, examine_radio, probe_registration, start_peripheral, tasks_of_sessions,
};
