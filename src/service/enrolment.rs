//! The terminal's enrolment: made once with a one-time code, kept in the state directory, read at
//! each start.
//!
//! One file, so that it is there whole or not at all, which only the service's user may read. What
//! the institution gave is verified before it is kept; at a start it is checked against the clock.

use std::fmt;
use std::path::{Path, PathBuf};

use p256::pkcs8::{EncodePrivateKey, LineEnding};
use serde::{Deserialize, Serialize};
use x509_parser::pem::Pem;
use zeroize::{Zeroize, Zeroizing};

use super::begun_elsewhere::begun_by_another;
use super::configuration::JOURNAL_FILE;
use crate::credential::{CredentialError, Keyring, Signed, TerminalCertificate, VerifyingKey};
use crate::domain::{TerminalId, UnixTime};
use crate::journal::{Journal, SqliteJournal, SqliteJournalError};
use crate::private_file::{self, PrivateFileError};
use crate::protocol::ChannelKey;
use crate::relay::{EnrolError, Enrolled, InstitutionAddress, TlsFiles, enrol_terminal};
use crate::terminal::Identity;

const ENROLMENT_FILE: &str = "enrolment.toml";
/// Keys that were sent with a code that may have been used: the same code takes the same keys
/// again.
const PENDING_FILE: &str = "enrolment-pending.toml";
/// When this program was built: no clock that is right shows less.
const BUILT_AT_UNIX_S: &str = env!("FLORIN_BUILT_AT_UNIX_S");

/// Why there is no usable enrolment.
#[derive(Debug, thiserror::Error)]
pub enum EnrolmentError {
    /// Nothing was enrolled here.
    #[error("this terminal is not enrolled (no {}); ask the institution for a code and run `florin enrol`", .0.display())]
    NotEnrolled(PathBuf),
    /// There is an enrolment already.
    #[error(
        "this terminal is enrolled already as {terminal_id} ({}); with --replace the old enrolment is given up", path.display()
    )]
    Enrolled {
        /// Who it is.
        terminal_id: String,
        /// In which file.
        path: PathBuf,
    },
    /// The file cannot be read or written.
    #[error(transparent)]
    File(#[from] PrivateFileError),
    /// The file is not what `florin enrol` writes.
    #[error("{} cannot be used: {problem}; enrol again with `florin enrol --replace`", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What about it.
        problem: String,
    },
    /// Its time has run out.
    #[error(
        "the {what} was good until {until}, and it is {now}; enrol again: `florin enrol --replace`"
    )]
    Expired {
        /// Which certificate.
        what: &'static str,
        /// Its last second.
        until: UnixTime,
        /// The terminal's clock.
        now: UnixTime,
    },
    /// Its time has not begun.
    #[error(
        "the {what} is good from {from}, and it is {now}; set the clock: `timedatectl` shows whether it is synchronised"
    )]
    NotYetValid {
        /// Which certificate.
        what: &'static str,
        /// Its first second.
        from: UnixTime,
        /// The terminal's clock.
        now: UnixTime,
    },
    /// The clock shows a time before this program was made.
    #[error(
        "the clock says {now}, which is before this program was built ({built_at}); wait for or set the time: `timedatectl`"
    )]
    ClockUnset {
        /// The terminal's clock.
        now: UnixTime,
        /// When the program was built.
        built_at: UnixTime,
    },
    /// The institution's answer.
    #[error(transparent)]
    Enrol(#[from] EnrolError),
    /// What the institution gave does not hold together.
    #[error(
        "what the institution sent is not to be trusted: {0}; nothing was stored. Is this the right institution, and its right root?"
    )]
    Untrusted(String),
    /// The journal, which may hold open payments of the enrolment that is to be replaced.
    #[error("whether payments are open cannot be seen, and nothing was replaced: {0}")]
    Journal(#[from] SqliteJournalError),
    /// They could not be settled afterwards.
    #[error(
        "{count} payments are open, which terminal {terminal_id} could not settle with this institution, for they were begun as \
         another terminal or with another institution; nothing was replaced. Start the service as it is, wait until `florin payments \
         --open` shows none, and enrol again with the same code"
    )]
    OpenPayments {
        /// How many.
        count: usize,
        /// As whom it was to go on.
        terminal_id: TerminalId,
    },
    /// No keys can be made.
    #[error("no keys can be made: {0}")]
    Keys(String),
}

impl From<CredentialError> for EnrolmentError {
    fn from(error: CredentialError) -> Self {
        Self::Untrusted(error.to_string())
    }
}

/// Who the terminal is, and how it proves it.
pub struct Enrolment {
    /// For the engine.
    pub identity: Identity,
    /// The institution it was enrolled with.
    pub institution: InstitutionAddress,
    server_root_pem: String,
    client_certificate_pem: String,
    client_key_pem: Zeroizing<String>,
}

impl fmt::Debug for Enrolment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Enrolment")
            .field("terminal_id", &self.identity.terminal_id())
            .finish_non_exhaustive()
    }
}

/// The file, as it is written. Octets are in base64.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EnrolmentFile {
    terminal_id: String,
    institution: String,
    channel_key: String,
    client_key_pem: String,
    client_certificate_pem: String,
    server_root_pem: String,
    terminal_certificate: String,
    keyring: String,
    root_public_key: String,
}

impl Drop for EnrolmentFile {
    fn drop(&mut self) {
        self.channel_key.zeroize();
        self.client_key_pem.zeroize();
    }
}

/// Keys before they have a certificate.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    channel_key: String,
    client_key_pem: String,
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.channel_key.zeroize();
        self.client_key_pem.zeroize();
    }
}

/// Enrols this terminal: makes its keys, has the institution vouch for them, verifies what came,
/// keeps it. `server_root_pem` vouches for the institution's server. Another terminal, or one of
/// another institution, it becomes only while no payment is open.
///
/// # Errors
/// [`EnrolmentError`]. Until it returns well, an enrolment that was there before stays.
pub async fn enrol(
    state_directory: &Path,
    institution: &InstitutionAddress,
    server_root_pem: &str,
    code: &str,
    replace: bool,
    now: UnixTime,
) -> Result<TerminalId, EnrolmentError> {
    check_clock(now)?;
    private_file::create_directory(state_directory)?;
    let path = state_directory.join(ENROLMENT_FILE);
    if !replace && path.exists() {
        let terminal_id =
            read_file(&path).map_or_else(|_| "unreadable".into(), |file| file.terminal_id.clone());
        return Err(EnrolmentError::Enrolled { terminal_id, path });
    }
    let pending = state_directory.join(PENDING_FILE);
    let keys = pending_keys(&pending)?;
    let channel_key = read_channel_key(&keys.channel_key).map_err(EnrolmentError::Keys)?;
    let request = signing_request(&keys.client_key_pem)?;
    let enrolled =
        enrol_terminal(institution, server_root_pem, code, request, channel_key.public_key())
            .await?;
    let terminal_id = verify(&enrolled, &channel_key, now)?;
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
    // It must read back before it replaces anything.
    file.open(&path)?.validity()?.check(now)?;
    private_file::replace(&path, &written(&file)?)?;
    match std::fs::remove_file(&pending) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(%error, "keys that are no longer needed could not be removed");
        }
        Ok(()) | Err(_) => {}
    }
    Ok(terminal_id)
}

/// When a terminal's certificates are good, each with what it is, its first and its last second.
#[derive(Debug, Clone)]
pub(super) struct Validity([(&'static str, UnixTime, UnixTime); 2]);

impl Validity {
    /// Whether all are good now, and the clock by which that is judged can be right.
    ///
    /// # Errors
    /// [`EnrolmentError::ClockUnset`], [`EnrolmentError::Expired`],
    /// [`EnrolmentError::NotYetValid`].
    pub(super) fn check(&self, now: UnixTime) -> Result<(), EnrolmentError> {
        check_clock(now)?;
        self.0.iter().try_for_each(|(what, from, until)| check_validity(what, *from, *until, now))
    }
}

impl Enrolment {
    /// Reads the enrolment and checks that it is good now.
    ///
    /// # Errors
    /// [`EnrolmentError`].
    pub fn load(state_directory: &Path, now: UnixTime) -> Result<Self, EnrolmentError> {
        check_clock(now)?;
        let enrolment = Self::read(state_directory)?;
        enrolment.validity()?.check(now)?;
        Ok(enrolment)
    }

    /// Reads the enrolment, whatever the clock says. A clock can be wrong for a while.
    ///
    /// # Errors
    /// [`EnrolmentError`].
    pub(super) fn read(state_directory: &Path) -> Result<Self, EnrolmentError> {
        let path = state_directory.join(ENROLMENT_FILE);
        read_file(&path)?.open(&path)
    }

    /// When its certificates are good.
    ///
    /// # Errors
    /// [`EnrolmentError::Untrusted`], if the client certificate cannot be read.
    pub(super) fn validity(&self) -> Result<Validity, EnrolmentError> {
        Ok(Validity(self.certificates().map_err(EnrolmentError::Untrusted)?))
    }

    /// What the relay's TLS needs.
    pub fn tls_files(&self) -> TlsFiles<'_> {
        TlsFiles {
            root_certificates_pem: &self.server_root_pem,
            client: Some((&self.client_certificate_pem, &self.client_key_pem)),
        }
    }

    /// When the first of its certificates runs out.
    ///
    /// # Errors
    /// A description, if the client certificate cannot be read.
    pub fn good_until(&self) -> Result<UnixTime, String> {
        let (_, until) = validity_of(&self.client_certificate_pem)?;
        Ok(until.min(self.identity.certificate.not_after))
    }

    /// Each certificate: what it is, its first and its last second.
    ///
    /// # Errors
    /// A description, if the client certificate cannot be read.
    pub fn certificates(&self) -> Result<[(&'static str, UnixTime, UnixTime); 2], String> {
        let certificate = &self.identity.certificate;
        let (from, until) = validity_of(&self.client_certificate_pem)?;
        Ok([
            ("terminal certificate", certificate.not_before, certificate.not_after),
            ("client certificate", from, until),
        ])
    }
}

impl EnrolmentFile {
    fn open(&self, path: &Path) -> Result<Enrolment, EnrolmentError> {
        let damaged =
            |problem: String| EnrolmentError::Damaged { path: path.to_path_buf(), problem };
        let channel_key = read_channel_key(&self.channel_key).map_err(damaged)?;
        let certificate =
            octets("terminal_certificate", &self.terminal_certificate).map_err(damaged)?;
        let identity =
            Identity::new(certificate, channel_key).map_err(|error| damaged(error.to_string()))?;
        let institution =
            self.institution.parse().map_err(|error| damaged(format!("institution: {error}")))?;
        validity_of(&self.client_certificate_pem).map_err(damaged)?;
        Ok(Enrolment {
            identity,
            institution,
            server_root_pem: self.server_root_pem.clone(),
            client_certificate_pem: self.client_certificate_pem.clone(),
            client_key_pem: Zeroizing::new(self.client_key_pem.clone()),
        })
    }
}

/// Refuses to become another terminal, or one of another institution, over open payments.
fn refuse_to_leave_open(
    state_directory: &Path,
    terminal_id: TerminalId,
    root_public_key: &str,
) -> Result<(), EnrolmentError> {
    // One that cannot be read says nothing of who it was; offers in the journal still do.
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

/// Whether the clock can be right.
///
/// # Errors
/// [`EnrolmentError::ClockUnset`].
pub fn check_clock(now: UnixTime) -> Result<(), EnrolmentError> {
    let built_at = UnixTime { seconds: BUILT_AT_UNIX_S.parse().unwrap_or(0) };
    if now < built_at { Err(EnrolmentError::ClockUnset { now, built_at }) } else { Ok(()) }
}

/// Everything that came must hold together: keyring under root, certificate under keyring, both for
/// our own keys.
fn verify(
    enrolled: &Enrolled,
    channel_key: &ChannelKey,
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
    Ok(certificate.terminal_id)
}

fn check_validity(
    what: &'static str,
    from: UnixTime,
    until: UnixTime,
    now: UnixTime,
) -> Result<(), EnrolmentError> {
    if now > until {
        Err(EnrolmentError::Expired { what, until, now })
    } else if now < from {
        Err(EnrolmentError::NotYetValid { what, from, now })
    } else {
        Ok(())
    }
}

/// First and last second of the first certificate in the PEM.
fn validity_of(pem: &str) -> Result<(UnixTime, UnixTime), String> {
    let fault = |detail: String| format!("client_certificate_pem: {detail}");
    let block = Pem::iter_from_buffer(pem.as_bytes())
        .next()
        .ok_or_else(|| fault("no PEM".into()))?
        .map_err(|error| fault(error.to_string()))?;
    let certificate = block.parse_x509().map_err(|error| fault(error.to_string()))?;
    let seconds = |timestamp: i64| UnixTime { seconds: u64::try_from(timestamp).unwrap_or(0) };
    let validity = certificate.validity();
    Ok((seconds(validity.not_before.timestamp()), seconds(validity.not_after.timestamp())))
}

fn read_file(path: &Path) -> Result<EnrolmentFile, EnrolmentError> {
    let text = private_file::read_text(path).map_err(|error| {
        if error.is_not_found() {
            EnrolmentError::NotEnrolled(path.to_path_buf())
        } else {
            error.into()
        }
    })?;
    // Not the error's own display, which shows the line, and the line may be a key.
    toml::from_str(&text).map_err(|error| EnrolmentError::Damaged {
        path: path.to_path_buf(),
        problem: error.message().to_owned(),
    })
}

/// The keys of an attempt whose answer was lost, or new ones, kept before they are sent anywhere.
fn pending_keys(path: &Path) -> Result<Keys, EnrolmentError> {
    match private_file::read_text(path) {
        Ok(text) => {
            if let Ok(keys) = toml::from_str(&text) {
                return Ok(keys);
            }
        }
        Err(error) if error.is_not_found() => {}
        Err(error) => return Err(error.into()),
    }
    let keys = new_keys()?;
    private_file::replace(path, &written(&keys)?)?;
    Ok(keys)
}

fn new_keys() -> Result<Keys, EnrolmentError> {
    let channel_key = random_octets()?;
    let client_key = loop {
        // Fails for a scalar that is no key, one in 2^32.
        if let Ok(key) = p256::SecretKey::from_slice(random_octets()?.as_slice()) {
            break key;
        }
    };
    let client_key_pem = client_key
        .to_pkcs8_pem(LineEnding::LF)
        .map_err(|error| EnrolmentError::Keys(error.to_string()))?;
    Ok(Keys {
        channel_key: base64(channel_key.as_slice()),
        client_key_pem: client_key_pem.as_str().to_owned(),
    })
}

fn random_octets() -> Result<Zeroizing<[u8; 32]>, EnrolmentError> {
    use rand::TryRngCore;
    let mut octets = Zeroizing::new([0; 32]);
    rand::rngs::OsRng.try_fill_bytes(octets.as_mut()).map_err(|error| {
        EnrolmentError::Keys(format!("the operating system gives no randomness: {error}"))
    })?;
    Ok(octets)
}

/// PKCS #10 in DER. The institution takes only the key from it, and names the terminal itself.
fn signing_request(client_key_pem: &str) -> Result<Vec<u8>, EnrolmentError> {
    let fault = |error: rcgen::Error| EnrolmentError::Keys(error.to_string());
    let key = rcgen::KeyPair::from_pem(client_key_pem).map_err(fault)?;
    let params = rcgen::CertificateParams::new(Vec::new()).map_err(fault)?;
    let request = params.serialize_request(&key).map_err(fault)?;
    Ok(request.der().to_vec())
}

fn read_channel_key(text: &str) -> Result<ChannelKey, String> {
    let octets = Zeroizing::new(octets("channel_key", text)?);
    let octets =
        octets.as_slice().try_into().map_err(|_| "channel_key: not 32 octets".to_owned())?;
    Ok(ChannelKey::from_octets(octets))
}

fn written(value: &impl Serialize) -> Result<Zeroizing<Vec<u8>>, EnrolmentError> {
    const HEAD: &str =
        "# Written by `florin enrol`. It holds private keys: it stays on this machine.\n";
    let text = Zeroizing::new(
        toml::to_string(value).map_err(|error| EnrolmentError::Keys(error.to_string()))?,
    );
    let mut octets = Zeroizing::new(Vec::with_capacity(HEAD.len() + text.len()));
    octets.extend_from_slice(HEAD.as_bytes());
    octets.extend_from_slice(text.as_bytes());
    Ok(octets)
}

fn base64(octets: &[u8]) -> String {
    data_encoding::BASE64.encode(octets)
}

fn octets(field: &str, text: &str) -> Result<Vec<u8>, String> {
    data_encoding::BASE64.decode(text.as_bytes()).map_err(|_| format!("{field}: not base64"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::{InstitutionKey, KeyPurpose, SigningKey};
    use crate::domain::{Offer, TransactionId};
    use crate::protocol::encode_offer;
    use crate::terminal::{Payment, PaymentState};

    const NOW: UnixTime = UnixTime { seconds: 4_000_000_000 };

    /// An institution that signs, with what can be wrong about its answer.
    struct Institution {
        root: SigningKey,
        signer: SigningKey,
        channel_key: [u8; 32],
        terminal_id: &'static str,
        not_after: u64,
    }

    impl Institution {
        fn for_key(channel_key: &ChannelKey) -> Self {
            Self {
                root: SigningKey::from_scalar(&[7; 32]).unwrap(),
                signer: SigningKey::from_scalar(&[8; 32]).unwrap(),
                channel_key: channel_key.public_key(),
                terminal_id: "0123456789",
                not_after: NOW.seconds + 1000,
            }
        }

        fn enrolled(&self) -> Enrolled {
            let keyring = Keyring {
                institution_name: "Bank".into(),
                keys: vec![InstitutionKey {
                    purpose: KeyPurpose::TerminalCertificate,
                    public_key: SigningKey::from_scalar(&[8; 32])
                        .unwrap()
                        .verifying_key()
                        .to_sec1(),
                    not_after: UnixTime { seconds: self.not_after },
                }],
                issued_at: NOW,
            };
            let certificate = TerminalCertificate {
                terminal_id: "0123456789".parse().unwrap(),
                merchant_id: "m".into(),
                merchant_name: "Kiosk".into(),
                channel_key: self.channel_key,
                not_before: UnixTime { seconds: NOW.seconds - 1000 },
                not_after: UnixTime { seconds: self.not_after },
            };
            Enrolled {
                terminal_id: self.terminal_id.into(),
                client_certificate_pem: String::new(),
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
        let good = || Institution::for_key(&channel_key);
        verify(&good().enrolled(), &channel_key, NOW).unwrap();
        let other = SigningKey::from_scalar(&[9; 32]).unwrap();
        for (institution, words) in [
            (Institution { root: other.clone(), ..good() }, "keyring"),
            (Institution { signer: other, ..good() }, "keyring"),
            (Institution { channel_key: [1; 32], ..good() }, "another channel key"),
            (Institution { terminal_id: "ABCDEFGHJK", ..good() }, "another terminal"),
            (Institution { not_after: NOW.seconds - 1, ..good() }, "good from"),
        ] {
            let error = verify(&institution.enrolled(), &channel_key, NOW).unwrap_err().to_string();
            assert!(error.contains(words) && error.contains("nothing was stored"), "{error}");
        }
    }

    #[test]
    fn nobody_becomes_another_terminal_or_goes_to_another_institution_over_open_payments() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let (ours, other): (TerminalId, TerminalId) =
            ("0123456789".parse().unwrap(), "ABCDEFGHJK".parse().unwrap());
        let offer = Offer {
            transaction_id: TransactionId::from_random([1; 16]),
            terminal_id: ours,
            merchant_name: "Kiosk".into(),
            amount: "2.50 EUR".parse().unwrap(),
            valid_for_s: 60,
            nonce: [1; 16],
            reference: String::new(),
            items: Vec::new(),
            capture_after_dispense: true,
        };
        let mut payment = Payment {
            transaction_id: offer.transaction_id,
            state: PaymentState::Approved,
            amount: offer.amount,
            reference: String::new(),
            capture_after_dispense: true,
            offer: encode_offer(&offer),
            sealed_command: None,
            receipt: None,
            released: true,
            idempotency: None,
            created_at: NOW,
            updated_at: NOW,
        };
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

    #[test]
    fn a_clock_before_the_build_is_unset() {
        let error = check_clock(UnixTime { seconds: 1_000_000 }).unwrap_err();
        assert!(matches!(error, EnrolmentError::ClockUnset { .. }));
        check_clock(NOW).unwrap();
    }

    #[test]
    fn times_are_judged_inclusively() {
        let time = |seconds| UnixTime { seconds };
        let judge = |now| check_validity("certificate", time(10), time(20), time(now));
        assert!(matches!(judge(9), Err(EnrolmentError::NotYetValid { .. })));
        judge(10).unwrap();
        judge(20).unwrap();
        assert!(matches!(judge(21), Err(EnrolmentError::Expired { .. })));
    }

    #[test]
    fn keys_whose_answer_was_lost_are_used_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(PENDING_FILE);
        let first = pending_keys(&path).unwrap();
        let again = pending_keys(&path).unwrap();
        assert_eq!(first.channel_key, again.channel_key);
        assert_eq!(first.client_key_pem, again.client_key_pem);
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        signing_request(&first.client_key_pem).unwrap();
    }

    #[test]
    fn no_enrolment_and_a_damaged_one_are_said_so_without_showing_keys() {
        let directory = tempfile::tempdir().unwrap();
        let error = Enrolment::load(directory.path(), NOW).unwrap_err();
        assert!(matches!(error, EnrolmentError::NotEnrolled(_)));
        let path = directory.path().join(ENROLMENT_FILE);
        private_file::create(&path, b"channel_key = \"SECRET\nx").unwrap();
        let error = Enrolment::load(directory.path(), NOW).unwrap_err().to_string();
        assert!(error.contains("enrol again") && !error.contains("SECRET"), "{error}");
    }
}
