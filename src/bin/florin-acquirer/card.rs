//! `florin-acquirer card`: the cards.

use clap::{Args, Subcommand};
use florin::domain::{CardId, UnixTime};
use florin::institution::{AccountId, CardTerms, EnrolmentCode, Institution, IssuedCard, random};
use serde_json::json;

use crate::code_validity::CodeValidity;
use crate::failure::Usage;
use crate::money::money;
use crate::output::{Item, Output, time_or_dash};
use crate::typed::{self, CardName};

/// The commands of this group.
#[derive(Debug, Subcommand)]
pub enum CardCommand {
    /// Issue a card. Prints its hint and its enrolment code, which is shown only this once.
    Add(AddArguments),
    /// List all cards with their hints.
    List {
        /// Print the whole ids. They are card data: not for logs or screenshots.
        #[arg(long)]
        full: bool,
    },
    /// Block a card: its payments are declined.
    Block {
        /// The card's hint (the last four digits of its id), or its whole id if several cards have
        /// the same hint.
        card: String,
    },
    /// Unblock a card.
    Unblock {
        /// The card's hint (the last four digits of its id), or its whole id if several cards have
        /// the same hint.
        card: String,
    },
}

/// What a new card may do.
#[derive(Debug, Args)]
pub struct AddArguments {
    /// The number of the account that it pays from.
    #[arg(long, value_name = "NUMBER", value_parser = typed::account)]
    account: AccountId,
    /// The most it may pay at once, in major units, such as 50.00.
    #[arg(long, value_name = "AMOUNT", allow_negative_numbers = true)]
    limit: String,
    /// Above this amount the phone has to ask for a passcode or a fingerprint [default: never].
    #[arg(long, value_name = "AMOUNT", allow_negative_numbers = true)]
    verification_limit: Option<String>,
    #[command(flatten)]
    validity: CodeValidity,
}

/// Runs a command of this group.
pub fn run(
    command: CardCommand,
    mut institution: Institution,
    now: UnixTime,
    output: &Output,
) -> anyhow::Result<()> {
    match command {
        CardCommand::Add(arguments) => add(institution, &arguments, now, output),
        CardCommand::List { full } => {
            let cards = institution.cards()?;
            let headings = ["CARD", "STATE", "ACCOUNT", "LIMIT", "COUNTER", "ENDS"];
            output.list(&headings, cards.iter().map(|card| item(card, full)).collect())
        }
        CardCommand::Block { card } => set_blocked(institution, &card, true, output),
        CardCommand::Unblock { card } => set_blocked(institution, &card, false, output),
    }
}

fn add(
    mut institution: Institution,
    arguments: &AddArguments,
    now: UnixTime,
    output: &Output,
) -> anyhow::Result<()> {
    let account = institution.account(arguments.account)?;
    let payment_limit = typed::amount(&arguments.limit, account.currency, "--limit")?;
    let verification_limit = match &arguments.verification_limit {
        Some(text) => Some(typed::amount(text, account.currency, "--verification-limit")?),
        None => None,
    };
    let id = CardId::from_octets(random::<16>()?.as_slice())?;
    let code = EnrolmentCode::from_random(*random()?);
    let not_after = arguments.validity.not_after(now);
    let terms = CardTerms { account: account.id, payment_limit, verification_limit };
    institution.add_card(id, terms, &code, not_after, now)?;
    let object = json!({
        "card_hint": id.hint(),
        "account": account.id.0,
        "currency": account.currency.code(),
        "payment_limit_minor": payment_limit.minor(),
        "code": code.expose_text(),
        "code_not_after_unix_s": not_after.seconds,
    });
    output.object(&object, || {
        format!(
            "card …{} of account {}, up to {payment_limit} at once\nenrolment code {}\nThe code is \
             shown only now; it is good once, until {not_after}.",
            id.hint(),
            account.id,
            code.expose_text()
        )
    })
}

fn item(card: &IssuedCard, full: bool) -> Item {
    let mut object = json!({
        "card_hint": card.id.hint(),
        "state": card.state.name(),
        "account": card.account.0,
        "currency": card.currency.code(),
        "payment_limit_minor": card.payment_limit_minor,
        "verification_limit_minor": card.verification_limit_minor,
        "counter": card.counter,
        "not_after_unix_s": card.not_after.map(|time| time.seconds),
    });
    if full {
        object["card"] = card.id.to_full_text().into();
    }
    let name = if full { card.id.to_full_text() } else { format!("…{}", card.id.hint()) };
    let row = vec![
        name,
        card.state.name().to_owned(),
        card.account.to_string(),
        money(card.payment_limit_minor.into(), card.currency),
        card.counter.to_string(),
        time_or_dash(card.not_after),
    ];
    (object, row)
}

fn set_blocked(
    mut institution: Institution,
    card: &str,
    blocked: bool,
    output: &Output,
) -> anyhow::Result<()> {
    // Not read by clap, which would repeat what was typed: it may be most of a card's id.
    let card: CardName = card.parse().map_err(Usage)?;
    let id = card.find(&mut institution)?;
    institution.set_card_blocked(id, blocked)?;
    output.object(&json!({ "card_hint": id.hint(), "blocked": blocked }), || {
        format!("card …{} is {}", id.hint(), if blocked { "blocked" } else { "no longer blocked" })
    })
}
