//! The relay to the reference institution: gRPC over TLS 1.3, where the terminal is who its client
//! certificate says.

use std::fmt;

use tokio::time::Instant;

use super::super::{
    ConnectError, InstitutionExamination, Relay, RenewalError, Renewed, StandingError,
    StatementError, TlsFiles,
};
use super::channel::{Channel, connect_timeout};
use super::{examination, renewal, requests, standing, statement};
use crate::domain::{TerminalId, TransactionId, UnixTime};
use crate::institution_address::InstitutionAddress;
use crate::terminal::{InstitutionAnswer, InstitutionRequest, InstitutionTransaction};

/// The way to the reference institution. Connects when there is something to ask, and again when
/// that was lost.
pub struct GrpcRelay {
    channel: Channel,
}

impl fmt::Debug for GrpcRelay {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("GrpcRelay")
            .field("address", &self.channel.address)
            .finish_non_exhaustive()
    }
}

impl GrpcRelay {
    /// A relay for this terminal.
    ///
    /// # Errors
    /// [`ConnectError::Credentials`] if the certificates or the key cannot be used.
    pub fn new(
        address: InstitutionAddress,
        files: &TlsFiles<'_>,
        terminal_id: TerminalId,
    ) -> Result<Self, ConnectError> {
        Ok(Self { channel: Channel::new(address, files, terminal_id)? })
    }
}

impl Relay for GrpcRelay {
    fn address(&self) -> String {
        self.channel.address.to_string()
    }

    async fn ask(&self, request: InstitutionRequest, timeout_ms: u64) -> InstitutionAnswer {
        requests::ask(&self.channel, request, timeout_ms).await
    }

    async fn check_reachable(&self) -> Result<(), ConnectError> {
        self.channel.live_connection(Instant::now() + connect_timeout()).await.map(drop)
    }

    async fn check_standing(&self, _: TransactionId) -> Result<(), StandingError> {
        standing::check_standing(&self.channel).await
    }

    async fn statement(
        &self,
        from: UnixTime,
        until: UnixTime,
    ) -> Result<Vec<InstitutionTransaction>, StatementError> {
        statement::statement(&self.channel, from, until).await
    }

    async fn transaction(
        &self,
        transaction_id: TransactionId,
    ) -> Result<InstitutionTransaction, StatementError> {
        statement::transaction(&self.channel, transaction_id).await
    }

    async fn renew(&self, certificate_signing_request: Vec<u8>) -> Result<Renewed, RenewalError> {
        renewal::renew(&self.channel, certificate_signing_request).await
    }

    async fn keyring(&self) -> Result<Vec<u8>, RenewalError> {
        renewal::keyring(&self.channel).await
    }

    fn store_generation(&self) -> Option<Vec<u8>> {
        self.channel.store_generation()
    }

    async fn use_credentials(&self, files: &TlsFiles<'_>) -> Result<(), ConnectError> {
        self.channel.use_credentials(files)
    }

    async fn examine(&self, _: TransactionId) -> Result<InstitutionExamination, ConnectError> {
        examination::examine(&self.channel).await
    }
}
