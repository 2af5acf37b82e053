//! The terminal's Bluetooth peripheral: a GATT service over BlueZ, advertised to any number of
//! phones.
//!
//! It carries values and reports who is connected; it knows no messages. It recovers by itself:
//! whatever BlueZ or the adapter do, it reports [`LinkEvent::Down`] with the reason, retries, and
//! reports [`LinkEvent::Up`] once phones can find the terminal. Each attempt calls BlueZ, and D-Bus
//! then starts bluetoothd if it is not running: Debian bookworm does not restart a bluetoothd that
//! crashed. To keep bluetoothd stopped, mask its unit.
//!
//! BlueZ's behaviour, read from its sources, decides the design:
//!
//! - Writes arrive by callback ([`CharacteristicWriteMethod::Fun`]). BlueZ offers sockets instead,
//!   but before 5.76 there is one for each characteristic: a second phone's writes arrive over the
//!   first phone's socket. bluer starts a task for each write. The tasks keep their order on
//!   tokio's current-thread runtime, whose queue is first in, first out. Each session has such a
//!   runtime (`bluez_session`).
//! - Notifications leave over sockets ([`CharacteristicNotifyMethod::Io`]). Since 5.76 there is one
//!   for each phone. Before, all subscribers share the first phone's socket, and all receive what
//!   is written to it. A value for a phone without a socket of its own then goes over the shared
//!   one, and phones drop values that do not carry their tag (`protocol::fragment`). BlueZ's
//!   version, which the adapter's device id holds, tells which of the two applies.
//! - `bus_watch` reports every connection at once, even if the phone neither writes nor subscribes:
//!   such a phone holds one of the few connections that a controller carries. The advertisement is
//!   then registered again: it ends when a phone connects, and neither BlueZ nor the kernel starts
//!   it again before that connection has ended.
//!
//! [`LinkEvent::Down`]: crate::link::LinkEvent::Down
//! [`LinkEvent::Up`]: crate::link::LinkEvent::Up
//! [`CharacteristicWriteMethod::Fun`]: bluer::gatt::local::CharacteristicWriteMethod::Fun
//! [`CharacteristicNotifyMethod::Io`]: bluer::gatt::local::CharacteristicNotifyMethod::Io

mod adapter;
mod advertising;
mod answer_timeout;
mod bluez_session;
mod bluez_version;
mod bus_watch;
mod examination;
mod failure_limits;
mod fault;
mod gatt_database;
mod notification_socket;
mod phones;
mod recovery;
mod service;
mod settings;
mod supervisor;

pub use bluez_session::tasks_of_sessions;
pub use bluez_version::{
    GATT_CLIENT_SETTING_SINCE as BLUEZ_GATT_CLIENT_SETTING_SINCE, TRIED_SINCE as BLUEZ_TRIED_SINCE,
};
pub use examination::{RadioExamination, examine_radio, probe_registration};
pub use fault::RadioFault;
pub use settings::PeripheralSettings;
pub use supervisor::start_peripheral;
