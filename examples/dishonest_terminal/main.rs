//! A dishonest terminal, for tests: enrolled and certified, it authorises and captures what the
//! phone pays, and then lies to the phone.
//!
//! ```text
//! dishonest_terminal --state DIR (--air unix:FILE | --adapter hci0) --lie LIE
//! ```
//!
//! It offers something to every phone. It prints a line of JSON for what it has done. It knows only
//! what a stranger knows: docs/protocol.md, and the enrolment of a machine that it has taken over.

#![allow(clippy::print_stdout, clippy::print_stderr)]

mod phone;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Parser, ValueEnum};
use florin::bluetooth::{PeripheralSettings, start_peripheral};
use florin::credential::SealedCommand;
use florin::domain::{
    Amount, DeclineReason, Offer, OfferParts, Outcome, ReversalReason, TransactionId, UnixTime,
};
use florin::link::{AirAddress, LinkCommand, LinkEvent, TerminalLink, start_socket_air};
use florin::protocol::{FromPhone, FromTerminal, ProtocolError, WireError, encode_offer};
use florin::relay::Relay;
use florin::service::{Configuration, Enrolment, grpc_relay};
use florin::terminal::{AdvertisingPace, InstitutionAnswer, InstitutionRequest, PhoneId};
use serde_json::json;

use phone::Phone;
use rand::TryRngCore;
use rand::rngs::OsRng;

/// How long the institution may take, in milliseconds.
const TIMEOUT_MS: u64 = 10_000;

/// What the phone is told after its money was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Lie {
    Taken,
    Withdrawn,
    Expired,
    /// The error `institution_unreachable`.
    Unreachable,
    /// Given back, without a receipt.
    Reversed,
    /// Declined, without a receipt.
    Declined,
    /// Nothing at all.
    Silence,
    /// Paid, without a receipt. The institution is never asked.
    Approved,
    /// Paid, with the receipt of the approval, after the reversal.
    ReversedWithApproval,
}

/// A terminal that takes the money and lies.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The state directory of an enrolled terminal.
    #[arg(long)]
    state: PathBuf,
    /// Serve phones over this socket.
    #[arg(long, conflicts_with = "adapter")]
    air: Option<AirAddress>,
    /// Serve phones over Bluetooth, on this adapter.
    #[arg(long)]
    adapter: Option<String>,
    #[arg(long)]
    lie: Lie,
    /// What every phone is asked to pay.
    #[arg(long, default_value = "2.50 EUR")]
    amount: Amount,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("dishonest_terminal: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let enrolment = Enrolment::load(&arguments.state, wall_clock()?)?;
    let relay = grpc_relay(&Configuration::default(), &enrolment)?;
    let terminal_id = enrolment.identity.terminal_id();
    let link = match (arguments.air, arguments.adapter) {
        (Some(air), _) => start_socket_air(&air, terminal_id)?,
        (None, adapter) => start_peripheral(PeripheralSettings { adapter, terminal_id }),
    };
    let (lie, amount, phones) = (arguments.lie, arguments.amount, BTreeMap::new());
    let mut terminal = DishonestTerminal { enrolment, relay, lie, amount, phones };
    terminal.serve(link).await
}

struct DishonestTerminal<R> {
    enrolment: Enrolment,
    relay: R,
    lie: Lie,
    amount: Amount,
    phones: BTreeMap<PhoneId, Phone>,
}

impl<R: Relay> DishonestTerminal<R> {
    async fn serve(&mut self, mut link: TerminalLink) -> anyhow::Result<()> {
        link.commands.send(LinkCommand::Advertise(AdvertisingPace::Fast)).await?;
        while let Some(event) = link.events.recv().await {
            match event {
                LinkEvent::Up => println!("{}", json!({ "ready": true })),
                LinkEvent::Connected { phone } => {
                    self.phones.entry(phone).or_default();
                }
                LinkEvent::Disconnected { phone } => {
                    self.phones.remove(&phone);
                }
                LinkEvent::Wrote { phone, value_octets_max, value } => {
                    for value in self.wrote(phone, value_octets_max, &value).await? {
                        link.commands.send(LinkCommand::Notify { phone, value }).await?;
                    }
                }
                LinkEvent::Down { reason } => eprintln!("down: {reason}"),
                LinkEvent::Recovering { reason, .. } => eprintln!("recovering: {reason}"),
            }
        }
        bail!("the link has ended");
    }

    async fn wrote(
        &mut self,
        phone: PhoneId,
        value_octets_max: usize,
        value: &[u8],
    ) -> anyhow::Result<Vec<Vec<u8>>> {
        let offer = self.offer()?;
        let session = self.phones.entry(phone).or_default();
        let Some(message) =
            session.receive(value, value_octets_max, &self.enrolment.identity, offer)?
        else {
            return Ok(session.take_answer());
        };
        let answers = match message {
            FromPhone::PaymentCommand { transaction_id, sealed_command } => {
                let offer = session.offer().to_vec();
                let receipt = self.take_the_money(transaction_id, offer, sealed_command).await?;
                self.lies(transaction_id, receipt)
            }
            FromPhone::ResultQuery { transaction_id, .. } => self.lies(transaction_id, None),
            FromPhone::Opening { .. } | FromPhone::Cancel | FromPhone::ReceiptAck => Vec::new(),
        };
        let session = self.phones.entry(phone).or_default();
        let mut values = Vec::new();
        for answer in answers {
            values.extend(session.encode(&answer)?);
        }
        Ok(values)
    }

    /// Authorises and captures, as an honest terminal would. Returns the receipt of the approval.
    async fn take_the_money(
        &self,
        transaction_id: TransactionId,
        offer: Vec<u8>,
        sealed_command: Vec<u8>,
    ) -> anyhow::Result<Option<Vec<u8>>> {
        SealedCommand::decode(&sealed_command)?;
        if self.lie == Lie::Approved {
            return Ok(None);
        }
        let authorise = InstitutionRequest::Authorise {
            transaction_id,
            offer,
            offer_age_ms: 0,
            sealed_command,
            sequence: sequence()?,
        };
        let receipt = match self.relay.ask(authorise, TIMEOUT_MS).await {
            InstitutionAnswer::Transaction(claim) => claim.receipt,
            other @ (InstitutionAnswer::NotSent { .. }
            | InstitutionAnswer::Refused { .. }
            | InstitutionAnswer::Unanswered { .. }) => {
                bail!("the institution did not authorise: {other:?}")
            }
        };
        let settle = if self.lie == Lie::ReversedWithApproval {
            let reason = ReversalReason::DispenseFailed;
            InstitutionRequest::Reverse { transaction_id, reason }
        } else {
            InstitutionRequest::Capture { transaction_id }
        };
        match self.relay.ask(settle, TIMEOUT_MS).await {
            InstitutionAnswer::Transaction(claim) => {
                let id = transaction_id.to_string();
                println!("{}", json!({ "transaction_id": id, "state": claim.state.name() }));
            }
            other @ (InstitutionAnswer::NotSent { .. }
            | InstitutionAnswer::Refused { .. }
            | InstitutionAnswer::Unanswered { .. }) => {
                bail!("the institution did not settle: {other:?}")
            }
        }
        Ok(receipt)
    }

    fn lies(&self, transaction_id: TransactionId, receipt: Option<Vec<u8>>) -> Vec<FromTerminal> {
        let result =
            |outcome, receipt| vec![FromTerminal::Result { transaction_id, outcome, receipt }];
        match self.lie {
            Lie::Taken => vec![FromTerminal::Taken(transaction_id)],
            Lie::Withdrawn => vec![FromTerminal::Withdrawn(transaction_id)],
            Lie::Expired => vec![FromTerminal::Expired(transaction_id)],
            Lie::Unreachable => vec![FromTerminal::Error(ProtocolError::new(
                WireError::InstitutionUnreachable,
                "nobody was charged",
            ))],
            Lie::Reversed => result(Outcome::Reversed, None),
            Lie::Declined => result(Outcome::Declined(DeclineReason::InsufficientFunds), None),
            Lie::Silence => Vec::new(),
            Lie::Approved => result(Outcome::Approved, None),
            Lie::ReversedWithApproval => result(Outcome::Approved, receipt),
        }
    }

    fn offer(&self) -> anyhow::Result<Vec<u8>> {
        let certificate = &self.enrolment.identity.certificate;
        let offer = Offer::new(OfferParts {
            transaction_id: TransactionId::from_random(random()?),
            terminal_id: certificate.terminal_id,
            merchant_name: certificate.merchant_name.clone(),
            amount: self.amount,
            valid_for_s: 300,
            nonce: random()?,
            reference: String::new(),
            items: Vec::new(),
            capture_after_dispense: false,
        })?;
        Ok(encode_offer(&offer))
    }
}

/// A number above all that this terminal has sent, as a clever one would give.
fn sequence() -> anyhow::Result<u64> {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    Ok((since.as_secs() << 16) + u64::from(since.subsec_millis()))
}

pub(crate) fn random<const OCTETS: usize>() -> anyhow::Result<[u8; OCTETS]> {
    let mut octets = [0; OCTETS];
    OsRng.try_fill_bytes(&mut octets).context("no randomness")?;
    Ok(octets)
}

fn wall_clock() -> anyhow::Result<UnixTime> {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    Ok(UnixTime { seconds: since.as_secs() })
}
