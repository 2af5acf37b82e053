//! Runs a session over a link: hands values, time, decisions and the store's answers to it, and
//! does what it says. It decides nothing itself.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::payment_store::{PaymentStore, StoreError};
use super::{
    Card, Decision, Input, Notice, OfferView, Output, PaymentRecord, Refusal, Session, SessionEnd,
    SessionSeed, SessionSettings,
};
use crate::domain::Moment;
use crate::link::PhoneLink;

/// How long a write may take, in milliseconds, before the link counts as lost. ATT itself allows 30
/// s, which is longer than a person waits (Core Specification 5.4, Vol 3 Part F, 3.3.3).
const WRITE_MS_MAX: u64 = 5_000;
/// How long the terminal may be silent before the phone subscribes again, in milliseconds, in case
/// its radio stack or the terminal's has lost the subscription: two signs of life
/// (docs/protocol.md, section 4).
const QUIET_MS_MAX: u64 = 4_000;

/// The person who is told what happens, and decides.
pub trait Cardholder: Send {
    /// Something happened. For a screen or a log; must not block.
    fn tell(&mut self, notice: &Notice);

    /// Asks whether to pay. The answer may take as long as the offer is valid; the future is
    /// dropped if the offer ends before.
    fn ask(&mut self, offer: &OfferView) -> Pin<Box<dyn Future<Output = Decision> + Send>>;
}

/// How to run a session.
#[derive(Debug, Clone)]
pub struct DriverSettings {
    /// For the session. The driver sets the length of a value to the link's.
    pub session: SessionSettings,
    /// How long a terminal without room is tried again, in milliseconds. It is tried three times in
    /// any case.
    pub busy_wait_ms: u64,
    /// For tests: disconnect as soon as the command is sent, without waiting for the result.
    pub vanish_after_command: bool,
}

/// What became of a session.
#[derive(Debug)]
pub struct Reported {
    pub end: SessionEnd,
    /// The offer that the cardholder was asked about, if any.
    pub offer: Option<OfferView>,
    /// Why the store failed, if it did.
    pub store_error: Option<StoreError>,
}

/// Runs one session over a connected and subscribed link, and disconnects it.
///
/// With `record` it asks for the result of that earlier command; without, it pays. The store's
/// calls block the calling task for a few milliseconds each: a wallet does nothing else meanwhile.
///
/// Must be called within a tokio runtime with its time driver. Dropping the future has the effect
/// of a lost link.
pub async fn drive<L: PhoneLink>(
    mut link: L,
    card: Arc<Card>,
    record: Option<PaymentRecord>,
    settings: DriverSettings,
    seed: SessionSeed,
    store: &mut dyn PaymentStore,
    cardholder: &mut dyn Cardholder,
) -> Reported {
    let origin = Instant::now();
    let mut session_settings = settings.session;
    session_settings.value_octets_max = link.value_octets_max();
    let started = match record {
        None => Session::pay(card, session_settings, seed, now(origin)),
        Some(record) => Ok(Session::ask(card, record, session_settings, seed, now(origin))),
    };
    let (session, outputs) = match started {
        Ok(started) => started,
        Err(refusal) => {
            link.disconnect().await;
            return refused(refusal);
        }
    };
    let mut run = RunningSession {
        session,
        origin,
        store,
        cardholder,
        question: None,
        vanish_after_command: settings.vanish_after_command,
        reported: Reported {
            end: SessionEnd::LinkFailed(super::LinkFault::Lost),
            offer: None,
            store_error: None,
        },
        is_over: false,
    };
    run.perform(&mut link, outputs).await;
    let quiet = Duration::from_millis(QUIET_MS_MAX);
    let mut quiet_until = Instant::now() + quiet;
    while !run.is_over {
        let deadline = run
            .session
            .deadline()
            .map(|moment| origin + Duration::from_millis(moment.milliseconds));
        let input = tokio::select! {
            value = link.next_value() => {
                quiet_until = Instant::now() + quiet;
                value.map_or(Input::LinkLost, Input::Value)
            }
            decision = answer(&mut run.question) => {
                run.question = None;
                Input::Decided(decision)
            }
            () = sleep_until(deadline) => Input::Tick,
            () = tokio::time::sleep_until(quiet_until) => {
                quiet_until = Instant::now() + quiet;
                if link.subscribe_again().await.is_ok() { continue } else { Input::LinkLost }
            }
        };
        run.handle(&mut link, input).await;
    }
    link.disconnect().await;
    run.reported
}

fn now(origin: Instant) -> Moment {
    Moment { milliseconds: u64::try_from(origin.elapsed().as_millis()).unwrap_or(u64::MAX) }
}

fn refused(refusal: Refusal) -> Reported {
    Reported { end: SessionEnd::Refused(refusal), offer: None, store_error: None }
}

type Question = Pin<Box<dyn Future<Output = Decision> + Send>>;

async fn answer(question: &mut Option<Question>) -> Decision {
    match question {
        Some(question) => question.await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

struct RunningSession<'environment> {
    session: Session,
    origin: Instant,
    store: &'environment mut dyn PaymentStore,
    cardholder: &'environment mut dyn Cardholder,
    question: Option<Question>,
    vanish_after_command: bool,
    reported: Reported,
    is_over: bool,
}

impl RunningSession<'_> {
    async fn handle<L: PhoneLink>(&mut self, link: &mut L, input: Input) {
        match self.session.handle(now(self.origin), input) {
            Ok(outputs) => self.perform(link, outputs).await,
            // The loop gives no input out of turn; if it did, nothing has changed.
            Err(refusal) => tracing::debug!(%refusal, "the session refused an input"),
        }
    }

    /// Does what the session says, in order. The result of each output goes back to the session
    /// before the next output.
    async fn perform<L: PhoneLink>(&mut self, link: &mut L, outputs: Vec<Output>) {
        let mut todo: std::collections::VecDeque<Output> = outputs.into();
        let mut is_link_lost = false;
        while let Some(output) = todo.pop_front() {
            let mut input = None;
            match output {
                Output::Write(value) if !is_link_lost => {
                    let write = link.write(value);
                    let written =
                        tokio::time::timeout(Duration::from_millis(WRITE_MS_MAX), write).await;
                    if !matches!(written, Ok(Ok(()))) {
                        is_link_lost = true;
                        input = Some(Input::LinkLost);
                    }
                }
                // The rest of a message whose beginning could not be written.
                Output::Write(_) => {}
                Output::Ask(offer) => {
                    self.question = Some(self.cardholder.ask(&offer));
                    self.reported.offer = Some(*offer);
                }
                Output::Reserve(transaction_id) => {
                    let reserved = self.store.reserve(&transaction_id);
                    input = Some(self.stored(reserved.map(Input::Reserved)));
                }
                Output::Store { record, is_new } => {
                    let stored = if is_new {
                        self.store.create(&record)
                    } else {
                        self.store.update(&record)
                    };
                    input = Some(self.stored(stored.map(|()| Input::Stored)));
                }
                Output::Tell(notice) => {
                    self.cardholder.tell(&notice);
                    if notice == Notice::CommandSent && self.vanish_after_command {
                        link.disconnect().await;
                        is_link_lost = true;
                        input = Some(Input::LinkLost);
                    }
                }
                Output::End(end) => {
                    // All writes before this were made.
                    self.reported.end = *end;
                    self.is_over = true;
                    return;
                }
                // `drive` disconnects when the session is over.
                Output::Disconnect => {}
            }
            let Some(input) = input else { continue };
            match self.session.handle(now(self.origin), input) {
                Ok(more) => {
                    for output in more.into_iter().rev() {
                        todo.push_front(output);
                    }
                }
                // A link that is lost after the end changes nothing.
                Err(refusal) => tracing::debug!(%refusal, "the session refused an input"),
            }
        }
    }

    fn stored(&mut self, result: Result<Input, StoreError>) -> Input {
        result.unwrap_or_else(|error| {
            self.reported.store_error = Some(error);
            Input::StoreFailed
        })
    }
}
