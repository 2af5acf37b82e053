//! `florin payments`, `status`, `metrics`, `complete`, `cancel` and `resolve`: one call of the till
//! API each.

use std::process::ExitCode;

use clap::{ArgAction, Args, ValueEnum};
use florin::command_line::{transaction_id, whole_number};
use florin::domain::{TransactionId, UnixTime};
use florin::till::{LIST_LIMIT_DEFAULT, LIST_LIMIT_MAX, PaymentJson, TillClientError};

use crate::till::{TillArguments, failure, print_json, state};

const EXIT_CODES: &str = "\
Exit codes:
   0  done
   1  something else went wrong
   2  wrong arguments
   8  the service cannot be reached, or its answer was lost
   9  the service refuses: the message says why
  10  the configuration is wrong";

const STATUS_EXIT_CODES: &str = "\
Exit codes:
   0  in service
   1  out of service; the reason is printed
   2  wrong arguments
   8  the service cannot be reached, or its answer was lost
   9  the service refuses: the message says why
  10  the configuration is wrong";

/// List payments, newest first; with --open the oldest first.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub struct PaymentsArguments {
    /// Only open payments: those to which something may still happen.
    #[arg(long)]
    open: bool,
    #[arg(
        long,
        value_name = "COUNT",
        default_value_t = LIST_LIMIT_DEFAULT,
        value_parser = whole_number::<u32>("", 1..=LIST_LIMIT_MAX.into()),
        help = format!("How many at most, 1 to {LIST_LIMIT_MAX}"),
    )]
    limit: u32,
    /// Print them as JSON, as the till API gives them.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    till: TillArguments,
}

/// Show whether the terminal can take payments.
#[derive(Debug, Args)]
#[command(after_help = STATUS_EXIT_CODES)]
pub struct StatusArguments {
    /// Print it as JSON, as the till API gives it.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    till: TillArguments,
}

/// Print the service's metrics for monitoring, as OpenMetrics text.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub struct MetricsArguments {
    #[command(flatten)]
    till: TillArguments,
}

/// Say whether the goods of an approved payment were released.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub struct CompleteArguments {
    /// The payment; `florin payments` lists the ids.
    #[arg(value_parser = transaction_id)]
    transaction_id: TransactionId,
    /// Whether the goods were released: true takes the amount, false gives it back.
    #[arg(
        long,
        value_name = "true|false",
        action = ArgAction::Set,
        hide_possible_values = true,
    )]
    dispensed: bool,
    /// Print the payment as a line of JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    till: TillArguments,
}

/// Take an offer back, or give back an approved amount whose goods were not released.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub struct CancelArguments {
    /// The payment; `florin payments` lists the ids.
    #[arg(value_parser = transaction_id)]
    transaction_id: TransactionId,
    /// Print the payment as a line of JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    till: TillArguments,
}

/// End a payment over which the journal and the institution differ, as the institution holds it.
///
/// The terminal settles payments by itself. Where the institution's answer contradicts the journal,
/// `florin status` names the payment, and it waits for a person who knows what the machine did.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub struct ResolveArguments {
    /// The payment; `florin payments --open` lists the ids.
    #[arg(value_parser = transaction_id)]
    transaction_id: TransactionId,
    /// Whether the machine released the goods: look in its own log.
    #[arg(long, value_enum, value_name = "yes|no", hide_possible_values = true)]
    dispensed: Word,
    /// Print the payment as a line of JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    till: TillArguments,
}

/// A person's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Word {
    Yes,
    No,
}

pub async fn list(arguments: PaymentsArguments) -> Result<(), ExitCode> {
    let client = arguments.till.client()?;
    let listed = client.list(arguments.open, arguments.limit).await;
    let list = listed.map_err(|error| failure(&error))?;
    if arguments.json {
        print_json(&list);
    } else if list.payments.is_empty() {
        println!("no payments");
    } else {
        for payment in &list.payments {
            println!("{}", line(payment, florin::service::wall_clock()));
        }
        if let Some(more) = list.more.filter(|more| *more > 0) {
            println!("{more} more, all younger; see more with --limit");
        }
    }
    Ok(())
}

pub async fn status(arguments: StatusArguments) -> Result<(), ExitCode> {
    let status = arguments.till.client()?.status().await.map_err(|error| failure(&error))?;
    if arguments.json {
        print_json(&status);
    } else {
        println!("terminal        {} (short code {})", status.terminal_id, status.short_code);
        match &status.reason {
            None => println!("in service      yes"),
            Some(reason) => println!("in service      no: {reason}"),
        }
        match status.oldest_open_s {
            0 => println!("open payments   {}", status.open_payments),
            age_s => {
                println!("open payments   {}, the oldest for {}", status.open_payments, age(age_s))
            }
        }
        for transaction_id in &status.escalated {
            println!("needs a person  {transaction_id}");
        }
        println!("sticker         {}", status.engagement_link);
        println!("version         {}", status.version);
    }
    if status.in_service { Ok(()) } else { Err(ExitCode::FAILURE) }
}

pub async fn metrics(arguments: MetricsArguments) -> Result<(), ExitCode> {
    let text = arguments.till.client()?.metrics().await.map_err(|error| failure(&error))?;
    print!("{text}");
    Ok(())
}

pub async fn complete(arguments: CompleteArguments) -> Result<(), ExitCode> {
    let id = arguments.transaction_id.to_string();
    show(arguments.till.client()?.complete(&id, arguments.dispensed).await, arguments.json)
}

pub async fn cancel(arguments: CancelArguments) -> Result<(), ExitCode> {
    let id = arguments.transaction_id.to_string();
    show(arguments.till.client()?.cancel(&id).await, arguments.json)
}

pub async fn resolve(arguments: ResolveArguments) -> Result<(), ExitCode> {
    let id = arguments.transaction_id.to_string();
    let dispensed = arguments.dispensed == Word::Yes;
    let resolved = arguments.till.client()?.resolve(&id, dispensed).await;
    if let Ok((payment, _)) = &resolved
        && payment.state == "captured"
        && !dispensed
    {
        eprintln!(
            "florin: the institution has taken the amount, and no goods were released: ask it to \
             refund payment {id}"
        );
    }
    show(resolved, arguments.json)
}

fn show(
    result: Result<(PaymentJson, String), TillClientError>,
    json: bool,
) -> Result<(), ExitCode> {
    let (payment, _) = result.map_err(|error| failure(&error))?;
    if json {
        print_json(&payment);
    } else {
        println!("{}", line(&payment, florin::service::wall_clock()));
    }
    Ok(())
}

/// One payment on a line; for an open one, with how long it has been open.
fn line(payment: &PaymentJson, now: UnixTime) -> String {
    let text = format!(
        "{}  {:>16}  {:<32}  {}  {}",
        payment.created_at,
        payment.amount,
        state(payment),
        payment.transaction_id,
        payment.reference
    );
    let text = text.trim_end();
    match payment.created_at.parse::<UnixTime>() {
        Ok(created_at) if !payment.is_final => {
            let unknown = if payment.disputed {
                "; the institution contradicts the journal: see `florin reconcile`, end it with \
                 `florin resolve`"
            } else if payment.dispense_unknown {
                "; released or not? say it with `florin complete`"
            } else {
                ""
            };
            format!(
                "{text}  [open for {}{unknown}]",
                age(now.seconds.saturating_sub(created_at.seconds))
            )
        }
        Ok(_) | Err(_) => text.to_owned(),
    }
}

/// A duration for people, rounded down: `40 s`, `5 min`, `3 h`, `12 d`.
fn age(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_told_in_the_unit_that_fits() {
        for (seconds, text) in [
            (0, "0 s"),
            (119, "119 s"),
            (120, "2 min"),
            (7_199, "119 min"),
            (7_200, "2 h"),
            (172_800, "2 d"),
        ] {
            assert_eq!(age(seconds), text);
        }
    }
}
