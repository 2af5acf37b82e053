//! What a terminal asks before the institution knows it: the keyring, and a one-time code's
//! certificates.
//!
//! The keyring is only checked against its own root key, to prove the channel key with. What came
//! is not trusted yet: `service::enrolment` verifies it.

use std::time::Duration;

use tokio::time::timeout;
use tonic::{Code, Status};

use super::super::{ConnectError, TlsFiles};
use super::channel::connect;
use super::delivery::DeliveryEvidence;
use super::progress::Progress;
use super::tls::tls_configuration;
use crate::credential::{CredentialError, Keyring, Signed, VerifyingKey, channel_key_proof};
use crate::domain::UnixTime;
use crate::institution_address::InstitutionAddress;
use crate::institution_api;
use crate::institution_api::enrolment_client::EnrolmentClient;
use crate::protocol::ChannelKey;

/// How long enrolling may take, in milliseconds: a person waits for it.
const ENROL_TIMEOUT_MS: u64 = 30_000;
/// The longest answer, in octets: certificates and a keyring.
const ANSWER_OCTETS_MAX: usize = 256 * 1024;

/// What the institution gave, not verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrolled {
    /// Who the terminal is from now on.
    pub terminal_id: String,
    /// The client certificate, then its issuer, in PEM.
    pub client_certificate_pem: String,
    /// An encoded signed terminal certificate.
    pub terminal_certificate: Vec<u8>,
    /// An encoded signed keyring.
    pub keyring: Vec<u8>,
    /// The institution's root key, SEC1 uncompressed.
    pub root_public_key: Vec<u8>,
}

/// Why the terminal is not enrolled.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// The code was not used.
    #[error("{0}; the code was not used: try again with the same code")]
    Connect(#[from] ConnectError),
    /// The keyring does not belong to the root key that the institution names.
    #[error(
        "the institution's keyring cannot be used: {0}; the code was not used: check that --root \
         and --institution are this institution's, and try again with the same code"
    )]
    Keyring(#[from] CredentialError),
    /// The institution did not give its keyring, so the code was not sent.
    #[error(
        "the institution does not give its keyring ({0}); the code was not used: try again with \
         the same code"
    )]
    NoKeyring(String),
    /// The institution does not take the code or the request.
    #[error(
        "the institution refuses to enrol this terminal: {0}; ask the institution for a new code"
    )]
    Refused(String),
    /// Nobody knows whether the code was used.
    #[error(
        "the institution has not answered ({0}); try again with the same code, and ask for a new \
         one if it is refused"
    )]
    Unanswered(String),
}

/// Enrols the terminal with a one-time code, and proves that it holds its channel key.
/// `root_certificates_pem` vouches for the server.
///
/// # Errors
/// [`EnrolError`].
pub async fn enrol_terminal(
    address: &InstitutionAddress,
    root_certificates_pem: &str,
    code: &str,
    certificate_signing_request: Vec<u8>,
    channel_key: &ChannelKey,
    now: UnixTime,
) -> Result<Enrolled, EnrolError> {
    let tls = tls_configuration(&TlsFiles { root_certificates_pem, client: None })?;
    let time_limit = Duration::from_millis(ENROL_TIMEOUT_MS);
    let no_uri = || ConnectError::Credentials("the address is no URI".into());
    let origin = address.origin().ok_or_else(no_uri)?;
    let progress = Progress::new();
    let connected = timeout(time_limit, connect(address, &tls, &progress)).await;
    let connection = connected.map_err(|_| silent(address, &progress))??;
    let evidence = DeliveryEvidence::default();
    let mut client = EnrolmentClient::with_origin(connection.observed(&evidence), origin)
        .max_decoding_message_size(ANSWER_OCTETS_MAX);
    let published = timeout(time_limit, client.get_keyring(institution_api::GetKeyringRequest {}))
        .await
        .map_err(|_| silent(address, &progress))?
        .map_err(|status| keyring_error(&status))?
        .into_inner();
    let proof = proof(&published, channel_key, code, now)?;
    let request = institution_api::EnrolTerminalRequest {
        code: code.to_owned(),
        certificate_signing_request,
        channel_key: channel_key.public_key().to_vec(),
        channel_key_proof: proof.to_vec(),
    };
    let answer = timeout(time_limit, client.enrol_terminal(request))
        .await
        .map_err(|_| EnrolError::Unanswered(format!("no answer within {ENROL_TIMEOUT_MS} ms")))?
        .map_err(|status| enrol_error(&status))?
        .into_inner();
    Ok(Enrolled {
        terminal_id: answer.terminal_id,
        client_certificate_pem: answer.client_certificate_pem,
        terminal_certificate: answer.terminal_certificate,
        keyring: answer.keyring,
        root_public_key: answer.root_public_key,
    })
}

/// The time is over; `progress` knows at which stage.
fn silent(address: &InstitutionAddress, progress: &Progress) -> ConnectError {
    ConnectError::Silent {
        address: address.to_string(),
        timeout_ms: ENROL_TIMEOUT_MS,
        stage: progress.stage(),
    }
}

/// The proof that this terminal holds its channel key.
fn proof(
    published: &institution_api::GetKeyringResponse,
    channel_key: &ChannelKey,
    code: &str,
    now: UnixTime,
) -> Result<[u8; 32], CredentialError> {
    let root = VerifyingKey::from_sec1(&published.root_public_key)?;
    let keyring = Keyring::verify(&Signed::decode(&published.keyring)?, &root)?;
    channel_key_proof(channel_key.expose_octets(), &keyring.sealing_key(now)?, code)
}

/// The keyring is public, so every refusal is of the request's way and not of the code.
fn keyring_error(status: &Status) -> EnrolError {
    EnrolError::NoKeyring(status.message().to_owned())
}

fn enrol_error(status: &Status) -> EnrolError {
    let detail = status.message().to_owned();
    match status.code() {
        Code::Unavailable
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::Internal
        | Code::Aborted
        | Code::DataLoss => EnrolError::Unanswered(detail),
        Code::Ok
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Unauthenticated => EnrolError::Refused(detail),
    }
}
