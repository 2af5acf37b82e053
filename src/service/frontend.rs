//! What phones and till see of the terminal, whichever engine runs behind it: the link, the till's
//! calls, and whether payments can be taken at all.
//!
//! An engine is made from the journal and is given up with it; the frontend stays. It decides
//! nothing about a payment. While there is no engine, it answers with what the last one knew.

use std::collections::BTreeSet;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::Instant;

use super::clock::wall_clock;
use super::enrolment::Validity;
use super::metrics::Metrics;
use super::systemd::tell_systemd;
use crate::link::{LinkCommand, LinkEvent, TerminalLink};
use crate::terminal::{AdvertisingPace, Input, OpenPayments, PhoneId, Terminal, TillRefusal};
use crate::till::{TillCall, TillDriverEnd, TillStatus};

/// How often certificates and advertising are checked, in seconds.
const CHECK_INTERVAL_S: u64 = 1;
/// How often open payments are reported to the log while there are any, in seconds.
const REPORT_INTERVAL_S: u64 = 600;
/// How many payments a report names.
const NAMED_MAX: usize = 5;

/// The link and the till, and what is wrong at the moment.
#[derive(Debug)]
pub struct Frontend {
    pub(super) link: TerminalLink,
    pub(super) till: TillDriverEnd,
    pub(super) metrics: Metrics,
    link_fault: Option<String>,
    journal_fault: Option<String>,
    /// When the certificates are valid; none where nothing was enrolled, as in the demo.
    validity: Option<Validity>,
    /// Why they are not valid by the clock, which may itself be wrong.
    certificate_fault: Option<String>,
    /// The pace that the engine wants.
    pace: AdvertisingPace,
    /// The pace that the link was given last.
    sent_pace: AdvertisingPace,
    /// The engine that was given up last, for its figures: its payments grow older meanwhile.
    last_engine: Option<Terminal>,
    checked_at: Option<Instant>,
    reported_at: Option<Instant>,
    /// Connected phones. An engine that is given up leaves them behind.
    phones: BTreeSet<PhoneId>,
}

impl Frontend {
    /// Out of service until link and journal are reported to work.
    pub fn new(link: TerminalLink, till: TillDriverEnd) -> Self {
        Self {
            link,
            till,
            metrics: Metrics::new(),
            link_fault: Some("Bluetooth is starting".into()),
            journal_fault: Some("the journal is being opened".into()),
            validity: None,
            certificate_fault: None,
            pace: AdvertisingPace::Slow,
            sent_pace: AdvertisingPace::Slow,
            last_engine: None,
            checked_at: None,
            reported_at: None,
            phones: BTreeSet::new(),
        }
    }

    /// Why no payment can be taken now; none while it can.
    pub(super) fn out_of_service(&self) -> Option<&String> {
        self.journal_fault.as_ref().or(self.certificate_fault.as_ref()).or(self.link_fault.as_ref())
    }

    /// From now on, takes no payments while the certificates are not valid by the wall clock. The
    /// clock may jump, and may be years off at a start, so this is checked again and again.
    pub(super) fn watch_certificates(&mut self, validity: Validity) {
        self.validity = Some(validity);
        self.check_certificates();
    }

    fn check_certificates(&mut self) {
        let Some(validity) = &self.validity else { return };
        let fault = validity.check(wall_clock()).err().map(|fault| fault.to_string());
        match (&self.certificate_fault, &fault) {
            // The reason says what the time is.
            (None, Some(reason)) => {
                tracing::error!(
                    reason,
                    "out of service; open payments are still settled if the institution accepts it"
                );
            }
            (Some(_), None) => tracing::info!("the certificates are valid by the clock"),
            (Some(_), Some(_)) | (None, None) => {}
        }
        self.certificate_fault = fault;
    }

    /// Why the journal cannot be used from now on; none if it can.
    pub(super) fn set_journal_fault(&mut self, fault: Option<String>) {
        self.metrics.journal_up(fault.is_none());
        self.journal_fault = fault;
    }

    /// Takes what the link reports, and returns what an engine needs to know of it.
    pub(super) fn handle_link_event(&mut self, event: LinkEvent) -> Option<Input> {
        match event {
            LinkEvent::Connected { phone, address } => {
                self.phones.insert(phone);
                self.metrics.phone_seen();
                self.metrics.phones(self.phones.len());
                Some(Input::PhoneConnected { phone, address })
            }
            LinkEvent::Wrote { phone, value_octets_max, value } => {
                Some(Input::PhoneWrote { phone, value_octets_max, value })
            }
            LinkEvent::Disconnected { phone } => {
                self.phones.remove(&phone);
                self.metrics.phones(self.phones.len());
                Some(Input::PhoneDisconnected(phone))
            }
            LinkEvent::Up => {
                self.metrics.bluetooth_up(true);
                if self.link_fault.take().is_some() {
                    tracing::info!("phones can find this terminal");
                }
                None
            }
            LinkEvent::Down { reason } => {
                self.metrics.bluetooth_up(false);
                tracing::warn!(reason, "phones cannot find this terminal");
                self.link_fault = Some(reason);
                None
            }
            LinkEvent::Recovering { action, reason } => {
                self.metrics.recovery_action(action.name());
                tracing::warn!(
                    action = action.name(),
                    reason,
                    "recovery action, so that phones find this terminal"
                );
                None
            }
        }
    }

    /// Sends a value. Never waits: a link that is behind drops it, and the phone asks again or
    /// times out.
    pub(super) fn notify(&self, phone: PhoneId, value: Vec<u8>) {
        if self.link.commands.try_send(LinkCommand::Notify { phone, value }).is_err() {
            tracing::warn!("the Bluetooth link is behind; dropped a value for a phone");
        }
    }

    /// Ends a connection. Nobody would repeat this, so it waits for room, unlike a value.
    pub(super) async fn disconnect(&self, phone: PhoneId) {
        let _ = self.link.commands.send(LinkCommand::Disconnect { phone }).await;
    }

    /// Takes the pace that the engine wants. It waits while the terminal is out of service.
    pub(super) async fn advertise(&mut self, pace: AdvertisingPace) {
        self.pace = pace;
        self.send_pace().await;
    }

    /// Gives the link its pace. While nobody can pay, phones see that in the terminal's name,
    /// whatever the engine wants.
    async fn send_pace(&mut self) {
        let pace = if self.refuses_phones() { AdvertisingPace::OutOfService } else { self.pace };
        if pace != self.sent_pace {
            self.sent_pace = pace;
            let _ = self.link.commands.send(LinkCommand::Advertise(pace)).await;
        }
    }

    fn refuses_phones(&self) -> bool {
        self.journal_fault.is_some() || self.certificate_fault.is_some()
    }

    /// When [`Frontend::check`] is due.
    pub(super) fn next_check_at(&self) -> Instant {
        self.checked_at
            .map_or_else(Instant::now, |checked| checked + Duration::from_secs(CHECK_INTERVAL_S))
    }

    /// Checks what changes with time alone, if that is due. It is called at each step, so it also
    /// serves systemd's watchdog. No caller ever waits for the disk: a disk that hangs must not
    /// have the service restarted.
    pub(super) async fn check(&mut self) {
        if self.next_check_at() > Instant::now() {
            return;
        }
        self.checked_at = Some(Instant::now());
        tell_systemd(&[NotifyState::Watchdog]);
        self.check_certificates();
        self.send_pace().await;
    }

    /// A new engine runs, and its journal works.
    pub(super) fn engine_started(&mut self) {
        self.last_engine = None;
        self.set_journal_fault(None);
    }

    /// An engine was given up with its journal.
    pub(super) fn engine_stopped(&mut self, terminal: Terminal) {
        self.last_engine = Some(terminal);
    }

    /// The terminal's state, for the till.
    pub(super) fn status(&self, open: &OpenPayments) -> TillStatus {
        TillStatus {
            out_of_service: self.out_of_service().cloned(),
            open_payments: open.count(),
            oldest_open_s: open.oldest_s,
            escalated: open.escalated.iter().copied().take(NAMED_MAX).collect(),
        }
    }

    /// All figures, as text.
    pub(super) fn metrics_text(&self, open: &OpenPayments) -> String {
        self.metrics.open_payments(open);
        self.metrics.text()
    }

    /// Whether the last report is [`REPORT_INTERVAL_S`] old.
    pub(super) fn is_report_due(&self) -> bool {
        let interval = Duration::from_secs(REPORT_INTERVAL_S);
        self.reported_at.is_none_or(|reported| reported.elapsed() >= interval)
    }

    /// Logs how many payments are open, and names those that have been open for too long.
    pub(super) fn report(&mut self, open: &OpenPayments) {
        let unsettled: usize = open
            .by_state
            .iter()
            .filter(|(state, _)| **state != "offered")
            .map(|(_, count)| count)
            .sum();
        self.reported_at = Some(Instant::now());
        if unsettled > 0 {
            tracing::info!(
                open = unsettled, oldest_s = open.oldest_s, by_state = ?open.by_state,
                "payments are open"
            );
        }
        if let Some(oldest) = open.escalated.first() {
            let named: Vec<String> =
                open.escalated.iter().take(NAMED_MAX).map(ToString::to_string).collect();
            tracing::error!(
                payments = open.escalated.len(),
                oldest_s = open.oldest_s,
                %oldest,
                named = named.join(", "),
                "payments are open for too long: check that the institution can be reached and \
                 knows this terminal (`florin doctor`, `florin payments --open`); the terminal \
                 keeps trying"
            );
        }
    }

    /// The engine was given up with its journal, or there was no journal to make one from.
    pub(super) async fn journal_failed(&mut self, reason: String) {
        self.set_journal_fault(Some(reason));
        self.send_pace().await;
        // The next engine would not know them, and would never disconnect a silent one.
        for phone in &self.phones {
            self.disconnect(*phone).await;
        }
    }

    /// Answers the till and turns phones away while there is no engine, until `until` is ready.
    pub(super) async fn serve_without_engine<T>(
        &mut self,
        until: impl Future<Output = T>,
    ) -> Result<T, LinkStopped> {
        tokio::pin!(until);
        loop {
            let next_check_at = self.next_check_at();
            tokio::select! {
                done = &mut until => return Ok(done),
                event = self.link.events.recv() => {
                    let input = self.handle_link_event(event.ok_or(LinkStopped)?);
                    if let Some(
                        Input::PhoneWrote { phone, .. } | Input::PhoneConnected { phone, .. },
                    ) = input
                    {
                        self.disconnect(phone).await;
                    }
                }
                Some(call) = self.till.calls.recv() => {
                    self.refuse(call, &self.last_known().unwrap_or_default());
                }
                () = tokio::time::sleep_until(next_check_at) => {
                    self.check().await;
                    if self.is_report_due() && let Some(open) = self.last_known() {
                        self.report(&open);
                    }
                }
            }
        }
    }

    /// The payments that were open when the last engine was given up; none if there was no engine.
    fn last_known(&self) -> Option<OpenPayments> {
        self.last_engine.as_ref().map(|terminal| terminal.open_payments(wall_clock()))
    }

    /// Answers a call while the journal cannot be read.
    pub(super) fn refuse(&self, call: TillCall, open: &OpenPayments) {
        let reason = self.out_of_service().cloned().unwrap_or_default();
        let refusal = TillRefusal::OutOfService(reason);
        match call {
            TillCall::Request { answer, .. } | TillCall::Read { answer, .. } => {
                let _ = answer.send(Err(refusal));
            }
            TillCall::List { answer, .. } => {
                let _ = answer.send(Err(refusal));
            }
            TillCall::Status { answer } => {
                let _ = answer.send(Ok(self.status(open)));
            }
            TillCall::Metrics { answer } => {
                let _ = answer.send(Ok(self.metrics_text(open)));
            }
        }
    }
}

/// The link ended, which it does only with its process.
#[derive(Debug)]
pub(super) struct LinkStopped;

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::domain::TransactionId;
    use crate::link::{EmulatedAir, PhoneLink, RecoveryAction};
    use crate::terminal::{Now, PaymentState, Settings, fixtures};
    use crate::till::TillPort;

    /// What was logged.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(octets)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(work: impl FnOnce()) -> String {
        let log = Log::default();
        let writer = log.clone();
        let subscriber =
            tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
        tracing::subscriber::with_default(subscriber, work);
        String::from_utf8(log.0.lock().unwrap().clone()).unwrap()
    }

    fn frontend() -> Frontend {
        let (_, link) = EmulatedAir::new();
        let (_, till) = TillPort::new();
        Frontend::new(link, till)
    }

    #[tokio::test(start_paused = true)]
    async fn open_payments_are_reported_at_a_stated_cadence_and_the_old_ones_by_name() {
        let mut frontend = frontend();
        let mut open = OpenPayments { oldest_s: 40, ..OpenPayments::default() };
        open.by_state.insert("offered", 1);
        assert!(frontend.is_report_due());
        assert_eq!(
            logged(|| frontend.report(&open)),
            "",
            "an offer that waits for a phone is no news"
        );
        assert!(!frontend.is_report_due());
        tokio::time::advance(Duration::from_secs(REPORT_INTERVAL_S - 1)).await;
        assert!(!frontend.is_report_due());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(frontend.is_report_due());
        open.by_state.insert("reversing", 7);
        open.oldest_s = 90_000;
        open.escalated = (1..=7).map(|number| TransactionId::from_random([number; 16])).collect();
        let log = logged(|| frontend.report(&open));
        assert!(log.contains("payments are open") && log.contains("open=7"), "{log}");
        assert!(
            log.contains("ERROR") && log.contains("payments=7") && log.contains("oldest_s=90000"),
            "{log}"
        );
        assert!(
            log.contains(&open.escalated[4].to_string())
                && !log.contains(&open.escalated[5].to_string())
        );
    }

    #[tokio::test]
    async fn phones_of_an_engine_that_is_given_up_are_disconnected() {
        let (air, link) = EmulatedAir::new();
        let (_port, till) = TillPort::new();
        let mut frontend = Frontend::new(link, till);
        let (mut silent, mut gone) =
            (air.connect(517).await.unwrap(), air.connect(517).await.unwrap());
        gone.disconnect().await;
        while frontend.phones.len() != 1 {
            let event = frontend.link.events.recv().await.unwrap();
            frontend.handle_link_event(event);
        }
        let sent_away = tokio::time::timeout(Duration::from_secs(60), silent.next_value());
        frontend.journal_failed("the disk is full".into()).await;
        let ended = frontend
            .serve_without_engine(sent_away)
            .await
            .unwrap()
            .expect("it is sent away")
            .unwrap_err();
        assert!(matches!(ended, crate::link::PhoneLinkError::Lost(_)), "{ended}");
    }

    /// An engine with one payment that is being captured, for years.
    fn engine() -> Terminal {
        let (identity, open) =
            (fixtures::identity(), vec![fixtures::payment(1, PaymentState::Capturing)]);
        Terminal::new(identity, Settings::default(), [7; 32], open, Now::default()).0
    }

    #[tokio::test(start_paused = true)]
    async fn without_an_engine_the_figures_of_the_last_one_stand_and_are_reported() {
        let (_air, link) = EmulatedAir::new();
        let (port, till) = TillPort::new();
        let mut frontend = Frontend::new(link, till);
        let log = Log::default();
        let writer = log.clone();
        let subscriber =
            tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
        let _guard = tracing::subscriber::set_default(subscriber);
        frontend
            .serve_without_engine(tokio::time::sleep(Duration::from_secs(2 * REPORT_INTERVAL_S)))
            .await
            .unwrap();
        assert!(
            frontend.reported_at.is_none(),
            "nothing is known yet, so the first engine reports at once"
        );

        frontend.engine_stopped(engine());
        frontend.journal_failed("the disk is full".into()).await;
        let asking = async {
            tokio::time::sleep(Duration::from_secs(2 * REPORT_INTERVAL_S + 5)).await;
            let status = port.call(|answer| TillCall::Status { answer }).await.unwrap().unwrap();
            let metrics = port.call(|answer| TillCall::Metrics { answer }).await.unwrap().unwrap();
            (status, metrics)
        };
        let (status, metrics) = frontend.serve_without_engine(asking).await.unwrap();
        assert_eq!((status.open_payments, status.escalated.len()), (1, 1));
        assert!(
            status.oldest_open_s > 1_000_000_000,
            "by the wall clock: {}",
            status.oldest_open_s
        );
        assert!(metrics.contains("florin_payments_escalated 1\n"), "{metrics}");
        let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        assert_eq!(log.matches("payments are open for too long").count(), 3, "{log}");

        frontend.engine_started();
        assert!(frontend.last_known().is_none(), "the new engine knows better");
    }

    #[tokio::test]
    async fn figures_show_whether_phones_can_find_it_what_was_done_for_that_and_who_is_there() {
        let mut frontend = frontend();
        let reason = || "no adapter".to_owned();
        let action = |action| LinkEvent::Recovering { action, reason: reason() };
        let shows = |frontend: &Frontend, lines: &[&str]| {
            let text = frontend.metrics_text(&OpenPayments::default());
            for line in lines {
                assert!(text.lines().any(|found| found == *line), "{line} is not in\n{text}");
            }
        };
        for phone in [1, 2] {
            frontend
                .handle_link_event(LinkEvent::Connected { phone: PhoneId(phone), address: None });
        }
        frontend.handle_link_event(LinkEvent::Up);
        shows(
            &frontend,
            &[
                "florin_bluetooth_up 1",
                "florin_phones_connected 2",
                "florin_phone_connections_total 2",
            ],
        );
        frontend.handle_link_event(LinkEvent::Disconnected { phone: PhoneId(1) });
        // A second word about the same does not count.
        frontend.handle_link_event(LinkEvent::Disconnected { phone: PhoneId(1) });
        frontend.handle_link_event(LinkEvent::Down { reason: reason() });
        for done in
            [RecoveryAction::Reregister, RecoveryAction::PowerCycle, RecoveryAction::PowerCycle]
        {
            frontend.handle_link_event(action(done));
        }
        shows(
            &frontend,
            &[
                "florin_bluetooth_up 0",
                "florin_bluetooth_recovery_actions_total{action=\"reregister\"} 1",
                "florin_bluetooth_recovery_actions_total{action=\"power_cycle\"} 2",
                "florin_phones_connected 1",
                "florin_phone_connections_total 2",
            ],
        );
    }

    #[tokio::test]
    async fn a_journal_that_is_gone_is_the_reason_before_any_other() {
        let mut frontend = frontend();
        assert_eq!(frontend.out_of_service().unwrap(), "the journal is being opened");
        frontend.set_journal_fault(None);
        assert_eq!(frontend.out_of_service().unwrap(), "Bluetooth is starting");
        frontend.handle_link_event(LinkEvent::Up);
        assert_eq!(frontend.out_of_service(), None);
        frontend.handle_link_event(LinkEvent::Down { reason: "no adapter".into() });
        frontend.set_journal_fault(Some("the disk is full".into()));
        let status = frontend.status(&OpenPayments::default());
        assert_eq!(status.out_of_service.as_deref(), Some("the disk is full"));
        frontend.set_journal_fault(None);
        assert_eq!(frontend.out_of_service().unwrap(), "no adapter");
    }
}
