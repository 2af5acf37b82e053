//! The service's figures, as monitoring systems read them (OpenMetrics 1.0). docs/operations.md
//! says what each means.
//!
//! Counts and shows; decides nothing. No figure names a card, a phone or a payment.

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

/// What a figure is split by: a label's name, and one of its few values.
type Label = [(&'static str, &'static str); 1];

/// Every figure of one process.
#[derive(Debug)]
pub(super) struct Metrics {
    registry: Registry,
    open: Family<Label, Gauge>,
    oldest_open: Gauge,
    escalated: Gauge,
    ended: Family<Label, Counter>,
    answers: Family<Label, Counter>,
    phones: Gauge,
    phones_seen: Counter,
    bluetooth_up: Gauge,
    recovery_actions: Family<Label, Counter>,
    journal_up: Gauge,
    certificates_good_until: Gauge<u64, AtomicU64>,
    tasks: Gauge,
}

impl Metrics {
    pub(super) fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("florin"),
            open: Family::default(),
            oldest_open: Gauge::default(),
            escalated: Gauge::default(),
            ended: Family::default(),
            answers: Family::default(),
            phones: Gauge::default(),
            phones_seen: Counter::default(),
            bluetooth_up: Gauge::default(),
            recovery_actions: Family::default(),
            journal_up: Gauge::default(),
            certificates_good_until: Gauge::default(),
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
            "Payments that are not final, by state",
            self.open.clone(),
        );
        registry.register_with_unit(
            "payments_oldest_open",
            "Age of the oldest payment that is not final",
            Unit::Seconds,
            self.oldest_open.clone(),
        );
        registry.register(
            "payments_escalated",
            "Payments open for so long that an operator should look at them",
            self.escalated.clone(),
        );
        registry.register("payments", "Payments that became final, by state", self.ended.clone());
        registry.register(
            "institution_answers",
            "Requests to the institution, by what became of them",
            self.answers.clone(),
        );
    }

    fn register_phones(&mut self) {
        let registry = &mut self.registry;
        registry.register("phones", "Phones that are connected", self.phones.clone());
        registry.register(
            "phones_connected",
            "Phones that have connected since the start",
            self.phones_seen.clone(),
        );
        registry.register(
            "bluetooth_up",
            "1 while phones can find the terminal",
            self.bluetooth_up.clone(),
        );
        registry.register(
            "bluetooth_recovery_actions",
            "Recovery actions on Bluetooth, by action",
            self.recovery_actions.clone(),
        );
    }

    fn register_service(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "journal_up",
            "1 while the journal can be written",
            self.journal_up.clone(),
        );
        registry.register_with_unit(
            "certificates_good_until_timestamp",
            "When the first of the terminal's certificates expires, in Unix time; 0 if not known",
            Unit::Seconds,
            self.certificates_good_until.clone(),
        );
        registry.register(
            "tasks",
            "Tasks that the process has under way, as its runtime counts them",
            self.tasks.clone(),
        );
        registry.register(
            "build",
            "The version that runs",
            Info::new([("version", env!("CARGO_PKG_VERSION"))]),
        );
    }

    /// Takes the open payments as they are now.
    pub(super) fn open_payments(&self, open: &OpenPayments) {
        self.open.clear();
        for (state, count) in &open.by_state {
            self.open.get_or_create(&[("state", state)]).set(whole(*count));
        }
        self.oldest_open.set(i64::try_from(open.oldest_s).unwrap_or(i64::MAX));
        self.escalated.set(whole(open.escalated.len()));
    }

    /// A payment became final.
    pub(super) fn payment_ended(&self, state: &'static str) {
        self.ended.get_or_create(&[("state", state)]).inc();
    }

    /// A request to the institution was answered, or was not.
    pub(super) fn institution_answered(&self, answer: &InstitutionAnswer) {
        let kind = match answer {
            InstitutionAnswer::Transaction { .. } => "answered",
            InstitutionAnswer::NotSent { .. } => "not_sent",
            InstitutionAnswer::Refused { .. } => "refused",
            InstitutionAnswer::Unanswered { .. } => "unanswered",
        };
        self.answers.get_or_create(&[("answer", kind)]).inc();
    }

    /// One more phone has connected since the start.
    pub(super) fn phone_seen(&self) {
        self.phones_seen.inc();
    }

    /// How many phones are connected now.
    pub(super) fn phones(&self, count: usize) {
        self.phones.set(whole(count));
    }

    pub(super) fn bluetooth_up(&self, is_up: bool) {
        self.bluetooth_up.set(i64::from(is_up));
    }

    /// A recovery action on Bluetooth was taken.
    pub(super) fn recovery_action(&self, action: &'static str) {
        self.recovery_actions.get_or_create(&[("action", action)]).inc();
    }

    pub(super) fn journal_up(&self, is_up: bool) {
        self.journal_up.set(i64::from(is_up));
    }

    /// In seconds since 1970.
    pub(super) fn certificates_good_until(&self, until_unix_s: u64) {
        self.certificates_good_until.set(until_unix_s);
    }

    /// All figures, as text.
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
    use super::*;

    #[test]
    fn figures_are_there_before_anything_happened_and_count_what_happens() {
        let metrics = Metrics::new();
        let before = metrics.text();
        for line in [
            "florin_payments_escalated 0",
            "florin_journal_up 0",
            "florin_bluetooth_up 0",
            "florin_phones 0",
            "florin_phones_connected_total 0",
        ] {
            assert!(before.lines().any(|found| found == line), "{line} is not in\n{before}");
        }
        metrics.payment_ended("captured");
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
            "florin_payments_total{state=\"captured\"} 1",
            "florin_payments_open{state=\"unresolved\"} 1",
            "florin_payments_oldest_open_seconds 90",
            "florin_institution_answers_total{answer=\"not_sent\"} 1",
            "florin_bluetooth_recovery_actions_total{action=\"restart_advertising\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("reversing"), "a state without payments is gone");
        assert!(text.ends_with("# EOF\n"));
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
