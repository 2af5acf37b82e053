//! The arguments of `florin pay`, and the payment that they mean.

use clap::{ArgAction, Args, ValueEnum};
use florin::command_line::whole_number;
use florin::domain::{Amount, VALID_FOR_S_MAX};
use florin::till::NewPayment;

use super::item;
use crate::till::TillArguments;

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
    pub amount: Vec<String>,
    /// Shown to the person: an order number or the like.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub reference: String,
    /// An item that is paid for, with the amount of all its pieces: `Coffee=2.50`, or
    /// `2 Coffee=5.00`. Give the option once for each item.
    #[arg(long = "item", value_name = "[QUANTITY ]NAME=AMOUNT")]
    pub items: Vec<String>,
    /// Reserve the amount now, and take it only after the goods were released.
    #[arg(long)]
    pub after_dispense: bool,
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
    pub dispensed: Option<bool>,
    #[arg(
        long,
        value_name = "SECONDS",
        value_parser = whole_number::<u32>("seconds", 1..=VALID_FOR_S_MAX.into()),
        help = format!(
            "How long a phone has to pay, in seconds, 1 to {VALID_FOR_S_MAX} [default: as the \
             service is configured]"
        ),
    )]
    pub valid_for_s: Option<u32>,
    /// Repeating the command with the same key and the same payment offers nothing twice. Give one
    /// if you may have to repeat it [default: a random one].
    #[arg(long, value_name = "KEY")]
    pub idempotency_key: Option<String>,
    /// How long to wait.
    #[arg(long, value_enum, default_value_t = Until::Decided)]
    pub until: Until,
    /// Print the payment as a line of JSON at each change.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub till: TillArguments,
}

/// When the command ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Until {
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
