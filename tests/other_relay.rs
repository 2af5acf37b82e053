//! A terminal whose institution does not speak gRPC: the service, reconciliation and the doctor
//! over another relay. The institution is the reference one, called in this process.

#![cfg(all(
    feature = "terminal",
    feature = "wallet",
    feature = "institution",
    target_os = "linux"
))]
#![allow(clippy::unwrap_used)]

mod programs;

use std::process::{Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use florin::domain::{TerminalId, TransactionId, UnixTime};
use florin::institution::{
    AuthorisationRequest, Institution, InstitutionError, Transaction, open_institution, random,
};
use florin::relay::{ConnectError, Relay, StatementError};
use florin::service::{
    Configuration, Enrolment, Extent, Finding, ServiceError, ServiceExit, Verdict, examine,
    reconcile, serve, wall_clock,
};
use florin::terminal::{
    InstitutionAnswer, InstitutionRequest, InstitutionTransaction, TransactionClaim,
};
use programs::{Programs, wait_for};
use serde_json::Value;
use tokio::sync::oneshot;

const ADDRESS: &str = "the card host in this process";

/// The institution, and whether the line to it is cut.
#[derive(Clone)]
struct CardHost {
    institution: Arc<Mutex<Institution>>,
    is_cut: Arc<AtomicBool>,
}

impl CardHost {
    fn relay(&self, enrolment: &Enrolment) -> Result<CardHostRelay, ServiceError> {
        Ok(CardHostRelay { host: self.clone(), terminal_id: enrolment.identity.terminal_id() })
    }
}

/// One terminal's line to it.
struct CardHostRelay {
    host: CardHost,
    terminal_id: TerminalId,
}

impl CardHostRelay {
    fn institution(&self) -> Result<std::sync::MutexGuard<'_, Institution>, ConnectError> {
        if self.host.is_cut.load(Ordering::Relaxed) {
            let detail = "the line is cut".into();
            return Err(ConnectError::Unreachable { address: ADDRESS.into(), detail });
        }
        Ok(self.host.institution.lock().unwrap())
    }

    fn execute(
        &self,
        institution: &mut Institution,
        request: InstitutionRequest,
    ) -> Result<Transaction, InstitutionError> {
        let (terminal_id, now) = (self.terminal_id, wall_clock());
        match request {
            InstitutionRequest::Authorise {
                transaction_id,
                offer,
                offer_age_ms,
                sealed_command,
                sequence,
            } => {
                let request = AuthorisationRequest {
                    terminal_id,
                    transaction_id,
                    offer,
                    offer_age_ms,
                    sealed_command,
                    sequence,
                };
                institution.authorise(&request, now, *random().unwrap())
            }
            InstitutionRequest::Inquire { transaction_id }
            | InstitutionRequest::Present { transaction_id, .. } => {
                institution.transaction(terminal_id, transaction_id)
            }
            InstitutionRequest::Capture { transaction_id } => {
                institution.capture(terminal_id, transaction_id, now)
            }
            InstitutionRequest::Reverse { transaction_id, reason } => {
                institution.reverse(terminal_id, transaction_id, reason, now)
            }
        }
    }
}

impl Relay for CardHostRelay {
    fn address(&self) -> String {
        ADDRESS.into()
    }

    async fn check_reachable(&self) -> Result<(), ConnectError> {
        self.institution().map(drop)
    }

    async fn ask(&self, request: InstitutionRequest, _: u64) -> InstitutionAnswer {
        let mut institution = match self.institution() {
            Ok(institution) => institution,
            Err(error) => return InstitutionAnswer::NotSent { detail: error.to_string() },
        };
        match self.execute(&mut institution, request) {
            Ok(transaction) => InstitutionAnswer::Transaction(TransactionClaim {
                state: transaction.state,
                receipt: Some(transaction.receipt).filter(|receipt| !receipt.is_empty()),
                exclusion: Some(transaction.exclusion).filter(|octets| !octets.is_empty()),
                store_generation: None,
            }),
            Err(error) => InstitutionAnswer::Unanswered { detail: error.to_string() },
        }
    }

    async fn statement(
        &self,
        from: UnixTime,
        until: UnixTime,
    ) -> Result<Vec<InstitutionTransaction>, StatementError> {
        let page = self.institution()?.reconcile(self.terminal_id, from, until, None);
        let (transactions, _) = page.map_err(failed)?;
        Ok(transactions.iter().map(listed).collect())
    }

    async fn transaction(
        &self,
        transaction_id: TransactionId,
    ) -> Result<InstitutionTransaction, StatementError> {
        let found = self.institution()?.transaction(self.terminal_id, transaction_id);
        found.map(|transaction| listed(&transaction)).map_err(failed)
    }
}

fn failed(error: InstitutionError) -> StatementError {
    StatementError::Failed(error.to_string())
}

fn listed(transaction: &Transaction) -> InstitutionTransaction {
    InstitutionTransaction {
        transaction_id: transaction.id,
        state: transaction.state,
        amount: transaction.amount,
        created_at: transaction.created_at,
    }
}

fn last_json(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().last().unwrap_or_else(|| panic!("nothing was printed: {output:?}"));
    serde_json::from_str(line).unwrap()
}

/// A till offers, a phone pays. Returns the last answer that each got.
fn sell(programs: &Programs) -> (Value, Value) {
    wait_for("the terminal to be in service", || {
        programs.florin(&["status"]).output().unwrap().status.success().then_some(())
    });
    let offer = ["pay", "2.50", "EUR", "--json", "--until", "final"];
    let till = programs.florin(&offer).stdout(Stdio::piped()).spawn().unwrap();
    let air = programs.air_address().to_string();
    let words = ["pay", "--yes", "--nearest", "--json", "--wait-ms", "20000", "--air", &air];
    let phone = programs.wallet(&words).output().unwrap();
    (last_json(&till.wait_with_output().unwrap()), last_json(&phone))
}

fn finding<'findings>(findings: &'findings [Finding], check: &str) -> &'findings Finding {
    findings.iter().find(|finding| finding.check == check).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminal_for_another_institution_is_composed_from_another_relay() {
    let directory = tempfile::tempdir().unwrap();
    let programs = Arc::new(Programs::set_up(&directory.path().join("a")));
    let host = CardHost {
        institution: Arc::new(Mutex::new(open_institution(&programs.bank()).unwrap().institution)),
        is_cut: Arc::default(),
    };
    let configuration = Configuration {
        state_directory: programs.state(),
        till_address: programs.till_address(),
        // No machine has it, so no radio is touched.
        adapter: Some("hci999".into()),
        ..Configuration::default()
    };
    let connect = |_: &Configuration, enrolment: &Enrolment| host.relay(enrolment);
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn({
        let (configuration, air) = (configuration.clone(), programs.air_address());
        let host = host.clone();
        let connect = move |_: &Configuration, enrolment: &Enrolment| host.relay(enrolment);
        async move {
            let stop = async {
                let _ = stopped.await;
            };
            serve(configuration, connect, Some(air), stop).await
        }
    });

    let selling = Arc::clone(&programs);
    let (till, phone) = tokio::task::spawn_blocking(move || sell(&selling)).await.unwrap();
    assert_eq!((&till["state"], &phone["outcome"]), (&"captured".into(), &"approved".into()));

    let until = UnixTime { seconds: wall_clock().seconds + 60 };
    let compared =
        reconcile(&configuration, connect, UnixTime { seconds: 0 }, until).await.unwrap();
    assert!(compared.agrees() && compared.compared == 1, "{compared:?}");

    let findings = examine(&configuration, connect, Extent::Everything).await;
    let reached = finding(&findings, "institution");
    assert_eq!(reached.verdict, Verdict::Fine, "{reached:?}");
    assert!(reached.detail.contains(ADDRESS), "{reached:?}");
    assert_eq!(finding(&findings, "clock_against_institution").verdict, Verdict::NotExamined);

    host.is_cut.store(true, Ordering::Relaxed);
    let findings = examine(&configuration, connect, Extent::Service).await;
    let cut = finding(&findings, "institution");
    assert_eq!((cut.verdict, cut.exit), (Verdict::Wrong, Some(ServiceExit::Institution)));
    assert!(cut.detail.contains("the line is cut"), "{cut:?}");

    stop.send(()).unwrap();
    serving.await.unwrap().unwrap();
}
