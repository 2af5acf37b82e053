//! The till API over real sockets, with a fake driver in place of the engine.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::*;
use crate::domain::{IdempotencyKey, ReversalReason, TransactionId, UnixTime};
use crate::protocol::{EngagementLink, Fingerprint};
use crate::terminal::{PaymentState, PaymentView, TillRefusal, TillRequest};

fn sticker() -> EngagementLink {
    EngagementLink {
        terminal_id: "0123456789".parse().unwrap(),
        fingerprint: Fingerprint::of(&[7; 32]),
        transaction_id: None,
    }
}

/// Keeps payments, changes their state as the till asks, and refuses as the engine would.
struct FakeDriver {
    end: TillDriverEnd,
    payments: BTreeMap<TransactionId, PaymentView>,
    keys: BTreeMap<IdempotencyKey, (TransactionId, u64)>,
}

impl FakeDriver {
    fn start(end: TillDriverEnd) {
        let mut driver = Self { end, payments: BTreeMap::new(), keys: BTreeMap::new() };
        tokio::spawn(async move {
            while let Some(call) = driver.end.calls.recv().await {
                driver.answer(call);
            }
        });
    }

    fn answer(&mut self, call: TillCall) {
        match call {
            TillCall::Request { request, answer } => {
                let result = self.request(request);
                let _ = answer.send(result);
            }
            TillCall::Read { transaction_id, answer } => {
                let view = self.payments.get(&transaction_id).cloned();
                let _ = answer.send(view.ok_or(TillRefusal::Unknown(transaction_id)));
            }
            TillCall::List { open_only, limit, answer } => {
                let views: Vec<PaymentView> = self
                    .payments
                    .values()
                    .filter(|view| !open_only || !view.state.is_final())
                    .cloned()
                    .collect();
                let more = open_only.then_some(views.len().saturating_sub(limit));
                let views = views.into_iter().take(limit).collect();
                let _ = answer.send(Ok(PaymentList { views, more }));
            }
            TillCall::Status { answer } => {
                let _ = answer.send(Ok(TillStatus {
                    out_of_service: Some("no adapter; plug one in".into()),
                    open_payments: self.payments.len(),
                    oldest_open_s: 7,
                    escalated: Vec::new(),
                }));
            }
            TillCall::Metrics { answer } => {
                let _ = answer.send(Ok("# EOF\n".into()));
            }
        }
    }

    fn request(&mut self, request: TillRequest) -> Result<PaymentView, TillRefusal> {
        match request {
            TillRequest::Create(payment) => {
                if let Some((id, amount)) =
                    payment.idempotency_key.as_ref().and_then(|key| self.keys.get(key))
                {
                    if *amount != payment.amount.minor() {
                        return Err(TillRefusal::KeyReused(*id));
                    }
                    return Ok(self.payments[id].clone());
                }
                let number = u8::try_from(self.payments.len()).unwrap();
                let transaction_id = TransactionId::from_random([number; 16]);
                let view = PaymentView {
                    transaction_id,
                    current_transaction_id: transaction_id,
                    state: PaymentState::Offered,
                    release: false,
                    dispense_unknown: false,
                    disputed: false,
                    given_away: false,
                    amount: payment.amount,
                    reference: payment.reference,
                    capture_after_dispense: payment.capture_after_dispense,
                    matching_codes: Vec::new(),
                    created_at: UnixTime { seconds: 1_795_414_320 },
                    updated_at: UnixTime { seconds: 1_795_414_320 },
                };
                if let Some(key) = payment.idempotency_key {
                    self.keys.insert(key, (transaction_id, payment.amount.minor()));
                }
                self.payments.insert(transaction_id, view.clone());
                Ok(view)
            }
            TillRequest::Complete { transaction_id, dispensed } => {
                let state = if dispensed {
                    PaymentState::Capturing
                } else {
                    PaymentState::Reversing(ReversalReason::DispenseFailed)
                };
                self.move_on(transaction_id, state)
            }
            TillRequest::Cancel { transaction_id } => {
                self.move_on(transaction_id, PaymentState::Cancelled)
            }
            TillRequest::Resolve { transaction_id, .. } => {
                self.move_on(transaction_id, PaymentState::Captured)
            }
        }
    }

    fn move_on(
        &mut self,
        id: TransactionId,
        state: PaymentState,
    ) -> Result<PaymentView, TillRefusal> {
        let view = self.payments.get_mut(&id).ok_or(TillRefusal::Unknown(id))?;
        if view.state.is_final() {
            return Err(TillRefusal::WrongState {
                state: view.state.name(),
                explanation: "it is over",
            });
        }
        view.state = state;
        view.release = state == PaymentState::Capturing;
        let _ = self.end.updates.send(view.clone());
        Ok(view.clone())
    }
}

struct Running {
    address: TillAddress,
    _stop: oneshot::Sender<()>,
    _directory: tempfile::TempDir,
}

impl Running {
    async fn start(tcp: bool) -> Self {
        let (port, end) = TillPort::new();
        FakeDriver::start(end);
        Self::start_with(tcp, port).await
    }

    async fn start_with(tcp: bool, port: TillPort) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let wanted = if tcp {
            TillAddress::Loopback("127.0.0.1:0".parse().unwrap())
        } else {
            TillAddress::Unix(directory.path().join("till.sock"))
        };
        let listener = TillListener::bind(&wanted).await.unwrap();
        let address = listener.address().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        tokio::spawn(listener.serve(port, sticker(), async {
            let _ = stopped.await;
        }));
        Self { address, _stop: stop, _directory: directory }
    }

    fn client(&self) -> TillClient {
        TillClient::new(self.address.clone())
    }

    /// Sends octets as they are, and reads until the service closes.
    async fn raw(&self, request: &str) -> String {
        let mut answer = Vec::new();
        match &self.address {
            TillAddress::Unix(path) => {
                let mut stream = UnixStream::connect(path).await.unwrap();
                stream.write_all(request.as_bytes()).await.unwrap();
                stream.read_to_end(&mut answer).await.unwrap();
            }
            TillAddress::Loopback(address) => {
                let mut stream = TcpStream::connect(address).await.unwrap();
                stream.write_all(request.as_bytes()).await.unwrap();
                stream.read_to_end(&mut answer).await.unwrap();
            }
        }
        String::from_utf8(answer).unwrap()
    }

    async fn post(&self, path: &str, headers: &str, body: &str) -> String {
        let length = body.len();
        self.raw(&format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Content-Type: application/json\r\n\
             Content-Length: {length}\r\n{headers}\r\n{body}"
        ))
        .await
    }
}

fn coffee() -> NewPayment {
    NewPayment {
        amount_minor: 250,
        currency: "EUR".into(),
        reference: "7".into(),
        items: vec![NewPaymentItem { name: "Coffee".into(), quantity: 1, amount_minor: 250 }],
        capture: "after_dispense",
        valid_for_s: Some(60),
    }
}

#[tokio::test]
async fn a_payment_is_made_read_listed_and_completed() {
    for tcp in [false, true] {
        let till = Running::start(tcp).await;
        let client = till.client();
        let (payment, entity_tag) = client.create(&coffee(), Some("key-1")).await.unwrap();
        assert_eq!((payment.state.as_str(), payment.amount.as_str()), ("offered", "2.50 EUR"));
        assert_eq!(payment.created_at, "2026-11-23T06:12:00Z");
        let link: EngagementLink = payment.engagement_link.parse().unwrap();
        assert_eq!(link.transaction_id.unwrap().to_string(), payment.transaction_id);
        let read = client.read(&payment.transaction_id).await.unwrap();
        assert_eq!(read, (payment.clone(), entity_tag.clone()));
        let list = client.list(true, 10).await.unwrap();
        assert_eq!(
            (list.payments.as_slice(), list.more),
            (std::slice::from_ref(&payment), Some(0))
        );
        let request =
            "GET /v1/payments?open=true HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        assert!(till.raw(request).await.contains(r#""more":0"#));
        assert_eq!(client.list(false, 10).await.unwrap().more, None);
        assert_eq!(
            client.next_change(&payment.transaction_id, &entity_tag, 0).await.unwrap(),
            None
        );
        let (completed, _) = client.complete(&payment.transaction_id, true).await.unwrap();
        assert!(completed.release && completed.state == "capturing");
        let status = client.status().await.unwrap();
        assert_eq!((status.in_service, status.open_payments), (false, 1));
        assert_eq!(status.reason.as_deref(), Some("no adapter; plug one in"));
        assert_eq!(status.short_code, "6789");
    }
}

#[tokio::test]
async fn a_repeated_key_is_200_and_other_content_is_refused() {
    let till = Running::start(false).await;
    let body = r#"{"amount_minor":250,"currency":"EUR"}"#;
    let key = "Idempotency-Key: k1\r\n";
    let first = till.post("/v1/payments", key, body).await;
    assert!(
        first.starts_with("HTTP/1.1 201 ") && first.contains("location: /v1/payments/"),
        "{first}"
    );
    assert!(till.post("/v1/payments", key, body).await.starts_with("HTTP/1.1 200 "));
    let other = till.post("/v1/payments", key, r#"{"amount_minor":251,"currency":"EUR"}"#).await;
    assert!(
        other.starts_with("HTTP/1.1 422 ")
            && other.contains("urn:florin:problem:idempotency-key-reused")
    );
    for bad in [
        "Idempotency-Key: \r\n",
        "Idempotency-Key: a b\r\n",
        "Idempotency-Key: a\r\nIdempotency-Key: b\r\n",
    ] {
        assert!(
            till.post("/v1/payments", bad, body).await.contains(r#""field":"Idempotency-Key""#),
            "{bad}"
        );
    }
}

#[tokio::test]
async fn a_waiting_reader_is_told_at_once() {
    let till = Running::start(false).await;
    let client = till.client();
    let (payment, entity_tag) = client.create(&coffee(), None).await.unwrap();
    let id = payment.transaction_id.clone();
    let waiting = tokio::spawn({
        let (client, id) = (client.clone(), id.clone());
        async move { client.next_change(&id, &entity_tag, 30).await }
    });
    let deciding = tokio::spawn({
        let path = format!("/v1/payments/{id}?wait_s=30&until=decided");
        let address = till.address.clone();
        async move {
            let running = Running {
                address,
                _stop: oneshot::channel().0,
                _directory: tempfile::tempdir().unwrap(),
            };
            running
                .raw(&format!(
                    "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
                ))
                .await
        }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    client.complete(&id, false).await.unwrap();
    let (changed, _) =
        timeout(Duration::from_secs(2), waiting).await.unwrap().unwrap().unwrap().unwrap();
    assert_eq!(
        (changed.state.as_str(), changed.reason.as_deref()),
        ("reversing", Some("dispense_failed"))
    );
    let decided = timeout(Duration::from_secs(2), deciding).await.unwrap().unwrap();
    assert!(decided.contains(r#""state":"reversing""#), "{decided}");
}

#[tokio::test]
async fn refusals_are_problems_with_their_status() {
    let till = Running::start(false).await;
    let client = till.client();
    let (payment, _) = client.create(&coffee(), None).await.unwrap();
    client.cancel(&payment.transaction_id).await.unwrap();
    let refused = client.complete(&payment.transaction_id, true).await.unwrap_err();
    assert!(matches!(
        &refused,
        TillClientError::Refused { status: 409, kind, .. } if kind.ends_with("wrong-state")
    ));
    for (id, status) in [("99999999-0000-4000-8000-000000000000", 404), ("x", 404)] {
        let error = client.read(id).await.unwrap_err();
        assert!(matches!(error, TillClientError::Refused { status: got, .. } if got == status));
    }
    let id = &payment.transaction_id;
    for (request, status) in [
        ("GET /v2 HTTP/1.1".to_owned(), 404),
        ("DELETE /v1/payments HTTP/1.1".to_owned(), 405),
        (format!("GET /v1/payments/{id}?wait_s=61&until=final HTTP/1.1"), 422),
        (format!("GET /v1/payments/{id}?wait_s=1 HTTP/1.1"), 422),
        (format!("GET /v1/payments/{id}?wait_s=1&until=later HTTP/1.1"), 422),
        (format!("GET /v1/payments/{id}?wiat_s=1 HTTP/1.1"), 400),
        ("GET /v1/payments?limit=0 HTTP/1.1".to_owned(), 422),
        ("GET /v1/payments?limit=many HTTP/1.1".to_owned(), 400),
    ] {
        let answer =
            till.raw(&format!("{request}\r\nHost: localhost\r\nConnection: close\r\n\r\n")).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {answer}");
        assert!(answer.contains("application/problem+json"), "{answer}");
    }
    let long = format!(
        r#"{{"amount_minor":250,"currency":"EUR","reference":"{}"}}"#,
        "x".repeat(BODY_OCTETS_MAX)
    );
    assert!(till.post("/v1/payments", "", &long).await.starts_with("HTTP/1.1 413 "));
    let chunked = till
        .raw(&format!(
            "POST /v1/payments HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Content-Type: application/json\r\n\
             Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{long}\r\n0\r\n\r\n",
            long.len()
        ))
        .await;
    assert!(chunked.starts_with("HTTP/1.1 413 "), "{chunked}");
}

#[tokio::test]
async fn a_web_page_cannot_make_or_read_payments() {
    let till = Running::start(true).await;
    let body = r#"{"amount_minor":250,"currency":"EUR"}"#;
    for headers in ["Origin: http://evil.example\r\n", "Sec-Fetch-Site: cross-site\r\n"] {
        assert!(
            till.post("/v1/payments", headers, body).await.starts_with("HTTP/1.1 403 "),
            "{headers}"
        );
    }
    let rebound = till
        .raw("GET /v1/payments HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n")
        .await;
    assert!(rebound.starts_with("HTTP/1.1 403 "), "{rebound}");
    let form = till
        .raw(&format!(
            "POST /v1/payments HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\
             Content-Type: text/plain\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        ))
        .await;
    assert!(form.starts_with("HTTP/1.1 415 "), "{form}");
    assert!(till.client().list(false, 10).await.unwrap().payments.is_empty());
}

#[tokio::test]
async fn waiters_are_bounded_and_others_are_served() {
    let till = Running::start(false).await;
    let client = till.client();
    let (payment, entity_tag) = client.create(&coffee(), None).await.unwrap();
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..=WAITERS_MAX {
        let (client, id, tag) =
            (client.clone(), payment.transaction_id.clone(), entity_tag.clone());
        waiting.spawn(async move { client.next_change(&id, &tag, 30).await });
    }
    let refused =
        timeout(Duration::from_secs(2), waiting.join_next()).await.unwrap().unwrap().unwrap();
    assert!(matches!(refused, Err(TillClientError::Refused { status: 503, .. })));
    client.status().await.unwrap();
    client.cancel(&payment.transaction_id).await.unwrap();
    while let Some(told) = waiting.join_next().await {
        assert_eq!(told.unwrap().unwrap().unwrap().0.state, "cancelled");
    }
}

#[tokio::test]
async fn a_driver_that_stops_is_said_to_have_stopped() {
    let (port, end) = TillPort::new();
    let till = Running::start_with(false, port).await;
    drop(end);
    let error = till.client().status().await.unwrap_err();
    assert!(matches!(
        &error,
        TillClientError::Refused { status: 503, kind, .. } if kind.ends_with("stopping")
    ));
}

#[tokio::test]
async fn a_driver_with_too_much_to_do_refuses_the_next_call() {
    let (port, _end) = TillPort::new();
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..=CALLS_MAX {
        let port = port.clone();
        calls.spawn(async move { port.call(|answer| TillCall::Status { answer }).await });
    }
    let first = timeout(Duration::from_secs(2), calls.join_next()).await.unwrap().unwrap().unwrap();
    assert_eq!(first, Err(TillPortError::Full));
}

#[tokio::test]
async fn a_socket_left_behind_is_replaced_and_a_live_one_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("till.sock");
    let address = TillAddress::Unix(path.clone());
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let listener = TillListener::bind(&address).await.unwrap();
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    assert!(matches!(TillListener::bind(&address).await, Err(TillListenError::InUse(_))));
    drop(listener);
    assert!(!path.exists());
    std::fs::write(&path, "precious").unwrap();
    assert!(matches!(TillListener::bind(&address).await, Err(TillListenError::NotASocket(_))));
    assert!(path.exists());
    let nowhere = TillAddress::Unix(directory.path().join("none/till.sock"));
    let error = TillListener::bind(&nowhere).await.unwrap_err().to_string();
    assert!(error.contains("its directory exists"), "{error}");
}

/// A change right after the payment was read: a reader that begins to listen only then would miss
/// it.
#[tokio::test]
async fn a_change_between_reading_and_waiting_is_not_missed() {
    let (port, mut end) = TillPort::new();
    let till = Running::start_with(false, port).await;
    let view = PaymentView {
        transaction_id: TransactionId::from_random([1; 16]),
        current_transaction_id: TransactionId::from_random([1; 16]),
        state: PaymentState::Offered,
        release: false,
        dispense_unknown: false,
        disputed: false,
        given_away: false,
        amount: "2.50 EUR".parse().unwrap(),
        reference: String::new(),
        capture_after_dispense: false,
        matching_codes: Vec::new(),
        created_at: UnixTime { seconds: 1 },
        updated_at: UnixTime { seconds: 1 },
    };
    let id = view.transaction_id;
    tokio::spawn(async move {
        while let Some(call) = end.calls.recv().await {
            if let TillCall::Read { answer, .. } = call {
                let _ = answer.send(Ok(view.clone()));
                let _ =
                    end.updates.send(PaymentView { state: PaymentState::Expired, ..view.clone() });
            }
        }
    });
    let request = format!(
        "GET /v1/payments/{id}?wait_s=30&until=final HTTP/1.1\r\nHost: localhost\r\n\
         Connection: close\r\n\r\n"
    );
    let answer = timeout(Duration::from_secs(2), till.raw(&request)).await.unwrap();
    assert!(answer.contains(r#""state":"expired""#), "{answer}");
}
