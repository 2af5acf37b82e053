//! The gRPC service `florin.institution.v1.Cardholder`: messages in and out, for phones.
//!
//! It reads the clock and draws randomness, and leaves every decision to [`Institution`].
//!
//! [`Institution`]: super::Institution

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use prost::Message;
use tonic::{Code, Request, Response, Status};

use super::attempt_limit::AttemptLimit;
use super::cardholder::{
    CARD_PAYMENTS_MAX, CardPayment, CardStanding, CardholderAnswer, CardholderQuestion,
    PaymentStanding, QuestionSubject,
};
use super::challenge::{CHALLENGE_VALIDITY_S, ChallengeKey};
use super::connection::peer;
use super::payments_service::StoreGeneration;
use super::randomness::random;
use super::records::TransactionKey;
use super::request_queue::RequestQueue;
use super::status::{no_randomness, status};
use crate::credential::Signed;
use crate::domain::{CardId, CommandDigest, Moment, TransactionId};
use crate::institution_api;
use crate::institution_api::ask_response::Answer;
use crate::institution_api::cardholder_server::Cardholder;
use crate::institution_api::question::About;

/// The gRPC service `florin.institution.v1.Cardholder`.
pub(super) struct CardholderService {
    pub queue: RequestQueue,
    pub generation: StoreGeneration,
    pub challenges: ChallengeKey,
    pub attempts: Mutex<AttemptLimit>,
    /// The origin of the challenges' and the attempts' times.
    pub started: Instant,
}

impl CardholderService {
    fn now(&self) -> Moment {
        let milliseconds = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        Moment { milliseconds }
    }

    async fn try_ask(
        &self,
        message: institution_api::AskRequest,
    ) -> Result<institution_api::AskResponse, Status> {
        let (question, challenge) = read_question(&message.question)?;
        if !self.challenges.admits(&challenge, self.now()) {
            return Err(Status::failed_precondition(format!(
                "challenge: it is older than {CHALLENGE_VALIDITY_S} s, or not from this server; \
                 get a new challenge and ask again"
            )));
        }
        let answer = self
            .queue
            .run(move |institution| institution.answer_cardholder(&question))
            .await
            .map_err(status)?;
        Ok(institution_api::AskResponse {
            answer: Some(message_of_answer(answer, self.generation)),
        })
    }
}

#[tonic::async_trait]
impl Cardholder for CardholderService {
    async fn get_challenge(
        &self,
        _request: Request<institution_api::GetChallengeRequest>,
    ) -> Result<Response<institution_api::GetChallengeResponse>, Status> {
        let octets = random().map_err(no_randomness)?;
        Ok(Response::new(institution_api::GetChallengeResponse {
            challenge: self.challenges.issue(self.now(), *octets),
            valid_for_s: CHALLENGE_VALIDITY_S.into(),
        }))
    }

    async fn ask(
        &self,
        request: Request<institution_api::AskRequest>,
    ) -> Result<Response<institution_api::AskResponse>, Status> {
        let peer = peer(&request)?;
        let attempts = || self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        if !attempts().admits(peer.address, self.now()) {
            return Err(Status::resource_exhausted(
                "too many questions from this address were refused; wait a minute, and ask again",
            ));
        }
        let answer = self.try_ask(request.into_inner()).await;
        answer.map(Response::new).inspect_err(|refused| {
            if is_askers_fault(refused.code()) {
                attempts().count_failure(peer.address, self.now());
            }
        })
    }
}

/// Whether whoever asked has to ask in another way. A busy store is nobody's fault.
fn is_askers_fault(code: Code) -> bool {
    matches!(code, Code::InvalidArgument | Code::Unauthenticated | Code::FailedPrecondition)
}

/// The question, and the challenge in it.
fn read_question(octets: &[u8]) -> Result<(CardholderQuestion, Vec<u8>), Status> {
    let invalid = |detail: String| Status::invalid_argument(format!("question: {detail}"));
    let signed = Signed::decode(octets).map_err(|error| invalid(error.to_string()))?;
    let message = institution_api::Question::decode(signed.body.as_slice())
        .map_err(|error| invalid(error.to_string()))?;
    let card = CardId::from_octets(&message.card_id)
        .map_err(|_| invalid("card_id: expected 16 octets".to_owned()))?;
    let subject = match message.about {
        Some(About::Payment(about)) => payment_subject(&about)?,
        Some(About::Payments(about)) => payments_subject(&about)?,
        Some(About::Card(_)) => QuestionSubject::Card,
        None => {
            let detail = "it is about nothing that this version knows".to_owned();
            return Err(invalid(detail));
        }
    };
    Ok((CardholderQuestion { signed, card, subject }, message.challenge))
}

fn payment_subject(about: &institution_api::PaymentQuestion) -> Result<QuestionSubject, Status> {
    let invalid = |detail: &str| Status::invalid_argument(format!("question.payment.{detail}"));
    let id = TransactionId::from_octets(&about.transaction_id)
        .map_err(|_| invalid("transaction_id: expected 16 octets"))?;
    let terminal = about
        .terminal_id
        .parse()
        .map_err(|_| invalid("terminal_id: expected ten letters and digits"))?;
    let digest = about.command_digest.as_slice().try_into();
    let digest = digest.map_err(|_| invalid("command_digest: expected 32 octets"))?;
    Ok(QuestionSubject::Payment {
        key: TransactionKey { terminal, id },
        command_digest: CommandDigest(digest),
    })
}

fn payments_subject(about: &institution_api::PaymentsQuestion) -> Result<QuestionSubject, Status> {
    let count_max = u32::try_from(about.count_max)
        .ok()
        .filter(|count| (1..=CARD_PAYMENTS_MAX).contains(count))
        .ok_or_else(|| {
            Status::invalid_argument(format!(
                "question.payments.count_max: expected 1 to {CARD_PAYMENTS_MAX}, got {}",
                about.count_max
            ))
        })?;
    let before_number = match about.before_number {
        0 => None,
        number => Some(i64::try_from(number).unwrap_or(i64::MAX)),
    };
    Ok(QuestionSubject::Payments { before_number, count_max })
}

fn message_of_answer(answer: CardholderAnswer, generation: StoreGeneration) -> Answer {
    match answer {
        CardholderAnswer::Payment(standing) => Answer::Payment(institution_api::PaymentAnswer {
            transaction: Some(match standing {
                PaymentStanding::Own(transaction) => generation.answer(transaction),
                PaymentStanding::Excluded { transaction_id, exclusion } => {
                    institution_api::Transaction {
                        transaction_id: transaction_id.as_octets().to_vec(),
                        exclusion,
                        store_generation: generation.0.to_vec(),
                        ..Default::default()
                    }
                }
            }),
        }),
        CardholderAnswer::Payments(payments) => Answer::Payments(institution_api::PaymentsAnswer {
            payments: payments
                .into_iter()
                .map(|payment| message_of_payment(payment, generation))
                .collect(),
        }),
        CardholderAnswer::Card(standing) => Answer::Card(message_of_standing(standing)),
    }
}

fn message_of_payment(
    payment: CardPayment,
    generation: StoreGeneration,
) -> institution_api::CardPayment {
    institution_api::CardPayment {
        number: u64::try_from(payment.number).unwrap_or_default(),
        transaction: Some(generation.answer(payment.transaction)),
        merchant_name: payment.merchant_name,
    }
}

fn message_of_standing(standing: CardStanding) -> institution_api::CardAnswer {
    institution_api::CardAnswer {
        keyring: standing.keyring,
        counter: standing.counter,
        not_after_unix_s: standing.not_after.seconds,
        payment_limit_minor: standing.payment_limit_minor,
        currency: standing.currency.to_string(),
        is_blocked: standing.is_blocked,
    }
}
