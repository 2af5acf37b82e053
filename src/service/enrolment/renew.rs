//! Renews the terminal's certificates, and fetches the newest keyring, beside the running service.
//!
//! What is renewed goes into the enrolment's file, as if somebody had enrolled anew; the service
//! notices that the file has changed. Until it is written the old enrolment is untouched.

use std::path::Path;

use super::encoding::{base64, octets, written};
use super::keys::{ChannelKeyChoice, pending_keys, signing_request};
use super::stored::{ENROLMENT_FILE, EnrolmentFile, read_file};
use super::validity::CertificatePeriod;
use super::{EnrolmentError, check_clock};
use crate::credential::{Keyring, Signed, TerminalCertificate, VerifyingKey};
use crate::domain::UnixTime;
use crate::private_file;
use crate::relay::Relay;

/// Keys that were sent for a renewal whose answer may have been lost.
const RENEWAL_FILE: &str = "renewal-pending.toml";
/// What is left of its validity at least when a certificate is renewed, in seconds: 30 days.
const RENEWAL_LEFT_S: u64 = 30 * 24 * 3600;

/// Whether one of the certificates is to be renewed: less than a third of its validity is left, or
/// less than 30 days.
pub(in super::super) fn is_due(certificates: &[CertificatePeriod], now: UnixTime) -> bool {
    certificates.iter().any(|period| {
        let validity_s = period.until.seconds.saturating_sub(period.from.seconds);
        let left_s = period.until.seconds.saturating_sub(now.seconds);
        left_s < (validity_s / 3).max(RENEWAL_LEFT_S)
    })
}

/// Gets new certificates over the relay, verifies them, and writes them in the place of the old
/// ones.
///
/// # Errors
/// [`EnrolmentError`]: the old enrolment stays as it is.
pub(in super::super) async fn renew<R: Relay>(
    state_directory: &Path,
    relay: &R,
    now: UnixTime,
) -> Result<(), EnrolmentError> {
    check_clock(now)?;
    let path = state_directory.join(ENROLMENT_FILE);
    let pending = state_directory.join(RENEWAL_FILE);
    let mut file = read_file(&path)?;
    let keys = pending_keys(&pending, ChannelKeyChoice::Keep(&file.channel_key))?;
    let renewed = relay.renew(signing_request(&keys.client_key_pem)?).await?;
    let keyring = newer_keyring(&file, &renewed.keyring)?;
    let signed = Signed::decode(&renewed.terminal_certificate)?;
    let certificate = TerminalCertificate::verify(&signed, &keyring.keyring, now)?;
    if certificate.terminal_id.to_string() != file.terminal_id {
        return Err(EnrolmentError::Untrusted("the renewal is for another terminal".into()));
    }
    file.client_key_pem.clone_from(&keys.client_key_pem);
    file.client_certificate_pem = renewed.client_certificate_pem;
    file.terminal_certificate = base64(&renewed.terminal_certificate);
    file.keyring = base64(&keyring.octets);
    // It must be readable and valid before it replaces anything. This also holds the certificate
    // against the channel key.
    file.open(&path)?.validity()?.check(now)?;
    private_file::replace(&path, &written(&file)?)?;
    forget_pending(&pending);
    Ok(())
}

/// Fetches the newest keyring and writes it beside the certificates, if it is newer than the one
/// that is there. Returns whether it was.
///
/// # Errors
/// [`EnrolmentError`]: the old keyring stays.
pub(in super::super) async fn refresh_keyring<R: Relay>(
    state_directory: &Path,
    relay: &R,
) -> Result<bool, EnrolmentError> {
    let path = state_directory.join(ENROLMENT_FILE);
    let fetched = relay.keyring().await?;
    let mut file = read_file(&path)?;
    let newest = base64(&newer_keyring(&file, &fetched)?.octets);
    if newest == file.keyring {
        return Ok(false);
    }
    file.keyring = newest;
    file.open(&path)?;
    private_file::replace(&path, &written(&file)?)?;
    Ok(true)
}

/// A verified keyring with its octets.
struct NewestKeyring {
    keyring: Keyring,
    octets: Vec<u8>,
}

/// The fetched keyring, or the one of the file if that was issued later.
fn newer_keyring(file: &EnrolmentFile, fetched: &[u8]) -> Result<NewestKeyring, EnrolmentError> {
    let untrusted = EnrolmentError::Untrusted;
    let root = octets("root_public_key", &file.root_public_key).map_err(untrusted)?;
    let root = VerifyingKey::from_sec1(&root)?;
    let verified = |octets: Vec<u8>| -> Result<NewestKeyring, EnrolmentError> {
        let keyring = Keyring::verify(&Signed::decode(&octets)?, &root)?;
        Ok(NewestKeyring { keyring, octets })
    };
    let fetched = verified(fetched.to_vec())?;
    let ours = octets("keyring", &file.keyring).map_err(untrusted)?;
    // One that cannot be read any more gives way.
    match verified(ours) {
        Ok(ours) if ours.keyring.issued_at >= fetched.keyring.issued_at => Ok(ours),
        Ok(_) | Err(_) => Ok(fetched),
    }
}

fn forget_pending(pending: &Path) {
    match std::fs::remove_file(pending) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(%error, "cannot remove keys that are no longer needed");
        }
        Ok(()) | Err(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_S: u64 = 24 * 3600;

    #[test]
    fn a_certificate_is_renewed_in_the_last_third_of_its_validity_or_the_last_30_days() {
        let period = |from_s, until_s| CertificatePeriod {
            certificate: "client certificate",
            from: UnixTime { seconds: from_s },
            until: UnixTime { seconds: until_s },
        };
        let due = |validity_days: u64, left_days: u64| {
            let until = 1_000 * DAY_S + validity_days * DAY_S;
            let long = period(0, u64::MAX);
            let periods = [long, period(1_000 * DAY_S, until)];
            is_due(&periods, UnixTime { seconds: until - left_days * DAY_S })
        };
        assert!(!due(1_095, 365) && due(1_095, 364));
        assert!(!due(60, 30) && due(60, 29));
        assert!(due(10, 10), "a short one is renewed at once");
        let past = [period(0, 10), period(0, u64::MAX)];
        assert!(is_due(&past, UnixTime { seconds: 11 }));
    }
}
