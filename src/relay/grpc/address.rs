//! Where the reference institution is: `https://host[:port]`.

use std::fmt;
use std::str::FromStr;

use hyper::Uri;
use hyper::http::uri::Authority;
use rustls::pki_types::ServerName;

use super::super::ConnectError;

const DEFAULT_PORT: u16 = 443;

/// Where the institution is: `https://host[:port]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstitutionAddress {
    pub(super) host: String,
    pub(super) port: u16,
}

/// Why a text is no address of an institution.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an address of an institution; expected https://host or https://host:port")]
pub struct InstitutionAddressError(String);

impl FromStr for InstitutionAddress {
    type Err = InstitutionAddressError;

    fn from_str(text: &str) -> Result<Self, InstitutionAddressError> {
        let fault = || InstitutionAddressError(text.chars().take(120).collect());
        let uri: Uri = text.parse().map_err(|_| fault())?;
        let path_is_plain = matches!(uri.path(), "" | "/") && uri.query().is_none();
        let authority = uri
            .authority()
            .filter(|authority| !authority.as_str().contains('@'))
            .ok_or_else(fault)?;
        if uri.scheme_str() != Some("https") || !path_is_plain || authority.host().is_empty() {
            return Err(fault());
        }
        let port = match authority.port() {
            Some(port) => port.as_str().parse().map_err(|_| fault())?,
            None => DEFAULT_PORT,
        };
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        ServerName::try_from(host.clone()).map_err(|_| fault())?;
        Ok(Self { host, port })
    }
}

impl fmt::Display for InstitutionAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "https://{}", self.authority_text())
    }
}

impl InstitutionAddress {
    fn authority_text(&self) -> String {
        let host =
            if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == DEFAULT_PORT { host } else { format!("{host}:{}", self.port) }
    }

    /// The URI that requests start from.
    pub(super) fn origin(&self) -> Result<Uri, ConnectError> {
        let authority: Authority = self
            .authority_text()
            .parse()
            .map_err(|_| ConnectError::Credentials("the address is no URI".into()))?;
        Uri::builder()
            .scheme("https")
            .authority(authority)
            .path_and_query("/")
            .build()
            .map_err(|error| ConnectError::Credentials(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_and_print() {
        for (text, printed) in [
            ("https://bank.example", "https://bank.example"),
            ("https://bank.example/", "https://bank.example"),
            ("https://127.0.0.1:7443", "https://127.0.0.1:7443"),
            ("https://[::1]:7443", "https://[::1]:7443"),
        ] {
            let address: InstitutionAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), printed);
            address.origin().unwrap();
        }
        for text in [
            "",
            "bank.example",
            "http://bank.example",
            "https://",
            "https://a/b",
            "https://a?b",
            "https://u@a",
        ] {
            assert!(text.parse::<InstitutionAddress>().is_err(), "{text}");
        }
    }
}
