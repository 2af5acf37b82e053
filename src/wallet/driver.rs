//! Runs a session over a link: passes values, time, the person's word and the store's answers in,
//! and does what comes out. It decides nothing itself.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{
    Card, Decision, DirectoryError, Input, Notice, OfferView, Output, PaymentRecord, Refusal,
    Reservation, Session, SessionEnd, SessionSeed, SessionSettings,
};
use crate::domain::{Moment, TransactionId};
use crate::link::PhoneLink;

/// How long a write may take, in milliseconds, before the link counts as lost. ATT itself allows 30
/// s, which is longer than a person waits (Core Specification 5.4, Vol 3 Part F, 3.3.3).
const WRITE_MS_MAX: u64 = 5_000;
/// After how long without a word the phone subscribes again, in case its radio stack or the
/// terminal's has lost the subscription: two signs of life (docs/protocol.md, section 4).
const QUIET: Duration = Duration::from_millis(4_000);

/// Who sees what goes on, and decides.
pub trait Person: Send {
    /// Something happened. For a screen or a log; must not block.
    fn tell(&mut self, notice: &Notice);

    /// Asks whether to pay. The answer may take as long as the offer is good; it is dropped if the
    /// offer goes away.
    fn ask(&mut self, offer: &OfferView) -> Pin<Box<dyn Future<Output = Decision> + Send>>;
}

/// Why a store does not work.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The wallet's directory.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// Another store.
    #[error("{0}")]
    Other(String),
}

/// Where a card's counter and payments are kept. When a call returns, it is on the disk.
pub trait PaymentStore: Send {
    /// The record of this transaction, if there is one.
    ///
    /// # Errors
    /// [`StoreError`].
    fn record(&self, transaction_id: &TransactionId) -> Result<Option<PaymentRecord>, StoreError>;

    /// The record of this transaction, or else the next value of the counter.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is paid then.
    fn reserve(&mut self, transaction_id: &TransactionId) -> Result<Reservation, StoreError>;

    /// Stores a record of which there is none yet.
    ///
    /// # Errors
    /// [`StoreError`], also where there is one.
    fn create(&mut self, record: &PaymentRecord) -> Result<(), StoreError>;

    /// Stores a record instead of the one there is.
    ///
    /// # Errors
    /// [`StoreError`].
    fn update(&mut self, record: &PaymentRecord) -> Result<(), StoreError>;
}

/// How to run a session.
#[derive(Debug, Clone)]
pub struct DriverSettings {
    /// What the session gets; the link's own value length is put in.
    pub session: SessionSettings,
    /// For tests of what is around: disconnect as soon as the command is sent, and wait for
    /// nothing.
    pub vanish_after_command: bool,
}

/// What a session came to.
#[derive(Debug)]
pub struct Reported {
    /// How it ended.
    pub end: SessionEnd,
    /// What the person was asked, if it came to that.
    pub offer: Option<OfferView>,
    /// Why the store did not work, if it did not.
    pub store_error: Option<StoreError>,
}

/// Runs one session over a connected and subscribed link, and disconnects it.
///
/// With `record` it asks for the result of that earlier command; without, it pays. The store's
/// calls block the calling task for a few milliseconds each: a wallet does nothing else meanwhile.
///
/// Must be called within a tokio runtime with its time driver. Dropping the future is as losing the
/// link.
pub async fn drive<L: PhoneLink>(
    mut link: L,
    card: Arc<Card>,
    record: Option<PaymentRecord>,
    settings: DriverSettings,
    seed: SessionSeed,
    store: &mut dyn PaymentStore,
    person: &mut dyn Person,
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
    let mut run = Run {
        session,
        origin,
        store,
        person,
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
    let mut quiet_until = Instant::now() + QUIET;
    while !run.is_over {
        let deadline = run
            .session
            .deadline()
            .map(|moment| origin + Duration::from_millis(moment.milliseconds));
        let input = tokio::select! {
            value = link.next_value() => {
                quiet_until = Instant::now() + QUIET;
                value.map_or(Input::LinkLost, Input::Value)
            }
            decision = answer(&mut run.question) => {
                run.question = None;
                Input::Decided(decision)
            }
            () = sleep_until(deadline) => Input::Tick,
            () = tokio::time::sleep_until(quiet_until) => {
                quiet_until = Instant::now() + QUIET;
                if link.subscribe_again().await.is_ok() { continue } else { Input::LinkLost }
            }
        };
        run.put(&mut link, input).await;
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

struct Run<'environment> {
    session: Session,
    origin: Instant,
    store: &'environment mut dyn PaymentStore,
    person: &'environment mut dyn Person,
    question: Option<Question>,
    vanish_after_command: bool,
    reported: Reported,
    is_over: bool,
}

impl Run<'_> {
    async fn put<L: PhoneLink>(&mut self, link: &mut L, input: Input) {
        match self.session.handle(now(self.origin), input) {
            Ok(outputs) => self.perform(link, outputs).await,
            // Only an input out of turn, which the loop does not give; then nothing has changed.
            Err(refusal) => tracing::debug!(%refusal, "the session refused an input"),
        }
    }

    /// Does what the session says, in order. What comes of it goes back in at once, before anything
    /// else.
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
                // The rest of a message whose beginning did not get through.
                Output::Write(_) => {}
                Output::Ask(offer) => {
                    self.question = Some(self.person.ask(&offer));
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
                    self.person.tell(&notice);
                    if notice == Notice::CommandSent && self.vanish_after_command {
                        link.disconnect().await;
                        is_link_lost = true;
                        input = Some(Input::LinkLost);
                    }
                }
                Output::End(end) => {
                    // Every write before this was made; what may be left is of a message that got
                    // stuck.
                    self.reported.end = *end;
                    self.is_over = true;
                    return;
                }
                // The caller's loop does that when the session is over.
                Output::Disconnect => {}
            }
            let Some(input) = input else { continue };
            match self.session.handle(now(self.origin), input) {
                Ok(more) => {
                    for output in more.into_iter().rev() {
                        todo.push_front(output);
                    }
                }
                // After the end a lost link is no news.
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
