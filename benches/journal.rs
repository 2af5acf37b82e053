//! What years of payments cost: a journal with one million finished payments and 1,000 open ones
//! beside an empty one.
//!
//! Measures the real service from its start until it can take payments, and payments through it
//! from the till's offer to `captured`, with an institution and a phone over a Unix socket; offers
//! while the institution is away; the journal alone; and the engine alone, with an institution that
//! never answers. Prints times and their ratios; asserts nothing about them, since machines differ.
//!
//! Of the open payments a quarter each is `approved`, `unresolved`, `reversing` and `capturing`.
//! The institution knows none of them: it settles those that it is asked to give back, and those
//! that it is asked to take are asked about for ever.
//!
//! `cargo bench --bench journal [-- PAYMENTS]`. It needs about 5 GB of disk for a million.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[path = "../tests/programs/mod.rs"]
mod programs;

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use florin::domain::{HolderVerification, Moment, ReversalReason, TransactionId};
use florin::journal::{Journal, SqliteJournal};
use florin::link::{AirAddress, PhoneLinkError, SocketPhoneLink};
use florin::service::wall_clock;
use florin::terminal::{
    Input, Now, Output, Payment, PaymentRequest, PaymentState, Settings, Terminal, TillCallId,
    TillRequest, fixtures,
};
use florin::till::NewPayment;
use florin::wallet::{
    Card, Cardholder, Connector, Decision, DirectoryStore, DriverSettings, Notice, OfferView,
    SessionEnd, SessionSettings, WalletDirectory, pay,
};
use programs::{Programs, Running, wait_for};
use rand::TryRngCore;
use rand::rngs::OsRng;
use rusqlite::Connection;
use tokio::runtime::Runtime;

const FINISHED: u64 = 1_000_000;
const OPEN: u64 = 1_000;
/// How often the service is started with each journal, and paid at.
const STARTS: usize = 7;
const PAYMENTS: usize = 40;
/// For how long nothing is settled once nothing more can be.
const QUIET: Duration = Duration::from_secs(10);
/// How many payments the engine alone holds open at most.
const OPEN_IN_ENGINE: u64 = 100_000;
/// How many offers are made and taken back.
const OFFERS: usize = 200;
/// How often a payment is written to the journal alone.
const RECORDED: usize = 300;

fn main() {
    // Cargo's own arguments begin with hyphens.
    let finished = std::env::args()
        .skip(1)
        .find(|word| !word.starts_with('-'))
        .map_or(FINISHED, |word| word.parse().unwrap());
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let empty = Programs::set_up(&directory.path().join("empty"));
    let institution = empty.start_institution(None);
    // A payment to copy.
    let terminal = empty.start_terminal(None);
    let mut phone = Phone::new(&empty);
    runtime.block_on(payment(&empty, &mut phone));
    terminal.stop();

    let full = empty.beside(&directory.path().join("full"));
    retry_backoff_as_in_earnest(&directory.path().join("full/florin.toml"));
    let begin = Instant::now();
    fill(&full.journal(), finished);
    let mebibytes = std::fs::metadata(full.journal()).unwrap().len() / 1024 / 1024;
    let seconds = begin.elapsed().as_secs();
    println!(
        "a journal of {finished} finished payments and {OPEN} open ones: {mebibytes} MiB, \
         made in {seconds} s\n"
    );

    let both = [&empty, &full];
    compare_starts(both, &runtime);
    let running = both.map(|programs| start(programs, &runtime).0);
    compare_payments(both, &runtime, &mut phone);
    institution.stop();
    compare_offers(both, &runtime);
    running.into_iter().for_each(Running::stop);
    let mut journals = both.map(|programs| SqliteJournal::open(&programs.journal()).unwrap());
    compare_records(&mut journals);
    compare_engines(&journals[0].payments(false, 1).unwrap().remove(0));
}

/// The medians of what was measured on both sides by turns.
fn print_medians(times: [Vec<Duration>; 2]) {
    let [empty_ms, full_ms] = times.map(median_ms);
    println!("  empty {empty_ms:.2} ms, full {full_ms:.2} ms: ratio {:.2}\n", full_ms / empty_ms);
}

fn compare_starts(both: [&Programs; 2], runtime: &Runtime) {
    let mut starts = [Vec::new(), Vec::new()];
    for _ in 0..STARTS {
        for (programs, times) in both.iter().zip(&mut starts) {
            let (running, time) = start(programs, runtime);
            times.push(time);
            running.stop();
        }
    }
    let [empty_ms, full_ms] = starts.map(median_ms);
    println!("from the start until it takes payments, median of {STARTS}");
    println!("  empty {empty_ms:.1} ms, full {full_ms:.1} ms: {:.1} ms more\n", full_ms - empty_ms);
}

fn compare_payments(both: [&Programs; 2], runtime: &Runtime, phone: &mut Phone) {
    let full = both[1];
    for (moment, is_quiet) in
        [("while the open ones are settled", false), ("once no more of them can be", true)]
    {
        if is_quiet {
            wait_until_quiet(full, runtime);
        }
        let mut payments = [Vec::new(), Vec::new()];
        for _ in 0..PAYMENTS {
            for (programs, times) in both.iter().zip(&mut payments) {
                times.push(runtime.block_on(payment(programs, phone)));
            }
        }
        println!("a payment, from the till's offer to captured, {moment}, median of {PAYMENTS}");
        println!("  {} are open in the full one by now", open_payments(full, runtime));
        print_medians(payments);
    }
}

fn compare_offers(both: [&Programs; 2], runtime: &Runtime) {
    let mut offers = [Vec::new(), Vec::new()];
    for _ in 0..OFFERS {
        for (programs, times) in both.iter().zip(&mut offers) {
            times.push(runtime.block_on(offer_and_cancel(programs)));
        }
    }
    println!("an offer made and taken back while the institution is away, median of {OFFERS}");
    print_medians(offers);
}

fn compare_records(journals: &mut [SqliteJournal; 2]) {
    let mut records = [Vec::new(), Vec::new()];
    for number in 0..RECORDED {
        for (journal, times) in journals.iter_mut().zip(&mut records) {
            times.push(record(journal, number));
        }
    }
    println!("a payment's search by key and four records, durable, in the journal alone,");
    println!("median of {RECORDED}");
    print_medians(records);
}

fn compare_engines(template: &Payment) {
    println!("the same in the engine alone, with an institution that never answers,");
    println!("median of {OFFERS}");
    for open in [0, OPEN, OPEN_IN_ENGINE] {
        let times = offers_in_engine(template, open);
        println!("  {open} reversing: {:.3} ms", median_ms(times));
    }
}

fn median_ms(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1000.0
}

/// Tests ask again every second at least, which nobody does for long.
fn retry_backoff_as_in_earnest(configuration: &Path) {
    let text = std::fs::read_to_string(configuration).unwrap();
    let kept = text.lines().filter(|line| !line.starts_with("retry_backoff_"));
    std::fs::write(configuration, kept.collect::<Vec<_>>().join("\n")).unwrap();
}

/// Copies the one payment of a journal: into finished ones, and into open ones of each state that
/// lasts.
fn fill(journal: &Path, finished: u64) {
    let connection = Connection::open(journal).unwrap();
    connection
        .execute_batch(&format!(
            "PRAGMA journal_mode = DELETE; PRAGMA synchronous = OFF;
             PRAGMA cache_size = -1000000; BEGIN;
             CREATE TEMP TABLE made AS
                 WITH RECURSIVE count (number) AS (
                     SELECT 1 UNION ALL SELECT number + 1 FROM count LIMIT {finished} + {OPEN})
                 SELECT number, hex(randomblob(16)) AS random, number > {finished} AS is_open
                 FROM count;
             INSERT INTO payments
                 SELECT unhex(substr(random, 1, 12) || '4' || substr(random, 14, 3)
                         || '8' || substr(random, 18)),
                     CASE WHEN NOT made.is_open THEN state
                         WHEN made.number % 4 = 0 THEN 'approved'
                         WHEN made.number % 4 = 1 THEN 'unresolved'
                         WHEN made.number % 4 = 2 THEN 'reversing' ELSE 'capturing' END,
                     iif(made.is_open AND made.number % 4 = 2, 'unanswered', reason),
                     made.is_open, amount_minor, currency, reference, made.is_open, offer,
                     sealed_command, receipt, released, 'key-' || made.number, randomblob(32),
                     created_at_unix_s, updated_at_unix_s, payments.number + made.number
                 FROM made, payments ORDER BY random;
             INSERT INTO changes (transaction_id, state, reason, at_unix_s)
                 SELECT transaction_id, step.state, '', updated_at_unix_s FROM payments CROSS JOIN (
                     SELECT 1 AS place, 'offered' AS state UNION ALL SELECT 2, 'authorising'
                     UNION ALL SELECT 3, 'capturing' UNION ALL SELECT 4, 'captured') AS step
                 ORDER BY payments.number, step.place;
             COMMIT; PRAGMA journal_mode = WAL;"
        ))
        .unwrap();
}

fn random_id() -> TransactionId {
    let mut octets = [0; 16];
    OsRng.try_fill_bytes(&mut octets).unwrap();
    TransactionId::from_random(octets)
}

/// Starts the service; how long until it takes payments.
fn start(programs: &Programs, runtime: &tokio::runtime::Runtime) -> (Running, Duration) {
    let begin = Instant::now();
    let running = programs.start_terminal(None);
    let till = programs.till();
    wait_for("the terminal", || {
        let status = runtime.block_on(till.status()).ok()?;
        status.in_service.then_some(())
    });
    (running, begin.elapsed())
}

/// A payment through the running service.
async fn payment(programs: &Programs, phone: &mut Phone) -> Duration {
    let till = programs.till();
    let end = Instant::now() + Duration::from_secs(60);
    while !till.status().await.is_ok_and(|status| status.in_service) {
        assert!(Instant::now() < end, "the terminal does not get ready");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let key = random_id().to_string();
    let begin = Instant::now();
    let (mut view, _) = till.create(&coffee(), Some(&key)).await.unwrap();
    phone.air = Air(programs.air_address());
    phone.pay().await;
    while !view.is_final {
        (view, _) = till.read(&view.transaction_id).await.unwrap();
    }
    assert_eq!(view.state, "captured");
    begin.elapsed()
}

fn coffee() -> NewPayment {
    NewPayment {
        amount_minor: 250,
        currency: "EUR".into(),
        reference: "Coffee".into(),
        items: Vec::new(),
        capture: "at_once",
        valid_for_s: None,
    }
}

/// An offer through the running service, and away with it.
async fn offer_and_cancel(programs: &Programs) -> Duration {
    let till = programs.till();
    let begin = Instant::now();
    let (view, _) = till.create(&coffee(), Some(&random_id().to_string())).await.unwrap();
    let (view, _) = till.cancel(&view.transaction_id).await.unwrap();
    assert_eq!(view.state, "cancelled");
    begin.elapsed()
}

/// Offers made and taken back in an engine with so many payments that wait to be given back.
fn offers_in_engine(template: &Payment, open: u64) -> Vec<Duration> {
    let open: Vec<Payment> = (0..open)
        .map(|_| {
            let transaction_id = random_id();
            Payment {
                transaction_id,
                sale_id: transaction_id,
                state: PaymentState::Reversing(ReversalReason::Unanswered),
                idempotency: None,
                ..template.clone()
            }
        })
        .collect();
    let settings = Settings { open_max: usize::MAX, ..Settings::default() };
    let now =
        |number: u64| Now { moment: Moment { milliseconds: 10_000 * number }, wall: wall_clock() };
    let (mut terminal, _) = Terminal::new(fixtures::identity(), settings, [7; 32], open, now(0));
    let request = PaymentRequest {
        amount: template.amount,
        reference: String::new(),
        items: Vec::new(),
        capture_after_dispense: false,
        valid_for_s: None,
        idempotency_key: None,
    };
    let mut step = |number: usize, input: Input| {
        let mut transaction_id = None;
        for output in terminal.handle(now(number as u64 + 1), input) {
            let Output::Append { record, payment } = output else { continue };
            transaction_id = Some(payment.transaction_id);
            terminal.handle(now(number as u64 + 1), Input::Journalled(record));
        }
        terminal.next_deadline();
        transaction_id
    };
    (0..OFFERS)
        .map(|number| {
            let begin = Instant::now();
            let create = TillRequest::Create(request.clone());
            let call = TillCallId(2 * number as u64);
            let transaction_id =
                step(number, Input::Till { call, request: create, stored: None }).unwrap();
            let (call, cancel) = (TillCallId(call.0 + 1), TillRequest::Cancel { transaction_id });
            step(number, Input::Till { call, request: cancel, stored: None }).unwrap();
            begin.elapsed()
        })
        .collect()
}

fn open_payments(programs: &Programs, runtime: &tokio::runtime::Runtime) -> usize {
    runtime.block_on(programs.till().status()).unwrap().open_payments
}

/// Until nothing was settled for a while.
fn wait_until_quiet(programs: &Programs, runtime: &tokio::runtime::Runtime) {
    let (mut before, mut open) = (usize::MAX, open_payments(programs, runtime));
    while open != before {
        std::thread::sleep(QUIET);
        (before, open) = (open, open_payments(programs, runtime));
    }
}

/// What a payment does to the journal.
fn record(journal: &mut SqliteJournal, number: usize) -> Duration {
    let mut payment: Payment = journal.payments(false, 1).unwrap().remove(0);
    payment.transaction_id = random_id();
    let key = format!("alone-{number}");
    payment.idempotency = Some((key.clone(), [7; 32]));
    let begin = Instant::now();
    assert_eq!(journal.payment_by_key(&key).unwrap(), None);
    use PaymentState::{Authorising, Captured, Capturing, Offered};
    for state in [Offered, Authorising, Capturing, Captured] {
        payment.state = state;
        journal.append(&payment).unwrap();
    }
    begin.elapsed()
}

/// A phone over the socket.
struct Phone {
    air: Air,
    card: Arc<Card>,
    store: DirectoryStore,
}

struct Air(AirAddress);

impl Connector for Air {
    type Link = SocketPhoneLink;
    type Error = PhoneLinkError;

    async fn connect(&mut self) -> Result<SocketPhoneLink, PhoneLinkError> {
        SocketPhoneLink::connect(&self.0, 517).await
    }
}

struct Willing;

impl Cardholder for Willing {
    fn tell(&mut self, _notice: &Notice) {}

    fn ask(&mut self, _offer: &OfferView) -> Pin<Box<dyn Future<Output = Decision> + Send>> {
        Box::pin(std::future::ready(Decision::Pay))
    }
}

impl Phone {
    fn new(programs: &Programs) -> Self {
        let directory = WalletDirectory::open(programs.wallet_directory()).unwrap();
        let name = directory.card_names().unwrap().remove(0);
        let card = Arc::new(directory.card(&name).unwrap());
        Self { air: Air(programs.air_address()), card, store: directory.store(&name) }
    }

    async fn pay(&mut self) {
        let settings = DriverSettings {
            session: SessionSettings {
                value_octets_max: 0,
                link: None,
                short_code: None,
                limit: None,
                offer_wait_ms: 10_000,
                holder_verification: HolderVerification::Consent,
                wall_clock: wall_clock(),
            },
            busy_wait_ms: 0,
            vanish_after_command: false,
        };
        let reported =
            pay(&mut self.air, Arc::clone(&self.card), settings, &mut self.store, &mut Willing)
                .await;
        let end = reported.unwrap().end;
        assert!(matches!(end, SessionEnd::Settled(_)), "{end:?}");
    }
}
