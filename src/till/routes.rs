//! The till API's paths and what each does. docs/till-api.md describes them for integrators.
//!
//! Reads requests, calls the driver through the port, writes answers. It decides nothing about a
//! payment.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http_body_util::BodyExt;
use serde::Serialize;
use tokio::sync::Semaphore;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, timeout, timeout_at};

use super::problem::Problem;
use super::query::Query;
use super::view::{PaymentJson, PaymentsJson, StatusJson};
use super::wait::Until;
use super::{Answer, TillCall, TillPort, request_body, web_page_check};
use crate::domain::{IdempotencyKey, TransactionId};
use crate::protocol::EngagementLink;
use crate::terminal::{PaymentState, PaymentView, TillRequest};

/// The longest body of a request, in octets: four times that of 32 line items with long names.
pub const BODY_OCTETS_MAX: usize = 16 * 1024;
/// How many octets of a body that is too long are read and discarded, so that the till can read the
/// answer: a connection that is closed with unread octets is reset.
const BODY_OCTETS_DISCARDED_MAX: usize = 1024 * 1024;
/// How long a till may take to send a body, in milliseconds: it is on the same machine.
const BODY_TIMEOUT_MS: u64 = 5_000;
/// How long the driver may take to answer, in milliseconds: a few synchronised writes to a slow SD
/// card.
const ANSWER_TIMEOUT_MS: u64 = 10_000;
/// How many connections are served at once; further ones wait in the listen queue. A kiosk has one
/// till and a few tools.
pub const CONNECTIONS_MAX: usize = 32;
/// How many requests may wait for a change at once. Half of the connections stay free for requests
/// that do not wait.
pub const WAITERS_MAX: usize = CONNECTIONS_MAX / 2;
/// The media type of the metrics (OpenMetrics 1.0).
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// How many payments a list holds if the request does not say.
pub const LIST_LIMIT_DEFAULT: u32 = 50;
/// How many payments a list holds at most.
pub const LIST_LIMIT_MAX: u32 = 1000;
/// How many payments are remembered as answered with 201, to answer a repeated
/// `POST /v1/payments` with 200.
const ANSWERED_MAX: usize = 256;

/// The state that all requests share.
pub(super) struct Till {
    port: TillPort,
    sticker: EngagementLink,
    is_tcp: bool,
    waiters: Semaphore,
    answered: Mutex<VecDeque<TransactionId>>,
}

/// The routes of all paths.
pub(super) fn router(port: TillPort, sticker: EngagementLink, is_tcp: bool) -> Router {
    let till = Arc::new(Till {
        port,
        sticker,
        is_tcp,
        waiters: Semaphore::new(WAITERS_MAX),
        answered: Mutex::new(VecDeque::with_capacity(ANSWERED_MAX)),
    });
    Router::new()
        .route("/v1/payments", post(create).get(list))
        .route("/v1/payments/{id}", get(read))
        .route("/v1/payments/{id}/complete", post(complete))
        .route("/v1/payments/{id}/cancel", post(cancel))
        .route("/v1/payments/{id}/resolve", post(resolve))
        .route("/v1/status", get(status))
        .route("/v1/metrics", get(metrics))
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .layer(middleware::from_fn_with_state(Arc::clone(&till), refuse_web_pages))
        .with_state(till)
}

async fn refuse_web_pages(State(till): State<Arc<Till>>, request: Request, next: Next) -> Response {
    match web_page_check::check(request.headers(), request.method(), till.is_tcp) {
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
        if till.is_first_answer(&view, is_keyed) { StatusCode::CREATED } else { StatusCode::OK };
    let location = format!("/v1/payments/{}", view.transaction_id);
    let mut response = till.payment(status, &view);
    if let Ok(location) = HeaderValue::from_str(&location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

async fn read(
    State(till): State<Arc<Till>>,
    id: PathId,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let transaction_id = transaction_id(id)?;
    let (until, wait_s) = Until::read(&Query::read(&uri, &["wait_s", "until"])?, &headers)?;
    let view = if wait_s == 0 {
        till.read(transaction_id).await?
    } else {
        let _place = till.waiters.try_acquire().map_err(|_| {
            Problem::busy(format!(
                "{WAITERS_MAX} requests wait for changes, and no more may wait at once"
            ))
        })?;
        till.wait(transaction_id, &until, Duration::from_secs(wait_s.into())).await?
    };
    let entity_tag = PaymentJson::of(&view, &till.sticker).entity_tag();
    if headers.get(header::IF_NONE_MATCH).is_some_and(|known| known == entity_tag.as_str()) {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, entity_tag)]).into_response());
    }
    Ok(till.payment(StatusCode::OK, &view))
}

async fn list(State(till): State<Arc<Till>>, uri: Uri) -> Result<Response, Problem> {
    let query = Query::read(&uri, &["open", "limit"])?;
    let limit = query.number("limit", 1..=LIST_LIMIT_MAX)?.unwrap_or(LIST_LIMIT_DEFAULT);
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let open_only = query.boolean("open")?.unwrap_or(false);
    let list = till.ask(|answer| TillCall::List { open_only, limit, answer }).await?;
    let payments = list.views.iter().map(|view| PaymentJson::of(view, &till.sticker)).collect();
    Ok(json(StatusCode::OK, &PaymentsJson { payments, more: list.more }))
}

async fn complete(
    State(till): State<Arc<Till>>,
    id: PathId,
    request: Request,
) -> Result<Response, Problem> {
    let transaction_id = transaction_id(id)?;
    let dispensed = request_body::read_complete(&body(request).await?)?;
    till.request(TillRequest::Complete { transaction_id, dispensed }).await
}

async fn cancel(
    State(till): State<Arc<Till>>,
    id: PathId,
    request: Request,
) -> Result<Response, Problem> {
    let transaction_id = transaction_id(id)?;
    request_body::read_cancel(&body(request).await?)?;
    till.request(TillRequest::Cancel { transaction_id }).await
}

async fn resolve(
    State(till): State<Arc<Till>>,
    id: PathId,
    request: Request,
) -> Result<Response, Problem> {
    let transaction_id = transaction_id(id)?;
    let dispensed = request_body::read_complete(&body(request).await?)?;
    till.request(TillRequest::Resolve { transaction_id, dispensed }).await
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
    /// Asks the driver and waits for the answer, for a bounded time.
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

    /// The payment when it is as asked for, or when the time is over.
    async fn wait(
        &self,
        transaction_id: TransactionId,
        until: &Until,
        wait: Duration,
    ) -> Result<PaymentView, Problem> {
        let deadline = Instant::now() + wait;
        // Before the payment is read, so that no change is missed between the two.
        let mut updates = self.port.listen();
        let mut view = self.read(transaction_id).await?;
        // Any transaction of the sale may have been asked for.
        let transaction_id = view.transaction_id;
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

    /// Whether this is the first answer about a new payment. Without a key every request makes a
    /// new payment; a repeated request finds one that was answered before, or that is not an offer
    /// any more. A restart ends every offer, so nothing has to be remembered beyond this process.
    fn is_first_answer(&self, view: &PaymentView, is_keyed: bool) -> bool {
        if !is_keyed {
            return true;
        }
        let mut answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        if answered.contains(&view.transaction_id) || view.state != PaymentState::Offered {
            return false;
        }
        if answered.len() == ANSWERED_MAX {
            answered.pop_front();
        }
        answered.push_back(view.transaction_id);
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
            format!("expected the whole body within {BODY_TIMEOUT_MS} ms"),
        )
    })?
}

async fn read_bounded(mut body: Body) -> Result<Vec<u8>, Problem> {
    let mut octets = Vec::new();
    let mut octets_seen = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            tracing::debug!(%error, "the body of a till's request cannot be read");
            Problem::malformed("the body cannot be read to its end; send it whole")
        })?;
        let Ok(data) = frame.into_data() else { continue };
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
        return Err(Problem::invalid("Idempotency-Key", "is given twice; expected once"));
    }
    request_body::read_idempotency_key(value.to_str().unwrap_or_default()).map(Some)
}

/// The id in the path as it was written, if it is UTF-8.
type PathId = Result<Path<String>, PathRejection>;

fn transaction_id(id: PathId) -> Result<TransactionId, Problem> {
    let written = id.map_or_else(|_| "?".to_owned(), |Path(id)| id);
    let detail = match written.parse::<TransactionId>() {
        // The canonical form only, so that one payment has one path.
        Ok(id) if id.to_string() == written => return Ok(id),
        Ok(id) => format!("write the transaction id in lower case with hyphens: {id}"),
        Err(error) => error.to_string(),
    };
    Err(Problem::new(StatusCode::NOT_FOUND, "unknown-payment", "There is no such payment", detail))
}
