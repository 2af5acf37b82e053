//! What an error of TLS means for who runs the terminal: a wrong clock, another server, a
//! certificate that is not accepted.

use std::error::Error;
use std::io;

use rustls::{AlertDescription, CertificateError};

use super::super::HandshakeFault;
use crate::io_error_text::io_error_text;

/// What the error of a stream over TLS means.
pub(super) fn handshake_fault(error: &io::Error) -> HandshakeFault {
    let Some(cause) = tls_error(error) else {
        let is_closed = error.kind() == io::ErrorKind::UnexpectedEof;
        let closed = || "the server closed the connection".to_owned();
        return HandshakeFault::Other(if is_closed { closed() } else { io_error_text(error) });
    };
    let detail = cause.to_string();
    if is_out_of_period(cause) {
        HandshakeFault::ServerCertificatePeriod(detail)
    } else if is_refusal(cause) {
        HandshakeFault::TerminalRefused(detail)
    } else if is_other_server(cause) {
        HandshakeFault::OtherServer(detail)
    } else {
        HandshakeFault::Other(detail)
    }
}

/// The TLS library's own error, which an I/O error holds.
fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    let mut cause: &(dyn Error + 'static) = error.get_ref()?;
    loop {
        if let Some(found) = cause.downcast_ref() {
            return Some(found);
        }
        cause = cause.source()?;
    }
}

fn is_out_of_period(error: &rustls::Error) -> bool {
    use CertificateError::{Expired, ExpiredContext, NotValidYet, NotValidYetContext};
    matches!(
        error,
        rustls::Error::InvalidCertificate(
            Expired | ExpiredContext { .. } | NotValidYet | NotValidYetContext { .. }
        )
    )
}

/// The server's word on this terminal's certificate.
fn is_refusal(error: &rustls::Error) -> bool {
    use AlertDescription as Alert;
    matches!(
        error,
        rustls::Error::AlertReceived(
            Alert::UnknownCA
                | Alert::BadCertificate
                | Alert::UnsupportedCertificate
                | Alert::CertificateRevoked
                | Alert::CertificateExpired
                | Alert::CertificateUnknown
                | Alert::CertificateRequired
                | Alert::AccessDenied
                // The signature on it is not from whom it names.
                | Alert::DecryptError
        )
    )
}

/// A certificate of somebody else, or no TLS 1.3 at all.
fn is_other_server(error: &rustls::Error) -> bool {
    matches!(
        error,
        rustls::Error::InvalidCertificate(_)
            | rustls::Error::InvalidMessage(_)
            | rustls::Error::PeerIncompatible(_)
            | rustls::Error::AlertReceived(
                AlertDescription::ProtocolVersion | AlertDescription::UnrecognisedName
            )
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_of_tls_says_what_to_do() {
        use rustls::Error as Tls;
        for (error, word) in [
            (Tls::InvalidCertificate(CertificateError::NotValidYet), "timedatectl"),
            (Tls::InvalidCertificate(CertificateError::Expired), "timedatectl"),
            (Tls::InvalidCertificate(CertificateError::UnknownIssuer), "log-in"),
            (Tls::InvalidCertificate(CertificateError::NotValidForName), "log-in"),
            (Tls::InvalidMessage(rustls::InvalidMessage::InvalidContentType), "log-in"),
            (Tls::AlertReceived(AlertDescription::UnknownCA), "enrol again"),
            (Tls::AlertReceived(AlertDescription::CertificateExpired), "enrol again"),
        ] {
            let text = handshake_fault(&io::Error::other(error)).to_string();
            assert!(text.contains(word), "{text}");
        }
        let closed = handshake_fault(&io::Error::from(io::ErrorKind::UnexpectedEof));
        assert_eq!(closed, HandshakeFault::Other("the server closed the connection".into()));
    }
}
