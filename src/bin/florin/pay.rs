//! `florin pay`: offers a payment, shows how it goes, and ends with a code that a script can use.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use florin::domain::{Amount, Currency};
use florin::till::{NewPayment, NewPaymentItem, PaymentJson, TillClient, TillClientError};
use rand::TryRngCore;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep, timeout_at};

use crate::till::{TillArguments, USAGE, failure, print_json, state};

const PAID: u8 = 0;
const DECLINED: u8 = 3;
const EXPIRED: u8 = 4;
const CANCELLED: u8 = 5;
const PENDING: u8 = 6;
const NOT_CHARGED: u8 = 7;
/// As a shell says it of a program that SIGINT ended.
const INTERRUPTED: u8 = 130;

/// How long one question waits for a change, in seconds. Short, so that the time that is left can
/// be shown.
const WAIT_S: u32 = 10;
/// How long a decided payment gets to come to its end before the command ends without it, in
/// milliseconds.
const END_TIMEOUT_MS: u64 = 3_000;
/// How long a service that does not answer is asked again, in milliseconds, and likewise how long a
/// call whose answer was lost is repeated: a restart takes a few seconds.
const RESTART_TIMEOUT_MS: u64 = 30_000;
const RETRY_PAUSE_MS: u64 = 500;

const EXIT_CODES: &str = "\
Exit codes:
   0  paid
   1  something else went wrong
   2  wrong arguments
   3  declined by the institution
   4  expired: nobody paid in time
   5  cancelled before anybody paid
   6  pending: the institution has not answered; it will be settled or given back (see `florin payments --open`)
   7  not charged, or given back, or being given back (the terminal sees to it): the institution was not reached,
      the goods were not released, or it was reversed
   8  the service cannot be reached, or its answer was lost: what is known and what to do is printed
   9  the service refuses: it is out of service, or another offer is waiting
 130  interrupted (Ctrl-C) for a second time, before it was clear what became of the payment";

/// Offer a payment to the next phone and wait for how it ends.
///
/// A call whose answer is lost is repeated for half a minute; the service knows it again and does
/// it once. Ctrl-C takes the offer back, and then still shows how it ends; a second Ctrl-C ends the
/// command at once.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub struct PayArguments {
    /// How much, in major units: `2.50`.
    #[arg(value_name = "AMOUNT")]
    amount: String,
    /// In which currency (ISO 4217): `EUR`.
    #[arg(value_name = "CURRENCY")]
    currency: Currency,
    /// Shown to the person: an order number or the like.
    #[arg(long, default_value = "")]
    reference: String,
    /// A line of what is paid for, with its amount: `Coffee=2.50`, or `2 Coffee=5.00`. May be
    /// repeated.
    #[arg(long = "item", value_name = "[QUANTITY ]NAME=AMOUNT")]
    items: Vec<String>,
    /// Reserve the amount now, and take it only after the goods were released.
    #[arg(long)]
    after_dispense: bool,
    /// With --after-dispense: whether the goods were released. Not given: a person is asked, or,
    /// where there is none, the command ends at the approval and `florin complete` says it
    /// later.
    #[arg(long, value_name = "true|false", requires = "after_dispense", action = clap::ArgAction::Set)]
    dispensed: Option<bool>,
    /// How long a phone has to pay, in seconds, 1 to 3600. Not given: as the service is
    /// configured.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=3600))]
    valid_for_s: Option<u32>,
    /// The same key with the same payment is the same payment: give one if you may have to repeat
    /// the command. Not given: a random one.
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Until when to wait: until it is decided (released, refused, or pending), or until nothing
    /// more happens.
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
    Decided,
    Final,
}

impl PayArguments {
    /// What is asked for, once the amounts are read in their currency.
    pub fn payment(&self) -> Result<NewPayment, String> {
        let amount = Amount::parse_major(&self.amount, self.currency)
            .map_err(|error| format!("AMOUNT: {error}"))?;
        let items = self
            .items
            .iter()
            .map(|text| item(text, self.currency).map_err(|problem| format!("--item: {problem}")))
            .collect::<Result<_, _>>()?;
        Ok(NewPayment {
            amount_minor: amount.minor(),
            currency: self.currency.to_string(),
            reference: self.reference.clone(),
            items,
            capture: if self.after_dispense { "after_dispense" } else { "at_once" },
            valid_for_s: self.valid_for_s,
        })
    }
}

/// Reads `Coffee=2.50` or `2 Coffee=5.00`.
fn item(text: &str, currency: Currency) -> Result<NewPaymentItem, String> {
    let (what, amount) = text
        .rsplit_once('=')
        .ok_or_else(|| format!("`{text}` has no amount; expected `Coffee=2.50`"))?;
    let (quantity, name) = match what.split_once(' ') {
        Some((quantity, name)) if quantity.bytes().all(|octet| octet.is_ascii_digit()) => {
            (quantity.parse().map_err(|_| format!("`{quantity}` is too many"))?, name)
        }
        Some(_) | None => (1, what),
    };
    let amount = Amount::parse_major(amount, currency).map_err(|error| error.to_string())?;
    Ok(NewPaymentItem { name: name.trim().to_owned(), quantity, amount_minor: amount.minor() })
}

/// What is to be done after a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Wait for the next change.
    Wait,
    /// Say whether the goods were released.
    Complete,
    /// It is decided, with this exit code; what is left happens by itself.
    Decided(u8),
    /// It is over, with this exit code.
    Over(u8),
}

/// What a payment's state means for whoever waits.
fn step(payment: &PaymentJson) -> Step {
    let reason = payment.reason.as_deref();
    match payment.state.as_str() {
        "captured" => Step::Over(PAID),
        "declined" => Step::Over(DECLINED),
        "expired" => Step::Over(EXPIRED),
        "cancelled" => Step::Over(CANCELLED),
        "not_charged" | "reversed" => Step::Over(NOT_CHARGED),
        "approved" if payment.release && payment.capture == "after_dispense" => Step::Complete,
        "capturing" if payment.release => Step::Decided(PAID),
        "unresolved" => Step::Decided(PENDING),
        "reversing" if reason == Some("unanswered") => Step::Decided(PENDING),
        "reversing" => Step::Decided(NOT_CHARGED),
        // A state of a newer service: its `final` and `release` still say what matters.
        _ if payment.is_final => Step::Over(if payment.release { PAID } else { NOT_CHARGED }),
        _ => Step::Wait,
    }
}

/// Runs the command.
pub async fn run(arguments: PayArguments) -> ExitCode {
    let payment = match arguments.payment() {
        Ok(payment) => payment,
        Err(problem) => {
            eprintln!("florin pay: {problem}");
            return ExitCode::from(USAGE);
        }
    };
    let (key, mut interrupts) = match (idempotency_key(&arguments), Interrupts::listen()) {
        (Ok(key), Ok(interrupts)) => (key, interrupts),
        (Err(problem), _) | (_, Err(problem)) => {
            eprintln!("florin pay: {problem}");
            return ExitCode::FAILURE;
        }
    };
    let client = arguments.till.client();
    let mut creating = Box::pin(create(&client, &payment, &key));
    // An offer that nobody can name cannot be taken back: it is made first.
    let mut cancelling = false;
    let created = loop {
        tokio::select! {
            created = &mut creating => break created,
            () = interrupts.next() => {
                if cancelling {
                    eprintln!("florin: interrupted; it may have been offered: see `florin payments --open`");
                    return ExitCode::from(INTERRUPTED);
                }
                cancelling = true;
            }
        }
    };
    drop(creating);
    let (payment, entity_tag) = match created {
        Ok(created) => created,
        Err(error) => {
            if matches!(error, TillClientError::Lost(_)) {
                eprintln!(
                    "florin: to ask for the same payment again, repeat this with --idempotency-key {key}"
                );
            }
            return failure(&error);
        }
    };
    let screen = Screen {
        json: arguments.json,
        is_live: !arguments.json && std::io::stdout().is_terminal(),
    };
    let mut waiter = Waiter { client, screen, payment, entity_tag, interrupts, cancelling: false };
    match waiter.follow(&arguments, cancelling).await {
        Ok(code) => ExitCode::from(code),
        Err(End::Interrupted) => {
            eprintln!(
                "florin: interrupted; the payment is {id}, and goes on: `florin payments --open` shows it, `florin cancel \
                 {id}` takes it back",
                id = waiter.payment.transaction_id
            );
            ExitCode::from(INTERRUPTED)
        }
        Err(End::Failed(error)) => {
            eprintln!("florin: the payment is {}", waiter.payment.transaction_id);
            failure(&error)
        }
    }
}

/// The one that was given, or a random one: with it a repeated request is the same payment.
fn idempotency_key(arguments: &PayArguments) -> Result<String, String> {
    if let Some(key) = &arguments.idempotency_key {
        return Ok(key.clone());
    }
    let mut octets = [0; 16];
    rand::rngs::OsRng
        .try_fill_bytes(&mut octets)
        .map_err(|error| format!("the operating system gives no randomness: {error}"))?;
    Ok(data_encoding::HEXLOWER.encode(&octets))
}

/// Offers the payment. Where an answer is lost it is asked for again under the same key; a service
/// that is not there at all was asked for nothing.
async fn create(
    client: &TillClient,
    payment: &NewPayment,
    key: &str,
) -> Result<(PaymentJson, String), TillClientError> {
    match client.create(payment, Some(key)).await {
        Err(error @ TillClientError::Unreachable { .. }) => Err(error),
        Err(error) if is_passing(&error) => {
            match answered(|| client.create(payment, Some(key))).await {
                // That it is not there any more does not tell whether it had done it before.
                Err(TillClientError::Unreachable { .. }) => Err(error),
                result => result,
            }
        }
        result => result,
    }
}

/// Repeats a call until the service answers it, for a bounded time. Only for calls that do nothing
/// when they are repeated.
async fn answered<T>(
    mut call: impl AsyncFnMut() -> Result<T, TillClientError>,
) -> Result<T, TillClientError> {
    let mut unanswered_since = None;
    loop {
        let error = match call().await {
            Err(error) if is_passing(&error) => error,
            result => return result,
        };
        let since = *unanswered_since.get_or_insert_with(Instant::now);
        if since.elapsed() > Duration::from_millis(RESTART_TIMEOUT_MS) {
            return Err(error);
        }
        sleep(Duration::from_millis(RETRY_PAUSE_MS)).await;
    }
}

/// The service was not there, or gave no answer, or is about to stop or too busy: the same call may
/// go well later.
fn is_passing(error: &TillClientError) -> bool {
    match error {
        TillClientError::Unreachable { .. } | TillClientError::Lost(_) => true,
        TillClientError::Refused { kind, .. } => {
            let passing = ["busy", "stopping", "no-answer"];
            kind.strip_prefix("urn:florin:problem:").is_some_and(|name| passing.contains(&name))
        }
        TillClientError::Foreign { .. } => false,
    }
}

/// Ctrl-C, each time.
struct Interrupts(Signal);

impl Interrupts {
    fn listen() -> Result<Self, String> {
        let listening = signal(SignalKind::interrupt());
        listening
            .map(Self)
            .map_err(|error| format!("the operating system gives no signals: {error}"))
    }

    /// Cancel-safe.
    async fn next(&mut self) {
        if self.0.recv().await.is_none() {
            std::future::pending().await
        }
    }
}

/// Why the command ends without knowing how the payment does.
enum End {
    Interrupted,
    Failed(TillClientError),
}

impl From<TillClientError> for End {
    fn from(error: TillClientError) -> Self {
        Self::Failed(error)
    }
}

/// Follows one payment.
struct Waiter {
    client: TillClient,
    screen: Screen,
    payment: PaymentJson,
    entity_tag: String,
    interrupts: Interrupts,
    cancelling: bool,
}

impl Waiter {
    /// Follows it to its end, or until it is decided. `cancel_first`: take the offer back at once.
    async fn follow(&mut self, arguments: &PayArguments, cancel_first: bool) -> Result<u8, End> {
        let mut told = None;
        if cancel_first {
            self.screen.show(None, &self.payment);
            told = Some(self.payment.clone());
            self.cancel().await?;
        }
        let mut asked = false;
        let mut end_by = None;
        loop {
            self.screen.show(told.as_ref(), &self.payment);
            told = Some(self.payment.clone());
            match step(&self.payment) {
                Step::Over(code) => return Ok(code),
                Step::Decided(code) if arguments.until == Until::Decided => {
                    // A pending payment may stay so for days; the others are a moment from their
                    // end.
                    let until = *end_by.get_or_insert_with(|| {
                        Instant::now() + Duration::from_millis(END_TIMEOUT_MS)
                    });
                    if code == PENDING || !self.next_change(Some(until)).await? {
                        return Ok(code);
                    }
                }
                Step::Complete if !asked => {
                    asked = true;
                    let dispensed = match arguments.dispensed {
                        Some(dispensed) => Some(dispensed),
                        None => tokio::select! {
                            dispensed = self.screen.ask_whether_released() => dispensed,
                            () = self.interrupts.next() => return Err(End::Interrupted),
                        },
                    };
                    let Some(dispensed) = dispensed else {
                        eprintln!(
                            "florin: approved; release the goods, then say so: florin complete {} --dispensed true",
                            self.payment.transaction_id
                        );
                        return Ok(PAID);
                    };
                    self.complete(dispensed).await?;
                }
                Step::Wait | Step::Complete | Step::Decided(_) => {
                    self.next_change(None).await?;
                }
            }
        }
    }

    /// Says whether the goods were released, until the service has heard it.
    async fn complete(&mut self, dispensed: bool) -> Result<(), End> {
        let transaction_id = &self.payment.transaction_id;
        let completing = answered(|| self.client.complete(transaction_id, dispensed));
        let completed = tokio::select! {
            completed = completing => completed.map_err(End::Failed),
            () = self.interrupts.next() => Err(End::Interrupted),
        };
        if completed.is_err() {
            eprintln!(
                "florin: it is not known whether the service has heard that the goods were {}released; say it again: \
                 florin complete {transaction_id} --dispensed {dispensed}",
                if dispensed { "" } else { "not " }
            );
        }
        (self.payment, self.entity_tag) = completed?;
        Ok(())
    }

    /// The first time it takes the offer back.
    async fn interrupted(&mut self) -> Result<(), End> {
        if self.cancelling { Err(End::Interrupted) } else { self.cancel().await }
    }

    /// Takes the offer back, if it is not too late.
    async fn cancel(&mut self) -> Result<(), End> {
        self.cancelling = true;
        self.screen.note("cancelling");
        let transaction_id = &self.payment.transaction_id;
        let cancelling = answered(|| self.client.cancel(transaction_id));
        let cancelled = tokio::select! {
            cancelled = cancelling => cancelled,
            () = self.interrupts.next() => return Err(End::Interrupted),
        };
        match cancelled {
            Ok((payment, entity_tag)) => (self.payment, self.entity_tag) = (payment, entity_tag),
            // Too late: somebody is paying. How that ends is still shown.
            Err(TillClientError::Refused { detail, .. }) => {
                self.screen.note(&format!("not cancelled: {detail}"));
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Waits for a change, or until the time is over: false then. Ctrl-C takes the offer back,
    /// once; then it ends the command.
    async fn next_change(&mut self, until: Option<Instant>) -> Result<bool, End> {
        let mut unanswered_since = None;
        loop {
            self.screen.progress(&self.payment);
            let far = Instant::now() + Duration::from_secs(3600);
            let changing =
                self.client.next_change(&self.payment.transaction_id, &self.entity_tag, WAIT_S);
            let change = tokio::select! {
                change = timeout_at(until.unwrap_or(far), changing) => change,
                () = self.interrupts.next() => {
                    self.interrupted().await?;
                    return Ok(true);
                }
            };
            match change {
                Err(_) if until.is_some() => return Ok(false),
                Err(_) | Ok(Ok(None)) => unanswered_since = None,
                Ok(Ok(Some((payment, entity_tag)))) => {
                    (self.payment, self.entity_tag) = (payment, entity_tag);
                    return Ok(true);
                }
                // The payment is in the service's journal: it goes on when the service is back.
                Ok(Err(error)) if is_passing(&error) => {
                    let since = *unanswered_since.get_or_insert_with(Instant::now);
                    if since.elapsed() > Duration::from_millis(RESTART_TIMEOUT_MS) {
                        return Err(error.into());
                    }
                    tokio::select! {
                        () = sleep(Duration::from_millis(RETRY_PAUSE_MS)) => {}
                        () = self.interrupts.next() => {
                            self.interrupted().await?;
                            return Ok(true);
                        }
                    }
                }
                Ok(Err(error)) => return Err(error.into()),
            }
        }
    }
}

/// Where the payment is shown: a line for each change; on a terminal a last line that moves.
struct Screen {
    json: bool,
    is_live: bool,
}

impl Screen {
    fn show(&self, before: Option<&PaymentJson>, payment: &PaymentJson) {
        if before == Some(payment) {
            return;
        }
        self.clear();
        if self.json {
            print_json(payment);
            return;
        }
        let is_new_state = before.is_none_or(|before| state(before) != state(payment));
        if is_new_state {
            println!("{:<11}  {}", payment.state, explanation(payment));
            if before.is_none() {
                println!("{:<11}  {}", "", payment.engagement_link);
            }
        }
        for code in &payment.matching_codes {
            if before.is_none_or(|before| !before.matching_codes.contains(code)) {
                println!("{:<11}  a phone sees it, and shows {code}", "");
            }
        }
    }

    fn progress(&self, payment: &PaymentJson) {
        if self.is_live {
            print!("\r\x1b[K… {} (Ctrl-C cancels)", payment.state);
            let _ = std::io::stdout().flush();
        }
    }

    fn note(&self, text: &str) {
        self.clear();
        if !self.json {
            println!("{:<11}  {text}", "");
        }
    }

    fn clear(&self) {
        if self.is_live {
            print!("\r\x1b[K");
            let _ = std::io::stdout().flush();
        }
    }

    /// Asks a person, where there is one.
    async fn ask_whether_released(&self) -> Option<bool> {
        if !self.is_live || !std::io::stdin().is_terminal() {
            return None;
        }
        let asking = tokio::task::spawn_blocking(|| {
            loop {
                print!("Were the goods released? [y/n] ");
                let _ = std::io::stdout().flush();
                let mut answer = String::new();
                match std::io::stdin().read_line(&mut answer) {
                    Ok(octets) if octets > 0 => match answer.trim() {
                        "y" | "yes" => return Some(true),
                        "n" | "no" => return Some(false),
                        _ => {}
                    },
                    Ok(_) | Err(_) => return None,
                }
            }
        });
        asking.await.ok().flatten()
    }
}

/// What a state means, for a person.
fn explanation(payment: &PaymentJson) -> String {
    let reason = payment.reason.as_deref().unwrap_or_default();
    match payment.state.as_str() {
        "offered" => format!("{} is waiting for a phone", payment.amount),
        "authorising" => "a phone pays; the institution is asked".into(),
        "unresolved" => {
            "no answer; nobody knows yet whether the person was charged: do not release".into()
        }
        "approved" => "the amount is reserved: release the goods".into(),
        "capturing" if payment.capture == "at_once" => "approved: release the goods".into(),
        "capturing" => "the goods were released; the amount is being taken".into(),
        "captured" => format!("{} paid", payment.amount),
        "reversing" => format!("to be given back ({reason})"),
        "reversed" => format!("nothing is charged ({reason})"),
        "declined" => format!("the institution declined ({reason})"),
        "not_charged" => format!("nothing was charged ({reason})"),
        "cancelled" => "taken back".into(),
        "expired" => "nobody paid in time".into(),
        _ => reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payment(state: &str, reason: Option<&str>, release: bool, capture: &str) -> PaymentJson {
        PaymentJson {
            transaction_id: "2f6e6cf0-31c1-4d4c-9c3c-2f1f0d9a7f11".into(),
            state: state.into(),
            reason: reason.map(str::to_owned),
            release,
            dispense_unknown: false,
            is_final: false,
            amount_minor: 250,
            currency: "EUR".into(),
            amount: "2.50 EUR".into(),
            reference: String::new(),
            capture: capture.into(),
            matching_codes: Vec::new(),
            engagement_link: String::new(),
            created_at: String::new(),
            updated_at: String::new(),
        }
    }

    #[test]
    fn every_state_has_its_step() {
        for (state, reason, release, capture, expected) in [
            ("offered", None, false, "at_once", Step::Wait),
            ("authorising", None, false, "at_once", Step::Wait),
            ("unresolved", None, false, "at_once", Step::Decided(PENDING)),
            ("approved", None, false, "after_dispense", Step::Wait),
            ("approved", None, true, "after_dispense", Step::Complete),
            ("capturing", None, false, "at_once", Step::Wait),
            ("capturing", None, true, "at_once", Step::Decided(PAID)),
            ("capturing", None, true, "after_dispense", Step::Decided(PAID)),
            ("captured", None, true, "at_once", Step::Over(PAID)),
            ("reversing", Some("unanswered"), false, "at_once", Step::Decided(PENDING)),
            (
                "reversing",
                Some("dispense_failed"),
                true,
                "after_dispense",
                Step::Decided(NOT_CHARGED),
            ),
            ("reversed", Some("unanswered"), false, "at_once", Step::Over(NOT_CHARGED)),
            ("declined", Some("over_limit"), false, "at_once", Step::Over(DECLINED)),
            (
                "not_charged",
                Some("institution_unreachable"),
                false,
                "at_once",
                Step::Over(NOT_CHARGED),
            ),
            ("cancelled", None, false, "at_once", Step::Over(CANCELLED)),
            ("expired", None, false, "at_once", Step::Over(EXPIRED)),
            ("something_new", None, false, "at_once", Step::Wait),
        ] {
            assert_eq!(
                step(&payment(state, reason, release, capture)),
                expected,
                "{state} {reason:?}"
            );
        }
    }

    #[test]
    fn items_read_with_and_without_a_quantity() {
        let currency = "EUR".parse().unwrap();
        let read =
            |text| item(text, currency).map(|item| (item.quantity, item.name, item.amount_minor));
        assert_eq!(read("Coffee=2.50"), Ok((1, "Coffee".into(), 250)));
        assert_eq!(read("2 Coffee=5"), Ok((2, "Coffee".into(), 500)));
        assert_eq!(read("Iced tea=3"), Ok((1, "Iced tea".into(), 300)));
        assert_eq!(read("a=b=1"), Ok((1, "a=b".into(), 100)));
        for text in ["Coffee", "Coffee=", "Coffee=2.505", "=", "99999999999 Coffee=1"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
