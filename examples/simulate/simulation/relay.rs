//! The way from the terminal to the institution: requests and answers that are lost, late, doubled
//! or overtaken.
//!
//! What the relay reports keeps to the relay's own rules: "not sent" only where nothing was sent,
//! one answer at most for each question, and one by its time-out, unless it says nothing at all.

use florin::domain::{Offer, OfferParts, TransactionId};
use florin::terminal::{
    Input, InstitutionAnswer, InstitutionRequest, TransactionClaim, TransactionState,
};

use super::bank::foreign_sequence;
use super::event::Event;
use super::fault::FaultKind;
use super::network::Ask;
use super::planted::PlantedBug;
use super::stage::Stage;

/// The latest that a request or an answer arrives, in milliseconds: what a proxy or a queue may
/// hold back.
pub const DELAY_MS_MAX: u64 = 6 * 3_600_000;
/// How long the driver waits for a relay beyond its time-out, in milliseconds.
const RELAY_GRACE_MS: u64 = 500;
/// How long the relay tries to connect, in milliseconds.
const CONNECT_TIMEOUT_MS: u64 = 5_000;

fn not_sent() -> InstitutionAnswer {
    InstitutionAnswer::NotSent { detail: "simulated".into() }
}

fn unanswered() -> InstitutionAnswer {
    InstitutionAnswer::Unanswered { detail: "simulated".into() }
}

impl Stage {
    /// The terminal's process of that number asks.
    pub fn ask_institution(&mut self, epoch: u64, request: InstitutionRequest, timeout_ms: u64) {
        let transaction_id = request.transaction_id();
        self.say(|stage| {
            format!("terminal -> institution: {} {}", request.name(), stage.name(transaction_id))
        });
        let request = match self.planted_answer(&request) {
            Some(answer) => {
                let input = Input::Institution { transaction_id, answer };
                return self.after(50, Event::MachineHears { epoch, input: Box::new(input) });
            }
            None => request,
        };
        self.network.last_ask += 1;
        let ask = self.network.last_ask;
        self.network.asks.insert(ask, Ask { epoch, request: request.clone() });
        if let Some(mut dice) = self.fault(FaultKind::NotSent) {
            let down_ms = dice.magnitude(50, 120_000);
            self.network.down_until_ms = self.network.down_until_ms.max(self.now_ms + down_ms);
        }
        if self.now_ms < self.network.down_until_ms {
            let delay_ms = self.network.dice.magnitude(1, CONNECT_TIMEOUT_MS).min(timeout_ms);
            return self.after(delay_ms, Event::RelayHears { ask, answer: Box::new(not_sent()) });
        }
        if self.fault(FaultKind::RelaySilent).is_none() {
            let at_ms = timeout_ms + self.network.dice.below(RELAY_GRACE_MS);
            self.after(at_ms, Event::RelayHears { ask, answer: Box::new(unanswered()) });
        }
        if let Some(mut dice) = self.fault(FaultKind::RequestDuplicated) {
            // The copy's answer counts where it is the first.
            let is_answered = dice.percent(50);
            let delay_ms = dice.magnitude(1, DELAY_MS_MAX);
            self.send(delay_ms, request.clone(), is_answered.then_some(ask));
        }
        if let Some(mut dice) = self.fault(FaultKind::RequestLost) {
            // A reset connection is seen at once; silence only at the time-out.
            if dice.percent(50) {
                self.after(
                    dice.below(timeout_ms),
                    Event::RelayHears { ask, answer: Box::new(unanswered()) },
                );
            }
            return;
        }
        let delay_ms = match self.fault(FaultKind::RequestLate) {
            Some(mut dice) => timeout_ms + dice.magnitude(1, DELAY_MS_MAX),
            None => self.network.dice.between(5, 120),
        };
        self.send(delay_ms, request, Some(ask));
    }

    fn send(&mut self, delay_ms: u64, request: InstitutionRequest, ask: Option<u64>) {
        if let InstitutionRequest::Authorise { transaction_id, sealed_command, .. } = &request {
            self.model.authorisation_is_under_way(*transaction_id, sealed_command);
        }
        self.after(delay_ms, Event::BankHears { request: Box::new(request), ask });
    }

    /// The institution answers.
    pub fn bank_answers(&mut self, ask: u64, mut answer: InstitutionAnswer) {
        if let InstitutionAnswer::Transaction(claim) = &mut answer
            && self.fault(FaultKind::AnswerUnproven).is_some()
        {
            *claim = TransactionClaim::bare(claim.state);
        }
        if let Some(mut dice) = self.fault(FaultKind::AnswerLost) {
            if dice.percent(50) {
                let delay_ms = dice.below(2_000);
                self.after(delay_ms, Event::RelayHears { ask, answer: Box::new(unanswered()) });
            }
            return;
        }
        let delay_ms = match self.fault(FaultKind::AnswerLate) {
            Some(mut dice) => dice.magnitude(1_000, DELAY_MS_MAX),
            None => self.network.dice.between(5, 120),
        };
        self.after(delay_ms, Event::RelayHears { ask, answer: Box::new(answer) });
    }

    /// What a question came to, for the terminal's process of that number; none where it was
    /// answered before.
    pub fn relay_hears(&mut self, ask: u64, answer: InstitutionAnswer) -> Option<(u64, Input)> {
        let Ask { epoch, request } = self.network.asks.remove(&ask)?;
        let transaction_id = request.transaction_id();
        let answer = self.planted_distortion(&request, answer);
        self.say(|stage| {
            let word = match &answer {
                InstitutionAnswer::Transaction(claim) => format!("it is {:?}", claim.state),
                InstitutionAnswer::NotSent { .. } => "(not sent)".into(),
                InstitutionAnswer::Refused { .. } => "(refused)".into(),
                InstitutionAnswer::Unanswered { .. } => "(no answer)".into(),
            };
            format!(
                "institution -> terminal: {} {}: {word}",
                request.name(),
                stage.name(transaction_id)
            )
        });
        Some((epoch, Input::Institution { transaction_id, answer }))
    }

    /// Bugs that answer instead of asking.
    fn planted_answer(&self, request: &InstitutionRequest) -> Option<InstitutionAnswer> {
        let said = |state| Some(InstitutionAnswer::Transaction(TransactionClaim::bare(state)));
        match (self.planted?, request) {
            (PlantedBug::CaptureNotSent, InstitutionRequest::Capture { .. }) => {
                said(TransactionState::Captured)
            }
            (PlantedBug::ReversalNotSent, InstitutionRequest::Reverse { .. }) => {
                said(TransactionState::Reversed)
            }
            (_, _) => None,
        }
    }

    /// Bugs that make something else of what came back.
    fn planted_distortion(
        &mut self,
        request: &InstitutionRequest,
        answer: InstitutionAnswer,
    ) -> InstitutionAnswer {
        let is_authorisation = matches!(request, InstitutionRequest::Authorise { .. });
        let is_unanswered = matches!(answer, InstitutionAnswer::Unanswered { .. });
        match self.planted {
            Some(PlantedBug::UnknownIsNotCharged) if !is_authorisation => match answer {
                InstitutionAnswer::Transaction(claim)
                    if claim.state == TransactionState::Unknown =>
                {
                    let state = TransactionState::Reversed;
                    InstitutionAnswer::Transaction(TransactionClaim { state, ..claim })
                }
                other @ (InstitutionAnswer::Transaction(_)
                | InstitutionAnswer::NotSent { .. }
                | InstitutionAnswer::Refused { .. }
                | InstitutionAnswer::Unanswered { .. }) => other,
            },
            Some(PlantedBug::RetryUnderNewId) if is_authorisation && is_unanswered => {
                self.retry_under_new_id(request)
            }
            Some(_) | None => answer,
        }
    }

    /// The payment is tried again as another transaction, and that one's end is taken for the first
    /// one's.
    fn retry_under_new_id(&mut self, request: &InstitutionRequest) -> InstitutionAnswer {
        if let InstitutionRequest::Authorise {
            offer, offer_age_ms, sealed_command, sequence, ..
        } = request
            && let Ok(offer) = florin::protocol::decode_offer(offer)
            && let transaction_id = TransactionId::from_random(self.network.dice.octets())
            && let Ok(offer) = Offer::new(OfferParts { transaction_id, ..offer.into_parts() })
        {
            let request = InstitutionRequest::Authorise {
                transaction_id,
                offer: florin::protocol::encode_offer(&offer),
                offer_age_ms: *offer_age_ms,
                sealed_command: sealed_command.clone(),
                sequence: foreign_sequence(*sequence, self.network.dice.octets()),
            };
            self.send(20, request, None);
        }
        let state = TransactionState::Declined(florin::domain::DeclineReason::OfferMismatch);
        InstitutionAnswer::Transaction(TransactionClaim::bare(state))
    }
}
