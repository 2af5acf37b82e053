//! `florin pay` and the other commands that use the till API, against a scripted terminal: what
//! they print, and their exit codes.

#![cfg(feature = "terminal")]
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use florin::domain::{
    Amount, DeclineReason, IdempotencyKey, ReversalReason, TransactionId, UnixTime,
};
use florin::protocol::{EngagementLink, Fingerprint};
use florin::terminal::{PaymentState, PaymentView, TillRefusal, TillRequest};
use florin::till::{
    PaymentList, TillAddress, TillCall, TillDriverEnd, TillListener, TillPort, TillStatus,
};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// One payment, which goes through a list of states once it is offered. The same idempotency key is
/// the same payment.
struct ScriptedTerminal {
    end: TillDriverEnd,
    view: Option<PaymentView>,
    key: Option<IdempotencyKey>,
    /// What happens after the offer, 50 ms apart.
    then: Vec<(PaymentState, bool)>,
}

impl ScriptedTerminal {
    async fn run(mut self) {
        loop {
            tokio::select! {
                call = self.end.calls.recv() => match call {
                    Some(call) => self.answer(call),
                    None => return,
                },
                () = sleep(Duration::from_millis(50)), if self.has_more() => {
                    let (state, release) = self.then.remove(0);
                    self.become_state(state, release);
                }
            }
        }
    }

    fn has_more(&self) -> bool {
        self.view.is_some() && !self.then.is_empty()
    }

    fn become_state(&mut self, state: PaymentState, release: bool) {
        let view = self.view.as_mut().unwrap();
        (view.state, view.release) = (state, release);
        let _ = self.end.updates.send(view.clone());
    }

    fn answer(&mut self, call: TillCall) {
        match call {
            TillCall::Request { request, answer } => {
                let result = match request {
                    TillRequest::Create(payment) if self.view.is_some() => {
                        assert_eq!(payment.idempotency_key, self.key, "a second payment");
                        Ok(())
                    }
                    TillRequest::Create(payment) => {
                        assert!(
                            payment
                                .idempotency_key
                                .as_ref()
                                .is_some_and(|key| key.as_str().len() >= 32)
                        );
                        self.key = payment.idempotency_key;
                        self.view = Some(view(payment.amount, payment.capture_after_dispense));
                        Ok(())
                    }
                    TillRequest::Complete { dispensed: true, .. } => {
                        self.become_state(PaymentState::Capturing, true);
                        self.then = vec![(PaymentState::Captured, true)];
                        Ok(())
                    }
                    TillRequest::Complete { dispensed: false, .. } => {
                        self.become_state(
                            PaymentState::Reversing(ReversalReason::DispenseFailed),
                            true,
                        );
                        self.then =
                            vec![(PaymentState::Reversed(ReversalReason::DispenseFailed), true)];
                        Ok(())
                    }
                    TillRequest::Cancel { .. } => {
                        self.become_state(PaymentState::Cancelled, false);
                        Ok(())
                    }
                    TillRequest::Resolve { .. } => {
                        self.become_state(PaymentState::Captured, true);
                        Ok(())
                    }
                };
                let _ = answer.send(result.map(|()| self.view.clone().unwrap()));
            }
            TillCall::Read { transaction_id, answer } => {
                let _ = answer.send(self.view.clone().ok_or(TillRefusal::Unknown(transaction_id)));
            }
            TillCall::List { open_only, limit, answer } => {
                let one = (limit == 1).then(|| view("2.50 EUR".parse().unwrap(), false));
                let views = self.view.iter().cloned().chain(one).collect();
                let _ = answer.send(Ok(PaymentList { views, more: open_only.then_some(41) }));
            }
            TillCall::Status { answer } => {
                let _ = answer.send(Ok(TillStatus {
                    out_of_service: None,
                    open_payments: 0,
                    oldest_open_s: 0,
                    escalated: Vec::new(),
                }));
            }
            TillCall::Metrics { answer } => {
                let _ = answer.send(Ok("florin_journal_up 1\n# EOF\n".into()));
            }
        }
    }
}

fn view(amount: Amount, capture_after_dispense: bool) -> PaymentView {
    PaymentView {
        transaction_id: TransactionId::from_random([7; 16]),
        current_transaction_id: TransactionId::from_random([7; 16]),
        state: PaymentState::Offered,
        release: false,
        dispense_unknown: false,
        disputed: false,
        given_away: false,
        amount,
        reference: String::new(),
        capture_after_dispense,
        matching_codes: Vec::new(),
        created_at: UnixTime { seconds: 1_795_414_320 },
        updated_at: UnixTime { seconds: 1_795_414_320 },
    }
}

/// A till API with an terminal behind it.
struct Service {
    serving: JoinHandle<()>,
    terminal: JoinHandle<()>,
}

impl Service {
    async fn start(address: &TillAddress, then: &[(PaymentState, bool)]) -> Self {
        let (port, end) = TillPort::new();
        let terminal = tokio::spawn(
            ScriptedTerminal { end, view: None, key: None, then: then.to_vec() }.run(),
        );
        let sticker = EngagementLink {
            terminal_id: "0123456789".parse().unwrap(),
            fingerprint: Fingerprint::of(&[7; 32]),
            transaction_id: None,
        };
        let listener = TillListener::bind(address).await.unwrap();
        let serving = tokio::spawn(listener.serve(port, sticker, std::future::pending()));
        Self { serving, terminal }
    }

    /// Stops it; fails if an assertion of the scripted terminal failed.
    async fn stop(self) {
        self.serving.abort();
        self.terminal.abort();
        assert!(
            !self.terminal.await.is_err_and(|error| error.is_panic()),
            "the scripted terminal objected"
        );
    }
}

/// Runs `florin` with these words against an terminal; what it printed, and its exit code.
async fn florin(words: &str, then: &[(PaymentState, bool)]) -> (String, i32) {
    let directory = tempfile::tempdir().unwrap();
    let address = TillAddress::Unix(directory.path().join("till.sock"));
    let service = Service::start(&address, then).await;
    let result = run(words, &address.to_string()).await;
    service.stop().await;
    result
}

#[tokio::test]
async fn a_list_of_open_payments_says_how_many_it_leaves_out() {
    let (text, code) = florin("payments --open --limit 1", &[]).await;
    assert_eq!((text.lines().count(), code), (2, 0), "{text}");
    assert!(text.lines().next().unwrap().contains("[open for "), "{text}");
    assert_eq!(text.lines().last().unwrap(), "41 more, all younger; see more with --limit");
    let (json, _) = florin("payments --open --limit 1 --json", &[]).await;
    assert!(json.contains(r#""more":41"#), "{json}");
    let (json, _) = florin("payments --limit 1 --json", &[]).await;
    assert!(!json.contains("more"), "{json}");
}

/// What happens to a call on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Delivery {
    /// It is answered.
    Answered,
    /// It is done, and the connection ends before the answer.
    AnswerLost,
    /// It is done, and the answer never comes.
    Silent,
}

/// A proxy before the service. `delivery` decides by a call's first line, and by how many calls
/// with the same line there were before.
async fn lossy_proxy(
    listener: UnixListener,
    service: PathBuf,
    delivery: impl Fn(&str, usize) -> Delivery + Send + 'static,
) {
    let mut lines: Vec<String> = Vec::new();
    while let Ok((mut till, _)) = listener.accept().await {
        let mut begun = Vec::new();
        while !begun.ends_with(b"\r\n\r\n") {
            match till.read_u8().await {
                Ok(octet) => begun.push(octet),
                Err(_) => break,
            }
        }
        // A call that was given up before it was made.
        if begun.is_empty() {
            continue;
        }
        let line = String::from_utf8_lossy(&begun).lines().next().unwrap().to_owned();
        let before = lines.iter().filter(|earlier| **earlier == line).count();
        let delivery = delivery(&line, before);
        lines.push(line);
        let mut real = UnixStream::connect(&service).await.unwrap();
        tokio::spawn(async move {
            real.write_all(&begun).await.unwrap();
            if delivery == Delivery::Answered {
                let _ = tokio::io::copy_bidirectional(&mut till, &mut real).await;
                return;
            }
            let (mut from_till, _to_till) = till.split();
            let (mut from_real, mut to_real) = real.split();
            // The answer has begun: what was asked is done.
            tokio::select! {
                _ = from_real.read_u8() => {}
                _ = tokio::io::copy(&mut from_till, &mut to_real) => {}
            }
            if delivery == Delivery::Silent {
                std::future::pending::<()>().await;
            }
        });
    }
}

async fn run(words: &str, till: &str) -> (String, i32) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_florin"));
    command.args(words.split_whitespace()).args(["--till", till]);
    let output = output_of(command).await;
    (String::from_utf8(output.stdout).unwrap(), output.status.code().unwrap())
}

/// Beside the runtime, which serves the command meanwhile.
async fn output_of(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.stdin(Stdio::null()).output())
        .await
        .unwrap()
        .unwrap()
}

#[tokio::test]
async fn every_end_of_a_payment_has_its_exit_code() {
    use PaymentState as State;
    let unanswered = ReversalReason::Unanswered;
    for (words, then, last, code) in [
        (
            "pay 2.50 EUR",
            &[(State::Authorising, false), (State::Capturing, true), (State::Captured, true)][..],
            "captured     2.50 EUR paid",
            0,
        ),
        (
            "pay 2.50 EUR",
            &[
                (State::Authorising, false),
                (State::Declined(DeclineReason::InsufficientFunds), false),
            ],
            "(insufficient_funds)",
            3,
        ),
        ("pay 2.50 EUR", &[(State::Expired, false)], "nobody paid in time", 4),
        ("pay 2.50 EUR", &[(State::Cancelled, false)], "taken back", 5),
        (
            "pay 2.50 EUR",
            &[(State::Authorising, false), (State::Unresolved, false)],
            "do not release",
            6,
        ),
        (
            "pay 2.50 EUR --until final",
            &[
                (State::Unresolved, false),
                (State::Reversing(unanswered), false),
                (State::Reversed(unanswered), false),
            ],
            "nothing is charged (unanswered)",
            7,
        ),
        (
            "pay 2.50 EUR --after-dispense --dispensed true",
            &[(State::Authorising, false), (State::Approved, true)],
            "captured     2.50 EUR paid",
            0,
        ),
        (
            "pay 2.50 EUR --after-dispense --dispensed false",
            &[(State::Authorising, false), (State::Approved, true)],
            "nothing is charged (dispense_failed)",
            7,
        ),
        // Nobody is there to be asked: the script says it later.
        ("pay 2.50 EUR --after-dispense", &[(State::Approved, true)], "release the goods", 0),
    ] {
        let (printed, exit) = florin(words, then).await;
        assert_eq!(exit, code, "{words} {then:?} printed {printed}");
        assert!(
            printed.lines().last().unwrap().contains(last),
            "{words} {then:?} printed {printed}"
        );
        assert!(printed.lines().next().unwrap().starts_with("offered"), "{printed}");
    }
}

#[tokio::test]
async fn json_is_one_object_for_each_change() {
    let then = [(PaymentState::Authorising, false), (PaymentState::Captured, true)];
    let (printed, exit) = florin("pay 2.50 EUR --json", &then).await;
    assert_eq!(exit, 0);
    let states: Vec<String> = printed
        .lines()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["state"]
                .as_str()
                .unwrap()
                .into()
        })
        .collect();
    assert_eq!(states, ["offered", "authorising", "captured"]);
}

#[tokio::test]
async fn the_other_commands_say_what_the_service_says() {
    let (printed, exit) = florin("status", &[]).await;
    assert!(
        exit == 0 && printed.contains("0123456789") && printed.contains("in service      yes"),
        "{printed}"
    );
    let (printed, exit) = florin("payments", &[]).await;
    assert_eq!((printed.trim(), exit), ("no payments", 0));
}

#[tokio::test]
async fn no_service_is_said_so() {
    for words in ["pay 2.50 EUR", "payments", "status"] {
        let (printed, exit) = run(words, "unix:/nowhere/till.sock").await;
        assert_eq!((printed.as_str(), exit), ("", 8), "{words}");
    }
    assert_eq!(run("pay 2.505 EUR", "unix:/nowhere/till.sock").await.1, 2);
}

/// Runs `florin` with these arguments and environment; standard output and error, and exit code.
async fn run_all(arguments: &[&str], environment: &[(&str, &str)]) -> (String, String, i32) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_florin"));
    command.args(arguments).env_remove("FLORIN_TILL").envs(environment.iter().copied());
    let output = output_of(command).await;
    let text = |octets| String::from_utf8(octets).unwrap();
    (text(output.stdout), text(output.stderr), output.status.code().unwrap())
}

#[tokio::test]
async fn an_amount_is_taken_as_people_type_it_or_told_what_to_type() {
    let then = [(PaymentState::Authorising, false), (PaymentState::Captured, true)];
    let directory = tempfile::tempdir().unwrap();
    let address = TillAddress::Unix(directory.path().join("till.sock"));
    let till = address.to_string();
    for words in [&["2.50 EUR"][..], &["2,50", "eur"], &["€2.50"], &["EUR", "2.5"]] {
        let service = Service::start(&address, &then).await;
        let (printed, said, code) =
            run_all(&[&["pay"], words, &["--till", &till]].concat(), &[]).await;
        assert!(code == 0 && printed.ends_with("captured     2.50 EUR paid\n"), "{words:?} {said}");
        service.stop().await;
    }
    for (words, problem) in [
        (
            &["2,50"][..],
            "florin pay: AMOUNT: `2,50` has no currency; write it behind the amount, such as \
             `2,50 EUR`\n",
        ),
        (
            &["1,234", "EUR"],
            "florin pay: AMOUNT: `1,234` can be read as 1234 or as 1.234; write `1234 EUR` for the \
             first; EUR has 2 decimals\n",
        ),
        (
            &["-2.50", "EUR"],
            "florin pay: AMOUNT: `-2.50 EUR` has a minus sign; an amount cannot be negative\n",
        ),
        (
            &["2.50", "EUR", "--item", "Coffee"],
            "florin pay: --item: `Coffee` has no `=`; write the name, `=` and the amount, such as \
             `Coffee=2.50`\n",
        ),
    ] {
        let (printed, said, code) = run_all(&[&["pay"], words].concat(), &[]).await;
        assert_eq!((printed.as_str(), said.as_str(), code), ("", problem, 2));
    }
}

/// The flag, else the environment, else the configuration's `[till] listen`.
#[tokio::test]
async fn the_clients_find_the_service_where_the_configuration_says() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let service = Service::start(&TillAddress::Unix(path("real.sock").into()), &[]).await;
    let right = format!("unix:{}", path("real.sock"));
    let wrong = format!("unix:{}", path("none.sock"));
    let configuration = path("florin.toml");
    let id = "07070707-0707-4707-8707-070707070707";
    let write = |listen: &str| {
        std::fs::write(&configuration, format!("[till]\nlisten = \"{listen}\"\n")).unwrap();
    };
    let with = ["--configuration", &configuration];
    let code = async |words: &[&str], environment: &[(&str, &str)]| {
        let (_, said, code) = run_all(words, environment).await;
        (code, said)
    };
    write(&right);
    for words in [&["status"][..], &["payments"], &["metrics"]] {
        assert_eq!(code(&[words, &with].concat(), &[]).await, (0, String::new()), "{words:?}");
    }
    write(&wrong);
    for words in [
        &["status"][..],
        &["payments"],
        &["metrics"],
        &["cancel", id],
        &["complete", id, "--dispensed", "true"],
        &["resolve", id, "--dispensed", "yes"],
        &["pay", "1 EUR"],
    ] {
        let (code, said) = code(&[words, &with].concat(), &[]).await;
        assert!(code == 8 && said.contains(&wrong), "{words:?}: {said}");
    }
    assert_eq!(code(&[&["status"], &with[..], &["--till", &right]].concat(), &[]).await.0, 0);
    assert_eq!(code(&[&["status"], &with[..]].concat(), &[("FLORIN_TILL", &right)]).await.0, 0);
    let both = [&["status"], &with[..], &["--till", &right]].concat();
    assert_eq!(code(&both, &[("FLORIN_TILL", &wrong)]).await.0, 0);
    std::fs::write(&configuration, "[till]\nlissen = 1\n").unwrap();
    let (exit, said) = code(&[&["status"], &with[..]].concat(), &[]).await;
    assert!(exit == 10 && said.contains("till.lissen"), "{said}");
    service.stop().await;
}

#[tokio::test]
async fn numbers_that_cannot_be_read_are_told_what_is_expected() {
    for (words, problem) in [
        (&["payments", "--limit", "x"][..], "expected a whole number from 1 to 1000, digits only"),
        (
            &["pay", "1 EUR", "--valid-for-s", "60s"],
            "expected a whole number of seconds from 1 to 3600, digits only",
        ),
        (&["reconcile", "--from", "yesterday"], "expected a date such as 2026-11-23"),
        (&["status", "--till", "8411"], "is a port without an address"),
        (&["cancel", "2f6e6cf0"], "is not a transaction id; expected a whole UUID"),
    ] {
        let (_, said, code) = run_all(words, &[]).await;
        assert!(code == 2 && said.contains(problem), "{words:?}: {said}");
    }
}

#[tokio::test]
async fn a_journal_that_cannot_be_opened_is_told_its_cause_once() {
    let directory = tempfile::tempdir().unwrap();
    let configuration = directory.path().join("florin.toml");
    let state = directory.path().join("state");
    let text = format!("[terminal]\nstate_directory = \"{}\"\n", state.display());
    std::fs::write(&configuration, text).unwrap();
    let configuration = configuration.to_str().unwrap();
    let (_, said, code) =
        run_all(&["journal", "check", "--configuration", configuration], &[]).await;
    assert_eq!((said.matches("unable to open database file").count(), code), (1, 14), "{said}");
    let period = ["--until", "2026-01-01", "--from", "2026-01-01", "/dev/null"];
    let (_, said, code) = run_all(&[&["journal", "export"], &period[..]].concat(), &[]).await;
    assert!(code == 2 && said.contains("before it begins"), "{said}");
}

/// The service's own commands, as far as they need no radio.
#[tokio::test]
async fn what_keeps_the_service_from_starting_has_its_exit_code() {
    let directory = tempfile::tempdir().unwrap();
    let serve = async |text: &str| {
        let path = directory.path().join("florin.toml");
        std::fs::write(&path, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_florin"));
        command.args(["serve", "--configuration"]).arg(&path);
        let output = output_of(command).await;
        (String::from_utf8(output.stderr).unwrap(), output.status.code().unwrap())
    };
    let (said, code) = serve("[till]\nlissen = 1\n").await;
    assert!(code == 10 && said.contains("florin.toml:2:1: till.lissen"), "{said}");
    let state = directory.path().join("state");
    let (said, code) =
        serve(&format!("[terminal]\nstate_directory = \"{}\"\n", state.display())).await;
    assert!(code == 11 && said.contains("florin enrol"), "{said}");
    assert!(!state.exists(), "a service that is not enrolled makes nothing");
}

/// As far as it needs no radio: what it says of Bluetooth is not looked at.
#[tokio::test]
async fn the_doctor_names_what_is_wrong_and_ends_with_the_first_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    let path = directory.path().join("florin.toml");
    let doctor = async |text: &str| {
        std::fs::write(&path, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_florin"));
        command.args(["doctor", "--json", "--configuration"]).arg(&path);
        let output = output_of(command).await;
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["exit_code"], output.status.code().unwrap(), "{report}");
        assert_eq!(report["version"], env!("CARGO_PKG_VERSION"));
        report
    };
    let check = |report: &serde_json::Value, name: &str| {
        let checks = report["checks"].as_array().unwrap();
        let check = checks.iter().find(|check| check["check"] == name);
        check.unwrap_or_else(|| panic!("no {name} in {report}")).clone()
    };
    let report = doctor("[till]\nlissen = 1\n").await;
    assert_eq!((&report["exit_code"], &report["verdict"]), (&10.into(), &"wrong".into()));
    assert!(
        check(&report, "configuration")["detail"].as_str().unwrap().contains("till.lissen"),
        "{report}"
    );

    let address = TillAddress::Unix(directory.path().join("till.sock"));
    let text = format!(
        "[terminal]\nstate_directory = \"{}\"\n[bluetooth]\nadapter = \"hci999\"\n\
         [till]\nlisten = \"{address}\"\n",
        state.display()
    );
    let report = doctor(&text).await;
    assert_eq!(
        (&report["exit_code"], &report["verdict"]),
        (&11.into(), &"wrong".into()),
        "{report}"
    );
    assert!(
        check(&report, "enrolment")["detail"].as_str().unwrap().contains("florin enrol"),
        "{report}"
    );
    assert_eq!(check(&report, "institution")["verdict"], "not_examined");
    assert_eq!(check(&report, "service")["verdict"], "advice");
    assert!(!state.exists(), "a doctor makes nothing");

    // What others may read is found before that.
    std::fs::create_dir(&state).unwrap();
    std::fs::set_permissions(&state, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let report = doctor(&text).await;
    assert_eq!(report["exit_code"], 14, "{report}");
    assert!(
        check(&report, "state_directory")["detail"].as_str().unwrap().contains("chmod 700"),
        "{report}"
    );

    let service = Service::start(&address, &[]).await;
    let report = doctor(&text).await;
    assert_eq!(check(&report, "service")["verdict"], "fine", "{report}");
    service.stop().await;
}

/// Runs `florin` with these words against an terminal, over a way that loses some of the answers.
async fn florin_over(
    words: &str,
    then: &[(PaymentState, bool)],
    delivery: impl Fn(&str, usize) -> Delivery + Send + 'static,
) -> (String, i32) {
    let directory = tempfile::tempdir().unwrap();
    let real = directory.path().join("real.sock");
    let service = Service::start(&TillAddress::Unix(real.clone()), then).await;
    let front = directory.path().join("till.sock");
    let proxy = tokio::spawn(lossy_proxy(UnixListener::bind(&front).unwrap(), real, delivery));
    let result = run(words, &format!("unix:{}", front.display())).await;
    proxy.abort();
    service.stop().await;
    result
}

#[tokio::test]
async fn a_lost_answer_to_an_offer_offers_nothing_twice() {
    let then = [(PaymentState::Authorising, false), (PaymentState::Captured, true)];
    let lost = |line: &str, before| {
        if line.starts_with("POST /v1/payments ") && before < 2 {
            Delivery::AnswerLost
        } else {
            Delivery::Answered
        }
    };
    let (printed, exit) = florin_over("pay 2.50 EUR", &then, lost).await;
    assert!(exit == 0 && printed.contains("captured     2.50 EUR paid\n"), "{printed}");
}

#[tokio::test]
async fn a_lost_answer_to_the_release_is_asked_for_again() {
    let lost = |line: &str, before| {
        if line.contains("/complete ") && before < 2 {
            Delivery::AnswerLost
        } else {
            Delivery::Answered
        }
    };
    for (dispensed, code) in [(true, 0), (false, 7)] {
        let words = format!("pay 2.50 EUR --after-dispense --dispensed {dispensed}");
        let (printed, exit) = florin_over(&words, &[(PaymentState::Approved, true)], lost).await;
        assert_eq!(exit, code, "{printed}");
    }
}

/// A running `florin`, and what it prints.
struct Running {
    child: Child,
    lines: std::sync::mpsc::Receiver<String>,
}

impl Running {
    fn start(words: &str, till: &TillAddress) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_florin"));
        command.args(words.split_whitespace()).args(["--till", &till.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (sender, lines) = std::sync::mpsc::channel();
        let printed = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in printed.lines() {
                let _ = sender.send(line.unwrap());
            }
        });
        Self { child, lines }
    }

    /// Waits until it has printed a line with these words.
    fn expect(&self, words: &str) {
        loop {
            let line = self
                .lines
                .recv_timeout(Duration::from_secs(60))
                .unwrap_or_else(|_| panic!("no `{words}`"));
            if line.contains(words) {
                return;
            }
        }
    }

    fn interrupt(&self) {
        let process = Pid::from_raw(self.child.id().try_into().unwrap()).unwrap();
        kill_process(process, Signal::INT).unwrap();
    }

    /// What it said on standard error, and its exit code.
    fn finish(mut self) -> (String, i32) {
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (said, self.child.wait().unwrap().code().unwrap_or(-1))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already where the test went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn an_interrupt_takes_the_offer_back_also_where_the_answer_is_lost() {
    for losses in [0, 2] {
        let directory = tempfile::tempdir().unwrap();
        let real = directory.path().join("real.sock");
        let service = Service::start(&TillAddress::Unix(real.clone()), &[]).await;
        let front = directory.path().join("till.sock");
        let delivery = move |line: &str, before| {
            if line.contains("/cancel ") && before < losses {
                Delivery::AnswerLost
            } else {
                Delivery::Answered
            }
        };
        let proxy = tokio::spawn(lossy_proxy(UnixListener::bind(&front).unwrap(), real, delivery));
        let running = tokio::task::spawn_blocking(move || {
            let running = Running::start("pay 2.50 EUR", &TillAddress::Unix(front));
            running.expect("offered");
            running.interrupt();
            running.expect("taken back");
            running.finish()
        });
        let (said, exit) = running.await.unwrap();
        assert_eq!(exit, 5, "{said}");
        proxy.abort();
        service.stop().await;
    }
}

#[tokio::test]
async fn a_second_interrupt_ends_the_command_and_says_what_is_left_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let real = directory.path().join("real.sock");
    let service = Service::start(&TillAddress::Unix(real.clone()), &[]).await;
    let front = directory.path().join("till.sock");
    let delivery = |line: &str, _| {
        if line.contains("/cancel ") { Delivery::Silent } else { Delivery::Answered }
    };
    let proxy = tokio::spawn(lossy_proxy(UnixListener::bind(&front).unwrap(), real, delivery));
    let running = tokio::task::spawn_blocking(move || {
        let running = Running::start("pay 2.50 EUR", &TillAddress::Unix(front));
        running.expect("offered");
        running.interrupt();
        running.expect("cancelling");
        running.interrupt();
        running.finish()
    });
    let (said, exit) = running.await.unwrap();
    assert!(exit == 130 && said.contains("florin cancel 07070707-"), "{exit} {said}");
    proxy.abort();
    service.stop().await;
}

#[tokio::test]
async fn an_interrupt_before_the_offer_stands_takes_it_back_as_soon_as_it_does() {
    let directory = tempfile::tempdir().unwrap();
    let real = directory.path().join("real.sock");
    let service = Service::start(&TillAddress::Unix(real.clone()), &[]).await;
    let front = directory.path().join("till.sock");
    let (asked, was_asked) = std::sync::mpsc::channel();
    let delivery = move |line: &str, before| {
        if !line.starts_with("POST /v1/payments ") || before == 2 {
            return Delivery::Answered;
        }
        asked.send(()).unwrap();
        Delivery::AnswerLost
    };
    let proxy = tokio::spawn(lossy_proxy(UnixListener::bind(&front).unwrap(), real, delivery));
    let running = tokio::task::spawn_blocking(move || {
        let running = Running::start("pay 2.50 EUR", &TillAddress::Unix(front));
        was_asked.recv_timeout(Duration::from_secs(60)).unwrap();
        running.interrupt();
        running.expect("taken back");
        running.finish()
    });
    let (said, exit) = running.await.unwrap();
    assert_eq!(exit, 5, "{said}");
    proxy.abort();
    service.stop().await;
}
