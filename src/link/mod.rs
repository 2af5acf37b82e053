//! The link between phone and terminal: it carries values both ways and reports who is connected.
//!
//! Bluetooth is one link. This room has the types that all links share, a link in memory, and one
//! over a Unix socket for tests and for machines without Bluetooth. Links know nothing of messages
//! or payments.

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

use crate::terminal::{AdvertisingPace, PhoneAddress, PhoneId};
use tokio::sync::mpsc;

/// How many events of the link may wait for the driver. A phone sends at most a few values a
/// second. If this queue is full, a link disconnects the phone; it never stops reading.
pub const EVENTS_MAX: usize = 1024;
/// How many commands may wait for the link: an offer to each of 64 phones, in values of 20 octets,
/// and as much again in reserve.
pub const COMMANDS_MAX: usize = 4096;
/// How many values may wait for one phone. The longest message takes 863 values of the smallest
/// size. A phone that does not take them faster than this queue fills is disconnected.
pub const VALUES_WAITING_MAX: usize = 1024;

/// An event that the terminal's side of a link reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkEvent {
    /// A phone is connected. Its connection may be older than this event.
    Connected {
        phone: PhoneId,
        /// Its device address; none on a link without addresses.
        address: Option<PhoneAddress>,
    },
    /// A phone wrote a value to the inbox.
    Wrote {
        phone: PhoneId,
        /// The longest value that this connection carries now: its ATT MTU less 3, at most 512.
        value_octets_max: usize,
        value: Vec<u8>,
    },
    Disconnected {
        phone: PhoneId,
    },
    /// Phones can find the terminal.
    Up,
    /// Phones cannot find the terminal. The link keeps trying.
    Down {
        /// What is wrong and what to do, for the operator.
        reason: String,
    },
    /// The link takes an action of its own so that phones can find the terminal.
    Recovering {
        action: RecoveryAction,
        /// Why the action is needed, for the operator.
        reason: String,
    },
}

/// An action of a link so that phones can find the terminal again, from the gentlest to the most
/// disruptive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecoveryAction {
    /// Registers the advertisement again.
    RestartAdvertising,
    /// Connects to BlueZ again and registers everything with it.
    Reregister,
    /// Switches an adapter on that was off.
    PowerOn,
    /// Switches the adapter off and on, which ends every connection.
    PowerCycle,
}

impl RecoveryAction {
    /// The action's name in logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::RestartAdvertising => "restart_advertising",
            Self::Reregister => "reregister",
            Self::PowerOn => "power_on",
            Self::PowerCycle => "power_cycle",
        }
    }
}

/// A command to the terminal's side of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkCommand {
    /// Send a value by notification of the outbox.
    Notify {
        phone: PhoneId,
        /// At most 512 octets.
        value: Vec<u8>,
    },
    Disconnect {
        phone: PhoneId,
    },
    /// Advertise at this pace from now on.
    Advertise(AdvertisingPace),
}

/// The terminal's side of a link, over BlueZ or emulated. Dropping it ends the link.
#[derive(Debug)]
pub struct TerminalLink {
    /// The events of the link, in order.
    pub events: mpsc::Receiver<LinkEvent>,
    /// The commands to the link, in order.
    pub commands: mpsc::Sender<LinkCommand>,
}

/// Why a phone's link does not work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PhoneLinkError {
    /// The connection has ended.
    #[error("the connection to the terminal was lost: {0}")]
    Lost(String),
    /// The link cannot be used in this way, or does not work at all.
    #[error("{0}")]
    Unusable(String),
}

/// The phone's side of one connection.
pub trait PhoneLink: Send {
    /// The longest value that can be written, in octets: 20 to 512.
    fn value_octets_max(&self) -> usize;

    /// Writes a value to the inbox. When it returns, the value was taken, but may still be lost.
    fn write(&mut self, value: Vec<u8>) -> impl Future<Output = Result<(), PhoneLinkError>> + Send;

    /// The next notification of the outbox; an error when the connection has ended. Cancel-safe.
    fn next_value(&mut self) -> impl Future<Output = Result<Vec<u8>, PhoneLinkError>> + Send;

    /// Unsubscribes and subscribes again, on a stack that can lose notifications (docs/protocol.md,
    /// section 4). The notifications that the terminal sent meanwhile follow.
    fn subscribe_again(&mut self) -> impl Future<Output = Result<(), PhoneLinkError>> + Send {
        std::future::ready(Ok(()))
    }

    /// Ends the connection.
    fn disconnect(&mut self) -> impl Future<Output = ()> + Send;
}
