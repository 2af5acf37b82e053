//! The service's metrics, in the text format of OpenMetrics 1.0. docs/operations.md says what each
//! means.
//!
//! It counts and shows, and decides nothing. No metric holds the id of a card, phone or payment.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use tokio::runtime::Handle;

use crate::bluetooth::tasks_of_sessions;
use crate::terminal::{InstitutionAnswer, OpenPayments};

/// The label of a metric: its name and its value, of which there are few.
type Label = [(&'static str, &'static str); 1];

/// All metrics of one process.
#[derive(Debug)]
pub(super) struct Metrics {
    registry: Registry,
    open: Family<Label, Gauge>,
    oldest_open_age: Gauge,
    escalated: Gauge,
    disputed: Gauge,
    given_away: Counter,
    finished: Family<Label, Counter>,
    institution_requests: Family<Label, Counter>,
    phones_connected: Gauge,
    phone_connections: Counter,
    bluetooth_up: Gauge,
    recovery_actions: Family<Label, Counter>,
    journal_up: Gauge,
    in_service: Gauge,
    out_of_service: Family<Label, Gauge>,
    certificate_expiration: Gauge<u64, AtomicU64>,
    tasks: Gauge,
}

impl Metrics {
    pub(super) fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("florin"),
            open: Family::default(),
            oldest_open_age: Gauge::default(),
            escalated: Gauge::default(),
            disputed: Gauge::default(),
            given_away: Counter::default(),
            finished: Family::default(),
            institution_requests: Family::default(),
            phones_connected: Gauge::default(),
            phone_connections: Counter::default(),
            bluetooth_up: Gauge::default(),
            recovery_actions: Family::default(),
            journal_up: Gauge::default(),
            in_service: Gauge::default(),
            out_of_service: Family::default(),
            certificate_expiration: Gauge::default(),
            tasks: Gauge::default(),
        };
        metrics.register_payments();
        metrics.register_phones();
        metrics.register_service();
        metrics
    }

    fn register_payments(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "payments_open",
            "Number of payments to which something may still happen, by state",
            self.open.clone(),
        );
        registry.register_with_unit(
            "oldest_open_payment_age",
            "Age of the oldest open payment, in seconds, by the wall clock; 0 without one",
            Unit::Seconds,
            self.oldest_open_age.clone(),
        );
        registry.register(
            "payments_escalated",
            "Number of open payments that are disputed, or whose age has reached \
             payments.escalate_after_s",
            self.escalated.clone(),
        );
        registry.register(
            "payments_disputed",
            "Number of open payments over which the journal and the institution differ",
            self.disputed.clone(),
        );
        registry.register(
            "payments_given_away",
            "Payments whose goods were released and whose money was given back or never taken, \
             since the service started",
            self.given_away.clone(),
        );
        registry.register(
            "payments_finished",
            "Payments that have reached a final state since the service started, by that state",
            self.finished.clone(),
        );
        registry.register(
            "institution_requests",
            "Requests to the institution since the service started, by what became of them",
            self.institution_requests.clone(),
        );
    }

    fn register_phones(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "phones_connected",
            "Number of phones that are connected now",
            self.phones_connected.clone(),
        );
        registry.register(
            "phone_connections",
            "Connections that phones have opened since the service started",
            self.phone_connections.clone(),
        );
        registry.register(
            "bluetooth_up",
            "1 while phones can find the terminal, else 0",
            self.bluetooth_up.clone(),
        );
        registry.register(
            "bluetooth_recovery_actions",
            "Recovery actions that Bluetooth needed since the service started, by action",
            self.recovery_actions.clone(),
        );
    }

    fn register_service(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "in_service",
            "1 while somebody can pay, as far as the terminal knows, else 0",
            self.in_service.clone(),
        );
        registry.register(
            "out_of_service",
            "1 for what keeps people from paying now, by reason; absent while they can pay",
            self.out_of_service.clone(),
        );
        registry.register(
            "journal_up",
            "1 while the journal can be written, else 0",
            self.journal_up.clone(),
        );
        registry.register_with_unit(
            "certificate_expiration_timestamp",
            "Unix time in seconds at which the first of the terminal's certificates expires; 0 if \
             unknown",
            Unit::Seconds,
            self.certificate_expiration.clone(),
        );
        registry.register(
            "tasks",
            "Number of asynchronous tasks of the service that have not ended",
            self.tasks.clone(),
        );
        registry.register(
            "build",
            "Always 1; the label names the version that runs",
            Info::new([("version", env!("CARGO_PKG_VERSION"))]),
        );
    }

    /// The open payments as they are now.
    pub(super) fn open_payments(&self, open: &OpenPayments) {
        self.open.clear();
        for (state, count) in &open.by_state {
            self.open.get_or_create(&[("state", state)]).set(whole(*count));
        }
        self.oldest_open_age.set(i64::try_from(open.oldest_s).unwrap_or(i64::MAX));
        self.escalated.set(whole(open.escalated.len()));
        self.disputed.set(whole(open.disputed.len()));
    }

    /// A payment has reached this final state. Were its goods given away?
    pub(super) fn payment_ended(&self, state: &'static str, is_given_away: bool) {
        self.finished.get_or_create(&[("state", state)]).inc();
        if is_given_away {
            self.given_away.inc();
        }
    }

    /// A request to the institution has ended, with an answer or without one.
    pub(super) fn institution_answered(&self, answer: &InstitutionAnswer) {
        let result = match answer {
            InstitutionAnswer::Transaction { .. } => "answered",
            InstitutionAnswer::NotSent { .. } => "not_sent",
            InstitutionAnswer::Refused { .. } => "refused",
            InstitutionAnswer::Unanswered { .. } => "unanswered",
        };
        self.institution_requests.get_or_create(&[("result", result)]).inc();
    }

    /// A phone has connected.
    pub(super) fn phone_seen(&self) {
        self.phone_connections.inc();
    }

    /// How many phones are connected now.
    pub(super) fn phones(&self, count: usize) {
        self.phones_connected.set(whole(count));
    }

    pub(super) fn bluetooth_up(&self, is_up: bool) {
        self.bluetooth_up.set(i64::from(is_up));
    }

    /// The link has taken this recovery action.
    pub(super) fn recovery_action(&self, action: &'static str) {
        self.recovery_actions.get_or_create(&[("action", action)]).inc();
    }

    pub(super) fn journal_up(&self, is_up: bool) {
        self.journal_up.set(i64::from(is_up));
    }

    /// What keeps people from paying; none while they can.
    pub(super) fn out_of_service(&self, reason: Option<&'static str>) {
        self.in_service.set(i64::from(reason.is_none()));
        self.out_of_service.clear();
        if let Some(reason) = reason {
            self.out_of_service.get_or_create(&[("reason", reason)]).set(1);
        }
    }

    /// The Unix time at which the first of the terminal's certificates expires.
    pub(super) fn certificates_good_until(&self, until_unix_s: u64) {
        self.certificate_expiration.set(until_unix_s);
    }

    /// All metrics, as text.
    pub(super) fn text(&self) -> String {
        if let Ok(runtime) = Handle::try_current() {
            self.tasks.set(whole(runtime.metrics().num_alive_tasks() + tasks_of_sessions()));
        }
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

fn whole(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn metrics_are_there_before_anything_happened_and_count_what_happens() {
        let metrics = Metrics::new();
        let before = metrics.text();
        for line in [
            "florin_payments_escalated 0",
            "florin_payments_disputed 0",
            "florin_payments_given_away_total 0",
            "florin_journal_up 0",
            "florin_in_service 0",
            "florin_bluetooth_up 0",
            "florin_phones_connected 0",
            "florin_phone_connections_total 0",
        ] {
            assert!(before.lines().any(|found| found == line), "{line} is not in\n{before}");
        }
        metrics.payment_ended("captured", false);
        metrics.payment_ended("reversed", true);
        metrics.institution_answered(&InstitutionAnswer::NotSent { detail: "x".into() });
        metrics.recovery_action("restart_advertising");
        let mut open = OpenPayments { oldest_s: 90, ..OpenPayments::default() };
        open.by_state.insert("reversing", 2);
        metrics.open_payments(&open);
        open.by_state.clear();
        open.by_state.insert("unresolved", 1);
        metrics.open_payments(&open);
        let text = metrics.text();
        for line in [
            "florin_payments_finished_total{state=\"captured\"} 1",
            "florin_payments_given_away_total 1",
            "florin_payments_open{state=\"unresolved\"} 1",
            "florin_oldest_open_payment_age_seconds 90",
            "florin_institution_requests_total{result=\"not_sent\"} 1",
            "florin_bluetooth_recovery_actions_total{action=\"restart_advertising\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("reversing"), "a state without payments is gone");
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn the_document_for_operators_lists_every_metric_and_no_other() {
        let metrics = Metrics::new();
        metrics.payment_ended("captured", false);
        metrics.institution_answered(&InstitutionAnswer::NotSent { detail: "x".into() });
        metrics.recovery_action("reregister");
        metrics.out_of_service(Some("journal"));
        let mut open = OpenPayments::default();
        open.by_state.insert("unresolved", 1);
        metrics.open_payments(&open);
        let exposed: BTreeSet<String> = metrics
            .text()
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split(['{', ' ']).next().map(str::to_owned))
            .collect();
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operations.md");
        let documented: BTreeSet<String> = std::fs::read_to_string(path)
            .unwrap()
            .split('`')
            .filter(|code| code.starts_with("florin_"))
            .filter_map(|code| code.split('{').next().map(str::to_owned))
            .collect();
        assert_eq!(documented, exposed);
    }

    #[tokio::test]
    async fn tasks_are_those_that_have_not_ended() {
        let metrics = Metrics::new();
        let tasks = || {
            let text = metrics.text();
            let line = text.lines().find(|line| line.starts_with("florin_tasks ")).unwrap();
            line.rsplit(' ').next().unwrap().parse::<u32>().unwrap()
        };
        let before = tasks();
        let waiting = tokio::spawn(std::future::pending::<()>());
        assert_eq!(tasks(), before + 1);
        waiting.abort();
        let _ = waiting.await;
        assert_eq!(tasks(), before);
    }
}
