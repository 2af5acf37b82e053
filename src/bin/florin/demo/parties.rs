//! Sets up the parties as their owners would: keys, accounts, enrolment.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use florin::credential::VerifyingKey;
use florin::domain::{Amount, CardId, Currency, TerminalId, UnixTime};
use florin::institution::{
    CardTerms, EnrolmentCode, Institution, LedgerBalance, Server, authority_certificate_path,
    create_institution, open_institution,
};
use florin::institution_address::InstitutionAddress;
use florin::protocol::ChannelKey;
use florin::relay::{GrpcRelay, TlsFiles, enrol_terminal};
use florin::service::wall_clock;
use florin::terminal::Identity;
use florin::wallet::{
    Card, CardName, DirectoryStore, EnrolmentRequest, InstitutionContact, WalletDirectory,
    enrol_card,
};

use super::event::{Event, Story};
use super::randomness::random;
use super::scenario::{DemoSettings, Scenario};

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
        let now = wall_clock();
        create_institution(&institution_directory, "Example Bank", &["localhost".to_owned()], now)
            .context("cannot set up the institution")?;
        let mut opened = open_institution(&institution_directory)?;
        let codes = Codes::issue(&mut opened.institution, settings, now)?;
        let server = Server::start(opened, SocketAddr::from(([127, 0, 0, 1], 0))).await?;
        let address = format!("https://localhost:{}", server.local_address().port());
        let root_pem = std::fs::read_to_string(authority_certificate_path(&institution_directory))?;

        let key = rcgen::KeyPair::generate()?;
        let request = rcgen::CertificateParams::default().serialize_request(&key)?;
        let channel_key = ChannelKey::from_octets(random());
        let enrolled = enrol_terminal(
            &address.parse()?,
            &root_pem,
            &codes.terminal.expose_text(),
            request.der().to_vec(),
            &channel_key,
            now,
        )
        .await?;
        let root_key = VerifyingKey::from_sec1(&enrolled.root_public_key)?;
        let identity =
            Identity::new(enrolled.terminal_certificate, channel_key, enrolled.keyring, &root_key)?;

        let wallet = WalletDirectory::open(directory.join("wallet"))?;
        let request = EnrolmentRequest {
            institution: InstitutionContact {
                address: address.parse()?,
                root_pem: root_pem.clone().into_bytes(),
            },
            code: codes.card.expose_text().into(),
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
            let postings = entry.postings.iter().map(posting_text).collect();
            story.tell(Event::Ledger { entry: entry.number, kind: entry.kind, postings });
        }
        Ok(institution.check_ledger()?.faults.is_empty())
    }
}

/// The one-time codes with which terminal and card enrol.
struct Codes {
    terminal: EnrolmentCode,
    card: EnrolmentCode,
}

impl Codes {
    /// Has the institution open an account, and expect a terminal and a card.
    fn issue(
        institution: &mut Institution,
        settings: &DemoSettings,
        now: UnixTime,
    ) -> anyhow::Result<Self> {
        let (amount, currency) = (settings.amount, settings.amount.currency());
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
        let not_after = UnixTime { seconds: now.seconds + CODE_VALIDITY_S };
        let terminal = EnrolmentCode::from_random(random());
        let terminal_id = TerminalId::from_random(random());
        institution.add_terminal(terminal_id, "M-1", MERCHANT_NAME, &terminal, not_after, now)?;
        let card = EnrolmentCode::from_random(random());
        let payment_limit =
            Amount::new(amount.minor().saturating_mul(10), currency).unwrap_or(amount);
        let terms = CardTerms { account, payment_limit, verification_limit: None };
        institution.add_card(
            CardId::from_octets(&random::<16>())?,
            terms,
            &card,
            not_after,
            now,
        )?;
        Ok(Self { terminal, card })
    }
}

/// Such as `available 1 -2.50 EUR`.
fn posting_text(posting: &LedgerBalance) -> String {
    let owner =
        if posting.owner.is_empty() { String::new() } else { format!(" {}", posting.owner) };
    let sign = if posting.balance_minor < 0 { '-' } else { '+' };
    let currency: Option<Currency> = posting.currency.parse().ok();
    let amount = currency
        .and_then(|currency| Amount::new(posting.balance_minor.unsigned_abs(), currency).ok())
        .map_or_else(|| format!("0 {}", posting.currency), |amount| amount.to_string());
    format!("{}{owner} {sign}{amount}", posting.kind)
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
