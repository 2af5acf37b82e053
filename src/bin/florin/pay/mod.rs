//! `florin pay`: offers a payment, shows how it goes, and ends with a code that a script can use.

mod arguments;
mod follow;
mod item;
mod next_step;
mod retry;
mod screen;

use std::process::ExitCode;

use florin::till::{NewPayment, TillClient, TillClientError};
use rand::TryRngCore;

pub use self::arguments::PayArguments;
use self::follow::{Abandoned, Interrupts, PaymentFollower};
use self::screen::Screen;
use crate::till::{USAGE, failure};

/// As a shell says it of a program that SIGINT ended.
const INTERRUPTED: u8 = 130;

/// Runs the command.
pub async fn run(arguments: PayArguments) -> ExitCode {
    match try_run(&arguments).await {
        Ok(code) => ExitCode::from(code),
        Err(code) => code,
    }
}

/// The exit code; as an error where the message is printed already.
async fn try_run(arguments: &PayArguments) -> Result<u8, ExitCode> {
    let failed = |code| {
        move |problem: String| {
            eprintln!("florin pay: {problem}");
            ExitCode::from(code)
        }
    };
    let payment = arguments.payment().map_err(failed(USAGE))?;
    let client = arguments.till.client()?;
    let key = idempotency_key(arguments).map_err(failed(1))?;
    let mut interrupts = Interrupts::listen().map_err(failed(1))?;
    let (created, cancel_first) = offer(&client, &payment, &key, &mut interrupts).await?;
    let (payment, entity_tag) = created;
    let screen = Screen::new(arguments.json);
    let mut follower =
        PaymentFollower { client, screen, payment, entity_tag, interrupts, is_cancelling: false };
    follower.follow(arguments, cancel_first).await.map_err(|abandoned| {
        let id = &follower.payment.transaction_id;
        match abandoned {
            Abandoned::Interrupted => {
                eprintln!(
                    "florin: interrupted; payment {id} goes on. `florin payments --open` shows it, \
                     `florin cancel {id}` takes it back"
                );
                ExitCode::from(INTERRUPTED)
            }
            Abandoned::Failed(error) => {
                eprintln!("florin: this is about payment {id}");
                failure(&error)
            }
        }
    })
}

/// Offers the payment; returns it with its entity tag, and whether to take it back at once. An
/// offer that has no id yet cannot be taken back, so Ctrl-C waits for it.
async fn offer(
    client: &TillClient,
    payment: &NewPayment,
    key: &str,
    interrupts: &mut Interrupts,
) -> Result<((florin::till::PaymentJson, String), bool), ExitCode> {
    let mut creating = Box::pin(retry::create(client, payment, key));
    let mut is_interrupted = false;
    let created = loop {
        tokio::select! {
            created = &mut creating => break created,
            () = interrupts.next() => {
                if is_interrupted {
                    eprintln!(
                        "florin: interrupted; the service may have offered the payment: see \
                         `florin payments --open`"
                    );
                    return Err(ExitCode::from(INTERRUPTED));
                }
                is_interrupted = true;
            }
        }
    };
    created.map(|created| (created, is_interrupted)).map_err(|error| {
        let code = failure(&error);
        if matches!(error, TillClientError::Lost(_)) {
            eprintln!(
                "florin: to repeat the command for the same payment, add --idempotency-key {key}"
            );
        }
        code
    })
}

/// The key that was given, or a random one: a repeated request with it is the same payment.
fn idempotency_key(arguments: &PayArguments) -> Result<String, String> {
    if let Some(key) = &arguments.idempotency_key {
        return Ok(key.clone());
    }
    let mut octets = [0; 16];
    rand::rngs::OsRng
        .try_fill_bytes(&mut octets)
        .map_err(|error| format!("the operating system gives no random numbers: {error}"))?;
    Ok(data_encoding::HEXLOWER.encode(&octets))
}
