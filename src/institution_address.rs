//! Where the reference institution is: `https://host` or `https://host:port`, for every program
//! that is given that address.
//!
//! Only what can be meant is taken. A part that would be passed over, such as a path, is refused,
//! because whoever wrote it expects that it does something.

use std::fmt;
use std::str::FromStr;

use rustls::pki_types::ServerName;
use tonic::codegen::http::Uri;
use tonic::codegen::http::uri::Authority;

const DEFAULT_PORT: u16 = 443;
const SCHEME: &str = "https://";

/// Where the institution is: `https://host[:port]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstitutionAddress {
    /// A name or an IP address; an IPv6 address without its brackets.
    host: String,
    port: u16,
    name: ServerName<'static>,
}

/// Why a text is no address of an institution.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` {problem}; expected an address such as https://bank.example or \
         https://bank.example:7443"
)]
pub struct InstitutionAddressError {
    /// As it was written, shortened.
    pub text: String,
    /// What is wrong with it.
    pub problem: &'static str,
}

impl FromStr for InstitutionAddress {
    type Err = InstitutionAddressError;

    fn from_str(text: &str) -> Result<Self, InstitutionAddressError> {
        read(text).map_err(|problem| InstitutionAddressError {
            text: text.chars().filter(|character| !character.is_control()).take(120).collect(),
            problem,
        })
    }
}

fn read(text: &str) -> Result<InstitutionAddress, &'static str> {
    let (scheme, rest) = text.split_at_checked(SCHEME.len()).ok_or("is no https:// address")?;
    if !scheme.eq_ignore_ascii_case(SCHEME) {
        return Err("is no https:// address");
    }
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    for (sign, problem) in [
        ('#', "has a fragment (`#`), which means nothing here"),
        ('?', "has a query (`?`), which means nothing here"),
        ('/', "has a path, which means nothing here"),
        ('@', "has a user's name (`@`); a terminal is known by its certificate"),
    ] {
        if rest.contains(sign) {
            return Err(problem);
        }
    }
    let (host, port) = split_port(rest)?;
    let port = match port {
        None => DEFAULT_PORT,
        Some(digits) => read_port(digits)?,
    };
    let is_bracketed = host.starts_with('[') || host.ends_with(']');
    let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) if address.parse::<std::net::Ipv6Addr>().is_ok() => address,
        Some(_) => return Err("has no IPv6 address in its brackets"),
        None if is_bracketed => return Err("has a bracket without its other half"),
        None => host,
    };
    if host.is_empty() {
        return Err("has no host");
    }
    let name = ServerName::try_from(host.to_owned()).map_err(|_| "has a host that is no name")?;
    Ok(InstitutionAddress { host: host.to_owned(), port, name })
}

/// The host and the digits of the port, if there is one.
fn split_port(authority: &str) -> Result<(&str, Option<&str>), &'static str> {
    let after_brackets = authority.rfind(']').map_or(0, |end| end + 1);
    match authority[after_brackets..].split_once(':') {
        None => Ok((authority, None)),
        Some((name, _)) if after_brackets > 0 && !name.is_empty() => {
            Err("has text between its brackets and its port")
        }
        Some((_, digits)) if digits.contains(':') => {
            Err("has more than one `:`; an IPv6 address stands in brackets, as in https://[::1]")
        }
        Some((name, digits)) => Ok((&authority[..after_brackets + name.len()], Some(digits))),
    }
}

fn read_port(digits: &str) -> Result<u16, &'static str> {
    let is_number = !digits.is_empty() && digits.bytes().all(|octet| octet.is_ascii_digit());
    match digits.parse() {
        Ok(port) if is_number && port > 0 => Ok(port),
        Ok(_) | Err(_) => Err("has a port that is no number from 1 to 65535"),
    }
}

impl fmt::Display for InstitutionAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{SCHEME}{}", self.authority_text())
    }
}

impl InstitutionAddress {
    /// A name or an IP address.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, 443 unless it was given.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whom the server's certificate has to name.
    pub fn server_name(&self) -> ServerName<'static> {
        self.name.clone()
    }

    fn authority_text(&self) -> String {
        let host =
            if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == DEFAULT_PORT { host } else { format!("{host}:{}", self.port) }
    }

    /// The URI that requests start from; none if the host can stand in no URI.
    pub fn origin(&self) -> Option<Uri> {
        let authority: Authority = self.authority_text().parse().ok()?;
        Uri::builder().scheme("https").authority(authority).path_and_query("/").build().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_and_print() {
        for (text, printed, host, port) in [
            ("https://bank.example", "https://bank.example", "bank.example", 443),
            ("https://bank.example/", "https://bank.example", "bank.example", 443),
            ("HTTPS://bank.example:443", "https://bank.example", "bank.example", 443),
            ("https://127.0.0.1:7443", "https://127.0.0.1:7443", "127.0.0.1", 7443),
            ("https://[::1]:7443", "https://[::1]:7443", "::1", 7443),
            ("https://[::1]", "https://[::1]", "::1", 443),
            ("https://bank:65535", "https://bank:65535", "bank", 65535),
        ] {
            let address: InstitutionAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), printed);
            assert_eq!((address.host(), address.port()), (host, port));
            assert_eq!(address.origin().unwrap().port_u16().unwrap_or(443), port);
        }
    }

    #[test]
    fn a_part_that_cannot_be_meant_is_refused_and_named() {
        for (text, word) in [
            ("", "https://"),
            ("bank.example", "https://"),
            ("http://bank.example", "https://"),
            ("ftp://bank.example", "https://"),
            ("https:bank.example", "https://"),
            ("https://", "host"),
            ("https://:7443", "host"),
            ("https://a/b", "path"),
            ("https://a//", "path"),
            ("https://a?b", "query"),
            ("https://a/?b", "query"),
            ("https://a#b", "fragment"),
            ("https://u@a", "user"),
            ("https://u:p@a:1", "user"),
            ("https://bank:74430", "port"),
            ("https://bank:0", "port"),
            ("https://bank:", "port"),
            ("https://bank:+1", "port"),
            ("https://bank:7443x", "port"),
            ("https://::1", "bracket"),
            ("https://[::1", "bracket"),
            ("https://[::1]x:1", "bracket"),
            ("https://[bank]", "bracket"),
            ("https://a b", "name"),
            (" https://bank", "https://"),
            ("https://bank ", "name"),
            ("https://bank\n", "name"),
            ("https://b%61nk", "name"),
        ] {
            let error = text.parse::<InstitutionAddress>().unwrap_err();
            assert!(error.problem.contains(word), "{error}");
        }
    }
}
