//! `florin pay`: offers a payment, shows how it goes, and ends with a code that a script can use.

mod follow;
mod item;
mod next_step;
mod retry;
mod screen;

use std::process::ExitCode;

use clap::{ArgAction, Args, ValueEnum};
use florin::command_line::whole_number;
use florin::domain::{Amount, VALID_FOR_S_MAX};
use florin::till::{NewPayment, TillClient, TillClientError};
use rand::TryRngCore;

use self::follow::{Abandoned, Interrupts, PaymentFollower};
use self::screen::Screen;
use crate::till::{TillArguments, USAGE, failure};

/// As a shell says it of a program that SIGINT ended.
const INTERRUPTED: u8 = 130;

const EXIT_CODES: &str = "\
Exit codes:
   0  paid, or, with --after-dispense and nobody to ask, approved
   1  something else went wrong
   2  wrong arguments
   3  declined by the institution
   4  expired: nobody paid in time
   5  cancelled before anybody paid
   6  pending: the institution has not answered. The terminal settles the payment or gives the
      amount back; `florin payments --open` shows it
   7  nothing is charged: the institution was not reached, or the amount was given back or is
      being given back (the terminal does it)
   8  the service cannot be reached, or its answer was lost; the message says what to do
   9  the service refuses: it is out of service, or another offer is waiting
  10  the configuration is wrong
 130  interrupted (Ctrl-C) for a second time, before the payment was decided";

/// Offer a payment to the next phone and wait for how it ends.
///
/// If an answer is lost, the command repeats the call for half a minute; the service recognises it
/// and does it once. Ctrl-C takes the offer back and still shows how the payment ends; a second
/// Ctrl-C ends the command at once.
#[derive(Debug, Args)]
#[command(
    after_help = EXIT_CODES,
    override_usage = "florin pay [OPTIONS] <AMOUNT> <CURRENCY>",
)]
pub struct PayArguments {
    /// How much, in major units and with the currency (ISO 4217): `2.50 EUR`.
    #[arg(required = true, num_args = 1.., allow_negative_numbers = true, value_name = "AMOUNT")]
    amount: Vec<String>,
    /// Shown to the person: an order number or the like.
    #[arg(long, default_value = "", hide_default_value = true)]
    reference: String,
    /// An item that is paid for, with the amount of all its pieces: `Coffee=2.50`, or
    /// `2 Coffee=5.00`. Give the option once for each item.
    #[arg(long = "item", value_name = "[QUANTITY ]NAME=AMOUNT")]
    items: Vec<String>,
    /// Reserve the amount now, and take it only after the goods were released.
    #[arg(long)]
    after_dispense: bool,
    /// With --after-dispense: whether the goods were released. If this is not given, the command
    /// asks; if nobody can be asked, it ends when the payment is approved, and `florin complete`
    /// says it later.
    #[arg(
        long,
        value_name = "true|false",
        requires = "after_dispense",
        action = ArgAction::Set,
        hide_possible_values = true,
    )]
    dispensed: Option<bool>,
    #[arg(
        long,
        value_name = "SECONDS",
        value_parser = whole_number::<u32>("seconds", 1..=VALID_FOR_S_MAX.into()),
        help = format!(
            "How long a phone has to pay, in seconds, 1 to {VALID_FOR_S_MAX} [default: as the \
             service is configured]"
        ),
    )]
    valid_for_s: Option<u32>,
    /// Repeating the command with the same key and the same payment offers nothing twice. Give one
    /// if you may have to repeat it [default: a random one].
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// How long to wait.
    #[arg(long, value_enum, default_value_t = Until::Decided)]
    until: Until,
    /// Print the payment as a line of JSON at each change.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    till: TillArguments,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Until {
    /// Until the till knows whether to release the goods.
    Decided,
    /// Until nothing more happens to the payment.
    Final,
}

impl PayArguments {
    /// What to offer, with all amounts read.
    pub fn payment(&self) -> Result<NewPayment, String> {
        let amount = Amount::parse_typed(&self.amount.join(" "))
            .map_err(|error| format!("AMOUNT: {error}"))?;
        let items = self
            .items
            .iter()
            .map(|text| {
                item::item(text, amount.currency()).map_err(|error| format!("--item: {error}"))
            })
            .collect::<Result<_, _>>()?;
        Ok(NewPayment {
            amount_minor: amount.minor(),
            currency: amount.currency().to_string(),
            reference: self.reference.clone(),
            items,
            capture: if self.after_dispense { "after_dispense" } else { "at_once" },
            valid_for_s: self.valid_for_s,
        })
    }
}

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
