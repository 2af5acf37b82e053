//! Follows one payment until it is decided or final, and takes the offer back on Ctrl-C.

use std::time::Duration;

use florin::till::{PaymentJson, TillClient, TillClientError};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep, timeout_at};

use super::arguments::{PayArguments, Until};
use super::next_step::{NextStep, PAID, PENDING};
use super::retry::{RETRY_PAUSE_MS, Unanswered, is_transient, until_answered};
use super::screen::Screen;

/// How long one call waits for a change, in seconds.
const WAIT_S: u32 = 10;
/// How long a decided payment gets to become final before the command ends without it, in
/// milliseconds.
const FINAL_TIMEOUT_MS: u64 = 3_000;
/// Longer than any call waits, in seconds: stands for "no deadline".
const NO_DEADLINE_S: u64 = 3_600;

/// Ctrl-C, each time.
pub struct Interrupts(Signal);

impl Interrupts {
    /// Catches Ctrl-C from now on.
    pub fn listen() -> Result<Self, String> {
        signal(SignalKind::interrupt())
            .map(Self)
            .map_err(|error| format!("the operating system gives no signals: {error}"))
    }

    /// Waits for the next one. Cancel-safe.
    pub async fn next(&mut self) {
        if self.0.recv().await.is_none() {
            std::future::pending().await
        }
    }
}

/// Why the command ends although the payment goes on.
pub enum Abandoned {
    /// Ctrl-C for a second time.
    Interrupted,
    /// The service cannot be asked any more.
    Failed(TillClientError),
}

impl From<TillClientError> for Abandoned {
    fn from(error: TillClientError) -> Self {
        Self::Failed(error)
    }
}

/// Follows one payment.
pub struct PaymentFollower {
    pub client: TillClient,
    pub screen: Screen,
    pub payment: PaymentJson,
    pub entity_tag: String,
    pub interrupts: Interrupts,
    /// Whether the offer was taken back already, or this was tried.
    pub is_cancelling: bool,
}

impl PaymentFollower {
    /// Follows the payment; returns the exit code. `cancel_first`: takes the offer back at once.
    pub async fn follow(
        &mut self,
        arguments: &PayArguments,
        cancel_first: bool,
    ) -> Result<u8, Abandoned> {
        let mut shown = None;
        if cancel_first {
            self.screen.show(None, &self.payment);
            shown = Some(self.payment.clone());
            self.cancel().await?;
        }
        let mut is_completed = false;
        let mut final_deadline = None;
        loop {
            self.screen.show(shown.as_ref(), &self.payment);
            shown = Some(self.payment.clone());
            match NextStep::after(&self.payment) {
                NextStep::Final(code) => return Ok(code),
                NextStep::Decided(code) if arguments.until == Until::Decided => {
                    // A pending payment may stay so for days; the others are soon final.
                    let deadline = *final_deadline.get_or_insert_with(|| {
                        Instant::now() + Duration::from_millis(FINAL_TIMEOUT_MS)
                    });
                    if code == PENDING || !self.next_change(Some(deadline)).await? {
                        return Ok(code);
                    }
                }
                NextStep::Complete if !is_completed => {
                    is_completed = true;
                    let Some(dispensed) = self.dispensed(arguments).await? else {
                        eprintln!(
                            "florin: approved; release the goods, then say so: florin complete {} \
                             --dispensed true",
                            self.payment.transaction_id
                        );
                        return Ok(PAID);
                    };
                    self.complete(dispensed).await?;
                }
                NextStep::Wait | NextStep::Complete | NextStep::Decided(_) => {
                    self.next_change(None).await?;
                }
            }
        }
    }

    /// Whether the goods were released, as the command line or a person says; none if nobody can
    /// be asked.
    async fn dispensed(&mut self, arguments: &PayArguments) -> Result<Option<bool>, Abandoned> {
        if arguments.dispensed.is_some() {
            return Ok(arguments.dispensed);
        }
        tokio::select! {
            dispensed = self.screen.ask_whether_released() => Ok(dispensed),
            () = self.interrupts.next() => Err(Abandoned::Interrupted),
        }
    }

    /// Tells the service whether the goods were released, until it has answered.
    async fn complete(&mut self, dispensed: bool) -> Result<(), Abandoned> {
        let transaction_id = &self.payment.transaction_id;
        let completing = until_answered(|| self.client.complete(transaction_id, dispensed));
        let completed = tokio::select! {
            completed = completing => completed.map_err(Abandoned::Failed),
            () = self.interrupts.next() => Err(Abandoned::Interrupted),
        };
        if completed.is_err() {
            eprintln!(
                "florin: the service may not know that the goods were {}released. Tell it again: \
                 florin complete {transaction_id} --dispensed {dispensed}",
                if dispensed { "" } else { "not " }
            );
        }
        (self.payment, self.entity_tag) = completed?;
        Ok(())
    }

    /// Takes the offer back at the first Ctrl-C; ends the command at the second.
    async fn interrupted(&mut self) -> Result<(), Abandoned> {
        if self.is_cancelling { Err(Abandoned::Interrupted) } else { self.cancel().await }
    }

    /// Takes the offer back, if it is not too late.
    async fn cancel(&mut self) -> Result<(), Abandoned> {
        self.is_cancelling = true;
        self.screen.note("cancelling");
        let transaction_id = &self.payment.transaction_id;
        let cancelling = until_answered(|| self.client.cancel(transaction_id));
        let cancelled = tokio::select! {
            cancelled = cancelling => cancelled,
            () = self.interrupts.next() => return Err(Abandoned::Interrupted),
        };
        match cancelled {
            Ok((payment, entity_tag)) => (self.payment, self.entity_tag) = (payment, entity_tag),
            // Too late: somebody is paying. How that ends is still shown.
            Err(TillClientError::Refused { detail, .. }) => {
                self.screen.note(&format!("not cancelled: {detail}"));
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Waits for a change; returns false if the deadline passes first. Ctrl-C is handled here.
    async fn next_change(&mut self, deadline: Option<Instant>) -> Result<bool, Abandoned> {
        let mut unanswered = Unanswered::default();
        loop {
            self.screen.progress(&self.payment);
            let no_deadline = Instant::now() + Duration::from_secs(NO_DEADLINE_S);
            let changing =
                self.client.next_change(&self.payment.transaction_id, &self.entity_tag, WAIT_S);
            let change = tokio::select! {
                change = timeout_at(deadline.unwrap_or(no_deadline), changing) => change,
                () = self.interrupts.next() => {
                    self.interrupted().await?;
                    return Ok(true);
                }
            };
            match change {
                Err(_) if deadline.is_some() => return Ok(false),
                Err(_) | Ok(Ok(None)) => unanswered.end(),
                Ok(Ok(Some((payment, entity_tag)))) => {
                    (self.payment, self.entity_tag) = (payment, entity_tag);
                    return Ok(true);
                }
                // The payment is in the service's journal: it goes on when the service is back.
                Ok(Err(error)) if is_transient(&error) && !unanswered.is_too_long() => {
                    tokio::select! {
                        () = sleep(Duration::from_millis(RETRY_PAUSE_MS)) => {}
                        () = self.interrupts.next() => {
                            self.interrupted().await?;
                            return Ok(true);
                        }
                    }
                }
                Ok(Err(error)) => return Err(error.into()),
            }
        }
    }
}
