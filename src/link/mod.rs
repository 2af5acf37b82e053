//! The link between phone and terminal: values that pass either way, and who is connected.
//!
//! Bluetooth is one link; here are the types that all links share, a link in memory, and one over a
//! Unix socket for tests and machines without a radio. Links know nothing of messages or payments.

pub(crate) mod att;
mod emulated;
#[cfg(all(unix, any(feature = "terminal", feature = "wallet")))]
mod socket_air;

pub use emulated::{EmulatedAir, EmulatedPhoneLink, Traffic};
#[cfg(all(unix, feature = "wallet"))]
pub use socket_air::SocketPhoneLink;
#[cfg(all(unix, any(feature = "terminal", feature = "wallet")))]
pub use socket_air::{AirAddress, AirAddressError};
#[cfg(all(unix, feature = "terminal"))]
pub use socket_air::{SocketAirError, start_socket_air};

use crate::terminal::{AdvertisingPace, PhoneId};
use tokio::sync::mpsc;

/// How many events of the link may wait for the driver. A phone sends at most a few values a
/// second; a link that finds this full drops the phone, never the reading.
pub const EVENTS_MAX: usize = 1024;
/// How many commands to the link may wait: an offer to each of 64 phones, in values of 20 octets,
/// with as much again to spare.
pub const COMMANDS_MAX: usize = 4096;
/// How many values may wait for one phone to take them: a longest message at the smallest value
/// size is 863. A phone that lets more pile up is disconnected.
pub const VALUES_WAITING_MAX: usize = 1024;

/// What the terminal's side of a link reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkEvent {
    /// A phone is there. It may have been there without a word before.
    Connected {
        /// Which connection.
        phone: PhoneId,
    },
    /// A phone wrote a value to the inbox.
    Wrote {
        /// Which connection.
        phone: PhoneId,
        /// The longest value that this connection carries now: its ATT MTU less 3, at most 512.
        value_octets_max: usize,
        /// The value.
        value: Vec<u8>,
    },
    /// A phone is gone.
    Disconnected {
        /// Which connection.
        phone: PhoneId,
    },
    /// Phones can find the terminal.
    Up,
    /// Phones cannot find the terminal. The link keeps trying.
    Down {
        /// What is wrong and what to do, for the operator.
        reason: String,
    },
    /// The link does something so that phones find the terminal, beside what is asked of it.
    Recovering {
        /// What it does.
        action: RecoveryAction,
        /// What it was seen to need it for.
        reason: String,
    },
}

/// What a link does to be found (again), the gentle before the rough.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecoveryAction {
    /// Puts the advertisement up anew.
    RestartAdvertising,
    /// Connects to the Bluetooth service anew and registers everything with it.
    Reregister,
    /// Switches the adapter on, which was off.
    PowerOn,
    /// Switches the adapter off and on. It ends every connection.
    PowerCycle,
}

impl RecoveryAction {
    /// Its name in logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::RestartAdvertising => "restart_advertising",
            Self::Reregister => "reregister",
            Self::PowerOn => "power_on",
            Self::PowerCycle => "power_cycle",
        }
    }
}

/// What the terminal's side of a link is told to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkCommand {
    /// Send a value by notification of the outbox.
    Notify {
        /// To which connection.
        phone: PhoneId,
        /// At most 512 octets.
        value: Vec<u8>,
    },
    /// End a connection.
    Disconnect {
        /// Which.
        phone: PhoneId,
    },
    /// Be found faster or slower.
    Advertise(AdvertisingPace),
}

/// The terminal's side of a link: BlueZ, or an emulated one.
#[derive(Debug)]
pub struct TerminalLink {
    /// What happened, in order.
    pub events: mpsc::Receiver<LinkEvent>,
    /// What to do, in order.
    pub commands: mpsc::Sender<LinkCommand>,
}

/// Why a phone's link does not work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PhoneLinkError {
    /// The connection is gone.
    #[error("the connection to the terminal was lost: {0}")]
    Lost(String),
    /// Bluetooth on this side does not work.
    #[error("{0}")]
    Unusable(String),
}

/// The phone's side of one connection.
pub trait PhoneLink: Send {
    /// The longest value that can be written, in octets, 20 to 512.
    fn value_octets_max(&self) -> usize;

    /// Writes a value to the inbox. That it returns proves nothing but that the value was taken.
    fn write(&mut self, value: Vec<u8>) -> impl Future<Output = Result<(), PhoneLinkError>> + Send;

    /// The next notification of the outbox; an error when the connection is gone. Cancel-safe.
    fn next_value(&mut self) -> impl Future<Output = Result<Vec<u8>, PhoneLinkError>> + Send;

    /// Turns notifications off and on, where a stack can have lost them (docs/protocol.md, section
    /// 4). What the terminal said meanwhile follows.
    fn subscribe_again(&mut self) -> impl Future<Output = Result<(), PhoneLinkError>> + Send {
        std::future::ready(Ok(()))
    }

    /// Ends the connection.
    fn disconnect(&mut self) -> impl Future<Output = ()> + Send;
}
