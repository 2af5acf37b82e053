//! What TLS needs, read from PEM. TLS 1.3 only.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use super::super::{ConnectError, TlsFiles};

/// Reads what TLS needs.
pub(super) fn tls_configuration(files: &TlsFiles<'_>) -> Result<Arc<ClientConfig>, ConnectError> {
    let fault = |what: &str, error: String| ConnectError::Credentials(format!("{what}: {error}"));
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(files.root_certificates_pem.as_bytes()) {
        let certificate =
            certificate.map_err(|error| fault("the root certificate", error.to_string()))?;
        roots.add(certificate).map_err(|error| fault("the root certificate", error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(fault("the root certificate", "there is none in the PEM".into()));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| fault("TLS 1.3", error.to_string()))?
        .with_root_certificates(roots);
    let mut configuration = match files.client {
        None => builder.with_no_client_auth(),
        Some((certificates, key)) => {
            let chain = CertificateDer::pem_slice_iter(certificates.as_bytes())
                .collect::<Result<Vec<_>, _>>()
                .map_err(|error| fault("the client certificate", error.to_string()))?;
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
                .map_err(|_| fault("the client key", "it is no key in PEM".into()))?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| fault("the client certificate", error.to_string()))?
        }
    };
    configuration.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(configuration))
}
