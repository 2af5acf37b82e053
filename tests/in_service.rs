//! `in_service` answers the customer's question: can somebody pay now? Whatever keeps a payment
//! from being decided takes the terminal out of service, and says so everywhere.

#![cfg(all(
    feature = "terminal",
    feature = "wallet",
    feature = "institution",
    target_os = "linux"
))]
#![allow(clippy::unwrap_used)]

mod programs;

use std::sync::Arc;

use florin::domain::{TransactionId, UnixTime};
use florin::journal::SqliteJournal;
use florin::link::EmulatedAir;
use florin::relay::{ConnectError, Relay, StandingError, StatementError};
use florin::service::{Driver, Frontend};
use florin::terminal::{
    InstitutionAnswer, InstitutionRequest, InstitutionTransaction, Settings, TillRefusal,
    TillRequest, fixtures,
};
use florin::till::{NewPayment, StatusJson, TillCall, TillClient, TillClientError, TillPort};
use programs::{Programs, Running, done};

fn coffee() -> NewPayment {
    NewPayment {
        amount_minor: 250,
        currency: "EUR".into(),
        reference: String::new(),
        items: Vec::new(),
        capture: "at_once",
        valid_for_s: None,
    }
}

/// What a till is told where nobody can pay.
async fn refused(till: &TillClient) -> String {
    loop {
        match till.create(&coffee(), None).await {
            Err(TillClientError::Refused { kind, detail, .. }) => {
                assert_eq!(kind, "urn:florin:problem:out-of-service", "{detail}");
                return detail;
            }
            // The good word of a moment ago still holds.
            Ok((offered, _)) => drop(till.cancel(&offered.transaction_id).await.unwrap()),
            Err(error) => panic!("{error}"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

/// Waits until a till can offer.
async fn offered(till: &TillClient) {
    let end = tokio::time::Instant::now() + std::time::Duration::from_secs(programs::TIMEOUT_S);
    loop {
        match till.create(&coffee(), None).await {
            Ok((offered, _)) => {
                till.cancel(&offered.transaction_id).await.unwrap();
                return;
            }
            Err(error) => assert!(tokio::time::Instant::now() < end, "{error}"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

/// Status, figures and doctor say what the till was told.
async fn everybody_says(programs: &Programs, reason: &str, words: &str) -> StatusJson {
    let till = programs.till();
    let status = till.status().await.unwrap();
    assert!(!status.in_service);
    assert!(status.reason.as_ref().unwrap().contains(words), "{status:?}");
    let figures = till.metrics().await.unwrap();
    let line = format!("florin_out_of_service{{reason=\"{reason}\"}} 1");
    assert!(figures.contains(&line) && figures.contains("florin_in_service 0\n"), "{figures}");
    let doctor = programs.florin_with_configuration(&["doctor"]).output().unwrap();
    let findings = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(findings.contains(words), "{findings}");
    status
}

fn lines_with(service: &Running, words: &str) -> usize {
    service.log().lines().filter(|line| line.contains(words)).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_keeps_people_from_paying_takes_the_terminal_out_of_service() {
    let directory = tempfile::tempdir().unwrap();
    let programs = Programs::set_up(directory.path());
    let institution = programs.start_institution(None);
    let service = programs.start_terminal(None);
    let till = programs.till();
    offered(&till).await;
    let status = till.status().await.unwrap();
    assert!(status.in_service, "{status:?}");
    let terminal_id = status.terminal_id;

    programs.institution(&["terminal", "block", &terminal_id]);
    assert!(refused(&till).await.contains("has blocked this terminal"));
    everybody_says(&programs, "terminal_blocked", "has blocked this terminal").await;
    programs.institution(&["terminal", "unblock", &terminal_id]);
    offered(&till).await;
    assert!(till.status().await.unwrap().in_service);

    institution.stop();
    assert!(refused(&till).await.contains("Connection refused"));
    for _ in 0..3 {
        refused(&till).await;
    }
    everybody_says(&programs, "institution_unreachable", "Connection refused").await;
    assert_eq!(
        lines_with(&service, "out of service: nobody can pay"),
        2,
        "one line for each change: {}",
        service.log()
    );
    let institution = programs.start_institution(None);
    offered(&till).await;

    // Enrolled again beside the running service: the certificate of the service is the older one.
    let code = programs.institution(&["terminal", "code", &terminal_id]);
    let elsewhere = directory.path().join("elsewhere");
    done(&mut programs.enrol_terminal(&elsewhere, code["code"].as_str().unwrap()));
    assert!(refused(&till).await.contains("does not accept this terminal"));
    everybody_says(&programs, "terminal_not_accepted", "replaced by a newer enrolment").await;
    service.stop();
    institution.stop();
}

/// Takes every question and answers none.
struct Silence;

impl Relay for Silence {
    fn address(&self) -> String {
        "nowhere".into()
    }

    async fn ask(&self, _: InstitutionRequest, _: u64) -> InstitutionAnswer {
        std::future::pending().await
    }

    async fn check_reachable(&self) -> Result<(), ConnectError> {
        std::future::pending().await
    }

    async fn check_standing(&self, _: TransactionId) -> Result<(), StandingError> {
        std::future::pending().await
    }

    async fn statement(
        &self,
        _: UnixTime,
        _: UnixTime,
    ) -> Result<Vec<InstitutionTransaction>, StatementError> {
        std::future::pending().await
    }

    async fn transaction(
        &self,
        _: TransactionId,
    ) -> Result<InstitutionTransaction, StatementError> {
        std::future::pending().await
    }
}

#[tokio::test]
async fn an_offer_waits_for_the_institutions_word_and_not_for_ever() {
    let (air, link) = EmulatedAir::new();
    let (port, till_end) = TillPort::new();
    let mut frontend = Frontend::new(link, till_end);
    let journal = SqliteJournal::in_memory().unwrap();
    let driver = Driver::start(
        fixtures::identity(),
        Settings::default(),
        [7; 32],
        journal,
        Arc::new(Silence),
        &mut frontend,
    )
    .await
    .unwrap();
    let asking = async {
        let _phone = air.connect(517).await.unwrap();
        loop {
            let status = port.call(|answer| TillCall::Status { answer }).await.unwrap().unwrap();
            if status.out_of_service.is_none_or(|reason| reason.contains("is being asked")) {
                break;
            }
        }
        let request = TillRequest::Create(fixtures::request(false));
        let offered = port.call(|answer| TillCall::Request { request, answer }).await.unwrap();
        let listing =
            port.call(|answer| TillCall::List { open_only: true, limit: 9, answer }).await;
        (offered, listing.unwrap().unwrap())
    };
    let run = driver.run(std::future::pending());
    let (offered, listed) = tokio::select! {
        ended = run => panic!("{ended:?}"),
        told = asking => told,
    };
    let Err(TillRefusal::OutOfService(reason)) = offered else { panic!("{offered:?}") };
    assert!(reason.contains("has not said within 5000 ms"), "{reason}");
    assert_eq!(listed.views, [], "nothing was offered");
}
