//! What the demo tells, for people and for programs.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use florin::domain::{Amount, Receipt, ReceiptStatus};
use florin::plural::counted;
use serde::Serialize;

use super::scenario::Scenario;

/// One thing that is told.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// What is about to be played.
    Begin {
        /// As on the command line.
        scenario: &'static str,
        /// Such as `2.50 EUR`.
        amount: String,
        /// Where all files are kept; none if they are removed at the end.
        #[serde(skip_serializing_if = "Option::is_none")]
        directory: Option<String>,
    },
    /// One party told another something.
    Step {
        /// Since the payment began, in milliseconds.
        at_ms: f64,
        from: &'static str,
        to: &'static str,
        what: String,
        /// How much, where it went over the air; without ATT headers.
        #[serde(skip_serializing_if = "Option::is_none")]
        octets: Option<usize>,
        /// How long the answer took, in milliseconds.
        #[serde(skip_serializing_if = "Option::is_none")]
        took_ms: Option<f64>,
    },
    /// What the demo itself does.
    Note { what: String },
    /// What the person holds in the end.
    Receipt {
        /// The wallet's name for the outcome.
        outcome: &'static str,
        /// What the person is told.
        message: String,
        /// The institution's signature was verified.
        verified: bool,
        merchant: String,
        amount: String,
        approval_code: String,
        /// The person was told that the outcome is open.
        is_pending: bool,
    },
    /// One record of the terminal's journal.
    Journal {
        record: u64,
        at: String,
        /// The payment's state then.
        state: &'static str,
        /// Empty if there is none.
        reason: &'static str,
    },
    /// One entry of the institution's ledger.
    Ledger {
        entry: i64,
        /// Funding, hold, capture, reversal.
        kind: String,
        /// Ledger account and amount, such as `available 1 -2.50 EUR`.
        postings: Vec<String>,
    },
    Summary {
        /// As on the command line.
        scenario: &'static str,
        /// How it ended for the till: `approved`, `declined`, `reversed`, ...
        outcome: &'static str,
        /// Empty if there is none.
        reason: &'static str,
        /// How it ended for the wallet.
        wallet_outcome: &'static str,
        /// The money was taken.
        captured: bool,
        /// The money was given back.
        reversed: bool,
        /// The ledger was checked and is right.
        ledger_balanced: bool,
        /// From the subscribed outbox to the result.
        round_trips: u32,
        /// Over the air, with fragment and ATT headers.
        octets_to_phone: u64,
        /// Over the air, with fragment and ATT headers.
        octets_to_terminal: u64,
        /// From hello to result, with the time that each party took.
        hello_to_result_ms: Option<f64>,
        transaction_id: String,
    },
}

/// Where the events go. Copies tell the same story.
#[derive(Debug, Clone)]
pub struct Story {
    json: bool,
    colour: bool,
    start: Arc<Mutex<Instant>>,
}

impl Story {
    /// A story on standard output: one JSON object a line, or text.
    pub fn new(json: bool) -> Self {
        let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { json, colour, start: Arc::new(Mutex::new(Instant::now())) }
    }

    /// Time counts from now.
    pub(super) fn restart(&self) {
        *self.start.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    pub(super) fn begin(&self, amount: Amount, scenario: Scenario, kept_in: Option<&Path>) {
        self.tell(Event::Begin {
            scenario: scenario.name(),
            amount: amount.to_string(),
            directory: kept_in.map(|directory| directory.display().to_string()),
        });
        self.restart();
    }

    pub(super) fn note(&self, what: &str) {
        self.tell(Event::Note { what: what.to_owned() });
    }

    pub(super) fn step(
        &self,
        from: &'static str,
        to: &'static str,
        what: String,
        octets: Option<usize>,
    ) {
        self.timed_step(from, to, what, octets, None);
    }

    pub(super) fn timed_step(
        &self,
        from: &'static str,
        to: &'static str,
        what: String,
        octets: Option<usize>,
        took: Option<Duration>,
    ) {
        let at = self.start.lock().unwrap_or_else(PoisonError::into_inner).elapsed();
        let took_ms = took.map(milliseconds);
        self.tell(Event::Step { at_ms: milliseconds(at), from, to, what, octets, took_ms });
    }

    pub(super) fn tell(&self, event: Event) {
        let line = if self.json {
            // Every field is a plain value, which always serialises.
            serde_json::to_string(&event).unwrap_or_default()
        } else {
            self.text(&event)
        };
        // A closed pipe is no reason to fail.
        let _ = writeln!(std::io::stdout().lock(), "{line}");
    }

    fn text(&self, event: &Event) -> String {
        match event {
            Event::Begin { scenario, amount, directory } => {
                let kept = directory
                    .as_ref()
                    .map(|directory| format!("; all files are kept in {directory}"))
                    .unwrap_or_default();
                self.bold(&format!("Paying {amount} ({scenario}){kept}"))
            }
            Event::Step { at_ms, from, to, what, octets, took_ms } => {
                let octets = octets
                    .map(|octets| format!("  {}", counted(octets as u64, "octet", "octets")))
                    .unwrap_or_default();
                let took = took_ms.map(|took| format!("  after {took:.1} ms")).unwrap_or_default();
                format!("{at_ms:8.1} ms  {from:>11} → {to:<11}  {what}{octets}{took}")
            }
            Event::Note { what } => self.dim(&format!("             ({what})")),
            Event::Receipt { message, verified, merchant, amount, approval_code, .. } => {
                let verified = if *verified {
                    "the institution's signature is verified"
                } else {
                    "no receipt that proves it"
                };
                let code = if approval_code.is_empty() {
                    String::new()
                } else {
                    format!(", approval code {approval_code}")
                };
                let title = self.bold("On the phone");
                format!("\n{title}\n  {merchant}, {amount}{code}\n  {message}\n  ({verified})\n")
            }
            Event::Journal { record, at, state, reason } => {
                let reason = if reason.is_empty() { String::new() } else { format!(" ({reason})") };
                format!("Journal {record:>3}  {at}  {state}{reason}")
            }
            Event::Ledger { entry, kind, postings } => {
                format!("Ledger  {entry:>3}  {kind:<9} {}", postings.join(", "))
            }
            Event::Summary {
                outcome,
                reason,
                ledger_balanced,
                round_trips,
                octets_to_phone,
                octets_to_terminal,
                hello_to_result_ms,
                ..
            } => {
                let reason = if reason.is_empty() { String::new() } else { format!(" ({reason})") };
                let time = hello_to_result_ms
                    .map(|time| format!("{time:.1} ms from hello to result"))
                    .unwrap_or_else(|| "no result".into());
                let books =
                    if *ledger_balanced { "the ledger is right" } else { "THE LEDGER IS WRONG" };
                let title = self.bold(&format!("Outcome: {outcome}{reason}"));
                format!(
                    "\n{title}\n  {}, {} to the terminal and {octets_to_phone} to the phone, \
                     {time}; {books}",
                    counted((*round_trips).into(), "round trip", "round trips"),
                    counted(*octets_to_terminal, "octet", "octets"),
                )
            }
        }
    }

    fn bold(&self, text: &str) -> String {
        if self.colour { format!("\u{1b}[1m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    fn dim(&self, text: &str) -> String {
        if self.colour { format!("\u{1b}[2m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// With three decimals.
pub(super) fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1_000_000.0).round() / 1_000.0
}

/// The code that the card's holder can quote.
pub(super) fn approval_code(receipt: &Receipt) -> Option<String> {
    match &receipt.status {
        ReceiptStatus::Approved { approval_code }
        | ReceiptStatus::Captured { approval_code, .. } => Some(approval_code.clone()),
        ReceiptStatus::Declined(_) | ReceiptStatus::Reversed => None,
    }
}
