//! Measures how long payments take over Bluetooth, and compares them with their floor: an echo of
//! the same octets and one call to the institution. The test bed runs it (scenarios `floor` and
//! `thousand-payments`).
//!
//! It measures and prints; it asserts nothing.

#![allow(clippy::print_stdout, clippy::print_stderr)]

mod arithmetic;
mod echo;
mod payer;
mod timing;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use florin::bluetooth::{Central, CentralLink, FoundTerminal};
use florin::domain::TransactionId;
use florin::link::{PhoneLink, PhoneLinkError};
use florin::relay::{GrpcRelay, Relay};
use florin::service::{Enrolment, wall_clock};
use florin::till::TillAddress;
use serde_json::json;
use tokio::time::Instant;

use payer::Payer;
use timing::{median, milliseconds};

/// How many payments are made over one connection: fewer than the hellos that a terminal accepts.
const PAYMENTS_PER_CONNECTION: u32 = 15;
/// How long the scan for a terminal may take, in milliseconds.
const SCAN_MS: u64 = 30_000;

/// Measures payments over the radio, and the floor under them.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a bare GATT server that answers a value with as many octets as its first two octets say.
    Echo {
        /// The adapter to advertise on.
        #[arg(long)]
        adapter: String,
        /// The short code to advertise.
        #[arg(long)]
        code: String,
    },
    /// Pay and echo in turns; print each time and the ratio of the medians.
    Compare {
        #[command(flatten)]
        paying: Paying,
        /// The echo server's short code.
        #[arg(long)]
        echo_code: String,
        /// The terminal's state directory, for a bare call to the institution in its name.
        #[arg(long)]
        state_directory: PathBuf,
    },
    /// Print how long the cryptography of a payment takes on this machine.
    Arithmetic,
    /// Pay repeatedly, several times over each connection, and print the time of each payment.
    Pay {
        #[command(flatten)]
        paying: Paying,
    },
}

#[derive(Debug, Args)]
struct Paying {
    /// The phone's adapter.
    #[arg(long)]
    adapter: String,
    /// The wallet's directory, with one card.
    #[arg(long)]
    directory: PathBuf,
    /// The terminal's short code.
    #[arg(long)]
    code: String,
    /// The terminal's till API.
    #[arg(long)]
    till: TillAddress,
    /// How many payments.
    #[arg(long, default_value_t = 20)]
    payments: u32,
}

fn main() -> ExitCode {
    // As in the terminal, a phone's writes keep their order on one thread.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = match runtime {
        Ok(runtime) => runtime.block_on(run(Arguments::parse().command)),
        Err(error) => Err(error.into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("radio_bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Echo { adapter, code } => echo::serve(&adapter, &code).await,
        Command::Compare { paying, echo_code, state_directory } => {
            compare(&paying, &echo_code, &state_directory).await
        }
        Command::Arithmetic => {
            println!("{}", arithmetic::measure()?);
            Ok(())
        }
        Command::Pay { paying } => pay(&paying).await,
    }
}

async fn pay(paying: &Paying) -> anyhow::Result<()> {
    let central = Central::open(Some(&paying.adapter)).await?;
    let terminal = find(&central, &paying.code).await?;
    let mut payer = Payer::open(&paying.directory, paying.till.clone())?;
    let begin = Instant::now();
    let mut link: Option<CentralLink> = None;
    for number in 1..=paying.payments {
        if number % PAYMENTS_PER_CONNECTION == 1
            && let Some(mut old) = link.take()
        {
            old.disconnect().await;
        }
        let link = match &mut link {
            Some(link) => link,
            None => link.insert(central.connect(&terminal).await?),
        };
        let (duration, trips) = payer.pay(KeptOpen(link)).await?;
        let octets: usize = trips.iter().map(|trip| trip.up + trip.down).sum();
        let elapsed_s = begin.elapsed().as_secs_f64();
        println!(
            "{}",
            json!({
                "payment": number,
                "payment_ms": milliseconds(duration),
                "octets": octets,
                "elapsed_s": elapsed_s,
            })
        );
    }
    if let Some(mut link) = link {
        link.disconnect().await;
    }
    central.wait_for_disconnections().await;
    Ok(())
}

/// A connection that stays open after a payment, for the next one.
struct KeptOpen<'link>(&'link mut CentralLink);

impl PhoneLink for KeptOpen<'_> {
    fn value_octets_max(&self) -> usize {
        self.0.value_octets_max()
    }

    fn write(&mut self, value: Vec<u8>) -> impl Future<Output = Result<(), PhoneLinkError>> + Send {
        self.0.write(value)
    }

    fn next_value(&mut self) -> impl Future<Output = Result<Vec<u8>, PhoneLinkError>> + Send {
        self.0.next_value()
    }

    fn subscribe_again(&mut self) -> impl Future<Output = Result<(), PhoneLinkError>> + Send {
        self.0.subscribe_again()
    }

    async fn disconnect(&mut self) {}
}

async fn compare(
    paying: &Paying,
    echo_code: &str,
    state_directory: &std::path::Path,
) -> anyhow::Result<()> {
    let central = Central::open(Some(&paying.adapter)).await?;
    let terminal = find(&central, &paying.code).await?;
    let echo = find(&central, echo_code).await?;
    let enrolment = Enrolment::load(state_directory, wall_clock())?;
    let terminal_id = enrolment.identity.terminal_id();
    let relay = GrpcRelay::new(enrolment.institution.clone(), &enrolment.tls_files(), terminal_id)?;
    relay.check_reachable().await?;
    let mut payer = Payer::open(&paying.directory, paying.till.clone())?;
    let (mut payments, mut floors) = (Vec::new(), Vec::new());
    for number in 1..=paying.payments {
        let (payment, trips) = payer.pay(central.connect(&terminal).await?).await?;
        let mut link = central.connect(&echo).await?;
        let begin = Instant::now();
        for trip in &trips {
            echo::round_trip(&mut link, trip).await?;
        }
        let radio = begin.elapsed();
        // The call is measured; the transaction need not exist.
        relay.transaction(TransactionId::from_random([number as u8; 16])).await?;
        let floor = begin.elapsed();
        link.disconnect().await;
        let at: Vec<_> = trips.iter().map(|trip| trip.times.map(milliseconds)).collect();
        let trips: Vec<_> = trips.iter().map(|trip| [trip.up, trip.down]).collect();
        println!(
            "{}",
            json!({
                "payment_ms": milliseconds(payment),
                "floor_ms": milliseconds(floor),
                "of_it_radio_ms": milliseconds(radio),
                "trips": trips,
                "at_ms": at,
            })
        );
        payments.push(payment);
        floors.push(floor);
    }
    central.wait_for_disconnections().await;
    let (payment, floor) = (median(&mut payments), median(&mut floors));
    println!(
        "{}",
        json!({
            "payments": paying.payments,
            "median_payment_ms": milliseconds(payment),
            "median_floor_ms": milliseconds(floor),
            "ratio": payment.as_secs_f64() / floor.as_secs_f64(),
        })
    );
    Ok(())
}

async fn find(central: &Central, code: &str) -> anyhow::Result<FoundTerminal> {
    central
        .scan(SCAN_MS, Some(code))
        .await?
        .pop()
        .with_context(|| format!("no terminal {code} in reach"))
}
