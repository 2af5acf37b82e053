//! Whether this terminal may ask for payments now, asked over the connection that a payment would
//! use.
//!
//! A router may have forgotten that connection, and nobody tells. So what is silent for a moment is
//! replaced: a second connection is made and asked while the first may still answer. Only when both
//! ways fail is the institution away.

use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, timeout};
use tonic::metadata::MetadataMap;
use tonic::{Code, Response, Status};

use super::super::StandingError;
use super::channel::{Channel, connect_timeout};
use super::connection::{Connection, no_answer};
use super::delivery::DeliveryEvidence;
use crate::domain::displayable;
use crate::institution_api::{CheckStandingRequest, CheckStandingResponse, Standing};

/// After how long without an answer a second connection is made, in milliseconds: some round trips
/// over a poor mobile network.
const SILENCE_MS: u64 = 2_000;
/// How long an answer may take over one connection, in milliseconds.
const ANSWER_TIMEOUT_MS: u64 = 5_000;

/// The institution's word: that the terminal may ask for payments, or why not.
type Word = Result<(), StandingError>;

/// Asks over the connection that is there, and over a new one if that is silent or broken.
pub(super) async fn check_standing(channel: &Channel) -> Word {
    let Some(held) = channel.held_connection() else { return ask_anew(channel).await };
    let mut first = pin!(ask(channel, &held));
    match timeout(Duration::from_millis(SILENCE_MS), &mut first).await {
        Ok(Err(StandingError::Unanswered { .. } | StandingError::Failed { .. })) => {
            channel.forget(&held);
            ask_anew(channel).await
        }
        Ok(word) => word,
        Err(_) => {
            channel.forget(&held);
            let second = ask_anew(channel);
            tokio::select! {
                Ok(()) = first => Ok(()),
                word = second => word,
            }
        }
    }
}

async fn ask_anew(channel: &Channel) -> Word {
    let connection = channel.live_connection(Instant::now() + connect_timeout()).await?;
    ask(channel, &connection).await
}

async fn ask(channel: &Channel, connection: &Connection) -> Word {
    ask_once(channel, connection).await.0
}

/// Asks over this connection, and returns the headers of the answer too.
pub(super) async fn ask_once(
    channel: &Channel,
    connection: &Connection,
) -> (Word, Option<MetadataMap>) {
    let evidence = DeliveryEvidence::default();
    let mut client = channel.client(connection, &evidence);
    let question = CheckStandingRequest { terminal_id: channel.terminal_id.to_string() };
    let time_limit = Duration::from_millis(ANSWER_TIMEOUT_MS);
    let address = channel.address.to_string();
    let unanswered = |detail| Err(StandingError::Unanswered { address, detail });
    match timeout(time_limit, client.check_standing(question)).await {
        Ok(Ok(answer)) => (read(&answer), Some(answer.metadata().clone())),
        Ok(Err(status)) => {
            let word = match evidence.server_code() {
                Some(code) => Err(refusal(code, &status)),
                None => unanswered(super::delivery::describe(&status)),
            };
            (word, Some(status.metadata().clone()))
        }
        Err(_) => (unanswered(no_answer(ANSWER_TIMEOUT_MS)), None),
    }
}

fn read(answer: &Response<CheckStandingResponse>) -> Word {
    let answer = answer.get_ref();
    let detail = displayable(&answer.detail);
    let detail = detail.chars().take(300);
    match answer.standing() {
        Standing::Good => Ok(()),
        Standing::Blocked | Standing::Unknown => {
            Err(StandingError::NotInGoodStanding { detail: detail.collect() })
        }
        Standing::Unspecified => Err(StandingError::Failed {
            detail: format!("its answer cannot be understood: the standing {}", answer.standing),
        }),
    }
}

/// What the server's own status means for every payment that would follow.
fn refusal(code: Code, status: &Status) -> StandingError {
    let detail = super::delivery::describe(status);
    match code {
        Code::Unauthenticated | Code::PermissionDenied => StandingError::NotAccepted { detail },
        Code::FailedPrecondition => StandingError::NotInGoodStanding { detail },
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::InvalidArgument
        | Code::DeadlineExceeded
        | Code::NotFound
        | Code::AlreadyExists
        | Code::ResourceExhausted
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => StandingError::Failed { detail },
    }
}
