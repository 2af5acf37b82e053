//! `florin-acquirer account`: the accounts that cards pay from.

use clap::Subcommand;
use florin::domain::{Currency, UnixTime};
use florin::institution::{Account, Institution};
use serde_json::{Value, json};

use crate::money::money;
use crate::output::{Item, Output};
use crate::typed;

/// The commands of this group.
#[derive(Debug, Subcommand)]
pub enum AccountCommand {
    /// Open an account. Prints its number.
    Create {
        /// The holder's name, for people.
        #[arg(long)]
        name: String,
        /// The only currency it pays in: a code of ISO 4217, such as EUR.
        #[arg(long, value_parser = typed::currency)]
        currency: Currency,
        /// The opening balance, in major units, such as 100.00 [default: 0].
        #[arg(long, value_name = "AMOUNT", allow_negative_numbers = true)]
        balance: Option<String>,
    },
    /// List all accounts.
    List,
}

/// Runs a command of this group.
pub fn run(
    command: AccountCommand,
    mut institution: Institution,
    now: UnixTime,
    output: &Output,
) -> anyhow::Result<()> {
    match command {
        AccountCommand::Create { name, currency, balance } => {
            let balance = match balance {
                Some(text) => typed::amount_or_zero(&text, currency, "--balance")?,
                None => None,
            };
            let id = institution.create_account(&name, currency, balance, now)?;
            let account = institution.account(id)?;
            output.object(&object(&account), || {
                let available = money(account.available_minor.into(), currency);
                format!("account {id} of {name} has {available}")
            })
        }
        AccountCommand::List => {
            let accounts = institution.accounts()?;
            let headings = ["ACCOUNT", "NAME", "AVAILABLE", "HELD"];
            output.list(&headings, accounts.iter().map(item).collect())
        }
    }
}

fn object(account: &Account) -> Value {
    json!({
        "account": account.id.0,
        "name": account.name,
        "currency": account.currency.code(),
        "available_minor": account.available_minor,
        "held_minor": account.held_minor,
    })
}

fn item(account: &Account) -> Item {
    let row = vec![
        account.id.to_string(),
        account.name.clone(),
        money(account.available_minor.into(), account.currency),
        money(account.held_minor.into(), account.currency),
    ];
    (object(account), row)
}
