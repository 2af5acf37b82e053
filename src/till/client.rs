//! The till API from the other side: what the command line uses, and any till written in Rust may.
//!
//! One connection a request: the API is on the same machine, where that costs nothing worth keeping
//! one open for.

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
    /// How long a phone has, in seconds; the terminal's setting if none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub valid_for_s: Option<u32>,
}

/// One line of what is paid for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NewPaymentItem {
    /// What it is.
    pub name: String,
    /// How many.
    pub quantity: u32,
    /// For the whole line, in minor units.
    pub amount_minor: u64,
}

/// Why a request to the till API did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum TillClientError {
    /// No service there. Nothing was asked.
    #[error(
        "cannot reach the terminal's till API at {address}: {detail}; is `florin serve` running, and may this user use its socket?"
    )]
    Unreachable {
        /// Where it should be.
        address: TillAddress,
        /// Why not.
        detail: String,
    },
    /// The connection was lost after the request had gone out. It may have been done.
    #[error(
        "the terminal's answer was lost ({0}); it may have done what was asked: see `florin payments`"
    )]
    Lost(String),
    /// The service refuses.
    #[error("{title}: {detail}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The problem's type.
        kind: String,
        /// In general.
        title: String,
        /// In particular.
        detail: String,
    },
    /// What came back is not what this version understands.
    #[error("the answer of {address} is not the till API's: {detail}")]
    Foreign {
        /// Who answered.
        address: TillAddress,
        /// What about it.
        detail: String,
    },
}

/// A problem as it comes back.
#[derive(Deserialize)]
struct ProblemJson {
    #[serde(rename = "type")]
    kind: String,
    title: String,
    detail: String,
}

/// A till's way to the terminal.
#[derive(Debug, Clone)]
pub struct TillClient {
    address: TillAddress,
}

impl TillClient {
    /// For the service at this address. Connects with each request.
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

    /// One payment as it is now.
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

    /// One payment as soon as it differs from the view with this entity tag; none if it has not
    /// within `wait_s` seconds (at most 60).
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

    /// Payments, newest first; at most 1,000.
    ///
    /// # Errors
    /// [`TillClientError`].
    pub async fn list(&self, open_only: bool, limit: u32) -> Result<PaymentsJson, TillClientError> {
        let path = format!("/v1/payments?open={open_only}&limit={limit}");
        self.read_json(self.send(Method::GET, &path, &[], Vec::new(), 0).await?)
    }

    /// Says whether the goods were released.
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

    /// How the terminal is.
    ///
    /// # Errors
    /// [`TillClientError`].
    pub async fn status(&self) -> Result<StatusJson, TillClientError> {
        self.read_json(self.send(Method::GET, "/v1/status", &[], Vec::new(), 0).await?)
    }

    /// The service's figures, as OpenMetrics text.
    ///
    /// # Errors
    /// [`TillClientError`].
    pub async fn metrics(&self) -> Result<String, TillClientError> {
        let (_, body) = self.send(Method::GET, "/v1/metrics", &[], Vec::new(), 0).await?;
        String::from_utf8(body.to_vec()).map_err(|error| self.foreign(error))
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
        let request =
            request.body(Full::new(Bytes::from(body))).map_err(|error| self.foreign(error))?;
        let patience =
            Duration::from_millis(REQUEST_TIMEOUT_MS) + Duration::from_secs(wait_s.into());
        timeout(patience, self.exchange(request))
            .await
            .map_err(|_| TillClientError::Lost(format!("none within {} s", patience.as_secs())))?
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
        let lost = |error: String| TillClientError::Lost(error);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.unreachable(error))?;
        let connection = tokio::spawn(connection);
        let response =
            sender.send_request(request).await.map_err(|error| lost(error.to_string()))?;
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, ANSWER_OCTETS_MAX)
            .collect()
            .await
            .map_err(|error| lost(error.to_string()))?;
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
        if response.status().is_success() {
            return serde_json::from_slice(&body).map_err(|error| self.foreign(error));
        }
        let problem: ProblemJson = serde_json::from_slice(&body)
            .map_err(|error| self.foreign(format!("status {}, {error}", response.status())))?;
        Err(TillClientError::Refused {
            status: response.status().as_u16(),
            kind: problem.kind,
            title: problem.title,
            detail: problem.detail,
        })
    }

    fn unreachable(&self, error: impl ToString) -> TillClientError {
        TillClientError::Unreachable { address: self.address.clone(), detail: error.to_string() }
    }

    fn foreign(&self, error: impl ToString) -> TillClientError {
        TillClientError::Foreign { address: self.address.clone(), detail: error.to_string() }
    }
}
