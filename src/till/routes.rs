//! The till API's paths and what each does. docs/till-api.md is the text for integrators.
//!
//! Reads requests, calls the driver through the port, writes answers. Decides nothing about a
//! payment.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http_body_util::BodyExt;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, timeout, timeout_at};

use super::problem::Problem;
use super::view::{PaymentJson, PaymentsJson, StatusJson};
use super::{Answer, TillCall, TillPort, guard, request_body};
use crate::domain::{IdempotencyKey, Outcome, TransactionId};
use crate::protocol::EngagementLink;
use crate::terminal::{PaymentState, PaymentView, TillRequest};

/// The longest body of a request, in octets: 32 line items with all their names fill a quarter of
/// it.
pub const BODY_OCTETS_MAX: usize = 16 * 1024;
/// Up to how many octets a body that is too long is read and thrown away, so that the till gets to
/// read the answer: a connection closed over unread octets is reset.
const BODY_OCTETS_DISCARDED_MAX: usize = 1024 * 1024;
/// How long a till may take to send a body, in milliseconds: it is on the same machine.
const BODY_TIMEOUT_MS: u64 = 5_000;
/// How long the driver may take to answer, in milliseconds: a few synchronised writes to a slow SD
/// card.
const ANSWER_TIMEOUT_MS: u64 = 10_000;
/// The longest `wait_s`, in seconds: below the idle time after which proxies and HTTP libraries
/// give up.
pub const WAIT_S_MAX: u32 = 60;
/// How many requests may wait for a change at once. Half of the connections stay free for those
/// that do not wait.
pub const WAITERS_MAX: usize = super::CONNECTIONS_MAX / 2;
/// The type of the figures (OpenMetrics 1.0).
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// How many payments a list holds where nothing is said, and at most.
const LIST_LIMIT_DEFAULT: usize = 50;
const LIST_LIMIT_MAX: usize = 1000;
/// How many payments are remembered as told once, to tell a repeat of `POST /v1/payments` from the
/// first.
const TOLD_MAX: usize = 256;

/// What every request is served with.
pub(super) struct Till {
    port: TillPort,
    sticker: EngagementLink,
    is_tcp: bool,
    waiters: Semaphore,
    told: Mutex<VecDeque<TransactionId>>,
}

/// All paths.
pub(super) fn router(port: TillPort, sticker: EngagementLink, is_tcp: bool) -> Router {
    let till = Arc::new(Till {
        port,
        sticker,
        is_tcp,
        waiters: Semaphore::new(WAITERS_MAX),
        told: Mutex::new(VecDeque::with_capacity(TOLD_MAX)),
    });
    Router::new()
        .route("/v1/payments", post(create).get(list))
        .route("/v1/payments/{id}", get(read))
        .route("/v1/payments/{id}/complete", post(complete))
        .route("/v1/payments/{id}/cancel", post(cancel))
        .route("/v1/status", get(status))
        .route("/v1/metrics", get(metrics))
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .layer(middleware::from_fn_with_state(Arc::clone(&till), keep_pages_away))
        .with_state(till)
}

async fn keep_pages_away(State(till): State<Arc<Till>>, request: Request, next: Next) -> Response {
    match guard::check(request.headers(), request.method(), till.is_tcp) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

async fn create(State(till): State<Arc<Till>>, request: Request) -> Result<Response, Problem> {
    let idempotency_key = idempotency_key(request.headers())?;
    let body = body(request).await?;
    let payment = request_body::read_create(&body, idempotency_key)?;
    let is_keyed = payment.idempotency_key.is_some();
    let view = till
        .ask(|answer| TillCall::Request { request: TillRequest::Create(payment), answer })
        .await?;
    let status =
        if till.is_first_told(&view, is_keyed) { StatusCode::CREATED } else { StatusCode::OK };
    let location = format!("/v1/payments/{}", view.transaction_id);
    let mut response = till.payment(status, &view);
    if let Ok(location) = HeaderValue::from_str(&location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReadQuery {
    wait_s: Option<u32>,
    until: Option<String>,
}

/// Until what a reader waits.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Until {
    /// The till knows whether to release: yes, no, or pending.
    Decided,
    /// Nothing more happens.
    Final,
    /// Something differs from the view with this entity tag.
    Changed(String),
}

impl Until {
    fn is_reached(&self, view: &PaymentView, json: &PaymentJson) -> bool {
        match self {
            Self::Decided => is_decided(view),
            Self::Final => view.state.is_final(),
            Self::Changed(entity_tag) => *entity_tag != json.entity_tag(),
        }
    }
}

/// The till has been told to release, or has been told that it is not to, or that nobody knows yet.
fn is_decided(view: &PaymentView) -> bool {
    view.release
        || view.state.is_final()
        || view.state.outcome() == Some(Outcome::Pending)
        || matches!(view.state, PaymentState::Reversing(_))
}

async fn read(
    State(till): State<Arc<Till>>,
    Path(id): Path<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let transaction_id = transaction_id(&id)?;
    let query: ReadQuery = query(&uri)?;
    let known = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    let until = match (query.until.as_deref(), known) {
        (Some("decided"), _) => Until::Decided,
        (Some("final"), _) => Until::Final,
        (None, Some(entity_tag)) => Until::Changed(entity_tag.to_owned()),
        (None, None) if query.wait_s.is_none() => Until::Changed(String::new()),
        (None, None) => {
            return Err(Problem::invalid(
                "until",
                "is missing; expected `decided` or `final` with `wait_s`, or the header If-None-Match",
            ));
        }
        (Some(_), _) => return Err(Problem::invalid("until", "expected `decided` or `final`")),
    };
    let wait_s = query.wait_s.unwrap_or(0);
    if wait_s > WAIT_S_MAX {
        return Err(Problem::invalid("wait_s", format!("expected 0 to {WAIT_S_MAX} seconds")));
    }
    let view = if wait_s == 0 {
        till.read(transaction_id).await?
    } else {
        let _place = till.waiters.try_acquire().map_err(|_| {
            Problem::busy(format!("{WAITERS_MAX} requests are waiting for a change already"))
        })?;
        till.wait(transaction_id, &until, Duration::from_secs(wait_s.into())).await?
    };
    let entity_tag = PaymentJson::of(&view, &till.sticker).entity_tag();
    if known == Some(entity_tag.as_str()) {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, entity_tag)]).into_response());
    }
    Ok(till.payment(StatusCode::OK, &view))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    open: Option<bool>,
    limit: Option<usize>,
}

async fn list(State(till): State<Arc<Till>>, uri: Uri) -> Result<Response, Problem> {
    let query: ListQuery = query(&uri)?;
    let limit = query.limit.unwrap_or(LIST_LIMIT_DEFAULT);
    if !(1..=LIST_LIMIT_MAX).contains(&limit) {
        return Err(Problem::invalid("limit", format!("expected 1 to {LIST_LIMIT_MAX}")));
    }
    let open_only = query.open.unwrap_or(false);
    let list = till.ask(|answer| TillCall::List { open_only, limit, answer }).await?;
    let payments = list.views.iter().map(|view| PaymentJson::of(view, &till.sticker)).collect();
    Ok(json(StatusCode::OK, &PaymentsJson { payments, more: list.more }))
}

async fn complete(
    State(till): State<Arc<Till>>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let transaction_id = transaction_id(&id)?;
    let dispensed = request_body::read_complete(&body(request).await?)?;
    till.request(TillRequest::Complete { transaction_id, dispensed }).await
}

async fn cancel(
    State(till): State<Arc<Till>>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let transaction_id = transaction_id(&id)?;
    request_body::read_cancel(&body(request).await?)?;
    till.request(TillRequest::Cancel { transaction_id }).await
}

async fn status(State(till): State<Arc<Till>>) -> Result<Response, Problem> {
    let status = till.ask(|answer| TillCall::Status { answer }).await?;
    Ok(json(StatusCode::OK, &StatusJson::of(status, &till.sticker)))
}

async fn metrics(State(till): State<Arc<Till>>) -> Result<Response, Problem> {
    let text = till.ask(|answer| TillCall::Metrics { answer }).await?;
    Ok((StatusCode::OK, [(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response())
}

async fn no_such_path(uri: Uri) -> Problem {
    let path: String = uri.path().chars().take(120).collect();
    Problem::new(
        StatusCode::NOT_FOUND,
        "unknown-path",
        "There is no such path",
        format!("`{path}`"),
    )
}

async fn no_such_method() -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "unknown-method",
        "The path does not take this method",
        "the header Allow says which it takes",
    )
}

impl Till {
    /// Asks the driver, within the time it has.
    async fn ask<T>(&self, call: impl FnOnce(Answer<T>) -> TillCall) -> Result<T, Problem> {
        let answered =
            timeout(Duration::from_millis(ANSWER_TIMEOUT_MS), self.port.call(call)).await;
        Ok(answered.map_err(|_| Problem::unanswered())???)
    }

    async fn read(&self, transaction_id: TransactionId) -> Result<PaymentView, Problem> {
        self.ask(|answer| TillCall::Read { transaction_id, answer }).await
    }

    async fn request(&self, request: TillRequest) -> Result<Response, Problem> {
        let view = self.ask(|answer| TillCall::Request { request, answer }).await?;
        Ok(self.payment(StatusCode::OK, &view))
    }

    /// The payment as soon as it is as asked for, or as it is when the time is over.
    async fn wait(
        &self,
        transaction_id: TransactionId,
        until: &Until,
        wait: Duration,
    ) -> Result<PaymentView, Problem> {
        let deadline = Instant::now() + wait;
        // Before the reading, so that no change falls between the two.
        let mut updates = self.port.listen();
        let mut view = self.read(transaction_id).await?;
        while !until.is_reached(&view, &PaymentJson::of(&view, &self.sticker)) {
            match timeout_at(deadline, updates.recv()).await {
                Ok(Ok(update)) if update.transaction_id == transaction_id => view = update,
                Ok(Ok(_)) => {}
                Ok(Err(RecvError::Lagged(_))) => view = self.read(transaction_id).await?,
                Ok(Err(RecvError::Closed)) | Err(_) => break,
            }
        }
        Ok(view)
    }

    fn payment(&self, status: StatusCode, view: &PaymentView) -> Response {
        let payment = PaymentJson::of(view, &self.sticker);
        let mut response = json(status, &payment);
        if let Ok(entity_tag) = HeaderValue::from_str(&payment.entity_tag()) {
            response.headers_mut().insert(header::ETAG, entity_tag);
        }
        response
    }

    /// Whether this is the first answer to a request for this payment. Without a key every request
    /// is a new payment; a repeat names a payment that was told before, or that has gone on
    /// since. A restart ends every offer, so nothing has to be remembered beyond this process.
    fn is_first_told(&self, view: &PaymentView, is_keyed: bool) -> bool {
        if !is_keyed {
            return true;
        }
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.contains(&view.transaction_id) || view.state != PaymentState::Offered {
            return false;
        }
        if told.len() == TOLD_MAX {
            told.pop_front();
        }
        told.push_back(view.transaction_id);
        true
    }
}

fn json(status: StatusCode, body: &impl Serialize) -> Response {
    let body = serde_json::to_vec(body).unwrap_or_default();
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    (status, headers, body).into_response()
}

async fn body(request: Request) -> Result<Vec<u8>, Problem> {
    let reading = read_bounded(request.into_body());
    timeout(Duration::from_millis(BODY_TIMEOUT_MS), reading).await.map_err(|_| {
        Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "body-too-slow",
            "The body did not come in time",
            format!("expected within {BODY_TIMEOUT_MS} ms"),
        )
    })?
}

async fn read_bounded(mut body: Body) -> Result<Vec<u8>, Problem> {
    let mut octets = Vec::new();
    let mut octets_seen = 0;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(Problem::malformed)?.into_data() else { continue };
        octets_seen += data.len();
        if octets_seen <= BODY_OCTETS_MAX {
            octets.extend_from_slice(&data);
        } else if octets_seen > BODY_OCTETS_DISCARDED_MAX {
            break;
        }
    }
    if octets_seen > BODY_OCTETS_MAX {
        return Err(Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "body-too-long",
            "The body is too long",
            format!("expected at most {BODY_OCTETS_MAX} octets"),
        ));
    }
    Ok(octets)
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<IdempotencyKey>, Problem> {
    let mut values = headers.get_all("idempotency-key").iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Problem::invalid("Idempotency-Key", "expected once"));
    }
    request_body::read_idempotency_key(value.to_str().unwrap_or_default()).map(Some)
}

fn transaction_id(text: &str) -> Result<TransactionId, Problem> {
    // The canonical form only, so that one payment has one path.
    match text.parse::<TransactionId>() {
        Ok(id) if id.to_string() == text => Ok(id),
        Ok(_) | Err(_) => Err(Problem::new(
            StatusCode::NOT_FOUND,
            "unknown-payment",
            "There is no such payment",
            "a transaction id is a UUID in lower case with hyphens",
        )),
    }
}

fn query<T: for<'de> Deserialize<'de>>(uri: &Uri) -> Result<T, Problem> {
    Query::try_from_uri(uri)
        .map(|Query(query)| query)
        .map_err(|rejection| Problem::malformed(rejection.body_text()))
}
