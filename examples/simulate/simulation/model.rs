//! The reference model: what must hold, written apart from the code that is to hold it.
//!
//! It knows what the institution holds, what is durable, what was said to whom, and which
//! authorisations are still under way, and compares each with the promises at every step. It knows
//! nothing of how the parties come to what they do.

use std::collections::{BTreeMap, BTreeSet};

use florin::credential::SealedCommand;
use florin::domain::{
    Amount, CommandDigest, DeclineReason, IdempotencyKey, ReversalReason, TransactionId, UnixTime,
};
use florin::institution::Transaction;
use florin::terminal::{
    InstitutionTransaction, Payment, PaymentRequest, PaymentState, PaymentView,
    RESTARTS_WITH_FULL_TIME, Reconciliation, TransactionState,
};
use florin::wallet::{PaymentRecord, PaymentStatus};

use super::books::{Books, DAY_S, Total};

/// Which promise is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    /// 1. A card is debited at most once per transaction id.
    DebitedOnce,
    /// 2. The till is told to release only after an approval is durable in the journal.
    ReleasedWhenDurable,
    /// 3. Every approval ends captured or reversed within the bound, and captured where the goods
    ///    are out.
    EndsSettled,
    /// 4. Nobody is told that nothing is charged while that is not so, or may not be.
    NeverWronglyUncharged,
    /// 5. A command is good for one offer, once.
    CommandGoodOnce,
    /// 6. Journal and institution agree.
    BooksAgree,
    /// 7. What the till was told does not change but from pending to its end.
    TillIsToldOnce,
    /// Not of the seven: what an honest terminal, till or wallet never meets.
    HonestPartiesAgree,
}

impl Promise {
    /// As the promises are numbered, and in words.
    pub fn text(self) -> &'static str {
        match self {
            Self::DebitedOnce => "promise 1: a card is debited at most once per transaction id",
            Self::ReleasedWhenDurable => {
                "promise 2: the till is told to release only after a durable approval"
            }
            Self::EndsSettled => {
                "promise 3: every approval ends captured (goods released) or reversed, in time"
            }
            Self::NeverWronglyUncharged => {
                "promise 4: nobody is told 'not charged' while somebody is, or might be"
            }
            Self::CommandGoodOnce => "promise 5: a command is good for one offer, once",
            Self::BooksAgree => "promise 6: journal and institution agree to the minor unit",
            Self::TillIsToldOnce => {
                "promise 7: what the till was told never changes but from pending to its end"
            }
            Self::HonestPartiesAgree => "beside the promises: honest parties never meet this",
        }
    }
}

/// One promise broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub promise: Promise,
    /// How.
    pub detail: String,
    /// About which payment.
    pub transaction_id: Option<TransactionId>,
}

/// What a person with a phone is told of the money.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    Paid,
    NotCharged,
    Unknown,
    /// The terminal claims something that the institution's signature does not bear out.
    Unproven,
}

/// What a till can say of an approved payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TillWord {
    /// The goods were released, or were not.
    Dispensed(bool),
    /// It is called off.
    Cancel,
}

/// All that is true of one payment.
#[derive(Debug, Default)]
struct Truth {
    held: Option<TransactionState>,
    amount: Option<Amount>,
    /// The phone whose command was approved.
    payer: Option<usize>,
    was_approved: bool,
    /// Authorisations that have left and not arrived, by the phone whose command they carry.
    under_way: Vec<Option<usize>>,
    durable: Option<PaymentState>,
    /// When a durable record said for the first time that the goods are to be released and the
    /// till's word is awaited.
    approved_at_ms: Option<u64>,
    captures_after_dispense: bool,
    /// What the till said of it, at any time.
    till_words: BTreeSet<TillWord>,
    /// The day on which the institution decided, by the institution's clock: days since
    /// 1970-01-01.
    day: Option<u64>,
    /// A durable record says approved, or more.
    approval_is_durable: bool,
    told_till: Option<Told>,
    till_told_release: bool,
    /// The till was told that nothing is charged.
    till_believes_uncharged: bool,
    /// These phones were told that nothing is charged, and have sent no command since.
    phones_believe_uncharged: BTreeSet<usize>,
    till_is_wrong: bool,
    goods_are_out: bool,
    is_forged: bool,
}

impl Truth {
    fn is_charged(&self) -> bool {
        matches!(self.held, Some(TransactionState::Approved | TransactionState::Captured))
    }

    /// An authorisation that is under way would find nothing, so it may be approved.
    fn may_be_charged(&self) -> bool {
        !self.under_way.is_empty() && matches!(self.held, None | Some(TransactionState::Unknown))
    }
}

#[derive(Debug)]
struct Command {
    phone: usize,
    transaction_id: TransactionId,
    /// The how manieth of its phone.
    number: u64,
    approved_for: Option<TransactionId>,
}

/// The model of one world.
#[derive(Debug, Default)]
pub struct Model {
    payments: BTreeMap<TransactionId, Truth>,
    commands: BTreeMap<CommandDigest, Command>,
    commands_of: BTreeMap<usize, u64>,
    /// The newest command of each phone that reached the institution.
    newest_seen: BTreeMap<usize, u64>,
    keys: BTreeMap<IdempotencyKey, TransactionId>,
    /// By account: what it began with.
    openings: BTreeMap<i64, u64>,
    account_of: Vec<i64>,
    stands_ms: Option<u64>,
    forging: Option<TransactionId>,
    /// The first promise that was broken.
    pub violation: Option<Violation>,
}

impl Model {
    /// What accounts begin with, from which each phone pays, and how long an approval stands
    /// without the till's word, in milliseconds; none where it stands for ever.
    pub fn begin(&mut self, openings: &[(i64, u64)], account_of: Vec<i64>, stands_ms: Option<u64>) {
        self.openings = openings.iter().copied().collect();
        self.account_of = account_of;
        self.stands_ms = stands_ms;
    }

    fn broken(&mut self, promise: Promise, transaction_id: Option<TransactionId>, detail: String) {
        if self.violation.is_none() {
            self.violation = Some(Violation { promise, detail, transaction_id });
        }
    }

    fn truth(&mut self, transaction_id: TransactionId) -> &mut Truth {
        self.payments.entry(transaction_id).or_default()
    }

    // ---- The institution

    /// An authorisation has left.
    pub fn authorisation_is_under_way(
        &mut self,
        transaction_id: TransactionId,
        sealed_command: &[u8],
    ) {
        let phone = self.phone_of(sealed_command);
        self.truth(transaction_id).under_way.push(phone);
    }

    fn phone_of(&self, sealed_command: &[u8]) -> Option<usize> {
        let digest = SealedCommand::digest_of_encoded(sealed_command);
        self.commands.get(&digest).map(|command| command.phone)
    }

    /// It arrived, whatever comes of it.
    pub fn authorisation_arrives(&mut self, transaction_id: TransactionId, sealed_command: &[u8]) {
        let phone = self.phone_of(sealed_command);
        let under_way = &mut self.truth(transaction_id).under_way;
        if let Some(place) = under_way.iter().position(|other| *other == phone) {
            under_way.swap_remove(place);
        }
    }

    /// Somebody else made this transaction up.
    pub fn is_forged(&mut self, transaction_id: TransactionId) {
        self.truth(transaction_id).is_forged = true;
    }

    /// What the institution is asked now comes from somebody else than this terminal.
    pub fn authorisation_is_forged(&mut self, transaction_id: TransactionId) {
        self.forging = Some(transaction_id);
    }

    /// From now on it is this terminal again.
    pub fn authorisation_is_genuine(&mut self) {
        self.forging = None;
    }

    /// How the institution stands after a request, at `now` by its clock.
    pub fn bank_holds(
        &mut self,
        transaction_id: TransactionId,
        transaction: &Transaction,
        command: Option<CommandDigest>,
        now: UnixTime,
    ) {
        let Transaction { state: held, amount, .. } = *transaction;
        let is_forging = self.forging.is_some();
        let before = self.truth(transaction_id).held.unwrap_or(TransactionState::Unknown);
        let is_legal = match (before, held) {
            (TransactionState::Unknown, _)
            | (
                TransactionState::Approved,
                TransactionState::Captured | TransactionState::Reversed,
            ) => true,
            // That a capture is given back is never a terminal's doing.
            (before, held) => before == held,
        };
        if !is_legal {
            let detail =
                format!("the institution held it {} and now {}", before.name(), held.name());
            self.broken(Promise::DebitedOnce, Some(transaction_id), detail);
        }
        let truth = self.truth(transaction_id);
        truth.held = Some(held);
        truth.amount = amount.or(truth.amount);
        if held != TransactionState::Unknown {
            truth.day.get_or_insert(now.seconds / DAY_S);
        }
        let phone = command
            .and_then(|digest| self.commands.get(&digest))
            .map(|command| (command.phone, command.number));
        if held == TransactionState::Approved && before == TransactionState::Unknown {
            self.truth(transaction_id).was_approved = true;
            self.approved(transaction_id, command, is_forging);
        }
        if let (
            TransactionState::Declined(DeclineReason::CounterReplayed),
            TransactionState::Unknown,
            Some((phone, number)),
            false,
        ) = (held, before, phone, is_forging)
            && self.newest_seen.get(&phone).is_none_or(|newest| *newest < number)
        {
            let detail = format!(
                "phone {phone}'s newest command was declined as a replay: its counter stood still"
            );
            self.broken(Promise::CommandGoodOnce, Some(transaction_id), detail);
        }
        if let Some((phone, number)) = phone.filter(|_| !is_forging) {
            let newest = self.newest_seen.entry(phone).or_default();
            *newest = number.max(*newest);
        }
    }

    fn approved(
        &mut self,
        transaction_id: TransactionId,
        digest: Option<CommandDigest>,
        is_forging: bool,
    ) {
        let Some(command) = digest.and_then(|digest| self.commands.get_mut(&digest)) else {
            let detail = "approved by a command that no card gave".into();
            return self.broken(Promise::CommandGoodOnce, Some(transaction_id), detail);
        };
        let phone = command.phone;
        let is_wrong = is_forging
            || command.transaction_id != transaction_id
            || command.approved_for.is_some();
        let detail =
            format!("phone {phone} ordered {}, and this was approved", command.transaction_id);
        command.approved_for = Some(transaction_id);
        if is_wrong {
            self.broken(Promise::CommandGoodOnce, Some(transaction_id), detail);
        }
        let truth = self.truth(transaction_id);
        truth.payer = Some(phone);
        let till_is_fooled = truth.till_believes_uncharged;
        let phone_is_fooled = truth.phones_believe_uncharged.contains(&phone);
        if till_is_fooled {
            let detail = "approved after the till was told that nothing is charged".into();
            self.broken(Promise::NeverWronglyUncharged, Some(transaction_id), detail);
        }
        if phone_is_fooled {
            let detail = format!("approved after phone {phone} was told that nothing is charged");
            self.broken(Promise::NeverWronglyUncharged, Some(transaction_id), detail);
        }
    }

    /// What the institution's ledger says of an account: it must be what the approvals and captures
    /// make of it.
    pub fn account_has(&mut self, account: i64, available_minor: u64, held_minor: u64) {
        let of_account = |payer: Option<usize>| {
            payer.and_then(|phone| self.account_of.get(phone)) == Some(&account)
        };
        let (mut held, mut taken) = (0, 0);
        for truth in self.payments.values().filter(|truth| of_account(truth.payer)) {
            let minor = truth.amount.map_or(0, |amount| amount.minor());
            match truth.held {
                Some(TransactionState::Approved) => held += minor,
                Some(TransactionState::Captured) => taken += minor,
                Some(
                    TransactionState::Unknown
                    | TransactionState::Declined(_)
                    | TransactionState::Reversed,
                )
                | None => {}
            }
        }
        let opening = self.openings.get(&account).copied().unwrap_or(0);
        if (available_minor + held + taken, held_minor) != (opening, held) {
            let detail = format!(
                "account {account} began with {opening}, {held} are approved and {taken} captured, \
                 and it has {available_minor} and {held_minor} held"
            );
            self.broken(Promise::DebitedOnce, None, detail);
        }
    }

    /// The account that a payment was approved from.
    pub fn account_charged(&self, transaction_id: TransactionId) -> Option<i64> {
        let payer = self.payments.get(&transaction_id)?.payer?;
        self.account_of.get(payer).copied()
    }

    // ---- The journal

    /// A record is on the disk.
    pub fn is_durable(&mut self, payment: &Payment, now_ms: u64) {
        let stands_ms = self.stands_ms;
        let truth = self.truth(payment.transaction_id);
        truth.durable = Some(payment.state);
        truth.captures_after_dispense = payment.capture_after_dispense;
        if matches!(payment.state, PaymentState::Approved | PaymentState::Capturing) {
            truth.approval_is_durable = true;
        }
        if payment.state == PaymentState::Approved {
            truth.approved_at_ms.get_or_insert(now_ms);
        }
        let said = |word| truth.till_words.contains(&word);
        let stood_ms = truth.approved_at_ms.map_or(0, |approved| now_ms.saturating_sub(approved));
        let has_reason = match payment.state {
            PaymentState::Capturing => {
                !payment.capture_after_dispense || said(TillWord::Dispensed(true))
            }
            PaymentState::Reversing(ReversalReason::DispenseFailed) => {
                said(TillWord::Dispensed(false))
            }
            PaymentState::Reversing(ReversalReason::Cancelled) | PaymentState::Cancelled => {
                said(TillWord::Cancel)
            }
            PaymentState::Reversing(ReversalReason::DispenseUnknown) => {
                payment.dispense_restarts > RESTARTS_WITH_FULL_TIME
                    || stands_ms.is_some_and(|stands_ms| stood_ms >= stands_ms)
            }
            // A tombstone for a late command changes no payment.
            PaymentState::Reversing(ReversalReason::NotUsed) => false,
            PaymentState::Offered
            | PaymentState::Authorising
            | PaymentState::Unresolved
            | PaymentState::Approved
            | PaymentState::Captured
            | PaymentState::Reversing(ReversalReason::Unanswered)
            | PaymentState::Reversed(_)
            | PaymentState::Declined(_)
            | PaymentState::Expired => true,
        };
        if !has_reason {
            let detail = format!(
                "{} after {stood_ms} ms as approved, and the till said {:?}",
                Told::state(payment.state).words(),
                truth.till_words
            );
            self.broken(Promise::EndsSettled, Some(payment.transaction_id), detail);
        }
    }

    // ---- The till

    /// A key and content lead to one payment, of the amount that was asked.
    pub fn key_answers(
        &mut self,
        request: &PaymentRequest,
        transaction_id: TransactionId,
        amount: Amount,
    ) {
        if amount != request.amount {
            let detail = format!("the till asked for {}, and {amount} is offered", request.amount);
            self.broken(Promise::BooksAgree, Some(transaction_id), detail);
        }
        let Some(key) = &request.idempotency_key else { return };
        let first = *self.keys.entry(key.clone()).or_insert(transaction_id);
        if first != transaction_id {
            let detail = format!("the till's key {key} led to {first} before");
            self.broken(Promise::HonestPartiesAgree, Some(transaction_id), detail);
        }
    }

    /// The till, or an operator in its place, says this to the terminal.
    pub fn till_says(&mut self, transaction_id: TransactionId, word: TillWord) {
        self.truth(transaction_id).till_words.insert(word);
    }

    /// The till does to this payment what a good till would not.
    pub fn till_goes_wrong(&mut self, transaction_id: TransactionId) {
        self.truth(transaction_id).till_is_wrong = true;
    }

    /// The goods are out.
    pub fn goods_are_out(&mut self, transaction_id: TransactionId) {
        let truth = self.truth(transaction_id);
        truth.goods_are_out = true;
    }

    /// Does this differ from what the till was told last?
    pub fn is_news_to_till(&self, view: &PaymentView) -> bool {
        let told =
            self.payments.get(&view.current_transaction_id).and_then(|truth| truth.told_till);
        told.is_none_or(|told| told.name != view.state.name())
    }

    /// The till is told how a payment is.
    pub fn till_is_told(&mut self, view: &PaymentView) {
        let truth = self.truth(view.current_transaction_id);
        let is_first_release = view.release && !truth.till_told_release;
        truth.till_told_release |= view.release;
        let (approval_is_durable, was_approved) = (truth.approval_is_durable, truth.was_approved);
        let (durable, is_charged) = (truth.durable, truth.is_charged());
        if is_first_release && !(approval_is_durable && was_approved) {
            let detail = format!(
                "the till is told to release; approved: {was_approved}, durable: {durable:?}"
            );
            self.broken(Promise::ReleasedWhenDurable, Some(view.current_transaction_id), detail);
        }
        if is_first_release && !is_charged {
            let detail =
                "the till is told for the first time to release what was given back".into();
            self.broken(Promise::EndsSettled, Some(view.current_transaction_id), detail);
        }
        self.till_is_told_state(view.current_transaction_id, Told::state(view.state));
    }

    /// The till is told a state, in an answer or in the words of a refusal.
    pub fn till_is_told_state(&mut self, transaction_id: TransactionId, state: Told) {
        let truth = self.truth(transaction_id);
        let before = truth.told_till.replace(state);
        let has_release = truth.till_told_release;
        let is_uncharged = state.says_uncharged();
        truth.till_believes_uncharged |= is_uncharged;
        let (is_charged, may_be_charged, held) =
            (truth.is_charged(), truth.may_be_charged(), truth.held);
        if let Some(before) = before
            && !state.may_follow(before)
        {
            let detail = format!("the till was told {}, and now {}", before.words(), state.words());
            self.broken(Promise::TillIsToldOnce, Some(transaction_id), detail);
        }
        if has_release && !state.fits_release() {
            let detail = format!("the till was told to release, and now {}", state.words());
            self.broken(Promise::TillIsToldOnce, Some(transaction_id), detail);
        }
        if is_uncharged && (is_charged || may_be_charged) {
            let detail = format!(
                "the till is told {}; the institution holds {held:?}, an authorisation is under \
                 way: {may_be_charged}",
                state.words()
            );
            self.broken(Promise::NeverWronglyUncharged, Some(transaction_id), detail);
        }
    }

    // ---- Phones

    /// A card gave a command.
    pub fn command_is_made(&mut self, phone: usize, record: &PaymentRecord) {
        let number = self.commands_of.entry(phone).or_default();
        *number += 1;
        let command = Command {
            phone,
            transaction_id: record.transaction_id(),
            number: *number,
            approved_for: None,
        };
        self.commands.insert(SealedCommand::digest_of_encoded(record.sealed_command()), command);
    }

    /// It was sent, or sent again: what the person was told before no longer counts.
    pub fn command_is_sent(&mut self, phone: usize, transaction_id: TransactionId) {
        self.truth(transaction_id).phones_believe_uncharged.remove(&phone);
    }

    /// What a wallet's own record says.
    pub fn phone_stores(
        &mut self,
        phone: usize,
        transaction_id: TransactionId,
        status: PaymentStatus,
    ) {
        match status {
            PaymentStatus::Declined
            | PaymentStatus::Reversed
            | PaymentStatus::NotCharged
            | PaymentStatus::NotSent => {
                self.phone_is_told(phone, transaction_id, Word::NotCharged, status.name());
            }
            PaymentStatus::Pending
            | PaymentStatus::Approved
            | PaymentStatus::Captured
            | PaymentStatus::NotProven => {}
        }
    }

    /// A person is told.
    pub fn phone_is_told(
        &mut self,
        phone: usize,
        transaction_id: TransactionId,
        word: Word,
        name: &str,
    ) {
        let truth = self.truth(transaction_id);
        let is_payer = truth.payer == Some(phone);
        let is_charged = is_payer && truth.is_charged();
        // Only this phone's own command can charge it.
        let may_be_charged = truth.may_be_charged() && truth.under_way.contains(&Some(phone));
        let was_approved = is_payer && truth.was_approved;
        if word == Word::NotCharged {
            truth.phones_believe_uncharged.insert(phone);
        }
        match word {
            Word::NotCharged if is_charged || may_be_charged => {
                let detail = format!(
                    "phone {phone} is told {name}; it is charged: {is_charged}, an authorisation \
                     is under way: {may_be_charged}"
                );
                self.broken(Promise::NeverWronglyUncharged, Some(transaction_id), detail);
            }
            Word::Paid if !was_approved => {
                let detail =
                    format!("phone {phone} is told {name}, and nothing of its was approved");
                self.broken(Promise::HonestPartiesAgree, Some(transaction_id), detail);
            }
            Word::Unproven => {
                let detail = format!("phone {phone} is told what no receipt proves");
                self.broken(Promise::HonestPartiesAgree, Some(transaction_id), detail);
            }
            Word::Paid | Word::NotCharged | Word::Unknown => {}
        }
    }

    // ---- The end

    /// Whether the payment was approved for this phone, and how it stands.
    pub fn charged(&self, transaction_id: TransactionId, phone: usize) -> Option<TransactionState> {
        let truth = self.payments.get(&transaction_id)?;
        truth.held.filter(|_| truth.payer == Some(phone))
    }

    /// Nothing has gone wrong for as long as the bound is: everything must be settled, and all
    /// books agree.
    pub fn is_settled(
        &mut self,
        journal: &[Payment],
        books: &Books,
        goods: impl Iterator<Item = Dispensed>,
    ) {
        for fault in &books.faults {
            self.broken(Promise::BooksAgree, None, format!("the ledger is wrong: {fault}"));
        }
        for payment in journal.iter().filter(|payment| !payment.state.is_final()) {
            let detail = format!("still {} after the bound", Told::state(payment.state).words());
            self.broken(Promise::EndsSettled, Some(payment.transaction_id), detail);
        }
        let mut at_bank: BTreeMap<TransactionId, (TransactionState, Option<Amount>)> =
            BTreeMap::new();
        for InstitutionTransaction { transaction_id, state, amount, .. } in &books.transactions {
            at_bank.insert(*transaction_id, (*state, *amount));
            if *state == TransactionState::Approved {
                let detail = "still approved at the institution after the bound".into();
                self.broken(Promise::EndsSettled, Some(*transaction_id), detail);
            }
        }
        let expected = self.expected_totals(journal, at_bank);
        self.totals_agree(&expected, books);
        let reconciliation = self.reconcile(journal, books);
        self.sums_agree(journal, &reconciliation);
        if let Some(transaction_id) = reconciliation.settling.first() {
            let detail = "reconciling says that it is still being settled".into();
            self.broken(Promise::EndsSettled, Some(*transaction_id), detail);
        }
        self.goods_are_paid(goods);
    }

    /// What the institution's totals have to come to: day, state, and the amount if there is one.
    fn expected_totals(
        &mut self,
        journal: &[Payment],
        mut at_bank: BTreeMap<TransactionId, (TransactionState, Option<Amount>)>,
    ) -> Vec<(u64, TransactionState, Option<Amount>)> {
        let mut expected = Vec::new();
        for payment in journal {
            let (held, amount) = at_bank
                .remove(&payment.transaction_id)
                .unwrap_or((TransactionState::Unknown, None));
            if !agrees(payment.state, held) || amount.is_some_and(|amount| amount != payment.amount)
            {
                let detail = format!(
                    "the journal says {} over {}, the institution {} over {amount:?}",
                    Told::state(payment.state).words(),
                    payment.amount,
                    held.name()
                );
                self.broken(Promise::BooksAgree, Some(payment.transaction_id), detail);
            }
            let truth = self.truth(payment.transaction_id);
            let (day, was_approved) = (truth.day.unwrap_or(0), truth.was_approved);
            expected.extend(
                expected_state(payment.state, held, was_approved)
                    .map(|(state, has_amount)| (day, state, has_amount.then_some(payment.amount))),
            );
        }
        for (id, (held, amount)) in at_bank {
            let truth = self.truth(id);
            if truth.is_forged && matches!(held, TransactionState::Declined(_)) {
                expected.push((truth.day.unwrap_or(0), held, amount));
            } else {
                let detail = format!(
                    "the institution holds it {}, and the journal knows nothing of it",
                    held.name()
                );
                self.broken(Promise::BooksAgree, Some(id), detail);
            }
        }
        expected
    }

    /// What `florin reconcile` makes of the two sides, at any time: it may find nothing where
    /// nothing was lost.
    pub fn reconcile(&mut self, journal: &[Payment], books: &Books) -> Reconciliation {
        let here: BTreeMap<TransactionId, &Payment> =
            journal.iter().map(|payment| (payment.transaction_id, payment)).collect();
        let mut reconciliation = Reconciliation::default();
        for there in &books.transactions {
            reconciliation.add(here.get(&there.transaction_id).copied(), there);
        }
        let known: BTreeSet<TransactionId> =
            books.transactions.iter().map(|transaction| transaction.transaction_id).collect();
        for payment in journal.iter().filter(|payment| !known.contains(&payment.transaction_id)) {
            let there = InstitutionTransaction {
                transaction_id: payment.transaction_id,
                state: TransactionState::Unknown,
                amount: None,
                created_at: UnixTime::default(),
            };
            reconciliation.add(Some(payment), &there);
        }
        if let Some(finding) = reconciliation.findings.first() {
            let detail = format!("reconciling finds {}", finding.difference.name());
            self.broken(Promise::BooksAgree, Some(finding.transaction_id), detail);
        }
        reconciliation
    }

    /// The sums that `florin reconcile` prints: each side's are what the journal makes of each day,
    /// a tombstone at the journal's amount.
    fn sums_agree(&mut self, journal: &[Payment], reconciliation: &Reconciliation) {
        let mut expected: BTreeMap<(u64, String, &str), Total> = BTreeMap::new();
        for payment in journal {
            let name = payment.state.name();
            if ["captured", "reversed", "declined"].contains(&name) {
                let day = self.truth(payment.transaction_id).day.unwrap_or(0);
                let total =
                    expected.entry((day, payment.amount.currency().to_string(), name)).or_default();
                *total = (total.0 + 1, total.1 + payment.amount.minor());
            }
        }
        for (side, name) in ["journal", "institution"].into_iter().enumerate() {
            let sums: BTreeMap<_, _> = reconciliation
                .totals
                .iter()
                .map(|(key, sides)| {
                    let key = (key.day.seconds / DAY_S, key.currency.to_string(), key.state);
                    (key, (sides[side].count, sides[side].amount_minor))
                })
                .collect();
            if sums != expected {
                let detail =
                    format!("reconciling sums the {name} up as {sums:?}, expected {expected:?}");
                self.broken(Promise::BooksAgree, None, detail);
            }
        }
    }

    /// The totals by state and currency, and by day as well.
    fn totals_agree(
        &mut self,
        expected: &[(u64, TransactionState, Option<Amount>)],
        books: &Books,
    ) {
        let mut totals: BTreeMap<(String, String), Total> = BTreeMap::new();
        let mut totals_of_days: BTreeMap<(u64, String, String), Total> = BTreeMap::new();
        for (day, held, amount) in expected {
            let state = held.name().to_owned();
            let currency = amount.map_or(String::new(), |amount| amount.currency().to_string());
            let minor = amount.map_or(0, |amount| amount.minor());
            for total in [
                totals.entry((state.clone(), currency.clone())).or_default(),
                totals_of_days.entry((*day, state, currency)).or_default(),
            ] {
                *total = (total.0 + 1, total.1 + minor);
            }
        }
        if totals != books.totals {
            let detail = format!(
                "totals of the journal: {totals:?}, of the institution: {:?}",
                books.totals
            );
            self.broken(Promise::BooksAgree, None, detail);
        }
        if totals_of_days != books.totals_of_days {
            let found = &books.totals_of_days;
            let detail = format!(
                "totals of the journal's days: {totals_of_days:?}, of the institution's: {found:?}"
            );
            self.broken(Promise::BooksAgree, None, detail);
        }
    }

    /// Where the till behaved, goods are out exactly where the money was taken.
    fn goods_are_paid(&mut self, goods: impl Iterator<Item = Dispensed>) {
        for Dispensed { transaction_id, are_out, are_stuck, is_captured_at_once } in goods {
            let truth = self.truth(transaction_id);
            let is_taken = truth.held == Some(TransactionState::Captured);
            // What was captured at once and got stuck is for a refund.
            let is_for_refund = is_taken && are_stuck && is_captured_at_once;
            // The stated price of that policy: the till's word came after its time, if at all.
            let is_out_of_time = truth.durable
                == Some(PaymentState::Reversed(ReversalReason::DispenseUnknown))
                && !is_taken;
            if !truth.till_is_wrong && are_out != is_taken && !is_for_refund && !is_out_of_time {
                let detail =
                    format!("the goods are out: {are_out}, the money is taken: {is_taken}");
                self.broken(Promise::EndsSettled, Some(transaction_id), detail);
            }
        }
    }
}

/// What became of the goods of one payment.
#[derive(Debug, Clone, Copy)]
pub struct Dispensed {
    pub transaction_id: TransactionId,
    pub are_out: bool,
    pub are_stuck: bool,
    pub is_captured_at_once: bool,
}

/// A state as the till hears it: a refusal names no reason.
#[derive(Debug, Clone, Copy)]
pub struct Told {
    name: &'static str,
    reason: Option<&'static str>,
}

impl Told {
    /// All of it.
    pub fn state(state: PaymentState) -> Self {
        Self { name: state.name(), reason: Some(state.reason()) }
    }

    /// The name alone.
    pub fn name(name: &'static str) -> Self {
        Self { name, reason: None }
    }

    fn words(self) -> String {
        format!("{} {}", self.name, self.reason.unwrap_or("")).trim_end().to_owned()
    }

    fn is_end(self) -> bool {
        ["captured", "reversed", "declined", "cancelled", "expired"].contains(&self.name)
    }

    /// Does it say that nothing is charged?
    fn says_uncharged(self) -> bool {
        self.is_end() && self.name != "captured"
    }

    /// Was the till told something that leaves room for this?
    fn may_follow(self, before: Self) -> bool {
        if self.name == before.name {
            return self.reason.is_none()
                || before.reason.is_none()
                || self.reason == before.reason;
        }
        let is_given_back_unanswered =
            self.reason.is_none_or(|reason| reason == ReversalReason::Unanswered.name());
        match before.name {
            "offered" => true,
            "authorising" => !["offered", "cancelled", "expired"].contains(&self.name),
            "unresolved" => match self.name {
                "reversing" | "reversed" => is_given_back_unanswered,
                other => other == "declined",
            },
            "approved" => match self.name {
                "reversing" | "reversed" => !is_given_back_unanswered || self.reason.is_none(),
                other => other == "capturing" || other == "captured",
            },
            "capturing" => self.name == "captured",
            "reversing" => match self.name {
                "reversed" => {
                    before.reason.is_none() || self.reason.is_none() || self.reason == before.reason
                }
                "declined" => {
                    before.reason.is_none_or(|reason| reason == ReversalReason::Unanswered.name())
                }
                _ => false,
            },
            _ => false,
        }
    }

    /// May it be said to a till that was told to release?
    fn fits_release(self) -> bool {
        ["approved", "capturing", "captured"].contains(&self.name)
            || (["reversing", "reversed"].contains(&self.name)
                && self.reason.is_none_or(|reason| reason != ReversalReason::Unanswered.name()))
    }
}

/// Do the journal's word and the institution's mean the same?
fn agrees(journal: PaymentState, held: TransactionState) -> bool {
    match journal {
        PaymentState::Captured => held == TransactionState::Captured,
        PaymentState::Reversed(_) => held == TransactionState::Reversed,
        PaymentState::Declined(_) => matches!(held, TransactionState::Declined(_)),
        // A tombstone, if a phone's late command asked for a proof.
        PaymentState::Cancelled | PaymentState::Expired => {
            matches!(held, TransactionState::Unknown | TransactionState::Reversed)
        }
        PaymentState::Approved => held == TransactionState::Approved,
        PaymentState::Offered
        | PaymentState::Authorising
        | PaymentState::Unresolved
        | PaymentState::Capturing
        | PaymentState::Reversing(_) => true,
    }
}

/// How the institution has a payment that the journal has ended so, and whether it has an amount.
fn expected_state(
    state: PaymentState,
    held: TransactionState,
    was_approved: bool,
) -> Option<(TransactionState, bool)> {
    match state {
        // The tombstone that proves to a phone that its late command was not used.
        PaymentState::Cancelled | PaymentState::Expired if held == TransactionState::Reversed => {
            Some((held, false))
        }
        PaymentState::Captured => Some((TransactionState::Captured, true)),
        // What was reversed before it was ever approved is a tombstone, which has no amount.
        PaymentState::Reversed(_) => Some((TransactionState::Reversed, was_approved)),
        PaymentState::Declined(reason) => Some((TransactionState::Declined(reason), true)),
        PaymentState::Cancelled
        | PaymentState::Expired
        | PaymentState::Offered
        | PaymentState::Authorising
        | PaymentState::Unresolved
        | PaymentState::Approved
        | PaymentState::Capturing
        | PaymentState::Reversing(_) => None,
    }
}
