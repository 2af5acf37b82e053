//! The institution's process: the real institution over its real store, its clock, and when it is
//! there to answer.
//!
//! Its store's transactions are whole or not at all; what a crash loses is the answer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use florin::credential::{
    Keyring, SealedCommand, Signed, SigningKey, card_enrolment_proof, channel_key_proof,
};
use florin::domain::{
    Amount, CardId, Currency, Offer, ReversalReason, TerminalId, TransactionId, UnixTime,
};
use florin::institution::{
    AccountId, AuthorisationRequest, CARD_VALIDITY_S, CardTerms, ChannelKeyClaim, EnrolmentCode,
    Institution, InstitutionError, InstitutionKeys, SqliteStore, Transaction,
};
use florin::protocol::{ChannelKey, decode_offer, encode_offer};
use florin::terminal::{
    Identity, InstitutionAnswer, InstitutionRequest, InstitutionTransaction, TransactionClaim,
    TransactionState,
};
use florin::wallet::{Card, CardParts};

use super::books::{Books, DAY_S};
use super::clock::WallClock;
use super::fault::FaultKind;
use super::planted::PlantedBug;
use super::randomness::Dice;
use super::stage::Stage;

/// What one account begins with, in minor units.
const OPENING_BALANCE_MINOR: u64 = 100_000;

/// The institution.
#[derive(Debug)]
pub struct Bank {
    institution: Institution,
    terminal_id: TerminalId,
    clock: WallClock,
    dice: Dice,
    refuses_until_ms: u64,
    /// What a planted bug has taken twice, by account.
    taken_twice: Vec<(i64, u64)>,
}

/// A world's parties as the institution enrolled them.
#[derive(Debug)]
pub struct Enrolled {
    pub bank: Bank,
    pub identity: Identity,
    pub cards: Vec<Arc<Card>>,
    /// What each account begins with.
    pub accounts: Vec<(i64, u64)>,
    /// The account of each card.
    pub account_of: Vec<i64>,
}

fn scalar_key(dice: &mut Dice) -> SigningKey {
    loop {
        if let Ok(key) = SigningKey::from_scalar(&dice.octets()) {
            return key;
        }
    }
}

/// An account's number, its currency, and what it begins with in minor units.
type Account = (AccountId, Currency, u64);

/// Opens an account for each currency.
fn open_accounts(
    institution: &mut Institution,
    currencies: &[Currency],
    now: UnixTime,
) -> Result<Vec<Account>, Box<dyn std::error::Error>> {
    let mut accounts = Vec::new();
    for (number, currency) in currencies.iter().enumerate() {
        // One account is soon empty, so that some payments are declined.
        let minor = if number + 1 == currencies.len() && number > 0 {
            2_000
        } else {
            OPENING_BALANCE_MINOR
        };
        let account = institution.create_account(
            "Person",
            *currency,
            Some(Amount::new(minor, *currency)?),
            now,
        )?;
        accounts.push((account, *currency, minor));
    }
    Ok(accounts)
}

/// The institution's keys: the same in every world.
fn generate_keys() -> Result<InstitutionKeys, Box<dyn std::error::Error>> {
    let mut key_dice = Dice::of(&[0x6b65_7973]);
    let now = WallClock::default().read(0);
    let (keys, _) = InstitutionKeys::generate("Simulated Bank", &key_dice.octets(), now)?;
    Ok(keys)
}

/// Founds an institution and enrols a terminal and that many phones with a card each, through its
/// own calls.
///
/// # Errors
/// What the institution refuses: a mistake of the simulator.
pub fn enrol(
    seed: u64,
    phones: usize,
    currencies: &[Currency],
) -> Result<Enrolled, Box<dyn std::error::Error>> {
    // The keys are the same in every world; they are what takes time.
    let mut key_dice = Dice::of(&[0x6b65_7973]);
    let mut dice = Dice::of(&[seed, 3]);
    let now = WallClock::default().read(0);
    let keys = generate_keys()?;
    let _: [u8; 32] = key_dice.octets();
    let signed_keyring: Signed = keys.keyring().clone();
    let root_key = *keys.root_public_key();
    let mut institution = Institution::new(keys, SqliteStore::open_in_memory()?);
    let later = UnixTime { seconds: now.seconds + 3_600 };

    let terminal_id = TerminalId::from_random(dice.octets());
    let code = EnrolmentCode::from_random(dice.octets());
    institution.add_terminal(terminal_id, "merchant-1", "Simulated Kiosk", &code, later, now)?;
    let channel_key = ChannelKey::from_octets(key_dice.octets());
    let text = code.expose_text();
    let sealing_key = Keyring::verify(&signed_keyring, &root_key)?.sealing_key(now)?;
    let claim = ChannelKeyClaim {
        channel_key: channel_key.public_key(),
        proof: channel_key_proof(channel_key.expose_octets(), &sealing_key, &text)?.to_vec(),
    };
    let enrolment = institution.enrol_terminal(&text, &claim, &dice.octets(), now)?;
    let keyring = signed_keyring.encode();
    let certificate = enrolment.terminal_certificate;
    let identity = Identity::new(certificate, channel_key, keyring, &root_key)?;

    let accounts = open_accounts(&mut institution, currencies, now)?;
    let mut cards = Vec::new();
    let mut account_of = Vec::new();
    for phone in 0..phones {
        let (account, currency, _) = accounts[dice.below(accounts.len() as u64) as usize];
        let card_id = CardId::from_octets(&dice.octets::<16>())?;
        let payment_limit = Amount::new(2_500, currency)?;
        let terms = CardTerms { account, payment_limit, verification_limit: None };
        let code = EnrolmentCode::from_random(dice.octets());
        institution.add_card(card_id, terms, &code, later, now)?;
        let key = scalar_key(&mut key_dice);
        let text = code.expose_text();
        let proof = card_enrolment_proof(&key, &text);
        institution.enrol_card(&text, &key.verifying_key().to_sec1(), &proof, now)?;
        let not_after = UnixTime { seconds: now.seconds + CARD_VALIDITY_S };
        let parts = CardParts {
            name: format!("card-{phone}").parse()?,
            card_id,
            key,
            payment_limit,
            not_after,
            root_key,
            signed_keyring: signed_keyring.clone(),
        };
        cards.push(Arc::new(Card::new(parts)?));
        account_of.push(account.0);
    }
    let bank = Bank {
        institution,
        terminal_id,
        clock: WallClock::default(),
        dice,
        refuses_until_ms: 0,
        taken_twice: Vec::new(),
    };
    let accounts = accounts.into_iter().map(|(account, _, minor)| (account.0, minor)).collect();
    Ok(Enrolled { bank, identity, cards, accounts, account_of })
}

impl Bank {
    /// The answer of an institution that leaves a tombstone and forgets it.
    fn forgotten_tombstone(
        &self,
        id: TransactionId,
        reason: ReversalReason,
        now: UnixTime,
    ) -> InstitutionAnswer {
        let forgetful = SqliteStore::open_in_memory().ok().zip(generate_keys().ok());
        match forgetful {
            Some((store, keys)) => {
                let mut forgetful = Institution::new(keys, store);
                answer_of(forgetful.reverse(self.terminal_id, id, reason, now))
            }
            None => InstitutionAnswer::Unanswered { detail: "simulated".into() },
        }
    }

    /// The institution gets a request.
    pub fn hears(&mut self, stage: &mut Stage, request: &InstitutionRequest, ask: Option<u64>) {
        if let InstitutionRequest::Authorise { transaction_id, sealed_command, .. } = request {
            stage.model.authorisation_arrives(*transaction_id, sealed_command);
        }
        if stage.now_ms < stage.network.down_until_ms {
            return;
        }
        if let Some(dice) = stage.fault(FaultKind::InstitutionClockJumps) {
            self.clock.jump(dice);
        }
        if let Some(mut dice) = stage.fault(FaultKind::InstitutionRefuses) {
            self.refuses_until_ms = stage.now_ms + dice.magnitude(100, 600_000);
        }
        if stage.now_ms < self.refuses_until_ms {
            let answer = InstitutionAnswer::Refused { detail: "simulated".into() };
            return self.answers(stage, ask, answer);
        }
        if let Some(mut dice) = stage.fault(FaultKind::InstitutionCrashesBefore) {
            stage.network.down_until_ms = stage.now_ms + dice.magnitude(100, 60_000);
            return;
        }
        if let InstitutionRequest::Authorise {
            offer, offer_age_ms, sealed_command, sequence, ..
        } = request
            && let Some(dice) = stage.fault(FaultKind::CommandPresentedAgain)
        {
            self.present_again(stage, dice, offer, *offer_age_ms, sealed_command, *sequence);
        }
        let answer = self.does(stage, request);
        if let Some(mut dice) = stage.fault(FaultKind::InstitutionCrashesAfter) {
            stage.network.down_until_ms = stage.now_ms + dice.magnitude(100, 60_000);
            return;
        }
        self.answers(stage, ask, answer);
    }

    /// From now on it is there.
    pub fn comes_back(&mut self) {
        self.refuses_until_ms = 0;
    }

    fn answers(&self, stage: &mut Stage, ask: Option<u64>, answer: InstitutionAnswer) {
        if let Some(ask) = ask {
            stage.bank_answers(ask, answer);
        }
    }

    fn does(&mut self, stage: &mut Stage, request: &InstitutionRequest) -> InstitutionAnswer {
        let now = self.clock.read(stage.now_ms);
        let terminal = self.terminal_id;
        let id = request.transaction_id();
        if stage.fault(FaultKind::InstitutionStoreFails).is_some() {
            // Its statuses INTERNAL and UNAVAILABLE: no proof that nothing was done.
            return InstitutionAnswer::Unanswered { detail: "simulated".into() };
        }
        let answer = match request {
            InstitutionRequest::Authorise {
                transaction_id,
                offer,
                offer_age_ms,
                sealed_command,
                sequence,
            } => {
                let request = AuthorisationRequest {
                    terminal_id: terminal,
                    transaction_id: *transaction_id,
                    offer: offer.clone(),
                    offer_age_ms: *offer_age_ms,
                    sealed_command: sealed_command.clone(),
                    sequence: *sequence,
                };
                self.institution.authorise(&request, now, self.dice.octets())
            }
            // It says nothing of lives of its store, so nothing is presented to it.
            InstitutionRequest::Inquire { .. } | InstitutionRequest::Present { .. } => {
                self.institution.transaction(terminal, id)
            }
            InstitutionRequest::Capture { .. } => {
                self.plant_second_taking(stage, id);
                self.institution.capture(terminal, id, now)
            }
            InstitutionRequest::Reverse { reason, .. } => {
                if stage.is_planted(PlantedBug::TombstoneForgotten)
                    && self.held(id).is_some_and(|held| held.state == TransactionState::Unknown)
                {
                    return self.forgotten_tombstone(id, *reason, now);
                }
                self.institution.reverse(terminal, id, *reason, now)
            }
        };
        self.observe(stage, id, request, now);
        answer_of(answer)
    }

    fn held(&mut self, id: TransactionId) -> Option<Transaction> {
        self.institution.transaction(self.terminal_id, id).ok()
    }

    /// Tells the reference model how the institution stands after a request.
    fn observe(
        &mut self,
        stage: &mut Stage,
        id: TransactionId,
        request: &InstitutionRequest,
        now: UnixTime,
    ) {
        if let InstitutionRequest::Inquire { .. } = request {
            return;
        }
        let Some(held) = self.held(id) else { return };
        let command = match request {
            InstitutionRequest::Authorise { sealed_command, .. } => {
                Some(SealedCommand::digest_of_encoded(sealed_command))
            }
            InstitutionRequest::Inquire { .. }
            | InstitutionRequest::Present { .. }
            | InstitutionRequest::Capture { .. }
            | InstitutionRequest::Reverse { .. } => None,
        };
        stage.say(|stage| format!("institution: {} is {}", stage.name(id), held.state.name()));
        stage.model.bank_holds(id, &held, command, now);
        let accounts = self.institution.accounts().unwrap_or_default();
        for account in accounts {
            let twice: u64 = self
                .taken_twice
                .iter()
                .filter(|(id, _)| *id == account.id.0)
                .map(|(_, minor)| minor)
                .sum();
            let available_minor = account.available_minor.saturating_sub(twice);
            stage.model.account_has(account.id.0, available_minor, account.held_minor);
        }
    }

    fn plant_second_taking(&mut self, stage: &mut Stage, id: TransactionId) {
        if !stage.is_planted(PlantedBug::CapturedTwice) {
            return;
        }
        let Some(held) = self.held(id) else { return };
        if let (TransactionState::Captured, Some(amount), Some(account)) =
            (held.state, held.amount, stage.model.account_charged(id))
        {
            self.taken_twice.push((account, amount.minor()));
        }
    }

    /// Somebody who has a terminal's certificate and saw this request tries to make more of it.
    fn present_again(
        &mut self,
        stage: &mut Stage,
        mut dice: Dice,
        offer: &[u8],
        offer_age_ms: u64,
        sealed_command: &[u8],
        sequence: u64,
    ) {
        let Ok(offer) = decode_offer(offer) else { return };
        let mut parts = offer.into_parts();
        if dice.percent(50) {
            // As another payment.
            parts.transaction_id = TransactionId::from_random(dice.octets());
            stage.model.is_forged(parts.transaction_id);
        } else {
            // As this payment, but for another thing.
            parts.reference = "slot 99".into();
            parts.nonce = dice.octets();
        }
        let transaction_id = parts.transaction_id;
        let Ok(offer) = Offer::new(parts) else { return };
        let request = InstitutionRequest::Authorise {
            transaction_id,
            offer: encode_offer(&offer),
            offer_age_ms,
            sealed_command: sealed_command.to_vec(),
            sequence: foreign_sequence(sequence, dice.octets()),
        };
        stage.model.authorisation_is_forged(transaction_id);
        self.does(stage, &request);
        stage.model.authorisation_is_genuine();
    }

    /// Every transaction, the totals of each day, and what is wrong with the books.
    ///
    /// # Errors
    /// The institution's.
    pub fn books(&mut self, stage: &Stage) -> Result<Books, InstitutionError> {
        let details = self.institution.newest_transactions(None, u32::MAX)?;
        let days: BTreeSet<u64> =
            details.iter().map(|detail| detail.created_at.seconds / DAY_S).collect();
        let transactions = details
            .iter()
            .map(|detail| InstitutionTransaction {
                transaction_id: detail.id,
                state: detail.state,
                amount: detail.amount,
                created_at: detail.created_at,
            })
            .collect();
        let report = self.institution.check_ledger()?;
        let faults =
            report.faults.iter().map(|fault| format!("{}: {}", fault.rule, fault.detail)).collect();
        let totals = report
            .states
            .into_iter()
            .map(|total| ((total.state, total.currency), (total.count, total.amount_minor)))
            .collect();
        let mut totals_of_days = BTreeMap::new();
        for day in days {
            // Asked as a terminal asks, day by day and page by page.
            let (from, until) =
                (UnixTime { seconds: day * DAY_S }, UnixTime { seconds: (day + 1) * DAY_S });
            let mut after = None;
            loop {
                let (page, next) =
                    self.institution.reconcile(self.terminal_id, from, until, after)?;
                for transaction in page {
                    let is_late = stage.is_planted(PlantedBug::BookedOnAnotherDay)
                        && transaction.state == TransactionState::Captured;
                    let currency = transaction.amount.map(|amount| amount.currency().to_string());
                    let key = (
                        day + u64::from(is_late),
                        transaction.state.name().into(),
                        currency.unwrap_or_default(),
                    );
                    let total: &mut (u64, u64) = totals_of_days.entry(key).or_default();
                    *total = (
                        total.0 + 1,
                        total.1 + transaction.amount.map_or(0, |amount| amount.minor()),
                    );
                }
                after = next;
                if after.is_none() {
                    break;
                }
            }
        }
        Ok(Books { transactions, totals, totals_of_days, faults })
    }
}

/// A number that this world's terminal never gives: it begins above, and only counts up.
pub fn foreign_sequence(sequence: u64, random: [u8; 4]) -> u64 {
    const BELOW_MAX: u64 = 100_000;
    sequence.saturating_sub(1_000 + u64::from(u32::from_be_bytes(random)) % BELOW_MAX).max(1)
}

/// What the relay makes of it: the service's statuses, and what the relay takes each for.
fn answer_of(result: Result<Transaction, InstitutionError>) -> InstitutionAnswer {
    let transaction = match result {
        Ok(transaction) => transaction,
        Err(error) => {
            let detail = error.to_string();
            return match error {
                InstitutionError::InvalidRequest { .. }
                | InstitutionError::NotFound { .. }
                | InstitutionError::NotCapturable { .. }
                | InstitutionError::NotReversible { .. }
                | InstitutionError::NotWrittenOff { .. }
                | InstitutionError::NotRefundable { .. }
                | InstitutionError::NotPresentable { .. }
                | InstitutionError::HoldEnded { .. }
                | InstitutionError::TooManyTombstones(_)
                | InstitutionError::TerminalCopied(_) => InstitutionAnswer::Refused { detail },
                // ALREADY_EXISTS, INTERNAL: no proof that nothing was done.
                InstitutionError::OtherContent(_)
                | InstitutionError::RefundUsed(_)
                | InstitutionError::SamePerson { .. }
                | InstitutionError::RequestDecided(_)
                | InstitutionError::CardNotProved
                | InstitutionError::NotCopied(_)
                | InstitutionError::OperatorRefused(_)
                | InstitutionError::CodeUnknown
                | InstitutionError::CodeExpired(_)
                | InstitutionError::CodeUsed
                | InstitutionError::Blocked(_)
                | InstitutionError::CertificateReplaced(_)
                | InstitutionError::Store(_) => InstitutionAnswer::Unanswered { detail },
            };
        }
    };
    let present = |octets: Vec<u8>| Some(octets).filter(|octets| !octets.is_empty());
    InstitutionAnswer::Transaction(TransactionClaim {
        state: transaction.state,
        receipt: present(transaction.receipt),
        exclusion: present(transaction.exclusion),
        store_generation: None,
    })
}
