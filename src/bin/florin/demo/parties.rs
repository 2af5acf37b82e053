//! Sets up the parties as their owners would: keys, accounts, enrolment.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use rand::TryRngCore;
use rand::rngs::OsRng;

use super::event::{Event, Story};
use super::play::{DemoSettings, Scenario, unix_time};
use super::silent_proxy::SilentProxy;
use florin::domain::{Amount, CardId, TerminalId};
use florin::institution::{
    CardTerms, EnrolmentCode, Server, authority_certificate_path, create_institution,
    open_institution,
};
use florin::protocol::ChannelKey;
use florin::relay::{GrpcRelay, InstitutionAddress, TlsFiles, enrol_terminal};
use florin::terminal::Identity;
use florin::wallet::{
    Card, CardName, Cardholder, Decision, DirectoryStore, EnrolmentRequest, Notice, OfferView,
    WalletDirectory, enrol_card,
};

/// How long the demo's codes are good, in seconds.
const CODE_VALIDITY_S: u64 = 600;
const MERCHANT_NAME: &str = "Kiosk on the Corner";

/// Everybody, enrolled and ready.
pub(super) struct Parties {
    directory: PathBuf,
    server: Server,
    root_pem: String,
    client_certificate_pem: String,
    client_key_pem: String,
    identity: Identity,
    card: CardName,
}

impl Parties {
    /// Makes an institution, an account, a terminal and a card below the directory.
    pub(super) async fn set_up(directory: &Path, settings: &DemoSettings) -> anyhow::Result<Self> {
        florin::private_file::create_directory(directory)?;
        let institution_directory = directory.join("institution");
        let now = unix_time();
        create_institution(&institution_directory, "Example Bank", &["localhost".to_owned()], now)
            .context("the institution cannot be set up")?;
        let mut opened = open_institution(&institution_directory)?;
        let institution = &mut opened.institution;

        let amount = settings.amount;
        let currency = amount.currency();
        // Enough for a dishonest terminal too, so that it fails for its own reason; or too little
        // by one minor unit.
        let balance_minor = match settings.scenario {
            Scenario::Declined => amount.minor() - 1,
            Scenario::Approved
            | Scenario::TamperedOffer
            | Scenario::StolenCounter
            | Scenario::DispenseFailed
            | Scenario::InstitutionSilent => amount.minor().saturating_mul(20),
        };
        let balance = Amount::new(balance_minor, currency).ok();
        let account = institution.create_account("The person", currency, balance, now)?;
        let code_not_after = florin::domain::UnixTime { seconds: now.seconds + CODE_VALIDITY_S };
        let terminal_code = EnrolmentCode::from_random(random());
        let terminal_id = TerminalId::from_random(random());
        institution.add_terminal(
            terminal_id,
            "M-1",
            MERCHANT_NAME,
            &terminal_code,
            code_not_after,
            now,
        )?;
        let card_code = EnrolmentCode::from_random(random());
        let payment_limit =
            Amount::new(amount.minor().saturating_mul(10), currency).unwrap_or(amount);
        let terms = CardTerms { account, payment_limit, verification_limit: None };
        institution.add_card(
            CardId::from_octets(&random::<16>())?,
            terms,
            &card_code,
            code_not_after,
            now,
        )?;

        let server = Server::start(opened, SocketAddr::from(([127, 0, 0, 1], 0))).await?;
        let address = format!("https://localhost:{}", server.local_address().port());
        let root_pem = std::fs::read_to_string(authority_certificate_path(&institution_directory))?;

        let key = rcgen::KeyPair::generate()?;
        let request = rcgen::CertificateParams::default().serialize_request(&key)?;
        let channel_key = ChannelKey::from_octets(random());
        let enrolled = enrol_terminal(
            &address.parse()?,
            &root_pem,
            &terminal_code.expose_text(),
            request.der().to_vec(),
            channel_key.public_key(),
        )
        .await?;
        let identity = Identity::new(enrolled.terminal_certificate, channel_key)?;

        let wallet = WalletDirectory::open(directory.join("wallet"))?;
        let request = EnrolmentRequest {
            institution: address,
            root_pem: root_pem.clone().into_bytes(),
            code: card_code.expose_text().into(),
            name: None,
        };
        let card = enrol_card(&wallet, request).await?;
        if settings.scenario == Scenario::StolenCounter {
            copy_directory(&directory.join("wallet"), &directory.join("thief"))?;
        }
        Ok(Self {
            directory: directory.to_owned(),
            server,
            root_pem,
            client_certificate_pem: enrolled.client_certificate_pem,
            client_key_pem: key.serialize_pem(),
            identity,
            card: card.name().clone(),
        })
    }

    pub(super) fn institution_address(&self) -> SocketAddr {
        self.server.local_address()
    }

    /// The terminal's way to the institution, through this address.
    pub(super) fn relay(&self, through: SocketAddr) -> anyhow::Result<GrpcRelay> {
        let address: InstitutionAddress =
            format!("https://localhost:{}", through.port()).parse()?;
        let files = TlsFiles {
            root_certificates_pem: &self.root_pem,
            client: Some((&self.client_certificate_pem, &self.client_key_pem)),
        };
        Ok(GrpcRelay::new(address, &files, self.identity.terminal_id())?)
    }

    pub(super) fn identity(&self) -> Identity {
        self.identity.clone()
    }

    pub(super) fn journal_path(&self) -> PathBuf {
        self.directory.join("journal.sqlite")
    }

    /// The card and where its payments are kept; the thief's copy, if asked for.
    pub(super) fn card(&self, stolen: bool) -> anyhow::Result<(Arc<Card>, DirectoryStore)> {
        let place = if stolen { "thief" } else { "wallet" };
        let wallet = WalletDirectory::open(self.directory.join(place))?;
        Ok((Arc::new(wallet.card(&self.card)?), wallet.store(&self.card)))
    }

    /// Stops the institution, tells its ledger, and says whether the ledger is right.
    pub(super) async fn close_and_tell_ledger(self, story: &Story) -> anyhow::Result<bool> {
        self.server.shut_down().await?;
        let mut institution = open_institution(&self.directory.join("institution"))?.institution;
        let mut entries = institution.newest_ledger_entries(100)?;
        entries.sort_by_key(|entry| entry.number);
        for entry in entries {
            let postings = entry
                .postings
                .iter()
                .map(|posting| {
                    let owner = if posting.owner.is_empty() {
                        String::new()
                    } else {
                        format!(" {}", posting.owner)
                    };
                    let sign = if posting.balance_minor < 0 { '-' } else { '+' };
                    let amount = posting
                        .currency
                        .parse()
                        .map_err(|_| ())
                        .and_then(|currency| {
                            Amount::new(posting.balance_minor.unsigned_abs(), currency)
                                .map_err(|_| ())
                        })
                        .map_or_else(
                            |()| format!("0 {}", posting.currency),
                            |amount| amount.to_string(),
                        );
                    format!("{}{owner} {sign}{amount}", posting.kind)
                })
                .collect();
            story.tell(Event::Ledger { entry: entry.number, kind: entry.kind, postings });
        }
        Ok(institution.check_ledger()?.faults.is_empty())
    }
}

/// A person who watches the screen and always says yes.
pub(super) struct Storyteller {
    story: Story,
    silence: Option<SilentProxy>,
    round_trips: u32,
    has_spoken: bool,
    hello_at: Option<Instant>,
    hello_to_result: Option<Duration>,
}

impl Storyteller {
    /// Where the institution fell silent, it speaks again when the person has read "pending".
    pub(super) fn new(story: Story, silence: Option<SilentProxy>) -> Self {
        Self {
            story,
            silence,
            round_trips: 0,
            has_spoken: false,
            hello_at: None,
            hello_to_result: None,
        }
    }

    /// Answers that the phone waited for.
    pub(super) fn round_trips(&self) -> u32 {
        self.round_trips
    }

    /// From the first word to the first result.
    pub(super) fn hello_to_result(&self) -> Option<Duration> {
        self.hello_to_result
    }
}

impl Cardholder for Storyteller {
    fn tell(&mut self, notice: &Notice) {
        match notice {
            Notice::MessageSent { message, octets } => {
                self.has_spoken = true;
                self.hello_at.get_or_insert_with(Instant::now);
                self.story.step("wallet", "terminal", described(message), Some(*octets));
            }
            Notice::MessageReceived { message, octets } => {
                if std::mem::take(&mut self.has_spoken) {
                    self.round_trips += 1;
                }
                if *message == "result" && self.hello_to_result.is_none() {
                    self.hello_to_result = self.hello_at.map(|at| at.elapsed());
                }
                self.story.step("terminal", "wallet", described(message), Some(*octets));
            }
            Notice::NothingToPay | Notice::CommandSent | Notice::Working => {}
            Notice::Pending => {
                self.story.note("the phone says: not known yet whether it was paid");
                if let Some(proxy) = self.silence.take() {
                    proxy.resume();
                    self.story.note("the way to the institution is open again");
                }
            }
        }
    }

    fn ask(&mut self, offer: &OfferView) -> Pin<Box<dyn Future<Output = Decision> + Send>> {
        let what = format!(
            "{}, {}, matching code {}: the person consents",
            offer.offer.merchant_name(),
            offer.offer.amount(),
            offer.matching_code
        );
        self.story.step("wallet", "person", what, None);
        Box::pin(std::future::ready(Decision::Pay))
    }
}

/// What is in a message, for a person.
fn described(message: &str) -> String {
    match message {
        "offer" => "the offer, with the terminal's certificate".to_owned(),
        "payment_command" => {
            "the command: signed by the card, sealed to the institution".to_owned()
        }
        "result" => "the result".to_owned(),
        "receipt_ack" => "the receipt is verified and stored".to_owned(),
        "result_query" => "what became of my payment?".to_owned(),
        other => other.replace('_', " "),
    }
}

/// Random octets of the system.
pub(super) fn random<const OCTETS: usize>() -> [u8; OCTETS] {
    let mut octets = [0; OCTETS];
    // Where the system has none, keys would be worthless: the demo must not go on.
    assert!(OsRng.try_fill_bytes(&mut octets).is_ok(), "the operating system gives no randomness");
    octets
}

fn copy_directory(from: &Path, to: &Path) -> anyhow::Result<()> {
    florin::private_file::create_directory(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_directory(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
