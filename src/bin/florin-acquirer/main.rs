//! `florin-acquirer`: the reference institution from the command line. Arguments in, exit codes
//! out.

#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use serde_json::{Value, json};

use florin::domain::{Amount, CardId, Currency, TerminalId, TransactionId, UnixTime};
use florin::institution::{
    AccountId, CardTerms, DirectoryError, EnrolmentCode, Institution, InstitutionError,
    LedgerBalance, LedgerReport, OpenedInstitution, Server, ServerError, StoreError,
    TransactionDetail, authority_certificate_path, create_institution, open_institution, random,
};
use florin::log::{LogFilter, LogForm, log_help, start_log};
use tracing::level_filters::LevelFilter;

/// What `serve` logs where nothing is said.
const LOG_LEVEL: LevelFilter = LevelFilter::INFO;

const AFTER_HELP: &str = "\
A first institution:
  florin-acquirer init --directory bank --name \"Example Bank\" --host-name localhost
  florin-acquirer account create --directory bank --name Alice --currency EUR --balance 100.00
  florin-acquirer card add --directory bank --account 1 --limit 50.00
  florin-acquirer terminal add --directory bank --merchant-id kiosk-1 --merchant-name \"Corner Kiosk\"
  florin-acquirer serve --directory bank --listen 127.0.0.1:7443

The two codes that are printed enrol the wallet and the terminal, which also need bank/root.pem.
The commands may run while the server runs. With --json each result is one JSON object on one line.

Exit codes:
  0  done
  1  `ledger check` found that the books are wrong
  2  the command line is wrong
  3  refused: there is no such account, card, terminal or transaction, or a value is out of its range
  4  the institution's directory: missing, damaged, there already, or open to other users
  5  the store failed, or is of a newer version
  6  the server could not listen, or stopped
  7  anything else: the machine's fault";

/// The reference payment institution of Florin: knows cards and terminals, decides, keeps the
/// ledger.
///
/// It is there to test against and to learn from. It moves no real money.
#[derive(Debug, Parser)]
#[command(name = "florin-acquirer", version, after_help = AFTER_HELP, max_term_width = 110)]
struct Arguments {
    /// The institution's directory.
    #[arg(long, global = true, value_name = "DIR", env = "FLORIN_ACQUIRER_DIRECTORY")]
    directory: Option<PathBuf>,
    /// Print JSON, one object per line, for programs.
    #[arg(long, global = true)]
    json: bool,
    #[arg(
        long,
        global = true,
        env = "RUST_LOG",
        value_name = "FILTER",
        help = log_help(&LOG_LEVEL.to_string()),
    )]
    log: Option<LogFilter>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a new institution: its keys, its TLS authority and an empty store, in a directory of
    /// its own.
    Init {
        /// What the institution is called: wallets show it.
        #[arg(long)]
        name: String,
        /// A name or IP address that terminals and wallets reach the server by; may be given
        /// several times.
        #[arg(long = "host-name", required = true, value_name = "HOST")]
        host_names: Vec<String>,
    },
    /// Serve terminals and wallets over gRPC and TLS 1.3, until SIGTERM or SIGINT.
    ///
    /// Prints `listening` and the address when it is ready.
    Serve {
        /// Where to listen; port 0 takes any that is free.
        #[arg(long, default_value = "127.0.0.1:7443", value_name = "ADDRESS:PORT")]
        listen: SocketAddr,
    },
    /// Accounts that cards pay from.
    #[command(subcommand)]
    Account(AccountCommand),
    /// Machines that take payments.
    #[command(subcommand)]
    Terminal(TerminalCommand),
    /// Cards.
    #[command(subcommand)]
    Card(CardCommand),
    /// Payments.
    #[command(subcommand)]
    Transaction(TransactionCommand),
    /// The books.
    #[command(subcommand)]
    Ledger(LedgerCommand),
    #[cfg(feature = "manual")]
    Manual(florin::manual::ManualArguments),
}

#[derive(Debug, Subcommand)]
enum AccountCommand {
    /// Open an account.
    Create {
        /// Whose it is, for people.
        #[arg(long)]
        name: String,
        /// The only currency it pays in: ISO 4217, such as EUR.
        #[arg(long)]
        currency: Currency,
        /// What is in it at the start, in major units, such as 100.00; nothing where left out.
        #[arg(long, value_name = "AMOUNT")]
        balance: Option<String>,
    },
    /// List all accounts.
    List,
}

#[derive(Debug, Subcommand)]
enum TerminalCommand {
    /// Register a machine; prints its id and, this once, its enrolment code.
    Add {
        /// The institution's name for the merchant: who is owed the money. At most 32 octets.
        #[arg(long)]
        merchant_id: String,
        /// What people are shown: at most 40 octets.
        #[arg(long)]
        merchant_name: String,
        #[command(flatten)]
        validity: CodeValidity,
    },
    /// Give a machine a new enrolment code: for new keys, or before its certificates end.
    Code {
        /// Which.
        terminal: TerminalId,
        #[command(flatten)]
        validity: CodeValidity,
    },
    /// List all terminals.
    List,
    /// Shut a machine out: its authorisations are declined. It may still settle what was approved.
    Block {
        /// Which.
        terminal: TerminalId,
    },
    /// Let a machine in again.
    Unblock {
        /// Which.
        terminal: TerminalId,
    },
}

#[derive(Debug, Subcommand)]
enum CardCommand {
    /// Make a card; prints its hint and, this once, its enrolment code.
    Add {
        /// The number of the account that it pays from.
        #[arg(long, value_name = "NUMBER")]
        account: i64,
        /// What it may pay at once, in major units, such as 50.00.
        #[arg(long, value_name = "AMOUNT")]
        limit: String,
        /// Above this amount the phone has to ask for a passcode or a fingerprint; never where
        /// left out.
        #[arg(long, value_name = "AMOUNT")]
        verification_limit: Option<String>,
        #[command(flatten)]
        validity: CodeValidity,
    },
    /// List all cards, by their hints.
    List {
        /// Print the whole ids. They are card data: not for logs or screenshots.
        #[arg(long)]
        full: bool,
    },
    /// Shut a card out.
    Block {
        /// Its hint (four characters), or its whole id where several have the same hint.
        card: String,
    },
    /// Let a card in again.
    Unblock {
        /// Its hint (four characters), or its whole id where several have the same hint.
        card: String,
    },
}

#[derive(Debug, Subcommand)]
enum TransactionCommand {
    /// List the newest payments, newest first.
    List {
        /// Only those of this machine.
        #[arg(long)]
        terminal: Option<TerminalId>,
        /// How many at most.
        #[arg(long, default_value_t = 50)]
        limit: u32,
    },
    /// Show what is known of one payment.
    Show {
        /// Its id.
        transaction: TransactionId,
    },
}

#[derive(Debug, Subcommand)]
enum LedgerCommand {
    /// Hold the books against their rules; exit code 1 where they are wrong.
    Check,
    /// Show the newest entries.
    Show {
        /// How many at most.
        #[arg(long, default_value_t = 50)]
        limit: u32,
    },
}

#[derive(Debug, Args)]
struct CodeValidity {
    /// How long the code can be used, in hours.
    #[arg(long, value_name = "HOURS", default_value_t = 24, value_parser = clap::value_parser!(u64).range(1..=8760))]
    valid_for_hours: u64,
}

impl CodeValidity {
    fn not_after(&self, now: UnixTime) -> UnixTime {
        UnixTime { seconds: now.seconds + self.valid_for_hours * 3_600 }
    }
}

/// What a command came to.
enum Done {
    Ok,
    BooksWrong,
}

/// The command line is right in form and wrong in what it says.
#[derive(Debug)]
struct Usage(String);

impl std::fmt::Display for Usage {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    #[cfg(feature = "manual")]
    if let Command::Manual(manual) = &arguments.command {
        let program = <Arguments as clap::CommandFactory>::command();
        return florin::manual::write_manual(program, manual).map_or_else(
            |error| {
                eprintln!("florin-acquirer: {error}");
                ExitCode::FAILURE
            },
            |()| ExitCode::SUCCESS,
        );
    }
    let json = arguments.json;
    match run(arguments) {
        Ok(Done::Ok) => ExitCode::SUCCESS,
        Ok(Done::BooksWrong) => ExitCode::from(1),
        // Whoever read the output has seen enough.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let code = exit_code(&error);
            let words = words_of(&error);
            if json {
                eprintln!("{}", json!({ "error": words, "exit_code": code }));
            } else {
                eprintln!("florin-acquirer: {words}");
            }
            ExitCode::from(code)
        }
    }
}

/// The error and its causes, without those that the text names already.
fn words_of(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |words, cause| {
        if words.is_empty() {
            cause
        } else if words.contains(&cause) {
            words
        } else {
            format!("{words}: {cause}")
        }
    })
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// The one place where an error becomes an exit code.
fn exit_code(error: &anyhow::Error) -> u8 {
    if error.is::<Usage>() {
        return 2;
    }
    if let Some(error) = error.downcast_ref::<InstitutionError>() {
        return match error {
            InstitutionError::Store(_) => 5,
            InstitutionError::InvalidRequest { .. }
            | InstitutionError::OtherContent(_)
            | InstitutionError::NotCapturable { .. }
            | InstitutionError::NotFound { .. }
            | InstitutionError::CodeUnknown
            | InstitutionError::CodeExpired(_)
            | InstitutionError::CodeUsed
            | InstitutionError::Blocked(_)
            | InstitutionError::CertificateReplaced(_) => 3,
        };
    }
    if let Some(error) = error.downcast_ref::<DirectoryError>() {
        return match error {
            DirectoryError::Store(StoreError::File(_)) => 4,
            DirectoryError::Store(_) => 5,
            DirectoryError::Invalid { .. } | DirectoryError::Certificate(_) => 3,
            DirectoryError::Randomness(_) | DirectoryError::Unlucky(_) => 7,
            DirectoryError::Initialised(_)
            | DirectoryError::NotEmpty(_)
            | DirectoryError::NotInitialised(_)
            | DirectoryError::Damaged { .. }
            | DirectoryError::Keys { .. }
            | DirectoryError::File(_) => 4,
        };
    }
    if error.is::<ServerError>() { 6 } else { 7 }
}

fn run(arguments: Arguments) -> anyhow::Result<Done> {
    let output = Output { json: arguments.json };
    let now = unix_time()?;
    let directory = arguments.directory.ok_or_else(|| {
        Usage(
            "name the institution's directory with --directory DIR or FLORIN_ACQUIRER_DIRECTORY"
                .to_owned(),
        )
    })?;
    if let Command::Init { name, host_names } = &arguments.command {
        create_institution(&directory, name, host_names, now)?;
        let certificate = authority_certificate_path(&directory);
        output.object(
            &json!({ "directory": directory, "name": name, "host_names": host_names, "root_certificate": certificate }),
            || {
                format!(
                    "{name} is made in {}.\nGive terminals and wallets {}.\nBack the directory up, and keep \
                     keys/root-key.pem elsewhere: serving does not need it.",
                    directory.display(),
                    certificate.display()
                )
            },
        )?;
        return Ok(Done::Ok);
    }
    let opened = open_institution(&directory)?;
    match arguments.command {
        Command::Init { .. } => {}
        #[cfg(feature = "manual")]
        Command::Manual(_) => {}
        Command::Serve { listen } => {
            let form = if output.json { LogForm::Json } else { LogForm::Text };
            start_log(arguments.log, LOG_LEVEL, form);
            serve(opened, listen, &output)?;
        }
        Command::Account(command) => account(opened.institution, command, now, &output)?,
        Command::Terminal(command) => terminal(opened.institution, command, now, &output)?,
        Command::Card(command) => card(opened.institution, command, now, &output)?,
        Command::Transaction(command) => transaction(opened.institution, command, &output)?,
        Command::Ledger(command) => return ledger(opened.institution, command, &output),
    }
    Ok(Done::Ok)
}

fn serve(opened: OpenedInstitution, listen: SocketAddr, output: &Output) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the asynchronous runtime")?;
    runtime.block_on(async {
        use tokio::signal::unix::{SignalKind, signal};
        // Before the address is printed: whoever reads it may already send a signal.
        let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
        let name = opened.name.clone();
        let server = Server::start(opened, listen).await?;
        let address = server.local_address();
        output.object(
            &json!({ "event": "listening", "address": address.to_string(), "name": name }),
            || format!("listening {address}"),
        )?;
        tracing::info!(%address, institution = name, "listening");
        server
            .serve_until(async {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                tracing::info!("told to end");
            })
            .await?;
        tracing::info!("ended");
        Ok(())
    })
}

fn account(
    mut institution: Institution,
    command: AccountCommand,
    now: UnixTime,
    output: &Output,
) -> anyhow::Result<()> {
    match command {
        AccountCommand::Create { name, currency, balance } => {
            let balance =
                balance.map(|text| major_units(&text, currency, "--balance")).transpose()?;
            let id = institution.create_account(&name, currency, balance, now)?;
            let account = institution.account(id)?;
            output.object(&account_json(&account), || {
                format!(
                    "account {id} of {name} has {}",
                    money(account.available_minor.into(), currency)
                )
            })
        }
        AccountCommand::List => {
            let accounts = institution.accounts()?;
            output.list(
                &["ACCOUNT", "NAME", "AVAILABLE", "HELD"],
                accounts.iter().map(|account| {
                    (
                        account_json(account),
                        vec![
                            account.id.to_string(),
                            account.name.clone(),
                            money(account.available_minor.into(), account.currency),
                            money(account.held_minor.into(), account.currency),
                        ],
                    )
                }),
            )
        }
    }
}

fn account_json(account: &florin::institution::Account) -> Value {
    json!({
        "account": account.id.0,
        "name": account.name,
        "currency": account.currency.code(),
        "available_minor": account.available_minor,
        "held_minor": account.held_minor,
    })
}

fn terminal(
    mut institution: Institution,
    command: TerminalCommand,
    now: UnixTime,
    output: &Output,
) -> anyhow::Result<()> {
    match command {
        TerminalCommand::Add { merchant_id, merchant_name, validity } => {
            let id = TerminalId::from_random(*random()?);
            let code = EnrolmentCode::from_random(*random()?);
            let not_after = validity.not_after(now);
            institution.add_terminal(id, &merchant_id, &merchant_name, &code, not_after, now)?;
            output.object(
                &json!({
                    "terminal": id.to_string(), "short_code": id.short_code(), "merchant_id": merchant_id,
                    "merchant_name": merchant_name, "code": code.expose_text(),
                    "code_not_after_unix_s": not_after.seconds,
                }),
                || {
                    format!(
                        "terminal {id}\nenrolment code {}\nThe code is shown only now; it is good once, until {not_after}.",
                        code.expose_text()
                    )
                },
            )
        }
        TerminalCommand::Code { terminal, validity } => {
            let code = EnrolmentCode::from_random(*random()?);
            let not_after = validity.not_after(now);
            institution.renew_terminal_code(terminal, &code, not_after)?;
            output.object(
                &json!({
                    "terminal": terminal.to_string(), "code": code.expose_text(),
                    "code_not_after_unix_s": not_after.seconds,
                }),
                || {
                    format!(
                        "enrolment code {}\nThe code is shown only now; it is good once, until {not_after}.",
                        code.expose_text()
                    )
                },
            )
        }
        TerminalCommand::List => {
            let terminals = institution.terminals()?;
            output.list(
                &["TERMINAL", "STATE", "MERCHANT", "NAME", "CERTIFICATES END"],
                terminals.iter().map(|terminal| {
                    (
                        json!({
                            "terminal": terminal.id.to_string(), "short_code": terminal.id.short_code(),
                            "state": terminal.state.name(), "merchant_id": terminal.merchant_id,
                            "merchant_name": terminal.merchant_name,
                            "certificate_not_after_unix_s": terminal.certificate_not_after.map(|time| time.seconds),
                        }),
                        vec![
                            terminal.id.to_string(),
                            terminal.state.name().to_owned(),
                            terminal.merchant_id.clone(),
                            terminal.merchant_name.clone(),
                            time_or_dash(terminal.certificate_not_after),
                        ],
                    )
                }),
            )
        }
        TerminalCommand::Block { terminal } => {
            institution.set_terminal_blocked(terminal, true)?;
            output.object(&json!({ "terminal": terminal.to_string(), "blocked": true }), || {
                format!("terminal {terminal} is blocked")
            })
        }
        TerminalCommand::Unblock { terminal } => {
            institution.set_terminal_blocked(terminal, false)?;
            output.object(&json!({ "terminal": terminal.to_string(), "blocked": false }), || {
                format!("terminal {terminal} is let in again")
            })
        }
    }
}

fn card(
    mut institution: Institution,
    command: CardCommand,
    now: UnixTime,
    output: &Output,
) -> anyhow::Result<()> {
    match command {
        CardCommand::Add { account, limit, verification_limit, validity } => {
            let account = institution.account(AccountId(account))?;
            let payment_limit = major_units(&limit, account.currency, "--limit")?;
            let verification_limit = verification_limit
                .map(|text| major_units(&text, account.currency, "--verification-limit"))
                .transpose()?;
            let octets = random::<16>()?;
            let id = CardId::from_octets(octets.as_slice())?;
            let code = EnrolmentCode::from_random(*random()?);
            let not_after = validity.not_after(now);
            let terms = CardTerms { account: account.id, payment_limit, verification_limit };
            institution.add_card(id, terms, &code, not_after, now)?;
            output.object(
                &json!({
                    "card_hint": id.hint(), "account": account.id.0, "currency": account.currency.code(),
                    "payment_limit_minor": payment_limit.minor(), "code": code.expose_text(),
                    "code_not_after_unix_s": not_after.seconds,
                }),
                || {
                    format!(
                        "card …{} of account {}, up to {payment_limit} at once\nenrolment code {}\nThe code is shown only \
                         now; it is good once, until {not_after}.",
                        id.hint(),
                        account.id,
                        code.expose_text()
                    )
                },
            )
        }
        CardCommand::List { full } => {
            let cards = institution.cards()?;
            output.list(
                &["CARD", "STATE", "ACCOUNT", "LIMIT", "COUNTER", "ENDS"],
                cards.iter().map(|card| {
                    let mut object = json!({
                        "card_hint": card.id.hint(), "state": card.state.name(), "account": card.account.0,
                        "currency": card.currency.code(), "payment_limit_minor": card.payment_limit_minor,
                        "verification_limit_minor": card.verification_limit_minor, "counter": card.counter,
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
                }),
            )
        }
        CardCommand::Block { card } => set_card_blocked(&mut institution, &card, true, output),
        CardCommand::Unblock { card } => set_card_blocked(&mut institution, &card, false, output),
    }
}

fn set_card_blocked(
    institution: &mut Institution,
    named: &str,
    blocked: bool,
    output: &Output,
) -> anyhow::Result<()> {
    let named = named.trim_start_matches('…').to_ascii_lowercase();
    let id = if let Ok(id) = named.parse::<CardId>() {
        id
    } else {
        let matching: Vec<_> =
            institution.cards()?.into_iter().filter(|card| card.id.hint() == named).collect();
        match matching.as_slice() {
            [card] => card.id,
            [] => {
                // Not what was typed: it may be most of a card's id.
                let id = "of that hint; see `florin-acquirer card list`".to_owned();
                return Err(InstitutionError::NotFound { what: "card", id }.into());
            }
            _ => {
                let detail = format!(
                    "{} cards have this hint; name one by its whole id, from `florin-acquirer card list --full`",
                    matching.len()
                );
                return Err(InstitutionError::InvalidRequest { field: "card", detail }.into());
            }
        }
    };
    institution.set_card_blocked(id, blocked)?;
    output.object(&json!({ "card_hint": id.hint(), "blocked": blocked }), || {
        format!("card …{} is {}", id.hint(), if blocked { "blocked" } else { "let in again" })
    })
}

fn transaction(
    mut institution: Institution,
    command: TransactionCommand,
    output: &Output,
) -> anyhow::Result<()> {
    match command {
        TransactionCommand::List { terminal, limit } => {
            let transactions = institution.newest_transactions(terminal, limit)?;
            output.list(
                &["CREATED", "TRANSACTION", "TERMINAL", "STATE", "AMOUNT", "REASON", "CARD"],
                transactions.iter().map(|transaction| {
                    (
                        transaction_json(transaction),
                        vec![
                            transaction.created_at.to_string(),
                            transaction.id.to_string(),
                            transaction.terminal.to_string(),
                            transaction.state.name().to_owned(),
                            transaction.amount.map_or_else(dash, |amount| amount.to_string()),
                            reason(transaction).unwrap_or("-").to_owned(),
                            transaction
                                .card_hint
                                .as_ref()
                                .map_or_else(dash, |hint| format!("…{hint}")),
                        ],
                    )
                }),
            )
        }
        TransactionCommand::Show { transaction: id } => {
            let transactions = institution.transactions_with_id(id)?;
            if transactions.is_empty() {
                return Err(
                    InstitutionError::NotFound { what: "transaction", id: id.to_string() }.into()
                );
            }
            for transaction in transactions {
                output
                    .object(&transaction_json(&transaction), || transaction_text(&transaction))?;
            }
            Ok(())
        }
    }
}

fn reason(transaction: &TransactionDetail) -> Option<&'static str> {
    let declined = transaction.decline_reason.map(|reason| reason.name());
    declined.or(transaction.reversal_reason.map(|reason| reason.name()))
}

fn transaction_json(transaction: &TransactionDetail) -> Value {
    json!({
        "transaction": transaction.id.to_string(),
        "terminal": transaction.terminal.to_string(),
        "merchant_id": transaction.merchant_id,
        "state": transaction.state.name(),
        "decline_reason": transaction.decline_reason.map(|reason| reason.name()),
        "reversal_reason": transaction.reversal_reason.map(|reason| reason.name()),
        "amount_minor": transaction.amount.map(|amount| amount.minor()),
        "currency": transaction.amount.map(|amount| amount.currency().code().to_owned()),
        "card_hint": transaction.card_hint,
        "approval_code": transaction.approval_code,
        "offer_digest": transaction.offer_digest.map(|digest| format!("{digest:?}")),
        "created_at_unix_s": transaction.created_at.seconds,
        "captured_at_unix_s": transaction.captured_at.map(|time| time.seconds),
        "reversed_at_unix_s": transaction.reversed_at.map(|time| time.seconds),
    })
}

fn transaction_text(transaction: &TransactionDetail) -> String {
    let rows = [
        ("transaction", transaction.id.to_string()),
        ("terminal", transaction.terminal.to_string()),
        ("merchant", transaction.merchant_id.clone().unwrap_or_else(dash)),
        ("state", transaction.state.name().to_owned()),
        ("reason", reason(transaction).unwrap_or("-").to_owned()),
        ("amount", transaction.amount.map_or_else(dash, |amount| amount.to_string())),
        ("card", transaction.card_hint.as_ref().map_or_else(dash, |hint| format!("…{hint}"))),
        ("approval code", transaction.approval_code.clone().unwrap_or_else(dash)),
        ("created", transaction.created_at.to_string()),
        ("captured", time_or_dash(transaction.captured_at)),
        ("reversed", time_or_dash(transaction.reversed_at)),
    ];
    rows.map(|(name, value)| format!("{name:<14} {value}")).join("\n")
}

fn ledger(
    mut institution: Institution,
    command: LedgerCommand,
    output: &Output,
) -> anyhow::Result<Done> {
    match command {
        LedgerCommand::Check => {
            let report = institution.check_ledger()?;
            let balanced = report.faults.is_empty();
            output.object(&report_json(&report), || report_text(&report))?;
            Ok(if balanced { Done::Ok } else { Done::BooksWrong })
        }
        LedgerCommand::Show { limit } => {
            let entries = institution.newest_ledger_entries(limit)?;
            output.list(
                &["ENTRY", "MADE", "KIND", "TRANSACTION", "POSTINGS"],
                entries.iter().map(|entry| {
                    let postings: Vec<_> = entry
                        .postings
                        .iter()
                        .map(|posting| format!("{} {}", ledger_account(posting), balance_text(posting)))
                        .collect();
                    let id = entry.transaction_id.map(|id| id.to_string());
                    let object = json!({
                        "entry": entry.number, "kind": entry.kind, "transaction": id,
                        "made_at_unix_s": entry.made_at.seconds,
                        "postings": entry.postings.iter().map(|posting| json!({
                            "kind": posting.kind, "owner": posting.owner, "currency": posting.currency,
                            "amount_minor": posting.balance_minor,
                        })).collect::<Vec<_>>(),
                    });
                    let row = vec![
                        entry.number.to_string(),
                        entry.made_at.to_string(),
                        entry.kind.clone(),
                        id.unwrap_or_else(dash),
                        postings.join(", "),
                    ];
                    (object, row)
                }),
            )?;
            Ok(Done::Ok)
        }
    }
}

fn report_json(report: &LedgerReport) -> Value {
    json!({
        "balanced": report.faults.is_empty(),
        "entries": report.entries,
        "balances": report.balances.iter().map(|balance| json!({
            "kind": balance.kind, "owner": balance.owner, "currency": balance.currency,
            "balance_minor": balance.balance_minor,
        })).collect::<Vec<_>>(),
        "transactions": report.states.iter().map(|total| json!({
            "state": total.state, "currency": total.currency, "count": total.count,
            "amount_minor": total.amount_minor,
        })).collect::<Vec<_>>(),
        "faults": report.faults.iter().map(|fault| json!({ "rule": fault.rule, "detail": fault.detail }))
            .collect::<Vec<_>>(),
    })
}

fn report_text(report: &LedgerReport) -> String {
    let mut lines = Vec::new();
    for balance in &report.balances {
        lines.push(format!("{:<28} {:>20}", ledger_account(balance), balance_text(balance)));
    }
    for total in &report.states {
        let amount = i128::from(total.amount_minor);
        let amount =
            total.currency.parse().map_or_else(|_| dash(), |currency| money(amount, currency));
        lines.push(format!(
            "{:<28} {:>20}",
            format!("{} transactions {}", total.count, total.state),
            amount
        ));
    }
    for fault in &report.faults {
        lines.push(format!("WRONG {}: {}", fault.rule, fault.detail));
    }
    lines.push(match report.faults.len() {
        0 => format!("The books are right: {} entries, each sums to zero.", report.entries),
        faults => {
            format!("The books are wrong in {faults} places. Stop the server and restore a backup.")
        }
    });
    lines.join("\n")
}

fn ledger_account(balance: &LedgerBalance) -> String {
    let kind = &balance.kind;
    if balance.owner.is_empty() { kind.clone() } else { format!("{kind} {}", balance.owner) }
}

fn balance_text(balance: &LedgerBalance) -> String {
    let minor = i128::from(balance.balance_minor);
    balance.currency.parse().map_or_else(|_| minor.to_string(), |currency| money(minor, currency))
}

/// An amount that may be zero or negative, in major units.
fn money(minor: i128, currency: Currency) -> String {
    let exponent = usize::from(currency.exponent());
    let digits = format!("{:0>width$}", minor.unsigned_abs(), width = exponent + 1);
    let (whole, decimals) = digits.split_at(digits.len() - exponent);
    let sign = if minor < 0 { "-" } else { "" };
    let point = if exponent == 0 { "" } else { "." };
    format!("{sign}{whole}{point}{decimals} {currency}")
}

fn major_units(text: &str, currency: Currency, argument: &str) -> anyhow::Result<Amount> {
    Amount::parse_major(text, currency)
        .map_err(|error| Usage(format!("{argument}: {error}")).into())
}

fn dash() -> String {
    "-".to_owned()
}

fn time_or_dash(time: Option<UnixTime>) -> String {
    time.map_or_else(dash, |time| time.to_string())
}

fn unix_time() -> anyhow::Result<UnixTime> {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .context("the clock says a year before 1970; set it")?;
    Ok(UnixTime { seconds: since.as_secs() })
}

/// Standard output, for people or for programs.
struct Output {
    json: bool,
}

impl Output {
    fn object(&self, value: &Value, text: impl FnOnce() -> String) -> anyhow::Result<()> {
        let mut stdout = io::stdout().lock();
        if self.json {
            writeln!(stdout, "{value}")?;
        } else {
            writeln!(stdout, "{}", text())?;
        }
        Ok(stdout.flush()?)
    }

    /// One object per line, or a table.
    fn list(
        &self,
        headings: &[&str],
        items: impl Iterator<Item = (Value, Vec<String>)>,
    ) -> anyhow::Result<()> {
        let mut stdout = io::stdout().lock();
        let mut rows =
            vec![headings.iter().map(|heading| (*heading).to_owned()).collect::<Vec<_>>()];
        for (value, row) in items {
            if self.json {
                writeln!(stdout, "{value}")?;
            } else {
                rows.push(row);
            }
        }
        if !self.json {
            let widths: Vec<usize> = (0..headings.len())
                .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
                .collect();
            for row in rows {
                let cells: Vec<_> = row
                    .iter()
                    .zip(&widths)
                    .map(|(cell, width)| format!("{cell:<width$}"))
                    .collect();
                writeln!(stdout, "{}", cells.join("  ").trim_end())?;
            }
        }
        Ok(stdout.flush()?)
    }
}
