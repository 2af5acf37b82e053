//! A link over a Unix socket, with the shape of the real one, between processes: for tests that
//! kill them, and for who writes a wallet or a till on a machine without Bluetooth.
//!
//! One connection is one phone. Both sides send frames: two octets, big-endian, with how many
//! octets follow (512 at most), and those octets. The terminal's first frame is its `info`, as that
//! characteristic would say; the phone's first frame is the connection's ATT MTU, two octets,
//! big-endian, 23 to 517. Every frame after them is a value: a write to the inbox, or a
//! notification of the outbox. What does not fit the MTU, or these rules, ends the connection.
//!
//! There is no advertising: who knows the path is in reach. It is no radio, loses nothing, and
//! proves nothing about one.

mod frame;
#[cfg(feature = "wallet")]
mod phone;
#[cfg(feature = "terminal")]
mod terminal;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

#[cfg(feature = "wallet")]
pub use phone::SocketPhoneLink;
#[cfg(feature = "terminal")]
pub use terminal::{SocketAirError, start_socket_air};

/// The longest path of a Unix socket, in octets (`sockaddr_un` on Linux, with its final 0).
const PATH_OCTETS_MAX: usize = 107;
/// The smallest and the largest ATT MTU of a connection: 512 octets of a value and 3 of a header,
/// and room for the 2 of a length that some PDUs have, are the most that is of use (Core
/// Specification 5.4, Vol 3 Part F, 3.2.8 and 3.2.9).
const ATT_MTU: std::ops::RangeInclusive<usize> = 23..=517;

/// Where the emulated air is: the Unix socket on which the terminal waits for phones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AirAddress(PathBuf);

/// Why a text is no address of emulated air.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` {problem}; expected `unix:` and a path, as in `unix:/tmp/air.sock`")]
pub struct AirAddressError {
    /// As it was written, shortened.
    pub text: String,
    /// What is wrong with it.
    pub problem: &'static str,
}

impl AirAddress {
    /// Of the socket's file.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl FromStr for AirAddress {
    type Err = AirAddressError;

    /// Reads `unix:` and a path.
    fn from_str(text: &str) -> Result<Self, AirAddressError> {
        let fault = |problem| AirAddressError { text: text.chars().take(120).collect(), problem };
        match text.strip_prefix("unix:") {
            None => Err(fault("does not begin with `unix:`")),
            Some("") => Err(fault("has no path")),
            Some(path) if path.len() > PATH_OCTETS_MAX => {
                Err(fault("has a longer path than the 107 octets that a Unix socket can have"))
            }
            Some(path) => Ok(Self(path.into())),
        }
    }
}

impl fmt::Display for AirAddress {
    /// Prints `unix:/tmp/air.sock`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "unix:{}", self.0.display())
    }
}

/// The longest value over a connection with this ATT MTU, in octets; none if there is no such MTU.
fn value_octets_max(att_mtu: usize) -> Option<usize> {
    ATT_MTU.contains(&att_mtu).then(|| super::att::value_octets_max(att_mtu))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_path() {
        assert_eq!(
            "unix:/tmp/air.sock".parse::<AirAddress>().unwrap().to_string(),
            "unix:/tmp/air.sock"
        );
        let long = format!("unix:/{}", "x".repeat(107));
        for text in ["", "unix:", "/tmp/air.sock", "127.0.0.1:1", &long] {
            let error = text.parse::<AirAddress>().unwrap_err().to_string();
            assert!(error.contains("unix:/tmp/air.sock"), "{error}");
        }
    }

    #[test]
    fn an_mtu_bounds_the_values() {
        for (att_mtu, value_octets) in
            [(22, None), (23, Some(20)), (247, Some(244)), (517, Some(512)), (518, None)]
        {
            assert_eq!(value_octets_max(att_mtu), value_octets, "{att_mtu}");
        }
    }
}
