//! `florin reconcile`: compares the journal with the institution's books for a period.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use florin::domain::UnixTime;
use florin::plural::counted;
use florin::service::{CONFIGURATION_PATH, grpc_relay, reconcile, wall_clock};
use florin::terminal::{Reconciliation, Total, TotalKey};
use serde::Serialize;

use crate::configuration::configuration;
use crate::till::{USAGE, print_json};

/// The two sides differ.
const DIFFERS: u8 = 20;
/// How many days back a comparison goes if --from is not given: some nights may be missed.
const DAYS_BACK: u64 = 7;
/// How many days ahead a comparison goes if --until is not given: the institution's clock may be
/// ahead of this machine's.
const DAYS_AHEAD: u64 = 1;
const SECONDS_PER_DAY: u64 = 86_400;

pub fn default_from() -> String {
    format!("[default: {} ago]", counted(DAYS_BACK, "day", "days"))
}

pub fn default_until() -> String {
    let days = counted(DAYS_AHEAD, "day", "days");
    format!("[default: {days} from now, as the institution's clock may be ahead]")
}

/// Compare the journal with the institution's books.
///
/// Lists every payment over which the two differ, and what to do about it. Changes nothing, and can
/// run beside the service.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes:
   0  they agree; payments that are still being settled are no difference
   1  something else went wrong
   2  wrong arguments
  10  the configuration is wrong
  11  not enrolled, or the enrolment cannot be used
  12  a certificate is not good now
  14  the journal cannot be read
  19  the institution cannot be reached, or does not answer
  20  they differ: each payment is named")]
pub struct ReconcileArguments {
    /// The configuration of the service.
    #[arg(long, value_name = "FILE", default_value = CONFIGURATION_PATH)]
    configuration: PathBuf,
    #[arg(
        long,
        value_name = "TIME",
        help = format!(
            "From this time on, in UTC, such as 2026-11-23 or 2026-11-23T06:00:00Z {}",
            default_from()
        ),
    )]
    from: Option<UnixTime>,
    #[arg(
        long,
        value_name = "TIME",
        help = format!("Up to this time, which is not included {}", default_until()),
    )]
    until: Option<UnixTime>,
    /// Print one line of JSON.
    #[arg(long)]
    json: bool,
}

pub async fn run(arguments: ReconcileArguments) -> ExitCode {
    let (from, until) = period(arguments.from, arguments.until, wall_clock());
    if until <= from {
        eprintln!("florin reconcile: the period ends ({until}) before it begins ({from})");
        return ExitCode::from(USAGE);
    }
    let compared = match configuration(&arguments.configuration) {
        Ok(configuration) => reconcile(&configuration, grpc_relay, from, until).await,
        Err(error) => Err(error),
    };
    let reconciliation = match compared {
        Ok(reconciliation) => reconciliation,
        Err(error) => {
            eprintln!("florin reconcile: {error}");
            return error.exit().into();
        }
    };
    if arguments.json {
        print_json(&ReconciliationJson::of(&reconciliation, from, until));
    } else {
        print(&reconciliation, from, until);
    }
    if reconciliation.agrees() { ExitCode::SUCCESS } else { ExitCode::from(DIFFERS) }
}

/// The period that is given, with the defaults for what is not.
fn period(from: Option<UnixTime>, until: Option<UnixTime>, now: UnixTime) -> (UnixTime, UnixTime) {
    let back = now.seconds.saturating_sub(DAYS_BACK * SECONDS_PER_DAY);
    let ahead = now.seconds.saturating_add(DAYS_AHEAD * SECONDS_PER_DAY);
    (from.unwrap_or(UnixTime { seconds: back }), until.unwrap_or(UnixTime { seconds: ahead }))
}

fn print(reconciliation: &Reconciliation, from: UnixTime, until: UnixTime) {
    let compared = counted(reconciliation.compared, "payment", "payments");
    println!("from {from} until {until}: {compared} compared");
    if !reconciliation.totals.is_empty() {
        println!("{:<10}  {:<8}  {:>24}  {:>24}", "day", "state", "journal", "institution");
    }
    for (key, [here, there]) in &reconciliation.totals {
        let mark = if here == there { "" } else { "  <- not equal" };
        println!(
            "{:<10}  {:<8}  {:>24}  {:>24}{mark}",
            day(key),
            key.state,
            sum(here, key),
            sum(there, key)
        );
    }
    for transaction_id in &reconciliation.settling {
        println!("{transaction_id}  still being settled");
    }
    for finding in &reconciliation.findings {
        let here = finding
            .here
            .map_or("not known".to_owned(), |(state, amount)| format!("{} {amount}", state.name()));
        let (state, amount) = &finding.there;
        let amount = amount.map_or(String::new(), |amount| format!(" {amount}"));
        println!(
            "{}  {}: journal {here}, institution {}{amount}\n    {}",
            finding.transaction_id,
            finding.difference.name(),
            state.name(),
            finding.difference
        );
    }
    if reconciliation.agrees() && reconciliation.settling.is_empty() {
        println!("they agree");
    } else if reconciliation.agrees() {
        println!("they agree; payments that are still being settled can make the sums differ");
    } else {
        println!("{}", difference(reconciliation.findings.len() as u64));
    }
}

fn difference(payments: u64) -> String {
    format!("they differ over {}", counted(payments, "payment", "payments"))
}

fn day(key: &TotalKey) -> String {
    key.day.to_string().chars().take(10).collect()
}

fn sum(total: &Total, key: &TotalKey) -> String {
    format!("{} in {}", key.currency.format_minor(total.amount_minor), total.count)
}

#[derive(Serialize)]
struct ReconciliationJson {
    from: String,
    until: String,
    agrees: bool,
    compared: u64,
    settling: Vec<String>,
    differences: Vec<DifferenceJson>,
    totals: Vec<TotalJson>,
}

#[derive(Serialize)]
struct DifferenceJson {
    transaction_id: String,
    difference: &'static str,
    advice: String,
    journal_state: Option<&'static str>,
    journal_amount: Option<String>,
    institution_state: &'static str,
    institution_amount: Option<String>,
}

#[derive(Serialize)]
struct TotalJson {
    day: String,
    currency: String,
    state: &'static str,
    journal_count: u64,
    journal_amount_minor: u64,
    institution_count: u64,
    institution_amount_minor: u64,
}

impl ReconciliationJson {
    fn of(reconciliation: &Reconciliation, from: UnixTime, until: UnixTime) -> Self {
        let differences = reconciliation.findings.iter().map(|finding| DifferenceJson {
            transaction_id: finding.transaction_id.to_string(),
            difference: finding.difference.name(),
            advice: finding.difference.to_string(),
            journal_state: finding.here.map(|(state, _)| state.name()),
            journal_amount: finding.here.map(|(_, amount)| amount.to_string()),
            institution_state: finding.there.0.name(),
            institution_amount: finding.there.1.map(|amount| amount.to_string()),
        });
        let totals = reconciliation.totals.iter().map(|(key, [here, there])| TotalJson {
            day: day(key),
            currency: key.currency.to_string(),
            state: key.state,
            journal_count: here.count,
            journal_amount_minor: here.amount_minor,
            institution_count: there.count,
            institution_amount_minor: there.amount_minor,
        });
        Self {
            from: from.to_string(),
            until: until.to_string(),
            agrees: reconciliation.agrees(),
            compared: reconciliation.compared,
            settling: reconciliation.settling.iter().map(ToString::to_string).collect(),
            differences: differences.collect(),
            totals: totals.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_payment_is_not_payments() {
        assert_eq!(difference(1), "they differ over 1 payment");
        assert_eq!(difference(2), "they differ over 2 payments");
    }

    #[test]
    fn the_default_period_is_the_one_that_the_help_names() {
        assert_eq!(default_from(), "[default: 7 days ago]");
        assert_eq!(
            default_until(),
            "[default: 1 day from now, as the institution's clock may be ahead]"
        );
        let now = UnixTime { seconds: 100 * SECONDS_PER_DAY };
        let (from, until) = period(None, None, now);
        assert_eq!(now.seconds - from.seconds, 7 * SECONDS_PER_DAY);
        assert_eq!(until.seconds - now.seconds, SECONDS_PER_DAY);
    }
}
