//! A link between processes over a Unix socket that behaves like Bluetooth: for tests that kill
//! processes, and for developers of a wallet or a till on a machine without Bluetooth.
//!
//! One connection is one phone. Both sides send frames: a length of two octets, big-endian, at most
//! 512, and as many octets. The terminal's first frame is the value of the characteristic `info`;
//! the phone's first frame is the connection's ATT MTU, two octets, big-endian, 23 to 517. Every
//! later frame is a value: a write to the inbox, or a notification of the outbox. A frame that does
//! not fit the MTU, or breaks these rules, ends the connection.
//!
//! There is no advertising: every phone that knows the path is in reach. Nothing is lost, as it
//! would be over radio, and tests over this link prove nothing about radio.

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
/// The smallest and the largest ATT MTU of a connection. More than 517 octets are of no use: a
/// value of 512, a header of 3, and the 2 of a length that some PDUs have (Core Specification 5.4,
/// Vol 3 Part F, 3.2.8 and 3.2.9).
const ATT_MTU: std::ops::RangeInclusive<usize> = 23..=517;

/// The address of emulated air: the Unix socket on which the terminal accepts phones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AirAddress(PathBuf);

/// Why a text is not an address of emulated air.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` {problem}; expected `unix:` and a path, as in `unix:/tmp/air.sock`")]
pub struct AirAddressError {
    pub text: String,
    pub problem: &'static str,
}

impl AirAddress {
    /// The path of the socket's file.
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
                Err(fault("has a path of more than the 107 octets that a Unix socket can have"))
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

/// The longest value over a connection with this ATT MTU, in octets; none if the MTU is impossible.
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
    fn an_mtu_limits_the_length_of_values() {
        for (att_mtu, value_octets) in
            [(22, None), (23, Some(20)), (247, Some(244)), (517, Some(512)), (518, None)]
        {
            assert_eq!(value_octets_max(att_mtu), value_octets, "{att_mtu}");
        }
    }
}
