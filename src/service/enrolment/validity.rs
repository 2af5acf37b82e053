//! When the terminal's certificates are valid, checked by a clock that may be wrong.

use x509_parser::pem::Pem;

use super::EnrolmentError;
use crate::domain::UnixTime;

/// A certificate that expires within so many seconds is to be renewed: 30 days.
pub(in super::super) const EXPIRY_WARNING_S: u64 = 30 * 24 * 3600;
/// When this program was built: no clock that is right shows less.
const BUILT_AT_UNIX_S: &str = env!("FLORIN_BUILT_AT_UNIX_S");

/// From which second until which one a certificate is valid; both are included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CertificatePeriod {
    /// Such as `client certificate`.
    pub certificate: &'static str,
    pub from: UnixTime,
    pub until: UnixTime,
}

impl CertificatePeriod {
    fn check(&self, now: UnixTime) -> Result<(), EnrolmentError> {
        let Self { certificate, from, until } = *self;
        if now > until {
            Err(EnrolmentError::Expired { certificate, until, now })
        } else if now < from {
            Err(EnrolmentError::NotYetValid { certificate, from, now })
        } else {
            Ok(())
        }
    }
}

/// When all of a terminal's certificates are valid.
#[derive(Debug, Clone)]
pub(in super::super) struct Validity(pub(super) [CertificatePeriod; 2]);

impl Validity {
    /// The last second in which all are valid.
    pub(in super::super) fn good_until(&self) -> UnixTime {
        self.0.iter().map(|period| period.until).min().unwrap_or_default()
    }

    /// Whether all are valid now, and the clock by which that is checked can be right.
    ///
    /// # Errors
    /// [`EnrolmentError::ClockUnset`], [`EnrolmentError::Expired`],
    /// [`EnrolmentError::NotYetValid`].
    pub(in super::super) fn check(&self, now: UnixTime) -> Result<(), EnrolmentError> {
        check_clock(now)?;
        self.0.iter().try_for_each(|period| period.check(now))
    }
}

/// Whether the clock can be right.
///
/// # Errors
/// [`EnrolmentError::ClockUnset`].
pub fn check_clock(now: UnixTime) -> Result<(), EnrolmentError> {
    let built_at = UnixTime { seconds: BUILT_AT_UNIX_S.parse().unwrap_or(0) };
    if now < built_at { Err(EnrolmentError::ClockUnset { now, built_at }) } else { Ok(()) }
}

/// First and last second of the first certificate in the PEM.
pub(super) fn validity_of(pem: &str) -> Result<(UnixTime, UnixTime), String> {
    let block = first_certificate(pem)?;
    let certificate = block.parse_x509().map_err(|error| client_fault(&error))?;
    let seconds = |timestamp: i64| UnixTime { seconds: u64::try_from(timestamp).unwrap_or(0) };
    let validity = certificate.validity();
    Ok((seconds(validity.not_before.timestamp()), seconds(validity.not_after.timestamp())))
}

/// Whether the first certificate in the PEM was issued for this private key. With another key TLS
/// would fail at the first payment.
pub(super) fn check_client_key(certificate_pem: &str, key_pem: &str) -> Result<(), String> {
    let key = rcgen::KeyPair::from_pem(key_pem)
        .map_err(|_| "client_key_pem: expected a private key in PEM".to_owned())?;
    let block = first_certificate(certificate_pem)?;
    let certificate = block.parse_x509().map_err(|error| client_fault(&error))?;
    let certified = certificate.public_key().subject_public_key.data.as_ref();
    if certified == rcgen::PublicKeyData::der_bytes(&key) {
        Ok(())
    } else {
        Err(client_fault(&"it was issued for another key than this terminal's"))
    }
}

fn first_certificate(pem: &str) -> Result<Pem, String> {
    Pem::iter_from_buffer(pem.as_bytes())
        .next()
        .ok_or_else(|| client_fault(&"expected a certificate in PEM"))?
        .map_err(|error| client_fault(&error))
}

fn client_fault(detail: &dyn std::fmt::Display) -> String {
    format!("client_certificate_pem: {detail}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_before_the_build_is_unset() {
        let error = check_clock(UnixTime { seconds: 1_000_000 }).unwrap_err();
        assert!(matches!(error, EnrolmentError::ClockUnset { .. }));
        check_clock(UnixTime { seconds: 4_000_000_000 }).unwrap();
    }

    #[test]
    fn times_are_judged_inclusively() {
        let time = |seconds| UnixTime { seconds };
        let period =
            CertificatePeriod { certificate: "certificate", from: time(10), until: time(20) };
        let check = |now| period.check(time(now));
        assert!(matches!(check(9), Err(EnrolmentError::NotYetValid { .. })));
        check(10).unwrap();
        check(20).unwrap();
        assert!(matches!(check(21), Err(EnrolmentError::Expired { .. })));
    }
}
