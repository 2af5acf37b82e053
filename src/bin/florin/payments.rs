//! `florin payments`, `status`, `metrics`, `complete`, `cancel`: one call of the till API each.

use std::process::ExitCode;

use clap::Args;
use florin::domain::{TransactionId, UnixTime};
use florin::till::{PaymentJson, TillClientError};

use crate::till::{TillArguments, failure, print_json, state, transaction_id};

const EXIT_CODES: &str = "\
Exit codes:
   0  done
   2  wrong arguments
   8  the service cannot be reached
   9  the service refuses";

const STATUS_EXIT_CODES: &str = "\
Exit codes:
   0  in service
   1  out of service; the reason is printed
   2  wrong arguments
   8  the service cannot be reached
   9  the service refuses";

/// List payments, newest first; with `--open` the oldest first.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub struct PaymentsArguments {
    /// Only those to which something may still happen.
    #[arg(long)]
    open: bool,
    /// How many at most, 1 to 1000.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    /// Print them as the till API gives them.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    till: TillArguments,
}

/// Show whether the terminal can take payments.
#[derive(Debug, Args)]
#[command(after_help = STATUS_EXIT_CODES)]
pub struct StatusArguments {
    /// Print it as the till API gives it.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    till: TillArguments,
}

/// Print the service's figures for monitoring, as OpenMetrics text.
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
    /// Which payment.
    #[arg(value_parser = transaction_id)]
    transaction_id: TransactionId,
    /// Were the goods released? True takes the amount, false gives it back.
    #[arg(long, value_name = "true|false", action = clap::ArgAction::Set)]
    dispensed: bool,
    /// Print the payment as a line of JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    till: TillArguments,
}

/// Take an offer back, or give back what was approved and not released.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub struct CancelArguments {
    /// Which payment.
    #[arg(value_parser = transaction_id)]
    transaction_id: TransactionId,
    /// Print the payment as a line of JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    till: TillArguments,
}

pub async fn list(arguments: PaymentsArguments) -> ExitCode {
    let list = match arguments.till.client().list(arguments.open, arguments.limit).await {
        Ok(list) => list,
        Err(error) => return failure(&error),
    };
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
    ExitCode::SUCCESS
}

pub async fn status(arguments: StatusArguments) -> ExitCode {
    let status = match arguments.till.client().status().await {
        Ok(status) => status,
        Err(error) => return failure(&error),
    };
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
            age_s => println!(
                "open payments   {}, the oldest since {}",
                status.open_payments,
                age(age_s)
            ),
        }
        for transaction_id in &status.escalated {
            println!("open too long   {transaction_id}");
        }
        println!("sticker         {}", status.engagement_link);
        println!("version         {}", status.version);
    }
    if status.in_service { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

pub async fn metrics(arguments: MetricsArguments) -> ExitCode {
    match arguments.till.client().metrics().await {
        Ok(text) => print!("{text}"),
        Err(error) => return failure(&error),
    }
    ExitCode::SUCCESS
}

pub async fn complete(arguments: CompleteArguments) -> ExitCode {
    let id = arguments.transaction_id.to_string();
    show(arguments.till.client().complete(&id, arguments.dispensed).await, arguments.json)
}

pub async fn cancel(arguments: CancelArguments) -> ExitCode {
    let id = arguments.transaction_id.to_string();
    show(arguments.till.client().cancel(&id).await, arguments.json)
}

fn show(result: Result<(PaymentJson, String), TillClientError>, json: bool) -> ExitCode {
    match result {
        Ok((payment, _)) if json => print_json(&payment),
        Ok((payment, _)) => println!("{}", line(&payment, florin::service::wall_clock())),
        Err(error) => return failure(&error),
    }
    ExitCode::SUCCESS
}

/// One payment on a line; of one that is open, for how long.
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
            let unknown = if payment.dispense_unknown {
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

/// A length of time for people, rounded down: `40 s`, `5 min`, `3 h`, `12 d`.
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
