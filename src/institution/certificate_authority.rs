//! The certificate authority of the institution's TLS: it vouches for the server to terminals, and
//! for terminals to the server.
//!
//! It does not identify anybody: the caller says which terminal a request is for. It keeps no list
//! of what it issued: a terminal is blocked in the registry.

use std::net::IpAddr;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData,
    SanType, SerialNumber,
};
use rustls::pki_types::{
    CertificateDer, CertificateSigningRequestDer, PrivateKeyDer, PrivatePkcs8KeyDer,
};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};
use zeroize::Zeroizing;

use super::records::OperatorName;
use super::validity::{AUTHORITY_VALIDITY_S, CLOCK_TOLERANCE_S, SERVER_VALIDITY_S};
use crate::domain::{TerminalId, UnixTime};

/// What stands before the terminal's id in the URI among the alternative names of its client
/// certificate.
const TERMINAL_URI_PREFIX: &str = "urn:florin:terminal:";
/// What stands there before the name of an operator.
const OPERATOR_URI_PREFIX: &str = "urn:florin:operator:";

/// Why a certificate cannot be made or read.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The authority's key or certificate cannot be read, or they do not belong together.
    #[error(
        "the key and the certificate of the TLS authority cannot be used: {0}; restore both from \
         one backup"
    )]
    Authority(String),
    /// What was sent is not a signing request.
    #[error(
        "not a certificate signing request (PKCS #10 in DER, a P-256 key, signed with SHA-256): {0}"
    )]
    Request(String),
    /// The text is not a host name.
    #[error(
        "`{0}` is neither a host name nor an IP address; expected one such as bank.example or \
         192.0.2.1, without https:// and without a port"
    )]
    HostName(String),
    /// The certificate library refused.
    #[error("the certificate cannot be made: {0}")]
    Making(#[from] rcgen::Error),
    /// The time is beyond what a certificate can hold.
    #[error("the clock says {0}, and no certificate can be made for that time; set the clock")]
    Time(UnixTime),
    /// The client certificate does not name a terminal.
    #[error(
        "the client certificate names no terminal; enrol the terminal, and connect with the \
         certificate that it gets"
    )]
    NoTerminal,
}

/// The authority, with its private key. Its `Debug` form shows nothing of it.
pub struct CertificateAuthority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    certificate_pem: String,
    not_before: UnixTime,
}

/// A certificate and its private key for the server.
pub struct ServerIdentity {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
}

/// A terminal's signing request with a good signature. The names in it are ignored.
#[derive(Debug)]
pub struct ClientRequest {
    public_key: rcgen::PublicKey,
}

impl ClientRequest {
    /// Reads PKCS #10 in DER and checks that the sender holds the private key.
    ///
    /// # Errors
    /// [`CertificateError::Request`].
    pub fn read(der: &[u8]) -> Result<Self, CertificateError> {
        let request = CertificateSigningRequestParams::from_der(
            &CertificateSigningRequestDer::from(der.to_vec()),
        )
        .map_err(|error| CertificateError::Request(error.to_string()))?;
        let public_key = request.public_key;
        // The algorithm is that of the signature; the length shows that the key is of that curve.
        if PublicKeyData::algorithm(&public_key) != &rcgen::PKCS_ECDSA_P256_SHA256
            || public_key.der_bytes().len() != 65
        {
            return Err(CertificateError::Request("its key is not a P-256 key".to_owned()));
        }
        Ok(Self { public_key })
    }

    /// SHA-256 of the public key: the registry knows the key by it.
    pub fn key_digest(&self) -> [u8; 32] {
        Sha256::digest(self.public_key.der_bytes()).into()
    }
}

/// The terminal that a client certificate is for, and its key. The caller has verified who issued
/// the certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientIdentity {
    pub terminal_id: TerminalId,
    /// SHA-256 of the certificate's public key.
    pub key_digest: [u8; 32],
    /// When the certificate was made.
    pub issued_at: UnixTime,
    /// The last second in which the certificate is valid.
    pub not_after: UnixTime,
}

impl ClientIdentity {
    /// Reads a client certificate in DER.
    ///
    /// # Errors
    /// [`CertificateError::NoTerminal`].
    pub fn of_certificate(der: &[u8]) -> Result<Self, CertificateError> {
        let no_terminal = || CertificateError::NoTerminal;
        let (_, certificate) = X509Certificate::from_der(der).map_err(|_| no_terminal())?;
        let terminal_id = uri_after(&certificate, TERMINAL_URI_PREFIX)
            .and_then(|id| id.parse().ok())
            .ok_or_else(no_terminal)?;
        let seconds = |timestamp: i64| u64::try_from(timestamp).unwrap_or_default();
        let validity = certificate.validity();
        let not_before_s = seconds(validity.not_before.timestamp());
        Ok(Self {
            terminal_id,
            key_digest: key_digest_of(&certificate),
            issued_at: UnixTime { seconds: not_before_s.saturating_add(CLOCK_TOLERANCE_S) },
            not_after: UnixTime { seconds: seconds(validity.not_after.timestamp()) },
        })
    }
}

/// The operator that a client certificate is for, and the key. The caller has verified who issued
/// the certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorIdentity {
    pub name: OperatorName,
    /// SHA-256 of the certificate's public key.
    pub key_digest: [u8; 32],
}

impl OperatorIdentity {
    /// Reads a client certificate in DER; none if it names no operator.
    pub fn of_certificate(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let name = uri_after(&certificate, OPERATOR_URI_PREFIX)?.parse().ok()?;
        Some(Self { name, key_digest: key_digest_of(&certificate) })
    }
}

/// A new key and a client certificate for an operator.
pub struct OperatorCertificate {
    /// PKCS #8 in PEM.
    pub key_pem: Zeroizing<String>,
    /// X.509 in PEM, and behind it the authority's own.
    pub certificate_pem: String,
    /// SHA-256 of the public key.
    pub key_digest: [u8; 32],
}

/// What stands after the prefix in a URI among the alternative names of a certificate.
fn uri_after<'names>(
    certificate: &'names X509Certificate<'_>,
    prefix: &str,
) -> Option<&'names str> {
    let names = certificate.subject_alternative_name().ok()??;
    names.value.general_names.iter().find_map(|name| {
        if let GeneralName::URI(uri) = name { uri.strip_prefix(prefix) } else { None }
    })
}

fn key_digest_of(certificate: &X509Certificate<'_>) -> [u8; 32] {
    Sha256::digest(certificate.public_key().subject_public_key.data.as_ref()).into()
}

impl CertificateAuthority {
    /// Makes a new authority with a new key. Returns the key too, in PEM (PKCS #8), to be kept.
    ///
    /// # Errors
    /// [`CertificateError`].
    pub fn generate(
        institution_name: &str,
        now: UnixTime,
    ) -> Result<(Self, Zeroizing<String>), CertificateError> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let key_pem = Zeroizing::new(key.serialize_pem());
        let mut parameters =
            parameters(&format!("{institution_name} TLS authority"), now, AUTHORITY_VALIDITY_S)?;
        parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate_pem = parameters.self_signed(&key)?.pem();
        Ok((Self::from_pem(&key_pem, &certificate_pem)?, key_pem))
    }

    /// The authority with this key (PKCS #8 in PEM) and this certificate (X.509 in PEM).
    ///
    /// # Errors
    /// [`CertificateError::Authority`] if they cannot be read or do not belong together.
    pub fn from_pem(key_pem: &str, certificate_pem: &str) -> Result<Self, CertificateError> {
        use rustls::pki_types::pem::PemObject;
        let unusable = |detail: String| CertificateError::Authority(detail);
        let key = KeyPair::from_pem(key_pem)
            .map_err(|_| unusable("the key is not PKCS #8 in PEM".to_owned()))?;
        let certificate = CertificateDer::from_pem_slice(certificate_pem.as_bytes())
            .map_err(|_| unusable("the certificate is not X.509 in PEM".to_owned()))?;
        let (_, parsed) = X509Certificate::from_der(&certificate)
            .map_err(|_| unusable("the certificate is not X.509".to_owned()))?;
        if parsed.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
            return Err(unusable("the certificate is for another key".to_owned()));
        }
        let not_before = UnixTime {
            seconds: u64::try_from(parsed.validity().not_before.timestamp()).unwrap_or(0),
        };
        let issuer = Issuer::from_ca_cert_der(&certificate, key)
            .map_err(|error| unusable(error.to_string()))?;
        Ok(Self { issuer, certificate, certificate_pem: certificate_pem.to_owned(), not_before })
    }

    /// The authority's certificate, X.509 in PEM. Terminals and wallets recognise the server by it.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    pub(super) fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Makes a new key and certificate for the server under these names.
    ///
    /// # Errors
    /// [`CertificateError`]; [`CertificateError::HostName`] says which name is wrong.
    pub fn issue_server(
        &self,
        host_names: &[String],
        now: UnixTime,
        serial: [u8; 16],
    ) -> Result<ServerIdentity, CertificateError> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let mut parameters = parameters("florin-acquirer", now, SERVER_VALIDITY_S)?;
        // The clock of a machine without a battery is behind after a power cut: the certificate
        // must not be from its future.
        parameters.not_before = date(self.not_before)?;
        parameters.subject_alt_names =
            host_names.iter().map(|name| alternative_name(name)).collect::<Result<_, _>>()?;
        parameters.serial_number = Some(serial_number(serial));
        parameters.use_authority_key_identifier_extension = true;
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = parameters.signed_by(&key, &self.issuer)?;
        Ok(ServerIdentity {
            chain: vec![certificate.der().clone(), self.certificate.clone()],
            key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        })
    }

    /// Makes a client certificate for the terminal. Returns it, and behind it the authority's own,
    /// in PEM.
    ///
    /// # Errors
    /// [`CertificateError`].
    pub fn issue_client(
        &self,
        request: &ClientRequest,
        terminal_id: TerminalId,
        now: UnixTime,
        not_after: UnixTime,
        serial: [u8; 16],
    ) -> Result<String, CertificateError> {
        let parameters = client_parameters(
            &format!("Florin terminal {terminal_id}"),
            format!("{TERMINAL_URI_PREFIX}{terminal_id}"),
            (now, not_after),
            serial,
        )?;
        let certificate = parameters.signed_by(&request.public_key, &self.issuer)?;
        Ok(format!("{}{}", certificate.pem(), self.certificate_pem))
    }

    /// Makes a new key and a client certificate for an operator.
    ///
    /// # Errors
    /// [`CertificateError`].
    pub fn issue_operator(
        &self,
        name: &OperatorName,
        now: UnixTime,
        not_after: UnixTime,
        serial: [u8; 16],
    ) -> Result<OperatorCertificate, CertificateError> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let parameters = client_parameters(
            &format!("Florin operator {name}"),
            format!("{OPERATOR_URI_PREFIX}{name}"),
            (now, not_after),
            serial,
        )?;
        let certificate = parameters.signed_by(&key, &self.issuer)?;
        Ok(OperatorCertificate {
            key_pem: Zeroizing::new(key.serialize_pem()),
            certificate_pem: format!("{}{}", certificate.pem(), self.certificate_pem),
            key_digest: Sha256::digest(key.public_key_raw()).into(),
        })
    }
}

impl std::fmt::Debug for CertificateAuthority {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("CertificateAuthority").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for ServerIdentity {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ServerIdentity").finish_non_exhaustive()
    }
}

/// What is the same in all client certificates. `uri` names who connects.
fn client_parameters(
    common_name: &str,
    uri: String,
    (now, not_after): (UnixTime, UnixTime),
    serial: [u8; 16],
) -> Result<CertificateParams, CertificateError> {
    let mut parameters = parameters(common_name, now, 0)?;
    parameters.not_after = date(not_after)?;
    parameters.subject_alt_names = vec![SanType::URI(uri.try_into()?)];
    parameters.serial_number = Some(serial_number(serial));
    parameters.use_authority_key_identifier_extension = true;
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    Ok(parameters)
}

/// What is the same in all certificates.
fn parameters(
    common_name: &str,
    now: UnixTime,
    validity_s: u64,
) -> Result<CertificateParams, CertificateError> {
    let mut parameters = CertificateParams::default();
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    parameters.distinguished_name = name;
    parameters.not_before =
        date(UnixTime { seconds: now.seconds.saturating_sub(CLOCK_TOLERANCE_S) })?;
    parameters.not_after = date(UnixTime { seconds: now.seconds.saturating_add(validity_s) })?;
    Ok(parameters)
}

fn date(time: UnixTime) -> Result<OffsetDateTime, CertificateError> {
    i64::try_from(time.seconds)
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .ok_or(CertificateError::Time(time))
}

/// A serial number is positive and never 0 (RFC 5280, section 4.1.2.2).
fn serial_number(mut random: [u8; 16]) -> SerialNumber {
    random[0] = random[0] & 0x7f | 0x40;
    SerialNumber::from_slice(&random)
}

fn alternative_name(name: &str) -> Result<SanType, CertificateError> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    // Only what a TLS client accepts as a name to connect to.
    let host_name = || CertificateError::HostName(name.chars().take(80).collect());
    rustls::pki_types::DnsName::try_from(name).map_err(|_| host_name())?;
    Ok(SanType::DnsName(name.try_into().map_err(|_| host_name())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixTime = UnixTime { seconds: 1_800_000_000 };

    fn request() -> Vec<u8> {
        let key = KeyPair::generate().unwrap();
        CertificateParams::default().serialize_request(&key).unwrap().der().to_vec()
    }

    #[test]
    fn a_client_certificate_names_its_terminal_whatever_the_request_said() {
        let (authority, key_pem) = CertificateAuthority::generate("Bank", NOW).unwrap();
        let authority =
            CertificateAuthority::from_pem(&key_pem, authority.certificate_pem()).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut asked = CertificateParams::default();
        asked.subject_alt_names =
            vec![SanType::URI("urn:florin:terminal:ZZZZZZZZZZ".try_into().unwrap())];
        asked.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let asked = asked.serialize_request(&key).unwrap();
        let request = ClientRequest::read(asked.der()).unwrap();
        let terminal: TerminalId = "0123456789".parse().unwrap();
        let later = UnixTime { seconds: NOW.seconds + 100 };
        let pem = authority.issue_client(&request, terminal, NOW, later, [0xff; 16]).unwrap();
        use rustls::pki_types::pem::PemObject;
        let chain: Vec<_> =
            CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().unwrap();
        assert_eq!(chain.len(), 2);
        let identity = ClientIdentity::of_certificate(&chain[0]).unwrap();
        assert_eq!(
            identity,
            ClientIdentity {
                terminal_id: terminal,
                key_digest: request.key_digest(),
                issued_at: NOW,
                not_after: later,
            }
        );
        let (_, parsed) = X509Certificate::from_der(&chain[0]).unwrap();
        assert!(!parsed.is_ca());
        assert!(matches!(
            ClientIdentity::of_certificate(&chain[1]),
            Err(CertificateError::NoTerminal)
        ));
    }

    #[test]
    fn a_request_must_be_signed_by_its_key() {
        let mut der = request();
        ClientRequest::read(&der).unwrap();
        let last = der.len() - 1;
        der[last] ^= 1;
        assert!(matches!(ClientRequest::read(&der), Err(CertificateError::Request(_))));
        assert!(ClientRequest::read(&[]).is_err());
        let other_curve = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        let der = CertificateParams::default().serialize_request(&other_curve).unwrap();
        assert!(ClientRequest::read(der.der()).is_err());
    }

    #[test]
    fn host_names_are_names_or_addresses() {
        let (authority, _) = CertificateAuthority::generate("Bank", NOW).unwrap();
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
        authority.issue_server(&names, NOW, [1; 16]).unwrap();
        for name in ["", "a b", "http://x", "*"] {
            let result = authority.issue_server(&[name.to_owned()], NOW, [1; 16]);
            assert!(matches!(result, Err(CertificateError::HostName(_))), "{name}");
        }
    }

    #[test]
    fn a_key_of_another_authority_is_refused() {
        let (_, other_key) = CertificateAuthority::generate("Bank", NOW).unwrap();
        let (authority, _) = CertificateAuthority::generate("Bank", NOW).unwrap();
        assert!(CertificateAuthority::from_pem(&other_key, authority.certificate_pem()).is_err());
    }
}
