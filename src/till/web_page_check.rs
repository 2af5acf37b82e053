//! Refuses requests of web pages to the till API.
//!
//! Any page in a browser on the same machine can send requests to a loopback address, and an
//! attacker can make a name point there (DNS rebinding). A browser adds headers that say where such
//! a request comes from, and a page cannot remove them: this check looks at these headers. It does
//! not tell the programs of the machine apart; the mode of the Unix socket does that.

use std::net::IpAddr;

use axum::http::{HeaderMap, Method, header};

use super::problem::Problem;

/// Checks the headers that a browser always sends. `is_tcp`: over a Unix socket the host means
/// nothing.
pub(super) fn check(headers: &HeaderMap, method: &Method, is_tcp: bool) -> Result<(), Problem> {
    let host = header_text(headers, header::HOST.as_str());
    if is_tcp && !host.is_some_and(is_loopback_authority) {
        return Err(Problem::forbidden(
            "the Host header must be the loopback address that the till API listens on",
        ));
    }
    // The browser's own rule: a page of the same origin may send requests. The API serves none.
    if let Some(origin) = header_text(headers, header::ORIGIN.as_str()) {
        let own = host.is_some_and(|host| origin.strip_prefix("http://") == Some(host));
        if !own {
            return Err(Problem::forbidden(
                "the request comes from a web page (Origin); send it from a program",
            ));
        }
    }
    if let Some(site) = header_text(headers, "sec-fetch-site")
        && !matches!(site, "same-origin" | "none")
    {
        return Err(Problem::forbidden(
            "the request comes from a web page (Sec-Fetch-Site); send it from a program",
        ));
    }
    // With this type a page must send a CORS preflight first, and the API never allows it.
    if method == Method::POST
        && !header_text(headers, header::CONTENT_TYPE.as_str()).is_some_and(is_json)
    {
        return Err(Problem::new(
            axum::http::StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "not-json",
            "The body must be JSON",
            "expected the header `Content-Type: application/json`",
        ));
    }
    Ok(())
}

/// A header's value; a value that is not text is an empty text, and not absent.
fn header_text<'headers>(headers: &'headers HeaderMap, name: &str) -> Option<&'headers str> {
    headers.get(name).map(|value| value.to_str().unwrap_or_default())
}

fn is_json(content_type: &str) -> bool {
    content_type
        .split(';')
        .next()
        .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

fn is_loopback_authority(authority: &str) -> bool {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|octet| octet.is_ascii_digit()) => host,
        Some(_) | None => authority,
    };
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost")
        || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(method: Method, headers: &[(&'static str, &'static str)]) -> Result<(), Problem> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        check(&map, &method, true)
    }

    #[test]
    fn programs_get_in() {
        for host in ["127.0.0.1:8411", "localhost:8411", "LOCALHOST", "[::1]:8411", "127.9.9.9"] {
            verdict(Method::GET, &[("host", host)]).unwrap();
        }
        verdict(
            Method::POST,
            &[("host", "127.0.0.1:1"), ("content-type", "application/json; charset=utf-8")],
        )
        .unwrap();
    }

    #[test]
    fn pages_do_not() {
        let json = ("content-type", "application/json");
        let host = ("host", "127.0.0.1:8411");
        for headers in [
            &[json][..],
            &[("host", "evil.example:8411"), json],
            &[("host", "127.0.0.1.evil.example"), json],
            &[("host", "192.168.1.5:8411"), json],
            &[host, ("origin", "https://evil.example"), json],
            &[host, ("origin", "null"), json],
            &[host, ("origin", "http://127.0.0.1:3000"), json],
            &[host, ("sec-fetch-site", "cross-site"), json],
            &[host, ("content-type", "text/plain")],
            &[host, ("content-type", "application/x-www-form-urlencoded")],
            &[host],
        ] {
            assert!(verdict(Method::POST, headers).is_err(), "{headers:?}");
        }
    }
}
