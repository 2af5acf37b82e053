//! Where the till API listens: a Unix socket, or TCP on the loopback interface and nowhere else.
//!
//! Whoever reaches the API can have goods released, so addresses that other machines can reach are
//! refused.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// The longest path of a Unix socket, in octets (`sockaddr_un` on Linux, with its final 0).
const SOCKET_PATH_OCTETS_MAX: usize = 107;

/// Where the till API listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TillAddress {
    /// A Unix socket at this absolute path.
    Unix(PathBuf),
    /// An address of the loopback interface.
    Loopback(SocketAddr),
}

/// Why a text is not an address for the till API.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` {problem}; expected `unix:/run/florin/till.sock` or `127.0.0.1:8411`")]
pub struct TillAddressError {
    /// As it was written, shortened.
    pub text: String,
    /// What is wrong with it.
    pub problem: &'static str,
}

impl FromStr for TillAddress {
    type Err = TillAddressError;

    /// Reads `unix:/path` or `/path`, `127.0.0.1:8411`, `[::1]:8411`, and the last two with
    /// `http://` before them.
    fn from_str(text: &str) -> Result<Self, TillAddressError> {
        let text = text.trim();
        let fault = |problem| TillAddressError { text: text.chars().take(120).collect(), problem };
        match text.strip_prefix("unix:").or_else(|| text.starts_with('/').then_some(text)) {
            Some(path) => socket(path).map_err(fault),
            None => loopback(text).map_err(fault),
        }
    }
}

fn socket(path: &str) -> Result<TillAddress, &'static str> {
    // `unix:///run/florin/till.sock`, as a URL has it, is the same file.
    let path = match path.strip_prefix("//") {
        Some(rest) if rest.starts_with('/') => rest,
        Some(_) | None => path,
    };
    if !path.starts_with('/') {
        return Err("has no absolute path; write it from `/` on");
    }
    if path.len() > SOCKET_PATH_OCTETS_MAX {
        return Err("has a longer path than the 107 octets that a Unix socket can have");
    }
    Ok(TillAddress::Unix(PathBuf::from(path)))
}

fn loopback(text: &str) -> Result<TillAddress, &'static str> {
    let authority = text.strip_prefix("http://").unwrap_or(text);
    let authority =
        authority.strip_suffix('/').unwrap_or(authority).replace("localhost:", "127.0.0.1:");
    let Ok(address) = authority.parse::<SocketAddr>() else {
        let is_port = authority.trim_start_matches(':').parse::<u16>().is_ok();
        let is_path = text.ends_with(".sock") || text.starts_with(['.', '~']);
        return Err(match text {
            text if text.starts_with("https://") => "asks for TLS, which the till API has not",
            "" => "is empty",
            "localhost" => "has no port",
            _ if authority.parse::<std::net::IpAddr>().is_ok() => "has no port",
            _ if is_port => "is a port without an address",
            _ if is_path => "has no absolute path; write it from `/` on",
            _ => "is not an address with a port",
        });
    };
    if !address.ip().is_loopback() {
        return Err("can be reached from other machines, which could then have goods released");
    }
    Ok(TillAddress::Loopback(address))
}

impl fmt::Display for TillAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(formatter, "unix:{}", path.display()),
            Self::Loopback(address) => write!(formatter, "{address}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_and_unix_addresses_read() {
        for (text, printed) in [
            ("unix:/run/florin/till.sock", "unix:/run/florin/till.sock"),
            ("/run/florin/till.sock", "unix:/run/florin/till.sock"),
            ("unix:///run/florin/till.sock", "unix:/run/florin/till.sock"),
            ("127.0.0.1:8411", "127.0.0.1:8411"),
            ("127.1.2.3:8411", "127.1.2.3:8411"),
            ("[::1]:8411", "[::1]:8411"),
            ("localhost:8411", "127.0.0.1:8411"),
            ("http://127.0.0.1:8411/", "127.0.0.1:8411"),
        ] {
            assert_eq!(text.parse::<TillAddress>().unwrap().to_string(), printed, "{text}");
        }
    }

    #[test]
    fn what_others_can_reach_is_refused() {
        for text in ["0.0.0.0:8411", "[::]:8411", "192.168.1.5:8411", "[::ffff:127.0.0.1]:8411"] {
            let error = text.parse::<TillAddress>().unwrap_err().to_string();
            assert!(error.contains("other machines"), "{error}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        let long = format!("unix:/{}", "x".repeat(120));
        for text in [
            "",
            "8411",
            "127.0.0.1",
            "unix:till.sock",
            "unix:",
            "https://127.0.0.1:1",
            "till:80",
            "127.0.0.1:84110",
            "http://127.0.0.1:8411/v1",
            "http://127.0.0.1:8411?x",
            "http://user@127.0.0.1:8411",
            &long,
        ] {
            assert!(text.parse::<TillAddress>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_people_write_by_mistake_is_told_what_is_wrong() {
        for (text, problem) in [
            ("", "is empty"),
            ("8411", "is a port without an address"),
            (":8411", "is a port without an address"),
            ("127.0.0.1", "has no port"),
            ("::1", "has no port"),
            ("localhost", "has no port"),
            ("till.sock", "has no absolute path; write it from `/` on"),
            ("unix:till.sock", "has no absolute path; write it from `/` on"),
            ("~/till.sock", "has no absolute path; write it from `/` on"),
            ("https://127.0.0.1:8411", "asks for TLS, which the till API has not"),
            ("till:80", "is not an address with a port"),
        ] {
            let expected = format!(
                "`{text}` {problem}; expected `unix:/run/florin/till.sock` or `127.0.0.1:8411`"
            );
            assert_eq!(text.parse::<TillAddress>().unwrap_err().to_string(), expected);
        }
    }
}
