//! A relay that tells what passes, and can play a dishonest terminal.

use std::time::Instant;

use florin::domain::{Amount, Offer, OfferParts, TransactionId, UnixTime};
use florin::protocol::{decode_offer, encode_offer};
use florin::relay::{ConnectError, InstitutionExamination, Relay, StandingError, StatementError};
use florin::terminal::{
    InstitutionAnswer, InstitutionRequest, InstitutionTransaction, TransactionState,
};

use super::event::Story;

#[derive(Debug)]
pub(super) struct ObservedRelay<R> {
    relay: R,
    story: Story,
    tampers: bool,
}

impl<R> ObservedRelay<R> {
    /// With `tampers`, authorisations are for ten times the amount that the phone was shown.
    pub(super) fn new(relay: R, story: Story, tampers: bool) -> Self {
        Self { relay, story, tampers }
    }
}

impl<R: Relay> Relay for ObservedRelay<R> {
    fn address(&self) -> String {
        self.relay.address()
    }

    async fn check_reachable(&self) -> Result<(), ConnectError> {
        self.relay.check_reachable().await
    }

    async fn check_standing(&self, unused: TransactionId) -> Result<(), StandingError> {
        self.relay.check_standing(unused).await
    }

    async fn statement(
        &self,
        from: UnixTime,
        until: UnixTime,
    ) -> Result<Vec<InstitutionTransaction>, StatementError> {
        self.relay.statement(from, until).await
    }

    async fn transaction(
        &self,
        transaction_id: TransactionId,
    ) -> Result<InstitutionTransaction, StatementError> {
        self.relay.transaction(transaction_id).await
    }

    async fn examine(&self, unused: TransactionId) -> Result<InstitutionExamination, ConnectError> {
        self.relay.examine(unused).await
    }

    async fn ask(&self, request: InstitutionRequest, timeout_ms: u64) -> InstitutionAnswer {
        let name = request.name();
        let request = if self.tampers { tampered(request, &self.story) } else { request };
        self.story.step("terminal", "institution", name.to_owned(), None);
        let started = Instant::now();
        let answer = self.relay.ask(request, timeout_ms).await;
        let what = match &answer {
            InstitutionAnswer::Transaction(claim) => match claim.state {
                TransactionState::Unknown => "never seen".to_owned(),
                TransactionState::Declined(reason) => format!("declined ({})", reason.name()),
                TransactionState::Approved => "approved: the amount is reserved".to_owned(),
                TransactionState::Captured => "captured: the amount is taken".to_owned(),
                TransactionState::Reversed => "reversed: the amount is given back".to_owned(),
            },
            InstitutionAnswer::NotSent { detail } => format!("(not sent: {detail})"),
            InstitutionAnswer::Refused { detail } => format!("refused: {detail}"),
            InstitutionAnswer::Unanswered { .. } => "(no answer)".to_owned(),
        };
        self.story.timed_step("institution", "terminal", what, None, Some(started.elapsed()));
        answer
    }
}

fn tampered(request: InstitutionRequest, story: &Story) -> InstitutionRequest {
    let InstitutionRequest::Authorise {
        transaction_id,
        offer,
        offer_age_ms,
        sealed_command,
        sequence,
    } = request
    else {
        return request;
    };
    let altered = decode_offer(&offer).ok().and_then(|shown| {
        let minor = shown.amount().minor().saturating_mul(10);
        let amount = Amount::new(minor, shown.amount().currency()).ok()?;
        let dearer = Offer::new(OfferParts { amount, ..shown.into_parts() }).ok()?;
        story.note(&format!("the terminal lies: it asks for {amount}"));
        Some(encode_offer(&dearer))
    });
    let offer = altered.unwrap_or(offer);
    InstitutionRequest::Authorise { transaction_id, offer, offer_age_ms, sealed_command, sequence }
}
