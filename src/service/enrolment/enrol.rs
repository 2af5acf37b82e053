//! Enrols the terminal: makes its keys, has the institution certify them, verifies the answer, and
//! keeps it.

use std::path::Path;

use super::super::begun_elsewhere::begun_by_another;
use super::super::configuration::JOURNAL_FILE;
use super::encoding::{base64, written};
use super::keys::{
    ChannelKeyChoice, PENDING_FILE, pending_keys, read_channel_key, signing_request,
};
use super::machine::Machine;
use super::stored::{ENROLMENT_FILE, EnrolmentFile, read_file};
use super::validity::check_client_key;
use super::{EnrolmentError, check_clock};
use crate::credential::{Keyring, Signed, TerminalCertificate, VerifyingKey};
use crate::domain::{TerminalId, UnixTime};
use crate::institution_address::InstitutionAddress;
use crate::journal::{Journal, SqliteJournal, SqliteJournalError};
use crate::private_file;
use crate::protocol::ChannelKey;
use crate::relay::{Enrolled, enrol_terminal};

/// What becomes of an enrolment that this terminal has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replacement {
    /// It stays, and there is no new one.
    Refused,
    /// A new one takes its place, with the channel key that stickers name.
    KeepChannelKey,
    /// A new one takes its place, with a channel key of its own: stickers of before are void.
    NewChannelKey,
}

/// Enrols this terminal: makes its keys, has the institution certify them, verifies the answer,
/// and keeps it. `server_root_pem` vouches for the institution's server. The terminal becomes
/// another one, or one of another institution, only while no payment is open.
///
/// A terminal that is enrolled already keeps its channel key, which stickers name, unless
/// `replacement` says otherwise.
///
/// # Errors
/// [`EnrolmentError`]; an enrolment that was there before stays then.
pub async fn enrol(
    state_directory: &Path,
    institution: &InstitutionAddress,
    server_root_pem: &str,
    code: &str,
    replacement: Replacement,
    now: UnixTime,
) -> Result<TerminalId, EnrolmentError> {
    check_clock(now)?;
    private_file::create_directory(state_directory)?;
    let path = state_directory.join(ENROLMENT_FILE);
    if replacement == Replacement::Refused && path.exists() {
        let terminal_id = read_file(&path).ok().map(|file| file.terminal_id.clone());
        return Err(EnrolmentError::Enrolled { terminal_id, path });
    }
    let pending = state_directory.join(PENDING_FILE);
    // One that cannot be read has no key to keep.
    let old = read_file(&path).ok();
    let choice = match (&old, replacement) {
        (None, _) => ChannelKeyChoice::First,
        (Some(old), Replacement::NewChannelKey) => ChannelKeyChoice::Replace(&old.channel_key),
        (Some(old), Replacement::Refused | Replacement::KeepChannelKey) => {
            ChannelKeyChoice::Keep(&old.channel_key)
        }
    };
    let keys = pending_keys(&pending, choice)?;
    let channel_key = read_channel_key(&keys.channel_key).map_err(EnrolmentError::Keys)?;
    let request = signing_request(&keys.client_key_pem)?;
    let enrolled =
        enrol_terminal(institution, server_root_pem, code, request, &channel_key, now).await?;
    let terminal_id = verify(&enrolled, &channel_key, &keys.client_key_pem, now)?;
    let root_public_key = base64(&enrolled.root_public_key);
    refuse_to_leave_open(state_directory, terminal_id, &root_public_key)?;
    let file = EnrolmentFile {
        terminal_id: terminal_id.to_string(),
        institution: institution.to_string(),
        channel_key: keys.channel_key.clone(),
        client_key_pem: keys.client_key_pem.clone(),
        client_certificate_pem: enrolled.client_certificate_pem,
        server_root_pem: server_root_pem.to_owned(),
        terminal_certificate: base64(&enrolled.terminal_certificate),
        keyring: base64(&enrolled.keyring),
        root_public_key,
    };
    // It must be readable before it replaces anything.
    file.open(&path)?.validity()?.check(now)?;
    private_file::replace(&path, &written(&file)?)?;
    Machine::read(Path::new("/")).note(state_directory)?;
    match std::fs::remove_file(&pending) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(%error, "cannot remove keys that are no longer needed");
        }
        Ok(()) | Err(_) => {}
    }
    Ok(terminal_id)
}

/// Refuses to become another terminal, or one of another institution, while payments are open.
fn refuse_to_leave_open(
    state_directory: &Path,
    terminal_id: TerminalId,
    root_public_key: &str,
) -> Result<(), EnrolmentError> {
    // An enrolment that cannot be read does not say who the terminal was; the journal's offers do.
    let old = read_file(&state_directory.join(ENROLMENT_FILE)).ok();
    let is_same_institution = old.as_ref().is_none_or(|old| old.root_public_key == root_public_key);
    let is_same_terminal = old.is_some_and(|old| old.terminal_id == terminal_id.to_string());
    let journal = state_directory.join(JOURNAL_FILE);
    if is_same_institution && is_same_terminal || !journal.exists() {
        return Ok(());
    }
    let open = SqliteJournal::open_to_read(&journal)?
        .payments(true, usize::MAX)
        .map_err(SqliteJournalError::from)?;
    let is_left =
        !is_same_institution && !open.is_empty() || begun_by_another(&open, terminal_id).is_some();
    if is_left {
        Err(EnrolmentError::OpenPayments { count: open.len(), terminal_id })
    } else {
        Ok(())
    }
}

/// All parts of the answer must belong together: the keyring signed by the root, the certificate by
/// the keyring, and both certificates for our own keys.
fn verify(
    enrolled: &Enrolled,
    channel_key: &ChannelKey,
    client_key_pem: &str,
    now: UnixTime,
) -> Result<TerminalId, EnrolmentError> {
    let root = VerifyingKey::from_sec1(&enrolled.root_public_key)?;
    let keyring = Keyring::verify(&Signed::decode(&enrolled.keyring)?, &root)?;
    let signed = Signed::decode(&enrolled.terminal_certificate)?;
    let certificate = TerminalCertificate::verify(&signed, &keyring, now)?;
    if certificate.channel_key != channel_key.public_key() {
        return Err(EnrolmentError::Untrusted(
            "the terminal certificate is for another channel key".into(),
        ));
    }
    if certificate.terminal_id.to_string() != enrolled.terminal_id {
        return Err(EnrolmentError::Untrusted(format!(
            "the terminal certificate is for {}, the answer for another terminal",
            certificate.terminal_id
        )));
    }
    check_client_key(&enrolled.client_certificate_pem, client_key_pem)
        .map_err(EnrolmentError::Untrusted)?;
    Ok(certificate.terminal_id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::{InstitutionKey, KeyPurpose, SealingKey, SigningKey};
    use crate::terminal::{PaymentState, fixtures};

    const NOW: UnixTime = UnixTime { seconds: 4_000_000_000 };

    /// An institution that signs, with what can be wrong about its answer.
    struct Institution {
        root: SigningKey,
        signer: SigningKey,
        channel_key: [u8; 32],
        terminal_id: &'static str,
        merchant_name: &'static str,
        client_certificate_pem: String,
        not_after: u64,
    }

    fn client_key() -> rcgen::KeyPair {
        rcgen::KeyPair::generate().unwrap()
    }

    fn client_certificate(key: &rcgen::KeyPair) -> String {
        rcgen::CertificateParams::new(Vec::new()).unwrap().self_signed(key).unwrap().pem()
    }

    impl Institution {
        fn for_keys(channel_key: &ChannelKey, client_key: &rcgen::KeyPair) -> Self {
            Self {
                root: SigningKey::from_scalar(&[7; 32]).unwrap(),
                signer: SigningKey::from_scalar(&[8; 32]).unwrap(),
                channel_key: channel_key.public_key(),
                terminal_id: "0123456789",
                merchant_name: "Kiosk",
                client_certificate_pem: client_certificate(client_key),
                not_after: NOW.seconds + 1000,
            }
        }

        fn enrolled(&self) -> Enrolled {
            let key = |purpose, public_key| InstitutionKey {
                purpose,
                public_key,
                not_after: UnixTime { seconds: NOW.seconds + 1000 },
            };
            let signing =
                |scalar| SigningKey::from_scalar(&[scalar; 32]).unwrap().verifying_key().to_sec1();
            let sealing = SealingKey::from_octets([5; 32]).public_key();
            let keyring = Keyring {
                institution_name: "Bank".into(),
                keys: vec![
                    key(KeyPurpose::TerminalCertificate, signing(8)),
                    key(KeyPurpose::Receipt, signing(9)),
                    key(KeyPurpose::Sealing, sealing.0.to_vec()),
                ],
                issued_at: NOW,
            };
            let certificate = TerminalCertificate {
                terminal_id: "0123456789".parse().unwrap(),
                merchant_id: "m".into(),
                merchant_name: self.merchant_name.into(),
                channel_key: self.channel_key,
                not_before: UnixTime { seconds: NOW.seconds - 1000 },
                not_after: UnixTime { seconds: self.not_after },
            };
            Enrolled {
                terminal_id: self.terminal_id.into(),
                client_certificate_pem: self.client_certificate_pem.clone(),
                terminal_certificate: certificate.sign(&self.signer).encode(),
                keyring: keyring.sign(&self.root).encode(),
                root_public_key: SigningKey::from_scalar(&[7; 32])
                    .unwrap()
                    .verifying_key()
                    .to_sec1(),
            }
        }
    }

    #[test]
    fn what_does_not_hold_together_is_refused() {
        let channel_key = ChannelKey::from_octets([5; 32]);
        let client_key = client_key();
        let client_key_pem = client_key.serialize_pem();
        let good = || Institution::for_keys(&channel_key, &client_key);
        verify(&good().enrolled(), &channel_key, &client_key_pem, NOW).unwrap();
        let other_client = client_certificate(&self::client_key());
        let other = SigningKey::from_scalar(&[9; 32]).unwrap();
        for (institution, words) in [
            (Institution { root: other.clone(), ..good() }, "keyring"),
            (Institution { signer: other, ..good() }, "keyring"),
            (Institution { channel_key: [1; 32], ..good() }, "another channel key"),
            (Institution { channel_key: [0; 32], ..good() }, "low order"),
            (Institution { merchant_name: "Ki\u{202e}osk", ..good() }, "merchant_name: U+202E"),
            (Institution { merchant_name: "\u{3164}", ..good() }, "merchant_name: U+3164"),
            (Institution { client_certificate_pem: other_client, ..good() }, "another key"),
            (Institution { client_certificate_pem: String::new(), ..good() }, "in PEM"),
            (Institution { terminal_id: "ABCDEFGHJK", ..good() }, "another terminal"),
            (Institution { not_after: NOW.seconds - 1, ..good() }, "good from"),
        ] {
            let enrolled = institution.enrolled();
            let refused = verify(&enrolled, &channel_key, &client_key_pem, NOW).unwrap_err();
            let error = refused.to_string();
            assert!(error.contains(words) && error.contains("nothing was stored"), "{error}");
        }
    }

    #[test]
    fn nobody_becomes_another_terminal_or_goes_to_another_institution_over_open_payments() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let ours = fixtures::identity().terminal_id();
        let other: TerminalId = "ABCDEFGHJK".parse().unwrap();
        let mut payment = fixtures::payment(1, PaymentState::Approved);
        let enrolled = |root: &str| {
            let file = EnrolmentFile {
                terminal_id: ours.to_string(),
                institution: String::new(),
                channel_key: String::new(),
                client_key_pem: String::new(),
                client_certificate_pem: String::new(),
                server_root_pem: String::new(),
                terminal_certificate: String::new(),
                keyring: String::new(),
                root_public_key: root.into(),
            };
            private_file::replace(&path.join(ENROLMENT_FILE), &written(&file).unwrap()).unwrap();
        };
        let refused = |terminal_id, root| match refuse_to_leave_open(path, terminal_id, root) {
            Ok(()) => false,
            Err(EnrolmentError::OpenPayments { count: 1, .. }) => true,
            Err(error) => panic!("{error}"),
        };
        enrolled("root");
        assert!(!refused(other, "other root"), "there is no journal");
        let mut journal = SqliteJournal::open(&path.join(JOURNAL_FILE)).unwrap();
        journal.append(&payment).unwrap();
        assert!(!refused(ours, "root"));
        assert!(refused(other, "root"));
        assert!(refused(ours, "other root"));
        // Without an enrolment the offers still say whose they are.
        std::fs::write(path.join(ENROLMENT_FILE), "damaged").unwrap();
        assert!(!refused(ours, "root") && refused(other, "root"));
        std::fs::remove_file(path.join(ENROLMENT_FILE)).unwrap();
        assert!(!refused(ours, "root") && refused(other, "root"));
        enrolled("root");
        payment.state = PaymentState::Captured;
        journal.append(&payment).unwrap();
        assert!(!refused(other, "other root"), "nothing is open");
        drop(journal);
        std::fs::write(path.join(JOURNAL_FILE), [0x5A; 8192]).unwrap();
        let error = refuse_to_leave_open(path, other, "root").unwrap_err();
        assert!(matches!(error, EnrolmentError::Journal(_)), "{error}");
        assert!(
            !refused(ours, "root"),
            "a journal that cannot be read is no matter for who stays the same"
        );
    }
}
