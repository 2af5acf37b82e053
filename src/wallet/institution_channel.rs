//! The connection of a phone to its institution: TLS 1.3, with the root certificate that the person
//! was given at enrolment.

use std::sync::Arc;
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime as TlsTime};
use rustls::{CertificateError, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};

use crate::domain::displayable;
use crate::institution_address::InstitutionAddress;

/// How long the connection to the institution may take, in milliseconds.
const CONNECT_MS_MAX: u64 = 10_000;
/// How long the institution may take to answer, in milliseconds.
const ANSWER_MS_MAX: u64 = 20_000;

/// Where a card's institution is, and how its server is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstitutionContact {
    /// Where its server is.
    pub address: InstitutionAddress,
    /// Certificates in PEM, by which the server is known.
    pub root_pem: Vec<u8>,
}

/// Why there is no connection to the institution.
#[derive(Debug, thiserror::Error)]
pub enum ContactError {
    /// No certificate in the file of roots.
    #[error(
        "the root file holds no usable certificate ({0}); give the PEM file that the institution \
         hands out"
    )]
    Root(String),
    #[error(
        "cannot reach the institution at {address}: {detail}. Check the address, the network, and \
         that the root certificate is this institution's"
    )]
    Unreachable {
        /// Where it was tried.
        address: String,
        detail: String,
    },
}

/// Connects to the institution.
///
/// # Errors
/// [`ContactError`].
pub(super) async fn connect(contact: &InstitutionContact) -> Result<Channel, ContactError> {
    let address = &contact.address;
    let unreachable = |error: tonic::transport::Error| ContactError::Unreachable {
        address: address.to_string(),
        detail: innermost(&error),
    };
    let endpoint = Endpoint::from_shared(address.to_string())
        .map_err(unreachable)?
        .connect_timeout(Duration::from_millis(CONNECT_MS_MAX))
        .timeout(Duration::from_millis(ANSWER_MS_MAX));
    endpoint
        .tls_config_with_verifier(ClientTlsConfig::new(), verifier(&contact.root_pem)?)
        .map_err(unreachable)?
        .connect()
        .await
        .map_err(unreachable)
}

fn verifier(root_pem: &[u8]) -> Result<Arc<dyn ServerCertVerifier>, ContactError> {
    let unusable = |detail: &dyn std::fmt::Display| ContactError::Root(detail.to_string());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(root_pem) {
        let certificate = certificate.map_err(|error| unusable(&error))?;
        roots.add(certificate).map_err(|error| unusable(&error))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| unusable(&error))?;
    Ok(Arc::new(Tls13Only(verifier)))
}

/// Verifies servers as usual, and refuses the handshake of TLS 1.2: the gRPC client offers it and
/// has no switch.
#[derive(Debug)]
struct Tls13Only(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for Tls13Only {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: TlsTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.0.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("the server does not speak TLS 1.3".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// What another party wrote, shortened and as a screen can show it.
pub(super) fn printable(text: &str) -> String {
    displayable(text).chars().take(200).collect()
}

/// The cause with the most detail: tonic's own text is only "transport error".
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    loop {
        // An I/O error passes over what it wraps when it is asked for its source.
        let wrapped = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let deeper =
            wrapped.map(|wrapped| wrapped as &(dyn std::error::Error + 'static)).or(cause.source());
        let Some(deeper) = deeper else { break };
        cause = deeper;
    }
    match cause.downcast_ref::<rustls::Error>() {
        Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            "its certificate is not from the given root".to_owned()
        }
        Some(rustls::Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        )) => "its certificate has expired, or this phone's clock is wrong".to_owned(),
        Some(_) | None => printable(&cause.to_string()),
    }
}
