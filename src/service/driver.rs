//! Runs the engine: gathers inputs from link, till, journal, institution and clock, and does what
//! the engine says.
//!
//! It is one task that takes one step at a time, and decides nothing about a payment. The till
//! reads what was published, which is what the journal has confirmed, never the engine's own state.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::clock::{now, wall_clock};
use super::frontend::{Frontend, LinkStopped};
use crate::domain::TransactionId;
use crate::journal::{Journal, JournalAnswer, JournalError, JournalRequest, JournalWriter, Search};
use crate::link::LinkEvent;
use crate::relay::Relay;
use crate::terminal::{
    AdvertisingPace, Identity, Input, InstitutionAnswer, InstitutionRequest, Output, Payment,
    PaymentView, PhoneId, PhoneQuestion, Settings, Terminal, TillCallId, TillRefusal, TillRequest,
};
use crate::till::{Answer, PaymentList, TillCall};

/// How long the journal may take to answer, in seconds. An SD card that reorganises itself takes a
/// second or two.
const JOURNAL_TIMEOUT_S: u64 = 10;
/// How much longer than its time-out the driver waits for a relay, which should keep it itself.
const RELAY_GRACE: Duration = Duration::from_millis(500);

/// Why the driver stopped.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// Without a journal no payment is taken. Once it can be used again, a new engine continues
    /// from what it holds.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The journal's thread could not be started.
    #[error("the journal's thread cannot be started: {0}")]
    Thread(std::io::Error),
    /// The journal's thread ended and gave no reason, which is a bug.
    #[error("the journal's thread has stopped; the log says why")]
    JournalStopped,
    /// The link ended, which it does only with its process.
    #[error("the Bluetooth link has stopped; the log says why")]
    LinkStopped,
}

/// For whom the journal was searched.
#[derive(Debug)]
enum Searcher {
    Till { call: TillCallId, request: TillRequest },
    TillRead { transaction_id: TransactionId, answer: Answer<PaymentView> },
    TillList { open_only: bool, answer: Answer<PaymentList> },
    Phone { phone: PhoneId, question: PhoneQuestion },
}

/// The engine among its adapters.
#[derive(Debug)]
pub struct Driver<'frontend, R> {
    terminal: Terminal,
    start: Instant,
    frontend: &'frontend mut Frontend,
    journal: JournalWriter<Searcher>,
    relay: Arc<R>,
    asks: JoinSet<(TransactionId, InstitutionAnswer)>,
    till_calls: BTreeMap<TillCallId, Answer<PaymentView>>,
    last_till_call: u64,
    /// The journal has not answered for [`JOURNAL_TIMEOUT_S`].
    journal_hangs: bool,
    /// The newest published view of each open payment, by the id that the till knows.
    published: BTreeMap<TransactionId, PaymentView>,
}

impl<'frontend, R: Relay + 'static> Driver<'frontend, R> {
    /// Reads the journal and continues what is open in it. `seed` is 32 fresh random octets.
    ///
    /// # Errors
    /// [`DriverError`] if the journal cannot be read.
    pub async fn start(
        identity: Identity,
        settings: Settings,
        seed: [u8; 32],
        mut journal: impl Journal + 'static,
        relay: Arc<R>,
        frontend: &'frontend mut Frontend,
    ) -> Result<Self, DriverError> {
        let open = journal.payments(true, usize::MAX)?;
        let start = Instant::now();
        let (terminal, outputs) = Terminal::new(identity, settings, seed, open, now(start));
        let mut driver = Self {
            terminal,
            start,
            frontend,
            journal: JournalWriter::start(journal).map_err(DriverError::Thread)?,
            relay,
            asks: JoinSet::new(),
            till_calls: BTreeMap::new(),
            last_till_call: 0,
            journal_hangs: false,
            published: BTreeMap::new(),
        };
        driver.frontend.engine_started();
        driver.perform(outputs).await;
        Ok(driver)
    }

    /// Runs until `stop` is ready, then finishes what the journal was asked.
    ///
    /// # Errors
    /// [`DriverError`] if it cannot go on. Nothing is lost: the journal has every step whose
    /// effects were seen.
    pub async fn run(mut self, stop: impl Future<Output = ()>) -> Result<(), DriverError> {
        if let Err(error) = self.run_until(stop).await {
            self.frontend.engine_stopped(self.terminal);
            return Err(error);
        }
        self.journal.finish().await?;
        Ok(())
    }

    async fn run_until(&mut self, stop: impl Future<Output = ()>) -> Result<(), DriverError> {
        tokio::pin!(stop);
        loop {
            self.check_journal_now();
            self.frontend.check().await;
            if self.frontend.is_report_due() {
                self.frontend.report(&self.terminal.open_payments(wall_clock()));
            }
            let deadline = self.terminal.next_deadline();
            // Never later than the next check, so that a missed deadline cannot last.
            let next_check_at = self.frontend.next_check_at();
            let wake_at = deadline.map_or(next_check_at, |deadline| {
                next_check_at.min(self.start + Duration::from_millis(deadline.moment.milliseconds))
            });
            tokio::select! {
                () = &mut stop => return Ok(()),
                event = self.frontend.link.events.recv() => {
                    self.handle_link_event(event.ok_or(LinkStopped)?).await;
                }
                Some(call) = self.frontend.till.calls.recv() => {
                    self.handle_till_call(call).await;
                }
                answer = self.journal.next_answer() => {
                    self.handle_journal(answer.ok_or(DriverError::JournalStopped)?).await?;
                }
                Some(answered) = self.asks.join_next() => {
                    // A relay that panicked is a bug; the engine's own time-out ends its request.
                    if let Ok((transaction_id, answer)) = answered {
                        self.frontend.metrics.institution_answered(&answer);
                        self.step(Input::Institution { transaction_id, answer }).await;
                    }
                }
                () = tokio::time::sleep_until(wake_at) => {
                    let moment = now(self.start).moment;
                    if let Some(due) = deadline.filter(|deadline| deadline.moment <= moment) {
                        tracing::debug!("woke up: {}", due.purpose);
                    }
                    self.step(Input::Tick).await;
                }
            }
        }
    }

    async fn handle_link_event(&mut self, event: LinkEvent) {
        match self.frontend.handle_link_event(event) {
            Some(Input::PhoneConnected { phone, .. } | Input::PhoneWrote { phone, .. })
                if self.journal_hangs =>
            {
                self.frontend.disconnect(phone).await;
            }
            Some(input) => self.step(input).await,
            None => {}
        }
    }

    /// Takes the terminal out of service while the disk hangs. What is under way waits, and phones
    /// and till are turned away, so that requests to the journal do not pile up. The engine stays:
    /// the journal's thread may yet write what it was asked, and a second engine would not know of
    /// that.
    fn check_journal_now(&mut self) {
        let time_limit = Duration::from_secs(JOURNAL_TIMEOUT_S);
        let hangs = self.journal.waits_since().is_some_and(|since| since.elapsed() >= time_limit);
        if hangs == self.journal_hangs {
            return;
        }
        self.journal_hangs = hangs;
        let reason = hangs.then(|| {
            format!(
                "the journal cannot be used: the disk has not answered for {JOURNAL_TIMEOUT_S} s; \
                 see the kernel's log (`dmesg`), and have the card or disk replaced soon. The \
                 terminal continues by itself when the disk answers"
            )
        });
        match &reason {
            Some(reason) => tracing::error!(reason, "out of service"),
            None => tracing::info!("the disk answers again"),
        }
        self.frontend.set_journal_fault(reason);
    }

    async fn step(&mut self, input: Input) {
        let outputs = self.terminal.handle(now(self.start), input);
        self.perform(outputs).await;
    }

    async fn perform(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Append { record, payment } => {
                    self.journal.ask(JournalRequest::Append { record, payment });
                }
                Output::Notify { phone, value } => self.frontend.notify(phone, value),
                Output::Disconnect { phone, reason } => {
                    tracing::debug!(?phone, reason, "disconnecting a phone");
                    self.frontend.disconnect(phone).await;
                }
                Output::Load { phone, question } => {
                    let search = Search::TransactionId(question.transaction_id);
                    let context = Searcher::Phone { phone, question };
                    self.journal.ask(JournalRequest::Find { search, context });
                }
                Output::Request { request, timeout_ms } => {
                    self.ask_institution(request, timeout_ms);
                }
                Output::AnswerTill { call, answer } => {
                    if let Some(waiting) = self.till_calls.remove(&call) {
                        let _ = waiting.send(answer);
                    }
                }
                Output::Publish(view) => {
                    if view.state.is_final() {
                        self.frontend.metrics.payment_ended(view.state.name());
                        self.published.remove(&view.transaction_id);
                    } else {
                        self.published.insert(view.transaction_id, view.clone());
                    }
                    let _ = self.frontend.till.updates.send(view);
                }
                Output::Advertise(pace) => {
                    self.frontend.advertise(pace).await;
                    if pace == AdvertisingPace::Fast {
                        let relay = Arc::clone(&self.relay);
                        tokio::spawn(async move { relay.prepare().await });
                    }
                }
            }
        }
    }

    fn ask_institution(&mut self, request: InstitutionRequest, timeout_ms: u64) {
        let relay = Arc::clone(&self.relay);
        let transaction_id = request.transaction_id();
        let name = request.name();
        let timeout = Duration::from_millis(timeout_ms);
        self.asks.spawn(async move {
            let asked =
                tokio::time::timeout(timeout + RELAY_GRACE, relay.ask(request, timeout_ms)).await;
            let answer = asked.unwrap_or_else(|_| InstitutionAnswer::Unanswered {
                detail: format!("no answer to {name} within {timeout_ms} ms"),
            });
            (transaction_id, answer)
        });
    }

    async fn handle_till_call(&mut self, call: TillCall) {
        if self.journal_hangs {
            self.frontend.refuse(call, &self.terminal.open_payments(wall_clock()));
            return;
        }
        match call {
            TillCall::Request { request, answer } => {
                self.handle_till_request(request, answer).await;
            }
            TillCall::Read { transaction_id, answer } => {
                if let Some(view) = self.published.get(&transaction_id) {
                    let _ = answer.send(Ok(view.clone()));
                    return;
                }
                let search = Search::Sale(transaction_id);
                let context = Searcher::TillRead { transaction_id, answer };
                self.journal.ask(JournalRequest::Find { search, context });
            }
            TillCall::List { open_only, limit, answer } => {
                let search = Search::List { open_only, limit };
                let context = Searcher::TillList { open_only, answer };
                self.journal.ask(JournalRequest::Find { search, context });
            }
            TillCall::Status { answer } => {
                let _ = answer
                    .send(Ok(self.frontend.status(&self.terminal.open_payments(wall_clock()))));
            }
            TillCall::Metrics { answer } => {
                let _ = answer.send(Ok(self
                    .frontend
                    .metrics_text(&self.terminal.open_payments(wall_clock()))));
            }
        }
    }

    async fn handle_till_request(&mut self, request: TillRequest, answer: Answer<PaymentView>) {
        let search = match &request {
            TillRequest::Create(content) => {
                if let Some(reason) = self.frontend.out_of_service() {
                    let _ = answer.send(Err(TillRefusal::OutOfService(reason.clone())));
                    return;
                }
                content.idempotency_key.as_ref().map(|key| Search::IdempotencyKey(key.to_string()))
            }
            TillRequest::Complete { transaction_id, .. }
            | TillRequest::Cancel { transaction_id } => Some(Search::Sale(*transaction_id)),
        };
        self.last_till_call += 1;
        let call = TillCallId(self.last_till_call);
        self.till_calls.insert(call, answer);
        match search {
            Some(search) => {
                let context = Searcher::Till { call, request };
                self.journal.ask(JournalRequest::Find { search, context });
            }
            None => self.step(Input::Till { call, request, stored: None }).await,
        }
    }

    async fn handle_journal(&mut self, answer: JournalAnswer<Searcher>) -> Result<(), DriverError> {
        match answer {
            JournalAnswer::Journalled(record) => self.step(Input::Journalled(record)).await,
            JournalAnswer::Found { payments, context } => {
                let mut views = payments.iter().map(|payment| self.view(payment));
                match context {
                    Searcher::Till { call, request } => {
                        let stored = payments.into_iter().next();
                        self.step(Input::Till { call, request, stored }).await;
                    }
                    Searcher::TillRead { transaction_id, answer } => {
                        let _ =
                            answer.send(views.next().ok_or(TillRefusal::Unknown(transaction_id)));
                    }
                    Searcher::TillList { open_only, answer } => {
                        let views: Vec<PaymentView> = views.collect();
                        let more = open_only
                            .then(|| self.terminal.open_count().saturating_sub(views.len()));
                        let _ = answer.send(Ok(PaymentList { views, more }));
                    }
                    Searcher::Phone { phone, question } => {
                        let payment = payments.into_iter().next();
                        self.step(Input::Loaded { phone, question, payment }).await;
                    }
                }
            }
            JournalAnswer::Failed(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// A payment of the journal as the till sees it. The view that was published last is more
    /// recent than the journal.
    fn view(&self, payment: &Payment) -> PaymentView {
        self.published.get(&payment.sale_id).cloned().unwrap_or_else(|| PaymentView::of(payment))
    }
}

impl From<LinkStopped> for DriverError {
    fn from(LinkStopped: LinkStopped) -> Self {
        Self::LinkStopped
    }
}
