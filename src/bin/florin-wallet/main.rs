//! `florin-wallet`: the phone's side from the command line. Arguments in, exit codes out.

#![allow(clippy::print_stderr)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod air;
mod arguments;
mod bank;
mod failure;
mod keyboard;
mod nearest;
mod radio;
mod radio_error;
mod receipts;
mod screen;

use std::path::PathBuf;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use florin::causes::with_causes;
use florin::command_line::yes_or_no;
use florin::domain::{Amount, HolderVerification, Offer, Receipt, TransactionId, displayable};
use florin::institution_address::InstitutionAddress;
use florin::log::{LogForm, start_log};
use florin::wallet::{
    Card, CardName, Cardholder, ContactError, Decision, DriverSettings, EnrolmentError,
    EnrolmentRequest, InstitutionContact, Notice, OfferView, PaymentRecord, Reported, SessionEnd,
    SessionSettings, WalletDirectory, ask, enrol_card, pay,
};
use secrecy::SecretString;
use serde_json::json;

use self::air::Air;
use self::arguments::{Arguments, Command, LOG_LEVEL, PayArguments, RadioArguments, WhichTerminal};
use self::failure::{NoCard, Usage, name_and_exit_code};
use self::keyboard::typed_line;
use self::radio::{Radio, Target};
use self::screen::{Screen, SessionContext, Style, wall_clock};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    #[cfg(feature = "manual")]
    if let Command::Manual(manual) = &arguments.command {
        let program = <Arguments as clap::CommandFactory>::command();
        return florin::manual::write_manual(program, manual).map_or_else(
            |error| {
                eprintln!("florin-wallet manual: {error}");
                ExitCode::FAILURE
            },
            |()| ExitCode::SUCCESS,
        );
    }
    start_log(arguments.log.clone(), LOG_LEVEL, LogForm::Text);
    let screen = Screen::new(arguments.json);
    let runtime =
        match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                screen.complain(&format!("the system gives no threads: {error}"));
                return ExitCode::from(1);
            }
        };
    let code = runtime.block_on(async {
        run(arguments, screen).await.unwrap_or_else(|error| {
            let (name, code) = name_and_exit_code(&error);
            screen.failed(name, &with_causes(error.as_ref()), code, None)
        })
    });
    // A question that was not answered still holds a thread; the process does not wait for it.
    runtime.shutdown_background();
    ExitCode::from(code)
}

async fn run(arguments: Arguments, screen: Screen) -> anyhow::Result<u8> {
    let path = match arguments.directory {
        Some(path) => path,
        None => default_directory()?,
    };
    let directory = WalletDirectory::open(path)?;
    match arguments.command {
        Command::Enrol { institution, root, name, code } => {
            enrol(&directory, screen, institution, root, name, code).await
        }
        Command::Cards => cards(&directory, screen),
        Command::Terminals { scan_ms, radio } => {
            let found = Air::open(radio).await?.scan(scan_ms, None).await?;
            radio::list(&screen, &found);
            if found.is_empty() {
                screen.say("No machine in reach.");
            }
            Ok(0)
        }
        Command::Pay(arguments) => pay_once(&directory, screen, arguments).await,
        Command::Result { transaction_id, online, at_machine, which, radio, wait_ms } => {
            let record = choose_record(&directory, transaction_id)?;
            let is_pointed_at = which.link.is_some() || which.code.is_some() || which.nearest;
            if at_machine || is_pointed_at {
                return ask_machine(&directory, screen, record, which, radio, wait_ms).await;
            }
            match bank::ask_about(&directory, &screen, &record).await {
                Ok(Some(code)) => Ok(code),
                Ok(None) if online => Ok(bank::not_seen(&screen, &record)),
                Err(error) if online => Err(error.into()),
                Ok(None) => ask_machine(&directory, screen, record, which, radio, wait_ms).await,
                Err(error) => {
                    screen.say(&format!("{error}. Asking at the machine ..."));
                    ask_machine(&directory, screen, record, which, radio, wait_ms).await
                }
            }
        }
        Command::Receipts { online: true, card } => {
            bank::list(&directory, &screen, choose_card(&directory, card.as_ref())?).await
        }
        Command::Receipts { online: false, .. } => receipts::list(&directory, &screen),
        Command::Refresh { card } => {
            bank::refresh(&directory, &screen, choose_card(&directory, card.as_ref())?).await
        }
        #[cfg(feature = "manual")]
        Command::Manual(_) => Ok(0),
    }
}

fn default_directory() -> anyhow::Result<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(data) = set("XDG_DATA_HOME") {
        return Ok(data.join("florin-wallet"));
    }
    let home = set("HOME").ok_or_else(|| {
        Usage(
            "neither HOME nor XDG_DATA_HOME is set; say with --directory where the wallet is"
                .into(),
        )
    })?;
    Ok(home.join(".local/share/florin-wallet"))
}

async fn enrol(
    directory: &WalletDirectory,
    screen: Screen,
    institution: InstitutionAddress,
    root: PathBuf,
    name: Option<CardName>,
    code: String,
) -> anyhow::Result<u8> {
    let code = if code == "-" { typed_line("Code: ").await.unwrap_or_default() } else { code };
    let root_pem = std::fs::read(&root).map_err(|error| {
        EnrolmentError::from(ContactError::Root(format!("{}: {error}", root.display())))
    })?;
    let code = SecretString::from(code.trim());
    let institution = InstitutionContact { address: institution, root_pem };
    let card = enrol_card(directory, EnrolmentRequest { institution, code, name }).await?;
    screen.event(json!({
        "event": "enrolled",
        "card": card.name().as_str(),
        "card_hint": card.card_id().hint(),
        "institution": card.keyring().institution_name,
        "payment_limit_minor": card.payment_limit().minor(),
        "currency": card.payment_limit().currency().to_string(),
        "not_after": card.not_after().to_string(),
    }));
    screen.say(&format!(
        "{} Card {} of {}, up to {} at once, good until {}.",
        screen.styled(Style::Good, "Enrolled."),
        screen.styled(Style::Strong, card.name().as_str()),
        displayable(&card.keyring().institution_name),
        card.payment_limit(),
        card.not_after(),
    ));
    Ok(0)
}

fn cards(directory: &WalletDirectory, screen: Screen) -> anyhow::Result<u8> {
    let names = directory.card_names()?;
    if names.is_empty() {
        screen.say("No card yet. Put one in with `florin-wallet enrol`.");
    }
    for name in names {
        let card = directory.card(&name)?;
        let counter = directory.counter(&name)?;
        screen.event(json!({
            "event": "card",
            "card": name.as_str(),
            "card_hint": card.card_id().hint(),
            "institution": card.keyring().institution_name,
            "payment_limit_minor": card.payment_limit().minor(),
            "currency": card.payment_limit().currency().to_string(),
            "not_after": card.not_after().to_string(),
            "counter": counter,
        }));
        screen.say(&format!(
            "{}  {}  …{}  up to {}  good until {}  counter {counter}",
            screen.styled(Style::Strong, &format!("{:<16}", name.as_str())),
            displayable(&card.keyring().institution_name),
            card.card_id().hint(),
            card.payment_limit(),
            card.not_after(),
        ));
    }
    Ok(0)
}

async fn pay_once(
    directory: &WalletDirectory,
    screen: Screen,
    arguments: PayArguments,
) -> anyhow::Result<u8> {
    let which = &arguments.which;
    if arguments.yes && which.link.is_none() && which.code.is_none() && !names_machine(&arguments) {
        return Err(Usage(
            "--yes pays without asking; say which machine with --link or --code. To be near a \
             machine is no consent: with --nearest you are asked"
                .into(),
        )
        .into());
    }
    let card = Arc::new(choose_card(directory, arguments.card.as_ref())?);
    let limit = arguments
        .limit
        .as_deref()
        .map(|text| Amount::parse_major(text, card.payment_limit().currency()))
        .transpose()
        .map_err(|error| Usage(format!("--limit: {error}")))?;
    let target = Target::new(which, Target::Ask);
    let settings = DriverSettings {
        session: SessionSettings {
            link: arguments.which.link.clone(),
            short_code: arguments.which.code.clone(),
            limit,
            offer_wait_ms: arguments.wait_ms,
            stay_ms: arguments.stay_ms,
            holder_verification: if arguments.yes {
                HolderVerification::None
            } else {
                HolderVerification::Consent
            },
            ..session_settings()
        },
        vanish_after_command: arguments.vanish_after_command,
    };
    let air = Air::open(arguments.radio).await?;
    let mut radio = Radio::new(air.clone(), target, arguments.wait_ms, screen);
    let mut store = directory.store(card.name());
    let mut customer = Customer::new(screen, !arguments.yes);
    let paying = pay(&mut radio, card, settings, &mut store, &mut customer);
    let paid = until_interrupted(paying).await;
    let code = match paid {
        Some(Ok(reported)) => {
            let asks_bank = !arguments.offline && reported.end.is_unproven();
            let known =
                if asks_bank { ask_bank(directory, &screen, &reported).await } else { None };
            Ok(known.unwrap_or_else(|| show(&screen, &reported, None)))
        }
        Some(Err(error)) => Err(error.into()),
        None => Ok(interrupted(&screen, &customer)),
    };
    air.wait_disconnected().await;
    code
}

/// Whether the air is a socket, which is one machine.
fn names_machine(arguments: &PayArguments) -> bool {
    #[cfg(unix)]
    return arguments.which.nearest && arguments.radio.air.is_some();
    #[cfg(not(unix))]
    return false;
}

/// Asks the bank about a payment of which the machine proved nothing. None if it does not say more.
async fn ask_bank(directory: &WalletDirectory, screen: &Screen, reported: &Reported) -> Option<u8> {
    let id = reported.offer.as_ref()?.offer.transaction_id();
    let record = directory.record(&id).ok()??;
    bank::ask_about(directory, screen, &record).await.ok()?
}

/// The payment of this id, or the newest whose result is not final.
fn choose_record(
    directory: &WalletDirectory,
    transaction_id: Option<TransactionId>,
) -> anyhow::Result<PaymentRecord> {
    let Some(id) = transaction_id else {
        let records = directory.records()?;
        let newest = records.into_iter().rfind(|record| record.is_open() || record.is_reserved());
        return newest.ok_or_else(|| {
            let words = "there is no payment whose result is not known; name one that \
                `florin-wallet receipts` lists";
            Usage(words.into()).into()
        });
    };
    directory.record(&id)?.ok_or_else(|| {
        let words = format!(
            "this wallet did not make payment {id}; `florin-wallet receipts` lists the payments \
             that it made"
        );
        Usage(words).into()
    })
}

async fn ask_machine(
    directory: &WalletDirectory,
    screen: Screen,
    record: PaymentRecord,
    which: WhichTerminal,
    radio: RadioArguments,
    wait_ms: u64,
) -> anyhow::Result<u8> {
    let card = Arc::new(directory.card(record.card_name())?);
    let by_record = Target::ShortCode(record.offer().terminal_id().short_code().to_owned());
    let target = Target::new(&which, by_record);
    let settings = DriverSettings {
        session: SessionSettings {
            // It asks about the record's payment, whatever the machine's screen shows now.
            link: which
                .link
                .map(|link| florin::protocol::EngagementLink { transaction_id: None, ..link }),
            ..session_settings()
        },
        vanish_after_command: false,
    };
    let air = Air::open(radio).await?;
    let mut radio = Radio::new(air.clone(), target, wait_ms, screen);
    let mut store = directory.store(card.name());
    let mut customer = Customer::new(screen, true);
    let asking = ask(&mut radio, card, record.clone(), settings, &mut store, &mut customer);
    let code = match until_interrupted(asking).await {
        Some(Ok(reported)) => Ok(show(&screen, &reported, Some(record.offer()))),
        Some(Err(error)) => {
            let error = anyhow::Error::from(error);
            let (name, code) = name_and_exit_code(&error);
            Ok(screen.failed(name, &with_causes(error.as_ref()), code, Some(record.offer())))
        }
        None => {
            customer.has_sent |= record.is_open();
            customer.shown.get_or_insert(record.offer().clone());
            Ok(interrupted(&screen, &customer))
        }
    };
    air.wait_disconnected().await;
    code
}

fn session_settings() -> SessionSettings {
    SessionSettings {
        // The driver puts the link's own in.
        value_octets_max: 0,
        link: None,
        short_code: None,
        limit: None,
        offer_wait_ms: 0,
        stay_ms: 0,
        holder_verification: HolderVerification::Consent,
        wall_clock: wall_clock(),
    }
}

/// The result, or none if the person pressed Ctrl-C first. Dropping the future ends its connection.
async fn until_interrupted<T>(work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        result = work => Some(result),
        _ = tokio::signal::ctrl_c() => None,
    }
}

fn interrupted(screen: &Screen, customer: &Customer) -> u8 {
    let offer = customer.shown.as_ref();
    if let Some(receipt) = &customer.reserved {
        let context = SessionContext { offer, matching_code: None };
        screen.end(&SessionEnd::Reserved(receipt.clone()), &context)
    } else if customer.has_sent {
        let error = "interrupted after the payment was sent: nobody knows yet whether it was paid. \
            Do not pay again; find the payment with `florin-wallet receipts`, and ask for its \
            result with `florin-wallet result`";
        screen.failed("pending", error, 5, offer)
    } else {
        screen.failed("cancelled", "interrupted; nothing was paid", 6, offer)
    }
}

fn show(screen: &Screen, reported: &Reported, offer: Option<&Offer>) -> u8 {
    let context = SessionContext {
        offer: reported.offer.as_ref().map(|view| &view.offer).or(offer),
        matching_code: reported.offer.as_ref().map(|view| view.matching_code.as_str()),
    };
    if let Some(error) = &reported.store_error {
        screen.complain(&error.to_string());
        screen.event(json!({ "event": "store_failed", "error": error.to_string() }));
    }
    screen.end(&reported.end, &context)
}

fn choose_card(directory: &WalletDirectory, wanted: Option<&CardName>) -> anyhow::Result<Card> {
    let name = match wanted {
        Some(name) => name.clone(),
        None => {
            let mut names = directory.card_names()?;
            match names.len() {
                0 => return Err(NoCard::None(directory.path().to_owned()).into()),
                1 => names.swap_remove(0),
                _ => {
                    let names = names.iter().map(CardName::as_str).collect::<Vec<_>>().join(", ");
                    return Err(NoCard::Several(names).into());
                }
            }
        }
    };
    Ok(directory.card(&name)?)
}

/// The person at the command line.
struct Customer {
    screen: Screen,
    is_asked: bool,
    /// Whether a command was sent, so that the payment may have been made.
    has_sent: bool,
    shown: Option<Offer>,
    /// The receipt of the reservation, where the wallet stays for what becomes of it.
    reserved: Option<Receipt>,
}

impl Customer {
    fn new(screen: Screen, is_asked: bool) -> Self {
        Self { screen, is_asked, has_sent: false, shown: None, reserved: None }
    }
}

impl Cardholder for Customer {
    fn tell(&mut self, notice: &Notice) {
        self.has_sent |= *notice == Notice::CommandSent;
        if let Notice::Reserved(receipt) = notice {
            self.reserved = Some(Receipt::clone(receipt));
        }
        self.screen.notice(notice);
    }

    fn ask(&mut self, offer: &OfferView) -> Pin<Box<dyn Future<Output = Decision> + Send>> {
        self.screen.offer(offer);
        self.shown = Some(offer.offer.clone());
        if !self.is_asked {
            return Box::pin(std::future::ready(Decision::Pay));
        }
        let question = format!(
            "Pay {} to {}? [y/N] ",
            offer.offer.amount(),
            displayable(offer.offer.merchant_name())
        );
        Box::pin(async move {
            match typed_line(&question).await {
                Some(answer) if yes_or_no(&answer) == Some(true) => Decision::Pay,
                Some(_) | None => Decision::Decline,
            }
        })
    }
}
