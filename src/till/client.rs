//! A client of the till API, for the command line and for tills written in Rust.
//!
//! It makes one connection for each request: on the same machine a connection costs little.

use std::io;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::TillAddress;
use super::view::{PaymentJson, PaymentsJson, StatusJson};

/// How long a request may take beyond the time that it asks the service to wait, in milliseconds.
const REQUEST_TIMEOUT_MS: u64 = 15_000;
/// The longest answer, in octets: 1,000 payments.
const ANSWER_OCTETS_MAX: usize = 2 * 1024 * 1024;

/// What to offer. The fields are those of `POST /v1/payments`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NewPayment {
    /// In minor units of `currency`.
    pub amount_minor: u64,
    /// ISO 4217.
    pub currency: String,
    /// Shown to the person; may be empty.
    pub reference: String,
    /// Shown to the person.
    pub items: Vec<NewPaymentItem>,
    /// `at_once` or `after_dispense`.
    pub capture: &'static str,
    /// How long a phone has to pay, in seconds; if none, as the service is configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub valid_for_s: Option<u32>,
}

/// One line of what is paid for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NewPaymentItem {
    pub name: String,
    pub quantity: u32,
    /// For the whole line, in minor units.
    pub amount_minor: u64,
}

/// Why a request to the till API did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum TillClientError {
    /// There is no connection. Nothing was asked.
    #[error(
        "cannot reach the terminal's till API at {address}: {detail}; {}",
        .detail.advice()
    )]
    Unreachable { address: TillAddress, detail: ConnectFault },
    /// The connection was lost after the request was sent. The service may have done it.
    #[error(
        "the terminal's answer was lost: {0}. It may have done what was asked; look with \
         `florin payments`"
    )]
    Lost(String),
    #[error("{title}: {detail}")]
    Refused {
        status: u16,
        kind: String,
        /// The problem in general.
        title: String,
        /// The problem in particular.
        detail: String,
    },
    /// What came back is not what this version understands.
    #[error("what answers at {address} is not a till API of this version: {detail}")]
    Foreign {
        address: TillAddress,
        /// What is wrong with the answer.
        detail: String,
    },
}

/// Why there is no connection to the till API.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectFault {
    /// The path of the Unix socket does not exist.
    #[error("there is no such socket")]
    NoSocket,
    /// The socket or the port has no listener.
    #[error("nothing listens there")]
    NoListener,
    /// The file system or the operating system does not allow it.
    #[error("this user may not use it")]
    NotPermitted,
    /// Any other reason, in the operating system's words.
    #[error("{0}")]
    Other(String),
}

impl ConnectFault {
    /// What to do about it.
    fn advice(&self) -> &'static str {
        match self {
            Self::NoSocket | Self::NoListener => {
                "start the service, or say with --till where it listens"
            }
            Self::NotPermitted => "run this as the service's user, or as a member of its group",
            Self::Other(_) => "is the service running?",
        }
    }
}

impl From<io::Error> for ConnectFault {
    fn from(error: io::Error) -> Self {
        let kind = error.kind();
        if kind == io::ErrorKind::NotFound {
            Self::NoSocket
        } else if kind == io::ErrorKind::ConnectionRefused {
            Self::NoListener
        } else if kind == io::ErrorKind::PermissionDenied {
            Self::NotPermitted
        } else {
            Self::Other(error.to_string())
        }
    }
}

/// An error answer (RFC 9457).
#[derive(Deserialize)]
struct ProblemJson {
    #[serde(rename = "type")]
    kind: String,
    title: String,
    detail: String,
}

/// A client of the service at one address.
#[derive(Debug, Clone)]
pub struct TillClient {
    address: TillAddress,
}

impl TillClient {
    /// A client of the service at this address. It connects for each request.
    pub fn new(address: TillAddress) -> Self {
        Self { address }
    }

    /// Offers a payment; returns it with its entity tag.
    ///
    /// # Errors
    /// [`TillClientError`].
    pub async fn create(
        &self,
        payment: &NewPayment,
        idempotency_key: Option<&str>,
    ) -> Result<(PaymentJson, String), TillClientError> {
        let body = serde_json::to_vec(payment).unwrap_or_default();
        let mut headers = vec![(header::CONTENT_TYPE.as_str(), "application/json")];
        headers.extend(idempotency_key.map(|key| ("idempotency-key", key)));
        self.payment(self.send(Method::POST, "/v1/payments", &headers, body, 0).await?)
    }

    /// Reads one payment.
    ///
    /// # Errors
    /// [`TillClientError`].
    pub async fn read(
        &self,
        transaction_id: &str,
    ) -> Result<(PaymentJson, String), TillClientError> {
        let path = format!("/v1/payments/{transaction_id}");
        self.payment(self.send(Method::GET, &path, &[], Vec::new(), 0).await?)
    }

    /// Waits until a payment differs from the view with this entity tag; none if it does not within
    /// `wait_s` seconds (at most 60).
    ///
    /// # Errors
    /// [`TillClientError`].
    pub async fn next_change(
        &self,
        transaction_id: &str,
        entity_tag: &str,
        wait_s: u32,
    ) -> Result<Option<(PaymentJson, String)>, TillClientError> {
        let path = format!("/v1/payments/{transaction_id}?wait_s={wait_s}");
        let headers = [(header::IF_NONE_MATCH.as_str(), entity_tag)];
        let (response, body) = self.send(Method::GET, &path, &headers, Vec::new(), wait_s).await?;
        if response.status() == StatusCode::NOT_MODIFIED {
            return Ok(None);
        }
        self.payment((response, body)).map(Some)
    }

    /// Lists payments, newest first (oldest first with `open_only`); at most 1,000.
    ///
    /// # Errors
    /// [`TillClientError`].
    pub async fn list(&self, open_only: bool, limit: u32) -> Result<PaymentsJson, TillClientError> {
        let path = format!("/v1/payments?open={open_only}&limit={limit}");
        self.read_json(self.send(Method::GET, &path, &[], Vec::new(), 0).await?)
    }

    /// Tells the service whether the goods were released.
    ///
    /// # Errors
    /// [`TillClientError`].
    pub async fn complete(
        &self,
        transaction_id: &str,
        dispensed: bool,
    ) -> Result<(PaymentJson, String), TillClientError> {
        let path = format!("/v1/payments/{transaction_id}/complete");
        let body = format!("{{\"dispensed\":{dispensed}}}");
        self.payment(self.post(&path, body).await?)
    }

    /// Takes the offer back, or gives back what was approved.
    ///
    /// # Errors
    /// [`TillClientError`].
    pub async fn cancel(
        &self,
        transaction_id: &str,
    ) -> Result<(PaymentJson, String), TillClientError> {
        let path = format!("/v1/payments/{transaction_id}/cancel");
        self.payment(self.post(&path, "{}".to_owned()).await?)
    }

    /// Ends a disputed payment as the institution holds it, on a person's word about the goods.
    ///
    /// # Errors
    /// [`TillClientError`].
    pub async fn resolve(
        &self,
        transaction_id: &str,
        dispensed: bool,
    ) -> Result<(PaymentJson, String), TillClientError> {
        let path = format!("/v1/payments/{transaction_id}/resolve");
        let body = format!("{{\"dispensed\":{dispensed}}}");
        self.payment(self.post(&path, body).await?)
    }

    /// Reads the terminal's state.
    ///
    /// # Errors
    /// [`TillClientError`].
    pub async fn status(&self) -> Result<StatusJson, TillClientError> {
        self.read_json(self.send(Method::GET, "/v1/status", &[], Vec::new(), 0).await?)
    }

    /// Reads the service's metrics, as OpenMetrics text.
    ///
    /// # Errors
    /// [`TillClientError`].
    pub async fn metrics(&self) -> Result<String, TillClientError> {
        let (_, body) = self.send(Method::GET, "/v1/metrics", &[], Vec::new(), 0).await?;
        String::from_utf8(body.to_vec()).map_err(|_| self.foreign("the metrics are not UTF-8"))
    }

    async fn post(
        &self,
        path: &str,
        body: String,
    ) -> Result<(Response<()>, Bytes), TillClientError> {
        let headers = [(header::CONTENT_TYPE.as_str(), "application/json")];
        self.send(Method::POST, path, &headers, body.into_bytes(), 0).await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
        wait_s: u32,
    ) -> Result<(Response<()>, Bytes), TillClientError> {
        let host = match &self.address {
            TillAddress::Unix(_) => "localhost".to_owned(),
            TillAddress::Loopback(address) => address.to_string(),
        };
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, host);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        // Only a header's value can be wrong: the key that the caller gave.
        let request = request.body(Full::new(Bytes::from(body))).map_err(|_| {
            self.foreign("a header of the request cannot be sent; is the idempotency key ASCII?")
        })?;
        let wait = Duration::from_millis(REQUEST_TIMEOUT_MS) + Duration::from_secs(wait_s.into());
        timeout(wait, self.exchange(request))
            .await
            .map_err(|_| TillClientError::Lost(format!("none came within {} s", wait.as_secs())))?
    }

    async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<(Response<()>, Bytes), TillClientError> {
        match &self.address {
            TillAddress::Unix(path) => {
                let stream =
                    UnixStream::connect(path).await.map_err(|error| self.unreachable(error))?;
                self.exchange_over(stream, request).await
            }
            TillAddress::Loopback(address) => {
                let stream =
                    TcpStream::connect(address).await.map_err(|error| self.unreachable(error))?;
                self.exchange_over(stream, request).await
            }
        }
    }

    async fn exchange_over<S>(
        &self,
        stream: S,
        request: Request<Full<Bytes>>,
    ) -> Result<(Response<()>, Bytes), TillClientError>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|_| {
                self.unreachable(ConnectFault::Other("the connection ended at once".to_owned()))
            })?;
        let connection = tokio::spawn(connection);
        let response = sender.send_request(request).await.map_err(|error| lost(&error))?;
        let (parts, body) = response.into_parts();
        let collected = Limited::new(body, ANSWER_OCTETS_MAX).collect().await;
        let body = collected.map_err(|error| match error.downcast_ref::<hyper::Error>() {
            Some(error) => lost(error),
            None => TillClientError::Lost(format!("it is longer than {ANSWER_OCTETS_MAX} octets")),
        })?;
        connection.abort();
        Ok((Response::from_parts(parts, ()), body.to_bytes()))
    }

    fn payment(
        &self,
        answer: (Response<()>, Bytes),
    ) -> Result<(PaymentJson, String), TillClientError> {
        let entity_tag = answer.0.headers().get(header::ETAG).map(HeaderValue::to_str);
        let entity_tag = entity_tag.and_then(Result::ok).unwrap_or_default().to_owned();
        Ok((self.read_json(answer)?, entity_tag))
    }

    fn read_json<T: for<'de> Deserialize<'de>>(
        &self,
        (response, body): (Response<()>, Bytes),
    ) -> Result<T, TillClientError> {
        let status = response.status();
        let foreign = |error: serde_json::Error| {
            tracing::debug!(%error, "the answer of the till API cannot be read");
            let (line, column) = (error.line(), error.column());
            self.foreign(format!(
                "status {}, and JSON of another form at line {line}, column {column}",
                status.as_u16()
            ))
        };
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(foreign);
        }
        let problem: ProblemJson = serde_json::from_slice(&body).map_err(foreign)?;
        Err(TillClientError::Refused {
            status: status.as_u16(),
            kind: problem.kind,
            title: problem.title,
            detail: problem.detail,
        })
    }

    fn unreachable(&self, detail: impl Into<ConnectFault>) -> TillClientError {
        TillClientError::Unreachable { address: self.address.clone(), detail: detail.into() }
    }

    fn foreign(&self, detail: impl Into<String>) -> TillClientError {
        TillClientError::Foreign { address: self.address.clone(), detail: detail.into() }
    }
}

/// The connection ended before the answer did, or the answer is not HTTP.
fn lost(error: &hyper::Error) -> TillClientError {
    tracing::debug!(%error, "the connection to the till API failed");
    TillClientError::Lost(if error.is_parse() {
        "it is not HTTP/1.1".to_owned()
    } else {
        "the connection ended before the answer was complete".to_owned()
    })
}
