//! `florin payments`, `status`, `complete`, `cancel`: one call of the till API each.

use std::process::ExitCode;

use clap::Args;
use florin::domain::TransactionId;
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

/// List payments, newest first.
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
            println!("{}", line(payment));
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
        println!("open payments   {}", status.open_payments);
        println!("sticker         {}", status.engagement_link);
        println!("version         {}", status.version);
    }
    if status.in_service { ExitCode::SUCCESS } else { ExitCode::FAILURE }
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
        Ok((payment, _)) => println!("{}", line(&payment)),
        Err(error) => return failure(&error),
    }
    ExitCode::SUCCESS
}

/// One payment on a line.
fn line(payment: &PaymentJson) -> String {
    let text = format!(
        "{}  {:>16}  {:<32}  {}  {}",
        payment.created_at,
        payment.amount,
        state(payment),
        payment.transaction_id,
        payment.reference
    );
    text.trim_end().to_owned()
}
