//! The gRPC service `florin.institution.v1.Enrolment`: messages in and out, for newcomers without a
//! client certificate.
//!
//! It reads the clock and draws randomness, and leaves every decision to [`Institution`].
//!
//! [`Institution`]: super::Institution

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tonic::{Request, Response, Status};

use super::attempt_limit::AttemptLimit;
use super::certificate_authority::{CertificateAuthority, ClientRequest};
use super::connection::{Peer, peer};
use super::randomness::random;
use super::request_queue::RequestQueue;
use super::status::{certificate_status, no_randomness, status};
use super::wall_clock::unix_time;
use crate::domain::Moment;
use crate::institution_api;
use crate::institution_api::enrolment_server::Enrolment;

/// The gRPC service `florin.institution.v1.Enrolment`.
pub(super) struct EnrolmentService {
    pub queue: RequestQueue,
    pub authority: Arc<CertificateAuthority>,
    pub attempts: Mutex<AttemptLimit>,
    /// The origin of the attempts' times.
    pub started: Instant,
}

impl EnrolmentService {
    fn now(&self) -> Moment {
        let milliseconds = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        Moment { milliseconds }
    }

    /// Refuses an address that has failed too often in the last minute.
    fn admit<T>(&self, request: &Request<T>) -> Result<Peer, Status> {
        let peer = peer(request)?;
        let attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        if attempts.admits(peer.address, self.now()) {
            Ok(peer)
        } else {
            Err(Status::resource_exhausted(
                "too many enrolments from this address have failed; check the code, wait a minute, \
                 and try again",
            ))
        }
    }

    fn count_failure(&self, peer: &Peer) {
        let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        attempts.count_failure(peer.address, self.now());
    }

    async fn try_enrol_terminal(
        &self,
        message: institution_api::EnrolTerminalRequest,
    ) -> Result<institution_api::EnrolTerminalResponse, Status> {
        let request =
            ClientRequest::read(&message.certificate_signing_request).map_err(|error| {
                Status::invalid_argument(format!("certificate_signing_request: {error}"))
            })?;
        let channel_key: [u8; 32] = message.channel_key.as_slice().try_into().map_err(|_| {
            let got = message.channel_key.len();
            Status::invalid_argument(format!("channel_key: expected 32 octets, got {got}"))
        })?;
        let now = unix_time();
        let serial = random().map_err(no_randomness)?;
        let key_digest = request.key_digest();
        let enrolment = self
            .queue
            .run(Instant::now(), move |institution| {
                institution.enrol_terminal(&message.code, &channel_key, &key_digest, now)
            })
            .await
            .map_err(status)?;
        let client_certificate_pem = self
            .authority
            .issue_client(&request, enrolment.terminal_id, now, enrolment.not_after, *serial)
            .map_err(certificate_status)?;
        tracing::info!(terminal = %enrolment.terminal_id, "a terminal enrolled");
        Ok(institution_api::EnrolTerminalResponse {
            terminal_id: enrolment.terminal_id.to_string(),
            client_certificate_pem,
            terminal_certificate: enrolment.terminal_certificate,
            keyring: enrolment.keyring,
            root_public_key: enrolment.root_public_key,
        })
    }

    async fn try_enrol_card(
        &self,
        message: institution_api::EnrolCardRequest,
    ) -> Result<institution_api::EnrolCardResponse, Status> {
        let enrolment = self
            .queue
            .run(Instant::now(), move |institution| {
                let now = unix_time();
                institution.enrol_card(&message.code, &message.card_public_key, &message.proof, now)
            })
            .await
            .map_err(status)?;
        tracing::info!(card_hint = enrolment.card_id.hint(), "a card enrolled");
        Ok(institution_api::EnrolCardResponse {
            card_id: enrolment.card_id.as_octets().to_vec(),
            keyring: enrolment.keyring,
            root_public_key: enrolment.root_public_key,
            not_after_unix_s: enrolment.not_after.seconds,
            payment_limit_minor: enrolment.payment_limit_minor,
            currency: enrolment.currency.to_string(),
        })
    }
}

#[tonic::async_trait]
impl Enrolment for EnrolmentService {
    async fn enrol_terminal(
        &self,
        request: Request<institution_api::EnrolTerminalRequest>,
    ) -> Result<Response<institution_api::EnrolTerminalResponse>, Status> {
        let peer = self.admit(&request)?;
        let answer = self.try_enrol_terminal(request.into_inner()).await;
        answer.map(Response::new).inspect_err(|_| self.count_failure(&peer))
    }

    async fn enrol_card(
        &self,
        request: Request<institution_api::EnrolCardRequest>,
    ) -> Result<Response<institution_api::EnrolCardResponse>, Status> {
        let peer = self.admit(&request)?;
        let answer = self.try_enrol_card(request.into_inner()).await;
        answer.map(Response::new).inspect_err(|_| self.count_failure(&peer))
    }
}
