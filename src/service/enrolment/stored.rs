//! The enrolment as it is kept in the state directory: who the terminal is, and how it proves it.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use super::super::toml_place::place;
use super::EnrolmentError;
use super::encoding::octets;
use super::keys::read_channel_key;
use super::validity::{CertificatePeriod, Validity, check_client_key, check_clock, validity_of};
use crate::credential::VerifyingKey;
use crate::domain::UnixTime;
use crate::institution_address::InstitutionAddress;
use crate::private_file;
use crate::relay::TlsFiles;
use crate::terminal::Identity;

pub(in super::super) const ENROLMENT_FILE: &str = "enrolment.toml";

/// The fields of [`EnrolmentFile`].
const FIELDS: [&str; 9] = [
    "terminal_id",
    "institution",
    "channel_key",
    "client_key_pem",
    "client_certificate_pem",
    "server_root_pem",
    "terminal_certificate",
    "keyring",
    "root_public_key",
];

/// Who the terminal is, and how it proves it.
pub struct Enrolment {
    pub identity: Identity,
    /// The institution it was enrolled with.
    pub institution: InstitutionAddress,
    server_root_pem: String,
    client_certificate_pem: String,
    client_key_pem: Zeroizing<String>,
    /// In base64.
    root_public_key: String,
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
pub(super) struct EnrolmentFile {
    pub(super) terminal_id: String,
    pub(super) institution: String,
    pub(super) channel_key: String,
    pub(super) client_key_pem: String,
    pub(super) client_certificate_pem: String,
    pub(super) server_root_pem: String,
    pub(super) terminal_certificate: String,
    pub(super) keyring: String,
    pub(super) root_public_key: String,
}

impl Drop for EnrolmentFile {
    fn drop(&mut self) {
        self.channel_key.zeroize();
        self.client_key_pem.zeroize();
    }
}

impl Enrolment {
    /// Reads the enrolment and checks that it is valid now.
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
    pub(in super::super) fn read(state_directory: &Path) -> Result<Self, EnrolmentError> {
        let path = state_directory.join(ENROLMENT_FILE);
        read_file(&path)?.open(&path)
    }

    /// When its certificates are valid.
    ///
    /// # Errors
    /// [`EnrolmentError::Untrusted`], if the client certificate cannot be read.
    pub(in super::super) fn validity(&self) -> Result<Validity, EnrolmentError> {
        Ok(Validity(self.certificates().map_err(EnrolmentError::Untrusted)?))
    }

    /// Whether a service that runs with the earlier enrolment can go on with this one: it is the
    /// same terminal, with the same channel key, at the same institution.
    pub(in super::super) fn continues(&self, earlier: &Self) -> bool {
        let channel_key = |enrolment: &Self| enrolment.identity.channel_key.public_key();
        self.identity.terminal_id() == earlier.identity.terminal_id()
            && channel_key(self) == channel_key(earlier)
            && self.institution == earlier.institution
            && self.root_public_key == earlier.root_public_key
    }

    /// What the relay's TLS needs.
    pub fn tls_files(&self) -> TlsFiles<'_> {
        TlsFiles {
            root_certificates_pem: &self.server_root_pem,
            client: Some((&self.client_certificate_pem, &self.client_key_pem)),
        }
    }

    /// When the first of its certificates expires.
    ///
    /// # Errors
    /// A description, if the client certificate cannot be read.
    pub fn good_until(&self) -> Result<UnixTime, String> {
        let (_, until) = validity_of(&self.client_certificate_pem)?;
        Ok(until.min(self.identity.certificate.not_after))
    }

    /// When each certificate is valid.
    ///
    /// # Errors
    /// A description, if the client certificate cannot be read.
    pub fn certificates(&self) -> Result<[CertificatePeriod; 2], String> {
        let certificate = &self.identity.certificate;
        let (from, until) = validity_of(&self.client_certificate_pem)?;
        Ok([
            CertificatePeriod {
                certificate: "terminal certificate",
                from: certificate.not_before,
                until: certificate.not_after,
            },
            CertificatePeriod { certificate: "client certificate", from, until },
        ])
    }
}

impl EnrolmentFile {
    pub(super) fn open(&self, path: &Path) -> Result<Enrolment, EnrolmentError> {
        let damaged =
            |problem: String| EnrolmentError::Damaged { path: path.to_path_buf(), problem };
        let channel_key = read_channel_key(&self.channel_key).map_err(damaged)?;
        let certificate =
            octets("terminal_certificate", &self.terminal_certificate).map_err(damaged)?;
        let keyring = octets("keyring", &self.keyring).map_err(damaged)?;
        let root_key = octets("root_public_key", &self.root_public_key)
            .and_then(|octets| {
                VerifyingKey::from_sec1(&octets)
                    .map_err(|error| format!("root_public_key: {error}"))
            })
            .map_err(damaged)?;
        let identity = Identity::new(certificate, channel_key, keyring, &root_key)
            .map_err(|error| damaged(error.to_string()))?;
        let institution =
            self.institution.parse().map_err(|error| damaged(format!("institution: {error}")))?;
        if identity.terminal_id().to_string() != self.terminal_id {
            let problem = format!("the terminal certificate is for {}", identity.terminal_id());
            return Err(damaged(problem));
        }
        validity_of(&self.client_certificate_pem).map_err(damaged)?;
        check_client_key(&self.client_certificate_pem, &self.client_key_pem).map_err(damaged)?;
        Ok(Enrolment {
            identity,
            institution,
            server_root_pem: self.server_root_pem.clone(),
            client_certificate_pem: self.client_certificate_pem.clone(),
            client_key_pem: Zeroizing::new(self.client_key_pem.clone()),
            root_public_key: self.root_public_key.clone(),
        })
    }
}

pub(super) fn read_file(path: &Path) -> Result<EnrolmentFile, EnrolmentError> {
    let text = private_file::read_text(path).map_err(|error| {
        if error.is_not_found() {
            EnrolmentError::NotEnrolled(path.to_path_buf())
        } else {
            error.into()
        }
    })?;
    toml::from_str(&text).map_err(|error| EnrolmentError::Damaged {
        path: path.to_path_buf(),
        problem: file_problem(&text, &error),
    })
}

/// Not the error's own display, which shows the line: the line may be a key. The same goes for
/// what stands before a `=`, unless it is the name of a field.
fn file_problem(text: &str, error: &toml::de::Error) -> String {
    let place = place(text, error.span().map_or(0, |span| span.start));
    let line = place.line;
    if FIELDS.contains(&place.key.as_str()) {
        format!("line {line}: {}: {}", place.key, error.message())
    } else {
        format!("line {line}: {}", error.message())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixTime = UnixTime { seconds: 4_000_000_000 };

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

    #[test]
    fn a_damaged_enrolment_names_line_and_field_and_what_was_expected() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(ENROLMENT_FILE);
        for (text, words) in [
            ("terminal_id = \"x\"\nkeyring = 5\n", "line 2: keyring: invalid type: integer `5`"),
            ("terminal_id = \"x\"\n", "missing field `institution`"),
            // What is torn may have a key where a name should be.
            ("SECRET= 5\n", "line 1: "),
        ] {
            private_file::replace(&path, text.as_bytes()).unwrap();
            let error = Enrolment::load(directory.path(), NOW).unwrap_err().to_string();
            assert!(error.contains(words) && error.contains("enrolment.toml"), "{error}");
        }
    }
}
