//! What is printed, for people or for programs, and what the exit code is.

use std::io::{self, IsTerminal, Write};

use florin::domain::{
    Currency, DeclineReason, LineItem, Offer, Receipt, ReceiptStatus, UnixTime, displayable,
};
use florin::wallet::{NotPaid, Notice, OfferView, SessionEnd};
use serde_json::{Map, Value, json};
use tokio::time::Instant;

/// Prints to standard output, for people or for programs.
#[derive(Debug, Clone, Copy)]
pub struct Screen {
    is_json: bool,
    has_colour: bool,
    started: Instant,
}

/// The colour or weight of a word, on terminals that have it.
#[derive(Debug, Clone, Copy)]
pub enum Style {
    Good,
    Bad,
    Doubtful,
    Strong,
    Faint,
}

impl Screen {
    /// For people, in colour where standard output is a terminal and NO_COLOR is not set; or for
    /// programs.
    pub fn new(is_json: bool) -> Self {
        let is_plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let has_colour = !is_json && !is_plain && io::stdout().is_terminal();
        Self { is_json, has_colour, started: Instant::now() }
    }

    /// A word in this style, if the terminal has colours.
    pub fn styled(&self, style: Style, text: &str) -> String {
        let code = match style {
            Style::Good => "1;32",
            Style::Bad => "1;31",
            Style::Doubtful => "1;33",
            Style::Strong => "1",
            Style::Faint => "2",
        };
        if self.has_colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Prints a line for people; nothing for programs.
    pub fn say(&self, text: &str) {
        if !self.is_json {
            print(text);
        }
    }

    /// Prints an event for programs; nothing for people. The time since the start is added.
    pub fn event(&self, mut event: Value) {
        if self.is_json {
            if let Some(fields) = event.as_object_mut() {
                let elapsed_ms =
                    u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
                fields.insert("elapsed_ms".to_owned(), json!(elapsed_ms));
            }
            print(&event.to_string());
        }
    }

    /// Shows what happens in a session.
    pub fn notice(&self, notice: &Notice) {
        match notice {
            Notice::MessageSent { message, octets } => {
                self.event(json!({ "event": "said", "message": message, "octets": octets }));
            }
            Notice::MessageReceived { message, octets } => {
                self.event(json!({ "event": "heard", "message": message, "octets": octets }));
            }
            Notice::NothingToPay => {
                self.event(json!({ "event": "nothing_to_pay" }));
                self.say("Nothing to pay yet. Order at the machine; this wallet waits.");
            }
            Notice::CommandSent => {
                self.event(json!({ "event": "command_sent" }));
                self.say(&self.styled(Style::Faint, "Sent to your bank through the machine ..."));
            }
            Notice::Working => self.event(json!({ "event": "working" })),
            Notice::Pending => {
                self.event(json!({ "event": "pending" }));
                self.say(&self.styled(
                    Style::Doubtful,
                    "Your bank has not answered yet; waiting a little ...",
                ));
            }
            Notice::Unproven(word) => {
                self.event(json!({ "event": "unproven", "reason": word.name() }));
                let line = format!("The machine says: {word}. Waiting for your bank's word ...");
                self.say(&self.styled(Style::Doubtful, &line));
            }
            Notice::Reserved(receipt) => {
                self.event(json!({
                    "event": "reserved",
                    "amount_minor": receipt.amount.minor(),
                    "currency": receipt.amount.currency().to_string(),
                }));
                let reserved = self.styled(Style::Good, &format!("{} reserved.", receipt.amount));
                self.say(&format!("{reserved} Waiting until the machine released the goods ..."));
            }
        }
    }

    /// Shows what is to be paid.
    pub fn offer(&self, view: &OfferView) {
        let offer = &view.offer;
        let items: Vec<Value> = offer
            .items()
            .iter()
            .map(|item| {
                json!({
                    "name": item.name,
                    "quantity": item.quantity,
                    "amount_minor": item.amount_minor,
                })
            })
            .collect();
        self.event(json!({
            "event": "offer",
            "transaction_id": offer.transaction_id().to_string(),
            "terminal_id": offer.terminal_id().to_string(),
            "merchant": offer.merchant_name(),
            "amount_minor": offer.amount().minor(),
            "currency": offer.amount().currency().to_string(),
            "reference": offer.reference(),
            "items": items,
            "matching_code": view.matching_code,
        }));
        if self.is_json {
            return;
        }
        print(&format!(
            "{} wants {}",
            self.styled(Style::Strong, &displayable(offer.merchant_name())),
            self.styled(Style::Strong, &offer.amount().to_string())
        ));
        for item in offer.items() {
            print(&item_line(item, offer.amount().currency()));
        }
        if !offer.reference().is_empty() {
            print(&format!("  reference  {}", displayable(offer.reference())));
        }
        print(&format!("  machine    {}", offer.terminal_id()));
        print(&format!(
            "  matching   {}  (the machine's screen shows the same)",
            self.styled(Style::Strong, &view.matching_code)
        ));
    }

    /// Shows how a payment or a question for a result ended; returns the exit code.
    pub fn end(&self, end: &SessionEnd, context: &SessionContext<'_>) -> u8 {
        let code = exit_code(end);
        let error = match end {
            SessionEnd::Settled(receipt) if is_paid(receipt) => None,
            SessionEnd::Reserved(_) => None,
            SessionEnd::Settled(_)
            | SessionEnd::Pending(_)
            | SessionEnd::NotCharged(_)
            | SessionEnd::Unproven(_)
            | SessionEnd::NotProven(_)
            | SessionEnd::NotPaid(_)
            | SessionEnd::Refused(_)
            | SessionEnd::LinkFailed(_)
            | SessionEnd::StoreFailed => Some(end.message()),
        };
        let approval_code = end.receipt().and_then(approval_code);
        let mut event = Outcome { name: end.name(), error, exit_code: code }.to_json();
        event.extend(about(context.offer, context.matching_code));
        event.insert("approval_code".to_owned(), json!(approval_code));
        event.insert("receipt_verified".to_owned(), json!(end.receipt().is_some()));
        event.insert(
            "decline_reason".to_owned(),
            json!(end.decline_reason().map(|reason| reason.name())),
        );
        event.insert("reason".to_owned(), json!(end.reason()));
        event.insert("refunded_minor".to_owned(), json!(end.receipt().and_then(refunded_minor)));
        self.event(Value::Object(event));
        if self.is_json {
            return code;
        }
        let style = match code {
            0 => Style::Good,
            3 | 4 => Style::Bad,
            5 | 12 => Style::Doubtful,
            _ => Style::Strong,
        };
        print(&self.styled(style, &end.message()));
        if let Some(advice) = advice(end) {
            print(advice);
        }
        if let Some(receipt) = end.receipt() {
            if let Some(approval_code) = approval_code {
                print(&format!("  approval   {approval_code}"));
            }
            print(&format!(
                "  decided    {}  by your bank, its signature verified",
                receipt.decided_at
            ));
        }
        if let Some(offer) = context.offer {
            print(&format!("  payment    {}", offer.transaction_id()));
        }
        code
    }

    /// Shows the last event if there was no session; returns the exit code.
    pub fn failed(
        &self,
        name: &'static str,
        error: &str,
        exit_code: u8,
        offer: Option<&Offer>,
    ) -> u8 {
        let mut event = Outcome { name, error: Some(error.to_owned()), exit_code }.to_json();
        event.extend(about(offer, None));
        self.event(Value::Object(event));
        self.complain(error);
        exit_code
    }

    /// Prints for people, on standard error, what went wrong.
    pub fn complain(&self, error: &str) {
        if !self.is_json {
            // If standard error is closed, nobody can be told.
            let _ = writeln!(io::stderr(), "florin-wallet: {error}");
        }
    }
}

/// What this program can do about it.
fn advice(end: &SessionEnd) -> Option<&'static str> {
    (end.decline_reason()? == DeclineReason::CounterReplayed).then_some(
        "If this wallet was restored from a copy, run `florin-wallet refresh` and pay again. If it \
         was not, somebody may have copied the card.",
    )
}

/// What a session was about.
#[derive(Debug, Clone, Copy)]
pub struct SessionContext<'a> {
    pub offer: Option<&'a Offer>,
    pub matching_code: Option<&'a str>,
}

/// One line of what is paid for. It can cost nothing.
fn item_line(item: &LineItem, currency: Currency) -> String {
    let amount = currency.format_minor(item.amount_minor);
    format!("  {:>3} x {:<32} {amount:>12}", item.quantity, displayable(&item.name))
}

struct Outcome {
    name: &'static str,
    error: Option<String>,
    exit_code: u8,
}

impl Outcome {
    fn to_json(&self) -> Map<String, Value> {
        let mut fields = Map::new();
        fields.insert("event".to_owned(), json!("outcome"));
        fields.insert("outcome".to_owned(), json!(self.name));
        fields.insert("error".to_owned(), json!(self.error));
        fields.insert("exit_code".to_owned(), json!(self.exit_code));
        for field in ["approval_code", "decline_reason", "reason", "refunded_minor"] {
            fields.insert(field.to_owned(), Value::Null);
        }
        fields.insert("receipt_verified".to_owned(), json!(false));
        fields
    }
}

fn about(offer: Option<&Offer>, matching_code: Option<&str>) -> Map<String, Value> {
    let mut fields = Map::new();
    fields.insert(
        "transaction_id".to_owned(),
        json!(offer.map(|offer| offer.transaction_id().to_string())),
    );
    fields.insert("amount_minor".to_owned(), json!(offer.map(|offer| offer.amount().minor())));
    fields.insert(
        "currency".to_owned(),
        json!(offer.map(|offer| offer.amount().currency().to_string())),
    );
    fields.insert("merchant".to_owned(), json!(offer.map(Offer::merchant_name)));
    fields.insert(
        "terminal_id".to_owned(),
        json!(offer.map(|offer| offer.terminal_id().to_string())),
    );
    fields.insert("matching_code".to_owned(), json!(matching_code));
    fields
}

/// The code to quote when asking the bank.
pub fn approval_code(receipt: &Receipt) -> Option<String> {
    match &receipt.status {
        ReceiptStatus::Approved { approval_code }
        | ReceiptStatus::Captured { approval_code, .. } => Some(approval_code.clone()),
        ReceiptStatus::Declined(_) | ReceiptStatus::Reversed => None,
    }
}

/// What was given back, for a list; nothing if it was nothing.
pub fn refund_words(currency: Currency, refunded_minor: Option<u64>) -> String {
    match refunded_minor {
        None | Some(0) => String::new(),
        Some(refunded_minor) => format!(", {} refunded", currency.format_minor(refunded_minor)),
    }
}

/// Whether the amount was taken, or is as good as taken.
fn is_paid(receipt: &Receipt) -> bool {
    match receipt.status {
        ReceiptStatus::Approved { .. } | ReceiptStatus::Captured { .. } => true,
        ReceiptStatus::Declined(_) | ReceiptStatus::Reversed => false,
    }
}

/// What was given back of an amount that was taken.
pub fn refunded_minor(receipt: &Receipt) -> Option<u64> {
    match receipt.status {
        ReceiptStatus::Captured { refunded_minor, .. } => Some(refunded_minor),
        ReceiptStatus::Approved { .. } | ReceiptStatus::Declined(_) | ReceiptStatus::Reversed => {
            None
        }
    }
}

/// The exit code of each end of a session. `arguments.rs` lists the codes for people.
fn exit_code(end: &SessionEnd) -> u8 {
    match end {
        SessionEnd::Settled(receipt) => match receipt.status {
            ReceiptStatus::Approved { .. } | ReceiptStatus::Captured { .. } => 0,
            ReceiptStatus::Declined(_) => 3,
            ReceiptStatus::Reversed => 6,
        },
        SessionEnd::Reserved(_) => 0,
        SessionEnd::Refused(_) => 4,
        SessionEnd::Pending(_) => 5,
        SessionEnd::NotPaid(NotPaid::TerminalMisbehaves(_)) | SessionEnd::LinkFailed(_) => 8,
        SessionEnd::NotPaid(_) | SessionEnd::NotCharged(_) => 6,
        SessionEnd::Unproven(_) | SessionEnd::NotProven(_) => 12,
        SessionEnd::StoreFailed => 11,
    }
}

/// Prints a line to standard output. It is no error if the reader has closed it.
pub fn print(line: &str) {
    let mut stdout = io::stdout().lock();
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}

/// The phone's clock.
pub fn wall_clock() -> UnixTime {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    // A clock before 1970 was never set; the session reports it.
    UnixTime { seconds: since.map_or(0, |since| since.as_secs()) }
}

#[cfg(test)]
mod tests {
    use florin::domain::{CommandDigest, Exclusion, TransactionId};
    use florin::wallet::{LinkFault, PendingReason, ReceiptFault, Refusal, TerminalWord};

    use super::*;

    fn receipt(status: ReceiptStatus) -> Receipt {
        Receipt {
            transaction_id: TransactionId::from_random([1; 16]),
            offer_digest: florin::domain::OfferDigest([0; 32]),
            command_digest: CommandDigest([0; 32]),
            status,
            amount: "2.50 EUR".parse().unwrap(),
            terminal_id: "0123456789".parse().unwrap(),
            decided_at: UnixTime { seconds: 0 },
        }
    }

    fn settled(status: ReceiptStatus) -> SessionEnd {
        SessionEnd::Settled(receipt(status))
    }

    fn not_charged() -> SessionEnd {
        SessionEnd::NotCharged(Exclusion {
            transaction_id: TransactionId::from_random([1; 16]),
            terminal_id: "0123456789".parse().unwrap(),
            command_digest: None,
            decided_at: UnixTime { seconds: 0 },
        })
    }

    #[test]
    fn every_end_has_its_exit_code_and_only_a_proven_payment_is_success() {
        for (end, code) in [
            (settled(ReceiptStatus::Approved { approval_code: "123456".into() }), 0),
            (settled(ReceiptStatus::Declined(florin::domain::DeclineReason::InsufficientFunds)), 3),
            (settled(ReceiptStatus::Reversed), 6),
            (
                settled(ReceiptStatus::Captured {
                    approval_code: "123456".into(),
                    refunded_minor: 50,
                }),
                0,
            ),
            (
                SessionEnd::Reserved(receipt(ReceiptStatus::Approved {
                    approval_code: "123456".into(),
                })),
                0,
            ),
            (SessionEnd::Refused(Refusal::LookAlike), 4),
            (SessionEnd::NotProven(ReceiptFault::Missing), 12),
            (SessionEnd::Unproven(TerminalWord::Taken), 12),
            (SessionEnd::Pending(PendingReason::LinkLost), 5),
            (SessionEnd::NotPaid(NotPaid::Declined), 6),
            (not_charged(), 6),
            (SessionEnd::LinkFailed(LinkFault::Lost), 8),
            (SessionEnd::StoreFailed, 11),
        ] {
            assert_eq!(exit_code(&end), code, "{end:?}");
            let message = end.message();
            assert!(message.ends_with('.') && !message.ends_with(".."), "{message}");
        }
    }

    #[test]
    fn the_manual_names_every_outcome_with_its_exit_code() {
        let manual = include_str!("../../../docs/wallet.md");
        let rows: Vec<&str> = manual.lines().filter(|line| line.starts_with("| `")).collect();
        for end in [
            settled(ReceiptStatus::Approved { approval_code: String::new() }),
            settled(ReceiptStatus::Captured { approval_code: String::new(), refunded_minor: 0 }),
            settled(ReceiptStatus::Declined(florin::domain::DeclineReason::OverLimit)),
            settled(ReceiptStatus::Reversed),
            SessionEnd::Reserved(receipt(ReceiptStatus::Reversed)),
            not_charged(),
            SessionEnd::Pending(PendingReason::LinkLost),
            SessionEnd::Unproven(TerminalWord::Taken),
            SessionEnd::NotProven(ReceiptFault::Missing),
            SessionEnd::NotPaid(NotPaid::Declined),
            SessionEnd::NotPaid(NotPaid::NothingToPay),
            SessionEnd::Refused(Refusal::LookAlike),
            SessionEnd::LinkFailed(LinkFault::Lost),
            SessionEnd::StoreFailed,
        ] {
            let (name, code) = (format!("`{}`", end.name()), format!("| {} |", exit_code(&end)));
            let is_there = rows.iter().any(|row| row.contains(&name) && row.contains(&code));
            assert!(is_there, "docs/wallet.md has no row with {name} and {code}");
        }
    }

    #[test]
    fn an_item_that_costs_nothing_shows_so() {
        let water = LineItem { name: "Water".into(), quantity: 1, amount_minor: 0 };
        assert!(item_line(&water, "EUR".parse().unwrap()).ends_with(" 0.00 EUR"));
        assert!(item_line(&water, "JPY".parse().unwrap()).ends_with(" 0 JPY"));
    }

    #[test]
    fn a_counter_that_was_used_leads_to_the_command_that_mends_it() {
        let declined = |reason| settled(ReceiptStatus::Declined(reason));
        let advice = super::advice(&declined(DeclineReason::CounterReplayed)).unwrap();
        assert!(advice.contains("florin-wallet refresh"), "{advice}");
        assert_eq!(super::advice(&declined(DeclineReason::OverLimit)), None);
    }

    #[test]
    fn text_of_others_cannot_paint_over_the_amount() {
        assert_eq!(displayable("Caf\u{202e}é\u{1b}[2J"), "Caf\u{fffd}é\u{fffd}[2J");
    }
}
