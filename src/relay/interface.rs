//! All that an enrolled terminal needs of its institution, whatever protocol that speaks.
//!
//! Enrolment is not part of it: it happens once, before there is an identity or a credential that
//! a relay could use, and each institution has its own way of it.

use tokio::time::Instant;

use super::TlsFiles;
use crate::domain::{TransactionId, UnixTime};
use crate::terminal::{InstitutionAnswer, InstitutionRequest, InstitutionTransaction};

/// How long the institution may take to say how this terminal stands, in milliseconds.
const STANDING_TIMEOUT_MS: u64 = 5_000;

/// A way to the institution. Questions about different payments may be asked at the same time.
pub trait Relay: Send + Sync {
    /// Where the institution is, as an operator knows it.
    fn address(&self) -> String;

    /// Asks once and waits for what becomes of it, at most `timeout_ms` with all that it needs.
    /// Dropping the future leaves it unknown whether the question was sent: treat it as
    /// [`InstitutionAnswer::Unanswered`].
    fn ask(
        &self,
        request: InstitutionRequest,
        timeout_ms: u64,
    ) -> impl Future<Output = InstitutionAnswer> + Send;

    /// Connects if there is no live connection: whether the institution can be reached and accepts
    /// this terminal.
    ///
    /// # Errors
    /// [`ConnectError`].
    fn check_reachable(&self) -> impl Future<Output = Result<(), ConnectError>> + Send;

    /// Whether the institution would decide on a payment of this terminal now. It asks with the
    /// credentials of a payment and over the connection of a payment; a connection that is silent
    /// is replaced before this gives up. It changes nothing at the institution. `unused` is an id
    /// that was just drawn.
    ///
    /// # Errors
    /// [`StandingError`]: nobody can pay, and why.
    fn check_standing(
        &self,
        unused: TransactionId,
    ) -> impl Future<Output = Result<(), StandingError>> + Send {
        async move {
            self.check_reachable().await?;
            let question = InstitutionRequest::Inquire { transaction_id: unused };
            match self.ask(question, STANDING_TIMEOUT_MS).await {
                InstitutionAnswer::Transaction { .. } => Ok(()),
                InstitutionAnswer::Refused { detail } => Err(StandingError::NotAccepted { detail }),
                InstitutionAnswer::NotSent { detail }
                | InstitutionAnswer::Unanswered { detail } => {
                    Err(StandingError::Unanswered { address: self.address(), detail })
                }
            }
        }
    }

    /// Every transaction of this terminal in a period by the institution's clock, oldest first:
    /// `from` is included, `until` is not.
    ///
    /// # Errors
    /// [`StatementError`].
    fn statement(
        &self,
        from: UnixTime,
        until: UnixTime,
    ) -> impl Future<Output = Result<Vec<InstitutionTransaction>, StatementError>> + Send;

    /// One transaction, as the institution holds it.
    ///
    /// # Errors
    /// [`StatementError`].
    fn transaction(
        &self,
        transaction_id: TransactionId,
    ) -> impl Future<Output = Result<InstitutionTransaction, StatementError>> + Send;

    /// Asks for new certificates with those that this terminal has. `certificate_signing_request`
    /// is PKCS #10 in DER, for a new client key. A repeat with the same key is answered alike.
    ///
    /// # Errors
    /// [`RenewalError`]: the certificates that it has stay good.
    fn renew(
        &self,
        certificate_signing_request: Vec<u8>,
    ) -> impl Future<Output = Result<Renewed, RenewalError>> + Send {
        async move {
            drop(certificate_signing_request);
            Err(RenewalError::NotOffered)
        }
    }

    /// The institution's newest signed keyring, encoded. What came is not trusted yet.
    ///
    /// # Errors
    /// [`RenewalError`].
    fn keyring(&self) -> impl Future<Output = Result<Vec<u8>, RenewalError>> + Send {
        async { Err(RenewalError::NotOffered) }
    }

    /// Which life of the institution's store gave the newest answer; none if it does not say. A
    /// store that was restored from a copy has another one, and the institution another keyring.
    fn store_generation(&self) -> Option<Vec<u8>> {
        None
    }

    /// Takes other credentials for what is asked from now on. What is under way goes on with the
    /// old ones.
    ///
    /// # Errors
    /// [`ConnectError::Credentials`] if they cannot be used: the old ones stay.
    fn use_credentials(
        &self,
        files: &TlsFiles<'_>,
    ) -> impl Future<Output = Result<(), ConnectError>> + Send {
        let _ = files;
        async { Ok(()) }
    }

    /// Connects and asks whether this terminal may ask for payments, as
    /// [`Relay::check_standing`] does, and measures both.
    ///
    /// # Errors
    /// [`ConnectError`].
    fn examine(
        &self,
        unused: TransactionId,
    ) -> impl Future<Output = Result<InstitutionExamination, ConnectError>> + Send {
        async move {
            let started = Instant::now();
            self.check_reachable().await?;
            let connect_ms = milliseconds_since(started);
            let asked = Instant::now();
            let refusal = self.check_standing(unused).await.err();
            let round_trip_ms = milliseconds_since(asked);
            Ok(InstitutionExamination { connect_ms, round_trip_ms, clock: None, refusal })
        }
    }
}

/// What was seen of the institution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstitutionExamination {
    /// How long it took to connect, in milliseconds.
    pub connect_ms: u64,
    /// How long one question took over the open connection, in milliseconds.
    pub round_trip_ms: u64,
    /// The institution's clock at some moment of the round trip, in whole seconds; none if it does
    /// not tell.
    pub clock: Option<UnixTime>,
    /// Why nobody can pay; none where the institution would decide on a payment.
    pub refusal: Option<StandingError>,
}

/// Why nobody can pay at this terminal: what a payment would meet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StandingError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// There is a connection, and no word over it.
    #[error(
        "{address} accepts a connection, but does not answer ({detail}); check the network; the \
         terminal asks again by itself"
    )]
    Unanswered { address: String, detail: String },
    /// It knows the terminal by no certificate, or by another one.
    #[error(
        "the institution does not accept this terminal ({detail}); if it was enrolled again while \
         the service ran, restart the service: `systemctl restart florin`; if not, ask the \
         institution for a code and enrol: `florin enrol --replace`"
    )]
    NotAccepted { detail: String },
    /// It says that it declines whatever the card says.
    #[error("no payment of this terminal is approved: {detail}")]
    NotInGoodStanding { detail: String },
    /// It is there, and has a fault of its own.
    #[error(
        "the institution cannot decide on payments now ({detail}); the terminal asks again by \
         itself"
    )]
    Failed { detail: String },
}

impl StandingError {
    /// A stable name for programs: words in lower case.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Connect(ConnectError::Credentials(_)) => "credentials",
            Self::Connect(ConnectError::Handshake { fault, .. }) => match fault {
                HandshakeFault::OtherServer(_) => "other_server",
                HandshakeFault::ServerCertificatePeriod(_) => "clock",
                HandshakeFault::TerminalRefused(_) => "terminal_not_accepted",
                HandshakeFault::Silent { .. } | HandshakeFault::Other(_) => {
                    "institution_unreachable"
                }
            },
            Self::Connect(
                ConnectError::Name { .. }
                | ConnectError::Unreachable { .. }
                | ConnectError::Silent { .. },
            )
            | Self::Unanswered { .. } => "institution_unreachable",
            Self::NotAccepted { .. } => "terminal_not_accepted",
            Self::NotInGoodStanding { .. } => "terminal_blocked",
            Self::Failed { .. } => "institution_failed",
        }
    }
}

/// What a renewal gave, not verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renewed {
    /// The client certificate, then its issuer, in PEM.
    pub client_certificate_pem: String,
    /// An encoded signed terminal certificate.
    pub terminal_certificate: Vec<u8>,
    /// An encoded signed keyring.
    pub keyring: Vec<u8>,
}

/// Why a terminal has no new certificates.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenewalError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// It answered with a failure, or not at all.
    #[error("the institution did not answer the renewal: {0}")]
    Failed(String),
    /// This institution renews in another way.
    #[error("this institution's protocol has no renewal")]
    NotOffered,
}

/// Why there is no connection. Nothing was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    #[error("the credentials for the institution cannot be used: {0}")]
    Credentials(String),
    /// Nobody says which addresses the name has.
    #[error("the name {host} cannot be resolved: {detail}")]
    Name { host: String, detail: String },
    /// No route, nobody listening, or cut off.
    #[error("no address of {address} accepts a connection ({detail})")]
    Unreachable {
        address: String,
        /// What became of each address.
        detail: String,
    },
    #[error("{address} accepts a connection, but TLS fails: {fault}")]
    Handshake { address: String, fault: HandshakeFault },
    #[error("there was no connection to {address} within {timeout_ms} ms: {stage} was not over")]
    Silent { address: String, timeout_ms: u64, stage: ConnectStage },
}

/// How far connecting has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConnectStage {
    #[error("the search for the name")]
    Name,
    #[error("the TCP connection")]
    Tcp,
    #[error("the TLS handshake")]
    Tls,
}

/// Why server and terminal do not come to speak over TLS.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeFault {
    /// As a captive portal does, or a proxy that opens TLS.
    #[error(
        "another server answers in the institution's place ({0}); if this network wants a log-in \
         on a web page, log in or use another network; if the institution has a new root \
         certificate, enrol again: `florin enrol --replace`"
    )]
    OtherServer(String),
    /// The clock may be wrong on either side.
    #[error(
        "the server's certificate is not valid by this machine's clock ({0}); check the clock: \
         `timedatectl`; if it is right, tell the institution"
    )]
    ServerCertificatePeriod(String),
    #[error(
        "the institution refuses this terminal's certificate ({0}); check the clock: \
         `timedatectl`; if it is right, enrol again: `florin enrol --replace`"
    )]
    TerminalRefused(String),
    #[error("no answer within {timeout_ms} ms")]
    Silent { timeout_ms: u64 },
    #[error("{0}")]
    Other(String),
}

/// Why the institution's transactions are not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StatementError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// It answered with a failure, or not at all.
    #[error("the institution did not give its transactions: {0}; try again later")]
    Failed(String),
}

pub(super) fn milliseconds_since(started: Instant) -> u64 {
    u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX)
}
