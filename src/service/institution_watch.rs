//! When to ask the institution whether this terminal may ask for payments, and how long its word is
//! good for.
//!
//! It asks at the start, at each offer, after a payment that the institution did not decide, and in
//! between at intervals. What the word means for phones and till is the driver's business.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::randomness::random_octets;
use crate::domain::TransactionId;
use crate::relay::{Relay, StandingError};

/// How long a good word holds for a new offer, in milliseconds.
const GOOD_FOR_MS: u64 = 5_000;
/// How long a bad word holds for a new offer, in milliseconds: a till that tries again and again is
/// not to ask as often.
const BAD_FOR_MS: u64 = 1_000;
/// How often it asks while all is well and nobody pays, in milliseconds: a router keeps the
/// connection, and an operator hears soon.
const IDLE_INTERVAL_MS: u64 = 60_000;
/// How often it asks while an offer waits for a phone, in milliseconds.
const OFFER_INTERVAL_MS: u64 = 30_000;
/// After how long it asks again first where nobody can pay, in milliseconds. It doubles each time,
/// up to [`IDLE_INTERVAL_MS`].
const RETRY_MS_MIN: u64 = 2_000;
/// How long a relay may take, in milliseconds; it should keep limits of its own.
const WORD_TIMEOUT_MS: u64 = 60_000;

/// What is known for a new offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    Good,
    Bad,
    /// It has to be asked first.
    Old,
}

/// The questions to the institution, one at a time.
#[derive(Debug)]
pub(super) struct InstitutionWatch<R> {
    relay: Arc<R>,
    asking: JoinSet<Result<(), StandingError>>,
    last: Option<LastWord>,
    /// Somebody needs to know before the next interval is over.
    is_wanted: bool,
    retry_ms: u64,
}

#[derive(Debug, Clone, Copy)]
struct LastWord {
    is_good: bool,
    heard_at: Instant,
}

impl<R: Relay + 'static> InstitutionWatch<R> {
    pub(super) fn new(relay: Arc<R>) -> Self {
        Self { relay, asking: JoinSet::new(), last: None, is_wanted: true, retry_ms: RETRY_MS_MIN }
    }

    /// What is known for an offer that somebody wants to make now.
    pub(super) fn word(&self) -> Word {
        match self.last {
            Some(LastWord { is_good: true, heard_at })
                if heard_at.elapsed() < Duration::from_millis(GOOD_FOR_MS) && !self.is_wanted =>
            {
                Word::Good
            }
            Some(LastWord { is_good: false, heard_at })
                if heard_at.elapsed() < Duration::from_millis(BAD_FOR_MS) =>
            {
                Word::Bad
            }
            Some(_) | None => Word::Old,
        }
    }

    /// Somebody needs to know now. The answer to a question that is under way is new enough.
    pub(super) fn want(&mut self) {
        self.is_wanted |= self.asking.is_empty();
    }

    /// When [`InstitutionWatch::ask_if_due`] is due; never while a question is under way.
    pub(super) fn next_at(&self, offer_waits: bool) -> Option<Instant> {
        if !self.asking.is_empty() {
            return None;
        }
        let Some(last) = self.last else { return Some(Instant::now()) };
        let interval_ms = match (last.is_good, self.is_wanted) {
            (true, true) => 0,
            (false, true) => BAD_FOR_MS,
            (true, false) if offer_waits => OFFER_INTERVAL_MS,
            (true, false) => IDLE_INTERVAL_MS,
            (false, false) => self.retry_ms,
        };
        Some(last.heard_at + Duration::from_millis(interval_ms))
    }

    /// Asks, if it is time.
    pub(super) fn ask_if_due(&mut self, offer_waits: bool) {
        if self.next_at(offer_waits).is_none_or(|at| at > Instant::now()) {
            return;
        }
        self.is_wanted = false;
        let relay = Arc::clone(&self.relay);
        self.asking.spawn(async move {
            let unused = random_octets()
                .map_err(|error| StandingError::Failed { detail: error.to_string() })?;
            let asking = relay.check_standing(TransactionId::from_random(unused));
            timeout(Duration::from_millis(WORD_TIMEOUT_MS), asking).await.unwrap_or_else(|_| {
                let detail = format!("no answer within {WORD_TIMEOUT_MS} ms");
                Err(StandingError::Unanswered { address: relay.address(), detail })
            })
        });
    }

    /// The institution's next word; waits for ever where nobody asked.
    pub(super) async fn next_word(&mut self) -> Result<(), StandingError> {
        let Some(ended) = self.asking.join_next().await else {
            return std::future::pending().await;
        };
        // A relay that panicked is a bug.
        let word = ended.unwrap_or_else(|error| {
            Err(StandingError::Failed { detail: format!("the program failed: {error}") })
        });
        self.retry_ms = match (&word, self.last) {
            (Err(_), Some(LastWord { is_good: false, .. })) => {
                (self.retry_ms * 2).min(IDLE_INTERVAL_MS)
            }
            (Ok(()) | Err(_), _) => RETRY_MS_MIN,
        };
        self.last = Some(LastWord { is_good: word.is_ok(), heard_at: Instant::now() });
        word
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::domain::UnixTime;
    use crate::relay::{ConnectError, StatementError};
    use crate::terminal::{InstitutionAnswer, InstitutionRequest, InstitutionTransaction};

    /// Its words are given; without one it is silent.
    #[derive(Default)]
    struct Told(Mutex<Vec<bool>>);

    impl Relay for Told {
        fn address(&self) -> String {
            "told".into()
        }

        async fn check_reachable(&self) -> Result<(), ConnectError> {
            Ok(())
        }

        async fn check_standing(&self, _: TransactionId) -> Result<(), StandingError> {
            let word = self.0.lock().unwrap().pop();
            match word {
                Some(true) => Ok(()),
                Some(false) => Err(StandingError::Failed { detail: "told so".into() }),
                None => std::future::pending().await,
            }
        }

        async fn ask(&self, _: InstitutionRequest, _: u64) -> InstitutionAnswer {
            InstitutionAnswer::NotSent { detail: "no payments here".into() }
        }

        async fn statement(
            &self,
            _: UnixTime,
            _: UnixTime,
        ) -> Result<Vec<InstitutionTransaction>, StatementError> {
            Ok(Vec::new())
        }

        async fn transaction(
            &self,
            _: TransactionId,
        ) -> Result<InstitutionTransaction, StatementError> {
            Err(StatementError::Failed("no payments here".into()))
        }
    }

    fn watch(mut words: Vec<bool>) -> InstitutionWatch<Told> {
        words.reverse();
        InstitutionWatch::new(Arc::new(Told(Mutex::new(words))))
    }

    async fn ask(watch: &mut InstitutionWatch<Told>) -> bool {
        watch.ask_if_due(false);
        watch.next_word().await.is_ok()
    }

    /// After how many milliseconds it asks next.
    fn asks_in(watch: &InstitutionWatch<Told>, offer_waits: bool) -> u128 {
        let at = watch.next_at(offer_waits).unwrap();
        at.saturating_duration_since(Instant::now()).as_millis()
    }

    #[tokio::test(start_paused = true)]
    async fn it_asks_at_once_then_seldom_and_soon_while_nobody_can_pay() {
        let mut watch = watch(vec![true, false, false, false, true, false]);
        assert_eq!(watch.word(), Word::Old);
        assert_eq!(asks_in(&watch, false), 0);
        assert!(ask(&mut watch).await);
        assert_eq!((asks_in(&watch, false), asks_in(&watch, true)), (60_000, 30_000));
        for retry_ms in [2_000, 4_000, 8_000] {
            tokio::time::advance(Duration::from_secs(60)).await;
            assert!(!ask(&mut watch).await);
            assert_eq!(asks_in(&watch, false), retry_ms);
        }
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(ask(&mut watch).await);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(!ask(&mut watch).await);
        assert_eq!(asks_in(&watch, false), 2_000, "a new fault begins anew");
    }

    #[tokio::test(start_paused = true)]
    async fn a_word_holds_for_a_while_and_who_needs_a_newer_one_gets_it_at_once() {
        let mut watch = watch(vec![true, false]);
        assert!(ask(&mut watch).await);
        assert_eq!(watch.word(), Word::Good);
        tokio::time::advance(Duration::from_millis(GOOD_FOR_MS)).await;
        assert_eq!(watch.word(), Word::Old);
        watch.want();
        assert_eq!(asks_in(&watch, false), 0);
        assert!(!ask(&mut watch).await);
        assert_eq!(watch.word(), Word::Bad);
        watch.want();
        assert_eq!(asks_in(&watch, false), 1_000, "not as often as a till can try");
        tokio::time::advance(Duration::from_millis(BAD_FOR_MS)).await;
        assert_eq!(watch.word(), Word::Old);
    }

    #[tokio::test(start_paused = true)]
    async fn there_is_one_question_at_a_time_and_a_silent_relay_ends_it() {
        let mut watch = watch(Vec::new());
        watch.ask_if_due(false);
        watch.want();
        assert_eq!(watch.next_at(false), None);
        assert!(matches!(watch.next_word().await, Err(StandingError::Unanswered { .. })));
    }
}
