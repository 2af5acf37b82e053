//! What TLS with an institution needs, as files hold it.

use std::fmt;

/// What TLS needs, in PEM.
pub struct TlsFiles<'pem> {
    /// Who may vouch for the server.
    pub root_certificates_pem: &'pem str,
    /// The terminal's own certificate with its issuer, and its key; none at enrolment.
    pub client: Option<(&'pem str, &'pem str)>,
}

impl fmt::Debug for TlsFiles<'_> {
    /// Leaves the key out.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("TlsFiles").finish_non_exhaustive()
    }
}
