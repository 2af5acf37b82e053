//! New certificates for a terminal that has some, and the newest keyring.
//!
//! What came is not trusted yet: `service::enrolment` verifies it.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use tonic::Status;

use super::super::{RenewalError, Renewed};
use super::channel::{Channel, connect_timeout};
use super::delivery::DeliveryEvidence;
use crate::institution_api;

/// How long the institution may take to answer, in milliseconds. Nobody waits for it.
const ANSWER_TIMEOUT_MS: u64 = 30_000;

/// Asks for new certificates, once.
pub(super) async fn renew(
    channel: &Channel,
    certificate_signing_request: Vec<u8>,
) -> Result<Renewed, RenewalError> {
    let connection = channel.live_connection(Instant::now() + connect_timeout()).await?;
    let mut client = channel.client(&connection, &DeliveryEvidence::default());
    let request = institution_api::RenewTerminalRequest {
        certificate_signing_request,
        terminal_id: channel.terminal_id.to_string(),
    };
    let answer = in_time(client.renew_terminal(request)).await?;
    Ok(Renewed {
        client_certificate_pem: answer.client_certificate_pem,
        terminal_certificate: answer.terminal_certificate,
        keyring: answer.keyring,
    })
}

/// Asks for the newest keyring, once.
pub(super) async fn keyring(channel: &Channel) -> Result<Vec<u8>, RenewalError> {
    let connection = channel.live_connection(Instant::now() + connect_timeout()).await?;
    let mut client = channel.public_client(&connection);
    let answer = in_time(client.get_keyring(institution_api::GetKeyringRequest {})).await?;
    Ok(answer.keyring)
}

async fn in_time<T>(
    asking: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, RenewalError> {
    let deadline = Instant::now() + Duration::from_millis(ANSWER_TIMEOUT_MS);
    match timeout_at(deadline, asking).await {
        Ok(Ok(answer)) => Ok(answer.into_inner()),
        Ok(Err(status)) => {
            Err(RenewalError::Failed(format!("{:?}: {}", status.code(), status.message())))
        }
        Err(_) => Err(RenewalError::Failed(format!("no answer within {ANSWER_TIMEOUT_MS} ms"))),
    }
}
