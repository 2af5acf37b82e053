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
    use std::fs;
    use std::sync::Mutex;

    use super::super::Enrolment;
    use super::*;
    use crate::credential::{InstitutionKey, KeyPurpose, SealingKey, SigningKey};
    use crate::domain::TransactionId;
    use crate::protocol::ChannelKey;
    use crate::relay::{ConnectError, RenewalError, Renewed, StatementError};
    use crate::terminal::{InstitutionAnswer, InstitutionRequest, InstitutionTransaction};

    const DAY_S: u64 = 24 * 3600;
    const NOW: UnixTime = UnixTime { seconds: 4_000_000_000 };
    const TERMINAL: &str = "0123456789";

    fn key(number: u8) -> SigningKey {
        SigningKey::from_scalar(&[number; 32]).unwrap()
    }

    /// An institution that renews, with what can be wrong about its answer.
    struct Bank {
        root: SigningKey,
        signer: SigningKey,
        channel_key: [u8; 32],
        terminal_id: &'static str,
        keyring_issued_at: u64,
        certifies_another_client: bool,
        /// What it was asked to certify.
        requests: Mutex<Vec<Vec<u8>>>,
    }

    fn bank() -> Bank {
        Bank {
            root: key(7),
            signer: key(8),
            channel_key: ChannelKey::from_octets([5; 32]).public_key(),
            terminal_id: TERMINAL,
            keyring_issued_at: NOW.seconds,
            certifies_another_client: false,
            requests: Mutex::default(),
        }
    }

    fn client_certificate(key: &impl rcgen::PublicKeyData) -> String {
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.not_before = rcgen::date_time_ymd(2090, 1, 1);
        params.not_after = rcgen::date_time_ymd(2150, 1, 1);
        let authority = rcgen::KeyPair::generate().unwrap();
        let issuer = rcgen::Issuer::new(rcgen::CertificateParams::default(), authority);
        params.signed_by(key, &issuer).unwrap().pem()
    }

    impl Bank {
        fn signed_keyring(&self) -> Vec<u8> {
            let entry = |purpose, public_key| InstitutionKey {
                purpose,
                public_key,
                not_after: UnixTime { seconds: NOW.seconds + 9_000 * DAY_S },
            };
            let sealing = SealingKey::from_octets([5; 32]).public_key();
            let keyring = Keyring {
                institution_name: "Bank".into(),
                keys: vec![
                    entry(KeyPurpose::TerminalCertificate, key(8).verifying_key().to_sec1()),
                    entry(KeyPurpose::Receipt, key(9).verifying_key().to_sec1()),
                    entry(KeyPurpose::Sealing, sealing.0.to_vec()),
                ],
                issued_at: UnixTime { seconds: self.keyring_issued_at },
            };
            keyring.sign(&self.root).encode()
        }

        fn answer(&self, client_key: &impl rcgen::PublicKeyData) -> Renewed {
            let certificate = TerminalCertificate {
                terminal_id: self.terminal_id.parse().unwrap(),
                merchant_id: "m".into(),
                merchant_name: "Kiosk".into(),
                channel_key: self.channel_key,
                not_before: UnixTime { seconds: NOW.seconds - DAY_S },
                not_after: UnixTime { seconds: NOW.seconds + 1_000 * DAY_S },
            };
            Renewed {
                client_certificate_pem: client_certificate(client_key),
                terminal_certificate: certificate.sign(&self.signer).encode(),
                keyring: self.signed_keyring(),
            }
        }
    }

    impl Relay for Bank {
        fn address(&self) -> String {
            "https://localhost".into()
        }

        async fn ask(&self, _: InstitutionRequest, _: u64) -> InstitutionAnswer {
            InstitutionAnswer::NotSent { detail: "not in this test".into() }
        }

        async fn check_reachable(&self) -> Result<(), ConnectError> {
            Ok(())
        }

        async fn statement(
            &self,
            _: UnixTime,
            _: UnixTime,
        ) -> Result<Vec<InstitutionTransaction>, StatementError> {
            Ok(Vec::new())
        }

        async fn transaction(
            &self,
            _: TransactionId,
        ) -> Result<InstitutionTransaction, StatementError> {
            Err(StatementError::Failed("not in this test".into()))
        }

        async fn renew(&self, request: Vec<u8>) -> Result<Renewed, RenewalError> {
            let requested =
                rcgen::CertificateSigningRequestParams::from_der(&request.as_slice().into());
            let requested = requested.unwrap().public_key;
            self.requests.lock().unwrap().push(request);
            if self.certifies_another_client {
                return Ok(self.answer(&rcgen::KeyPair::generate().unwrap()));
            }
            Ok(self.answer(&requested))
        }

        async fn keyring(&self) -> Result<Vec<u8>, RenewalError> {
            Ok(self.signed_keyring())
        }
    }

    /// A state directory with an enrolment of before, whose keyring was issued at `NOW`.
    fn enrolled() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let bank = bank();
        let client_key = rcgen::KeyPair::generate().unwrap();
        let answer = bank.answer(&client_key);
        let file = EnrolmentFile {
            terminal_id: TERMINAL.into(),
            institution: "https://localhost:7443".into(),
            channel_key: base64(&[5; 32]),
            client_key_pem: client_key.serialize_pem(),
            client_certificate_pem: answer.client_certificate_pem,
            server_root_pem: String::new(),
            terminal_certificate: base64(&answer.terminal_certificate),
            keyring: base64(&answer.keyring),
            root_public_key: base64(&bank.root.verifying_key().to_sec1()),
        };
        private_file::create(&directory.path().join(ENROLMENT_FILE), &written(&file).unwrap())
            .unwrap();
        directory
    }

    fn text(directory: &tempfile::TempDir) -> String {
        fs::read_to_string(directory.path().join(ENROLMENT_FILE)).unwrap()
    }

    #[tokio::test]
    async fn a_renewal_changes_the_certificates_and_neither_terminal_nor_channel_key() {
        let directory = enrolled();
        let path = directory.path().join(ENROLMENT_FILE);
        let before = read_file(&path).unwrap();
        let newer = Bank { keyring_issued_at: NOW.seconds + 5, ..bank() };
        renew(directory.path(), &newer, NOW).await.unwrap();
        let after = read_file(&path).unwrap();
        assert_eq!(after.channel_key, before.channel_key);
        assert_ne!(after.client_key_pem, before.client_key_pem);
        assert_ne!(after.client_certificate_pem, before.client_certificate_pem);
        assert_eq!(after.keyring, base64(&newer.signed_keyring()));
        let (before, after) = (before.open(&path).unwrap(), after.open(&path).unwrap());
        assert!(after.continues(&before));
        assert!(!directory.path().join(RENEWAL_FILE).exists());
    }

    #[tokio::test]
    async fn what_does_not_hold_together_changes_nothing() {
        let directory = enrolled();
        let before = text(&directory);
        for wrong in [
            Bank { root: key(9), ..bank() },
            Bank { signer: key(9), ..bank() },
            Bank { channel_key: [1; 32], ..bank() },
            Bank { terminal_id: "ABCDEFGHJK", ..bank() },
            Bank { certifies_another_client: true, ..bank() },
        ] {
            renew(directory.path(), &wrong, NOW).await.unwrap_err();
            assert_eq!(text(&directory), before);
        }
    }

    #[tokio::test]
    async fn a_write_that_fails_leaves_the_old_identity_and_is_tried_again_with_the_same_key() {
        let directory = enrolled();
        let before = text(&directory);
        // The file cannot be written beside itself.
        let process = std::process::id();
        let blocks = |number: u64| {
            directory.path().join(format!(".{ENROLMENT_FILE}.{process}.{number}.new"))
        };
        (0..1_000).for_each(|number| fs::create_dir(blocks(number)).unwrap());
        let bank = bank();
        let failed = renew(directory.path(), &bank, NOW).await.unwrap_err();
        assert!(matches!(failed, EnrolmentError::File(_)), "{failed}");
        assert_eq!(text(&directory), before);
        Enrolment::read(directory.path()).unwrap();
        (0..1_000).for_each(|number| fs::remove_dir(blocks(number)).unwrap());
        renew(directory.path(), &bank, NOW).await.unwrap();
        assert_ne!(text(&directory), before);
        let public_key = |request: &Vec<u8>| {
            rcgen::CertificateSigningRequestParams::from_der(&request.as_slice().into())
                .map(|request| rcgen::PublicKeyData::der_bytes(&request.public_key).to_vec())
                .unwrap()
        };
        let requests = bank.requests.lock().unwrap();
        assert_eq!(public_key(&requests[0]), public_key(&requests[1]));
    }

    #[tokio::test]
    async fn the_newest_keyring_wins() {
        let directory = enrolled();
        let before = text(&directory);
        let issued = |seconds| Bank { keyring_issued_at: seconds, ..bank() };
        assert!(!refresh_keyring(directory.path(), &issued(NOW.seconds - 1)).await.unwrap());
        assert!(!refresh_keyring(directory.path(), &issued(NOW.seconds)).await.unwrap());
        let others = Bank { root: key(9), ..issued(NOW.seconds + 1) };
        refresh_keyring(directory.path(), &others).await.unwrap_err();
        assert_eq!(text(&directory), before);
        let newer = issued(NOW.seconds + 1);
        assert!(refresh_keyring(directory.path(), &newer).await.unwrap());
        let file = read_file(&directory.path().join(ENROLMENT_FILE)).unwrap();
        assert_eq!(file.keyring, base64(&newer.signed_keyring()));
        // A renewal does not bring an older one back.
        renew(directory.path(), &issued(NOW.seconds - 9), NOW).await.unwrap();
        let file = read_file(&directory.path().join(ENROLMENT_FILE)).unwrap();
        assert_eq!(file.keyring, base64(&newer.signed_keyring()));
    }

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
