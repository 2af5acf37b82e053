//! What phones and till see of the terminal, whichever engine runs behind it: the link, the till's
//! calls, and whether payments can be taken at all.
//!
//! An engine is made from the journal and is given up with it; this stays. It decides nothing about
//! a payment. What is known of open payments while there is no engine is what the last one knew.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use sd_notify::NotifyState;

use super::clock::wall_clock;
use super::enrolment::Validity;
use super::metrics::Metrics;
use super::systemd::tell_systemd;
use crate::link::{LinkCommand, LinkEvent, TerminalLink};
use crate::terminal::{AdvertisingPace, Input, OpenPayments, PhoneId, Terminal, TillRefusal};
use crate::till::{TillCall, TillDriverEnd, TillStatus};

/// How often this looks around, so that nothing that comes with time goes unseen for long, in
/// seconds.
const CHECK_INTERVAL_S: u64 = 1;
/// How often open payments are reported to the log while there are any that should not be open for
/// long, in seconds.
const REPORT_INTERVAL_S: u64 = 600;
/// How many payments a report names.
const NAMED_MAX: usize = 5;

/// The link and the till, and what is wrong at the moment.
#[derive(Debug)]
pub struct Front {
    pub(super) link: TerminalLink,
    pub(super) till: TillDriverEnd,
    pub(super) metrics: Metrics,
    link_down: Option<String>,
    journal_down: Option<String>,
    /// When the certificates are good; none where nothing was enrolled, as in the demo.
    validity: Option<Validity>,
    /// They are not, by the clock: it may be the clock that is wrong.
    certificates_down: Option<String>,
    /// How eagerly the engine would advertise.
    pace: AdvertisingPace,
    /// How the link was told to.
    told_pace: AdvertisingPace,
    /// The engine that was given up last, for its figures: payments grow old without it.
    given_up: Option<Terminal>,
    checked_at: Option<Instant>,
    reported_at: Option<Instant>,
    /// Who is connected: an engine that is given up leaves them behind.
    phones: BTreeSet<PhoneId>,
}

impl Front {
    /// Nothing is known to work yet.
    pub fn new(link: TerminalLink, till: TillDriverEnd) -> Self {
        Self {
            link,
            till,
            metrics: Metrics::new(),
            link_down: Some("Bluetooth is starting".into()),
            journal_down: Some("the journal is being opened".into()),
            validity: None,
            certificates_down: None,
            pace: AdvertisingPace::Slow,
            told_pace: AdvertisingPace::Slow,
            given_up: None,
            checked_at: None,
            reported_at: None,
            phones: BTreeSet::new(),
        }
    }

    /// Why no payment can be taken now; none while it can.
    pub(super) fn out_of_service(&self) -> Option<&String> {
        self.journal_down.as_ref().or(self.certificates_down.as_ref()).or(self.link_down.as_ref())
    }

    /// From now on, takes no payments while these are not good by the wall clock. That may jump,
    /// and be years off at a start: it is looked at again and again.
    pub(super) fn judge(&mut self, validity: Validity) {
        self.validity = Some(validity);
        self.update_certificate_status();
    }

    fn update_certificate_status(&mut self) {
        let Some(validity) = &self.validity else { return };
        let down = validity.check(wall_clock()).err().map(|fault| fault.to_string());
        match (&self.certificates_down, &down) {
            // The reason says what the time is.
            (None, Some(reason)) => {
                tracing::error!(
                    reason,
                    "out of service; what is open is settled as far as the institution takes it"
                );
            }
            (Some(_), None) => tracing::info!("the certificates are good by the clock"),
            (Some(_), Some(_)) | (None, None) => {}
        }
        self.certificates_down = down;
    }

    /// The journal can be used from now on, or cannot, and why.
    pub(super) fn journal_is(&mut self, down: Option<String>) {
        self.metrics.journal_up(down.is_none());
        self.journal_down = down;
    }

    /// Takes what the link reports; what of it concerns an engine is returned.
    pub(super) fn link_happened(&mut self, event: LinkEvent) -> Option<Input> {
        match event {
            LinkEvent::Connected { phone } => {
                self.phones.insert(phone);
                self.metrics.phone_seen();
                self.metrics.phones(self.phones.len());
                Some(Input::PhoneConnected(phone))
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
                if self.link_down.take().is_some() {
                    tracing::info!("phones can find this terminal");
                }
                None
            }
            LinkEvent::Down { reason } => {
                self.metrics.bluetooth_up(false);
                tracing::warn!(reason, "phones cannot find this terminal");
                self.link_down = Some(reason);
                None
            }
            LinkEvent::Recovering { action, reason } => {
                self.metrics.recovery_action(action.name());
                tracing::warn!(action = action.name(), reason, "so that phones find this terminal");
                None
            }
        }
    }

    /// Sends a value. Never waits: a link that is behind loses it, and the phone asks again or is
    /// timed out.
    pub(super) fn notify(&self, phone: PhoneId, value: Vec<u8>) {
        if self.link.commands.try_send(LinkCommand::Notify { phone, value }).is_err() {
            tracing::warn!("the Bluetooth link is behind; a value for a phone was dropped");
        }
    }

    /// Ends a connection. Unlike a value, this has no second try: it waits for room.
    pub(super) async fn disconnect(&self, phone: PhoneId) {
        let _ = self.link.commands.send(LinkCommand::Disconnect { phone }).await;
    }

    /// How the engine wants to be found. Out of service, that waits.
    pub(super) async fn advertise(&mut self, pace: AdvertisingPace) {
        self.pace = pace;
        self.tell_pace().await;
    }

    /// Phones see in the terminal's name that nobody can pay, whatever the engine wants.
    async fn tell_pace(&mut self) {
        let pace = if self.refuses_phones() { AdvertisingPace::OutOfService } else { self.pace };
        if pace != self.told_pace {
            self.told_pace = pace;
            let _ = self.link.commands.send(LinkCommand::Advertise(pace)).await;
        }
    }

    fn refuses_phones(&self) -> bool {
        self.journal_down.is_some() || self.certificates_down.is_some()
    }

    /// When to [`Front::look`] again.
    pub(super) fn look_at(&self) -> Instant {
        self.checked_at
            .map_or_else(Instant::now, |looked| looked + Duration::from_secs(CHECK_INTERVAL_S))
    }

    /// Sees to what comes with time alone. Whoever runs calls it at each step, so it is also what
    /// systemd is told by that this lives. Nobody who calls it ever waits for the disk: a disk
    /// that hangs is no reason to be started again.
    pub(super) async fn look(&mut self) {
        if self.look_at() > Instant::now() {
            return;
        }
        self.checked_at = Some(Instant::now());
        tell_systemd(&[NotifyState::Watchdog]);
        self.update_certificate_status();
        self.tell_pace().await;
    }

    /// An engine runs.
    pub(super) fn engine_runs(&mut self) {
        self.given_up = None;
        self.journal_is(None);
    }

    /// An engine ended with its journal.
    pub(super) fn engine_given_up(&mut self, terminal: Terminal) {
        self.given_up = Some(terminal);
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

    /// Has it been [`REPORT_INTERVAL_S`] since the last report?
    pub(super) fn is_report_due(&self) -> bool {
        let interval = Duration::from_secs(REPORT_INTERVAL_S);
        self.reported_at.is_none_or(|reported| reported.elapsed() >= interval)
    }

    /// Tells the operator's log of the open payments, and of those that should not be open any
    /// more.
    pub(super) fn report(&mut self, open: &OpenPayments) {
        let unsettled: usize = open
            .by_state
            .iter()
            .filter(|(state, _)| **state != "offered")
            .map(|(_, count)| count)
            .sum();
        self.reported_at = Some(Instant::now());
        if unsettled > 0 {
            tracing::info!(open = unsettled, oldest_s = open.oldest_s, by_state = ?open.by_state, "payments are open");
        }
        if let Some(oldest) = open.escalated.first() {
            let named: Vec<String> =
                open.escalated.iter().take(NAMED_MAX).map(ToString::to_string).collect();
            tracing::error!(
                payments = open.escalated.len(),
                oldest_s = open.oldest_s,
                %oldest,
                named = named.join(", "),
                "payments are open for too long: see whether the institution is reached and knows this terminal \
                 (`florin doctor`, `florin payments --open`); the terminal goes on trying"
            );
        }
    }

    /// The engine was given up with its journal, or there was no journal to make one from.
    pub(super) async fn journal_failed(&mut self, reason: String) {
        self.journal_is(Some(reason));
        self.tell_pace().await;
        // The next engine would not know them, and so never send away one that says nothing.
        for phone in &self.phones {
            self.disconnect(*phone).await;
        }
    }

    /// Answers the till and keeps phones away until `until` is ready: for the time in which there
    /// is no engine.
    pub(super) async fn stand_in<T>(
        &mut self,
        until: impl Future<Output = T>,
    ) -> Result<T, LinkStopped> {
        tokio::pin!(until);
        loop {
            let look_at = self.look_at();
            tokio::select! {
                done = &mut until => return Ok(done),
                event = self.link.events.recv() => {
                    let input = self.link_happened(event.ok_or(LinkStopped)?);
                    if let Some(Input::PhoneWrote { phone, .. } | Input::PhoneConnected(phone)) = input {
                        self.disconnect(phone).await;
                    }
                }
                Some(call) = self.till.calls.recv() => self.refuse(call, &self.last_known().unwrap_or_default()),
                () = tokio::time::sleep_until(look_at) => {
                    self.look().await;
                    if self.is_report_due() && let Some(open) = self.last_known() {
                        self.report(&open);
                    }
                }
            }
        }
    }

    /// How the payments stand that were open when the last engine was given up; none if there was
    /// none.
    fn last_known(&self) -> Option<OpenPayments> {
        self.given_up.as_ref().map(|terminal| terminal.open_payments(wall_clock()))
    }

    /// Answers a call while the journal cannot be asked.
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

    fn front() -> Front {
        let (_, link) = EmulatedAir::new();
        let (_, till) = TillPort::new();
        Front::new(link, till)
    }

    #[tokio::test(start_paused = true)]
    async fn open_payments_are_reported_at_a_stated_cadence_and_the_old_ones_by_name() {
        let mut front = front();
        let mut open = OpenPayments { oldest_s: 40, ..OpenPayments::default() };
        open.by_state.insert("offered", 1);
        assert!(front.is_report_due());
        assert_eq!(
            logged(|| front.report(&open)),
            "",
            "an offer that waits for a phone is no news"
        );
        assert!(!front.is_report_due());
        tokio::time::advance(Duration::from_secs(REPORT_INTERVAL_S - 1)).await;
        assert!(!front.is_report_due());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(front.is_report_due());
        open.by_state.insert("reversing", 7);
        open.oldest_s = 90_000;
        open.escalated = (1..=7).map(|number| TransactionId::from_random([number; 16])).collect();
        let log = logged(|| front.report(&open));
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
    async fn phones_of_an_engine_that_is_given_up_are_sent_away() {
        let (air, link) = EmulatedAir::new();
        let (_port, till) = TillPort::new();
        let mut front = Front::new(link, till);
        let (mut silent, mut gone) =
            (air.connect(517).await.unwrap(), air.connect(517).await.unwrap());
        gone.disconnect().await;
        while front.phones.len() != 1 {
            let event = front.link.events.recv().await.unwrap();
            front.link_happened(event);
        }
        let sent_away = tokio::time::timeout(Duration::from_secs(60), silent.next_value());
        front.journal_failed("the disk is full".into()).await;
        let ended = front.stand_in(sent_away).await.unwrap().expect("it is sent away").unwrap_err();
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
        let mut front = Front::new(link, till);
        let log = Log::default();
        let writer = log.clone();
        let subscriber =
            tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
        let _guard = tracing::subscriber::set_default(subscriber);
        front
            .stand_in(tokio::time::sleep(Duration::from_secs(2 * REPORT_INTERVAL_S)))
            .await
            .unwrap();
        assert!(
            front.reported_at.is_none(),
            "nothing is known yet, so the first engine reports at once"
        );

        front.engine_given_up(engine());
        front.journal_failed("the disk is full".into()).await;
        let asking = async {
            tokio::time::sleep(Duration::from_secs(2 * REPORT_INTERVAL_S + 5)).await;
            let status = port.call(|answer| TillCall::Status { answer }).await.unwrap().unwrap();
            let metrics = port.call(|answer| TillCall::Metrics { answer }).await.unwrap().unwrap();
            (status, metrics)
        };
        let (status, metrics) = front.stand_in(asking).await.unwrap();
        assert_eq!((status.open_payments, status.escalated.len()), (1, 1));
        assert!(
            status.oldest_open_s > 1_000_000_000,
            "by the wall clock: {}",
            status.oldest_open_s
        );
        assert!(metrics.contains("florin_payments_escalated 1\n"), "{metrics}");
        let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        assert_eq!(log.matches("payments are open for too long").count(), 3, "{log}");

        front.engine_runs();
        assert!(front.last_known().is_none(), "the new engine knows better");
    }

    #[tokio::test]
    async fn figures_show_whether_phones_can_find_it_what_was_done_for_that_and_who_is_there() {
        let mut front = front();
        let reason = || "no adapter".to_owned();
        let action = |action| LinkEvent::Recovering { action, reason: reason() };
        let shows = |front: &Front, lines: &[&str]| {
            let text = front.metrics_text(&OpenPayments::default());
            for line in lines {
                assert!(text.lines().any(|found| found == *line), "{line} is not in\n{text}");
            }
        };
        for phone in [1, 2] {
            front.link_happened(LinkEvent::Connected { phone: PhoneId(phone) });
        }
        front.link_happened(LinkEvent::Up);
        shows(
            &front,
            &[
                "florin_bluetooth_up 1",
                "florin_phones_connected 2",
                "florin_phone_connections_total 2",
            ],
        );
        front.link_happened(LinkEvent::Disconnected { phone: PhoneId(1) });
        // A second word about the same does not count.
        front.link_happened(LinkEvent::Disconnected { phone: PhoneId(1) });
        front.link_happened(LinkEvent::Down { reason: reason() });
        for done in
            [RecoveryAction::Reregister, RecoveryAction::PowerCycle, RecoveryAction::PowerCycle]
        {
            front.link_happened(action(done));
        }
        shows(
            &front,
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
        let mut front = front();
        assert_eq!(front.out_of_service().unwrap(), "the journal is being opened");
        front.journal_is(None);
        assert_eq!(front.out_of_service().unwrap(), "Bluetooth is starting");
        front.link_happened(LinkEvent::Up);
        assert_eq!(front.out_of_service(), None);
        front.link_happened(LinkEvent::Down { reason: "no adapter".into() });
        front.journal_is(Some("the disk is full".into()));
        let status = front.status(&OpenPayments::default());
        assert_eq!(status.out_of_service.as_deref(), Some("the disk is full"));
        front.journal_is(None);
        assert_eq!(front.out_of_service().unwrap(), "no adapter");
    }
}
