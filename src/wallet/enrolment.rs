//! Enrols a card: exchanges a one-time code for a card of the institution, over TLS 1.3.
//!
//! The private key is made here and never leaves. It is on the disk before the institution gets the
//! public key, so that a lost answer can be asked for again with the same key.

use std::sync::Arc;
use std::time::Duration;

use rand::TryRngCore;
use rand::rngs::OsRng;
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime as TlsTime};
use rustls::{CertificateError, DigitallySignedStruct, SignatureScheme};
use sha2::{Digest, Sha256};
use tonic::transport::{ClientTlsConfig, Endpoint};

use super::CardParts;
use super::{Card, CardError, CardName, DirectoryError, WalletDirectory};
use crate::credential::{CredentialError, Signed, SigningKey, VerifyingKey, card_enrolment_proof};
use crate::domain::{Amount, CardId, MINOR_UNITS_MAX, UnixTime};
use crate::institution_address::InstitutionAddress;
use crate::institution_api::enrolment_client::EnrolmentClient;
use crate::institution_api::{EnrolCardRequest, EnrolCardResponse};

/// How long the connection to the institution may take, in milliseconds.
const CONNECT_MS_MAX: u64 = 10_000;
/// How long the institution may take to answer, in milliseconds.
const ANSWER_MS_MAX: u64 = 20_000;

/// What is needed to enrol.
#[derive(Debug, Clone)]
pub struct EnrolmentRequest {
    /// Where the institution's server is.
    pub institution: InstitutionAddress,
    /// Certificates in PEM, by which the institution's server is known.
    pub root_pem: Vec<u8>,
    /// The one-time code. It is a secret until it is used.
    pub code: secrecy::SecretString,
    /// What to call the card; without one, `card-` and the last four digits of its identifier.
    pub name: Option<CardName>,
}

/// Why a card could not be enrolled.
#[derive(Debug, thiserror::Error)]
pub enum EnrolmentError {
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
    /// The institution does not accept the code.
    #[error("the institution refused: {0}. A code can be used once, and for a limited time")]
    Refused(String),
    /// The institution did not answer as it should.
    #[error("the institution failed: {0}. Try again with the same code; the card's key was kept")]
    Failed(String),
    /// The answer is not usable.
    #[error("the institution's answer is not usable: {0}")]
    Answer(String),
    /// The card could not be put into the wallet.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The system gives no random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(String),
}

/// Enrols a card and puts it into the wallet.
///
/// # Errors
/// [`EnrolmentError`]. After [`EnrolmentError::Failed`] and [`EnrolmentError::Unreachable`] the
/// same code can be tried again.
pub async fn enrol_card(
    directory: &WalletDirectory,
    request: EnrolmentRequest,
) -> Result<Card, EnrolmentError> {
    use secrecy::ExposeSecret;
    // As the institution reads it, so that another spelling of the code finds the same key.
    let code = zeroize::Zeroizing::new(normalised(request.code.expose_secret()));
    if let Some(name) = &request.name
        && directory.card_names()?.contains(name)
    {
        return Err(DirectoryError::CardExists(name.clone()).into());
    }
    let mut client = connect(&request.institution, &request.root_pem).await?;
    let code_digest: [u8; 32] = Sha256::digest(code.as_bytes()).into();
    let mut random = None;
    let key = directory.enrolment_key(&code_digest, || {
        draw_key().map_err(|error| {
            random = Some(error);
            CardError::Credential(CredentialError::BadKey("source of randomness"))
        })
    });
    if let Some(error) = random {
        return Err(error);
    }
    let key = key?;
    let message = EnrolCardRequest {
        code: code.to_string(),
        card_public_key: key.verifying_key().to_sec1(),
        proof: card_enrolment_proof(&key, &code).to_vec(),
    };
    let answer = match client.enrol_card(message).await {
        Ok(answer) => answer.into_inner(),
        Err(status) => {
            // The institution will not make a card with this code and this key later either.
            if let tonic::Code::InvalidArgument
            | tonic::Code::NotFound
            | tonic::Code::PermissionDenied = status.code()
            {
                directory.forget_enrolment_key(&code_digest)?;
            }
            return Err(failed(&status));
        }
    };
    let card = read_answer(answer, key, request.name)?;
    directory.add_card(&card, 0)?;
    directory.forget_enrolment_key(&code_digest)?;
    Ok(card)
}

async fn connect(
    address: &InstitutionAddress,
    root_pem: &[u8],
) -> Result<EnrolmentClient<tonic::transport::Channel>, EnrolmentError> {
    let unreachable = |error: tonic::transport::Error| EnrolmentError::Unreachable {
        address: address.to_string(),
        detail: innermost(&error),
    };
    let endpoint = Endpoint::from_shared(address.to_string())
        .map_err(unreachable)?
        .connect_timeout(Duration::from_millis(CONNECT_MS_MAX))
        .timeout(Duration::from_millis(ANSWER_MS_MAX));
    let channel = endpoint
        .tls_config_with_verifier(ClientTlsConfig::new(), verifier(root_pem)?)
        .map_err(unreachable)?
        .connect()
        .await
        .map_err(unreachable)?;
    Ok(EnrolmentClient::new(channel))
}

fn verifier(root_pem: &[u8]) -> Result<Arc<dyn ServerCertVerifier>, EnrolmentError> {
    let unusable = |detail: &dyn std::fmt::Display| EnrolmentError::Root(detail.to_string());
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

/// A code without spaces and hyphens, in capital letters, and with digits for the letters that look
/// like them.
fn normalised(code: &str) -> String {
    code.chars()
        .filter(|character| !matches!(character, '-' | ' '))
        .map(|character| match character.to_ascii_uppercase() {
            'O' => '0',
            'I' | 'L' => '1',
            other => other,
        })
        .collect()
}

fn draw_key() -> Result<SigningKey, EnrolmentError> {
    let mut scalar = zeroize::Zeroizing::new([0; 32]);
    loop {
        OsRng
            .try_fill_bytes(scalar.as_mut_slice())
            .map_err(|error| EnrolmentError::Random(error.to_string()))?;
        // Fails for less than one in 2^32 draws.
        if let Ok(key) = SigningKey::from_scalar(&scalar) {
            return Ok(key);
        }
    }
}

fn read_answer(
    answer: EnrolCardResponse,
    key: SigningKey,
    name: Option<CardName>,
) -> Result<Card, EnrolmentError> {
    let unusable = |detail: &dyn std::fmt::Display| EnrolmentError::Answer(detail.to_string());
    let card_id = CardId::from_octets(&answer.card_id).map_err(|error| unusable(&error))?;
    let currency = answer.currency.parse().map_err(|error| unusable(&error))?;
    // More than any payment can be is the same as no limit.
    let payment_limit = Amount::new(answer.payment_limit_minor.min(MINOR_UNITS_MAX), currency)
        .map_err(|error| unusable(&error))?;
    let name = match name {
        Some(name) => name,
        None => format!("card-{}", card_id.hint()).parse().map_err(|error| unusable(&error))?,
    };
    Card::new(CardParts {
        name,
        card_id,
        key,
        payment_limit,
        not_after: UnixTime { seconds: answer.not_after_unix_s },
        root_key: VerifyingKey::from_sec1(&answer.root_public_key)
            .map_err(|error| unusable(&error))?,
        signed_keyring: Signed::decode(&answer.keyring).map_err(|error| unusable(&error))?,
    })
    .map_err(|error| unusable(&error))
}

/// Whether the institution refused, or failed and may be asked again.
fn failed(status: &tonic::Status) -> EnrolmentError {
    use tonic::Code;
    let message = printable(status.message());
    match status.code() {
        Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::Unauthenticated
        | Code::OutOfRange => EnrolmentError::Refused(message),
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::ResourceExhausted
        | Code::Aborted
        | Code::Unimplemented
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => EnrolmentError::Failed(message),
    }
}

/// What another party wrote, shortened and without control characters.
fn printable(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(200).collect()
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
