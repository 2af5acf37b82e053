//! What the institution needs of a store to authorise, capture and reverse payments, and to say how
//! they stand.

use super::{StoreError, Written};
use crate::domain::{
    Amount, CardId, CommandDigest, DeclineReason, OfferDigest, ReversalReason, TerminalId,
    TransactionId, UnixTime,
};
use crate::institution::records::{
    AuditEntry, Evidence, IssuedCard, PageEnd, RegisteredTerminal, TransactionKey,
    TransactionRecord, Transfer,
};

/// How far a terminal's number may be below the highest one that it has sent. A request may be
/// late, but not by so many payments: another machine has sent the higher number. It is two seconds
/// of the clock by which a terminal begins its numbers.
pub const SEQUENCE_GAP_MAX: u64 = 1 << 17;

/// What an authorisation is about: the store looks up its facts by this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuthorisationSubject {
    pub key: TransactionKey,
    /// The card that the command names; none if the command cannot be read.
    pub card: Option<CardId>,
    /// What is to be paid.
    pub amount: Amount,
    /// The terminal's number for it.
    pub sequence: u64,
}

/// What the decision on an authorisation rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthorisationFacts {
    /// The transaction with this key, if there is one already. Then there is nothing to decide.
    pub earlier: Option<TransactionRecord>,
    /// The terminal, if it is registered.
    pub terminal: Option<RegisteredTerminal>,
    /// The card that the command names, if it was issued.
    pub card: Option<IssuedCard>,
    /// Whether the card's account can spend the amount. Not the balance itself: it changes with
    /// every payment from the account, and most changes do not matter here.
    pub has_funds: bool,
    /// Another transaction of this terminal that shows that two machines share its identity: it has
    /// the same number, or one that is higher by more than [`SEQUENCE_GAP_MAX`].
    pub sequence_used_by: Option<TransactionId>,
}

impl AuthorisationFacts {
    /// The facts, from what the card's account can spend in the currency of the amount.
    pub fn new(
        subject: &AuthorisationSubject,
        earlier: Option<TransactionRecord>,
        terminal: Option<RegisteredTerminal>,
        card: Option<IssuedCard>,
        available_minor: i64,
        sequence_used_by: Option<TransactionId>,
    ) -> Self {
        let amount_minor = i64::try_from(subject.amount.minor());
        let has_funds = amount_minor.is_ok_and(|minor| minor <= available_minor);
        Self { earlier, terminal, card, has_funds, sequence_used_by }
    }

    /// The public key of the card, SEC1 uncompressed, as it is kept as evidence.
    pub fn card_public_key(&self) -> Option<Vec<u8>> {
        Some(self.card.as_ref()?.public_key.as_ref()?.to_sec1())
    }
}

/// What approves a payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approval {
    /// What the holder can quote.
    pub code: String,
    pub hold: Transfer,
    /// Until when the terminal may capture or reverse even if it is blocked.
    pub hold_until: UnixTime,
}

/// A decided authorisation, to be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthorisationRecord {
    pub subject: AuthorisationSubject,
    pub verdict: Result<Approval, DeclineReason>,
    /// The counter of the command, if signature and counter were good: it is used up, whatever the
    /// verdict.
    pub accepted_counter: Option<u64>,
    /// SHA-256 of what was requested, to tell a repeat from other content under the same id.
    pub request_digest: [u8; 32],
    pub offer: Vec<u8>,
    pub offer_digest: OfferDigest,
    /// SHA-256 of the sealed command.
    pub command_digest: CommandDigest,
    /// The sealed command, and the signed one in it if it could be read: kept as evidence.
    pub sealed_command: Vec<u8>,
    pub signed_command: Option<Vec<u8>>,
    /// Empty if the command could not be read.
    pub card_hint: String,
    /// The signed receipt, encoded.
    pub receipt: Vec<u8>,
    /// The signed exclusion, encoded.
    pub exclusion: Vec<u8>,
    pub decided_at: UnixTime,
    /// It was decided before the store was restored: the card's counter may be ahead already, and
    /// stays then.
    pub is_presented: bool,
}

/// A decided capture, to be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaptureRecord {
    pub key: TransactionKey,
    /// Takes the reserved amount.
    pub transfer: Transfer,
    /// The signed receipt, encoded.
    pub receipt: Vec<u8>,
    pub captured_at: UnixTime,
    /// Who, when and why, if an operator does it.
    pub audit: Option<AuditEntry>,
}

/// A decided reversal, to be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReversalRecord {
    pub key: TransactionKey,
    /// Gives the reserved amount back.
    pub transfer: Transfer,
    /// The terminal's reason; none if an operator does it.
    pub reason: Option<ReversalReason>,
    /// The signed receipt, encoded.
    pub receipt: Vec<u8>,
    pub reversed_at: UnixTime,
    /// Who, when and why, if an operator does it.
    pub audit: Option<AuditEntry>,
}

/// The reversal of a transaction that was never seen, to be recorded: from then on an authorisation
/// of that id is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TombstoneRecord {
    pub key: TransactionKey,
    pub reason: ReversalReason,
    /// The signed exclusion, encoded.
    pub exclusion: Vec<u8>,
    pub reversed_at: UnixTime,
}

/// Which page of a terminal's transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageQuery {
    pub terminal: TerminalId,
    /// The period, by when the transactions were created; `until` is not part of it.
    pub from: UnixTime,
    pub until: UnixTime,
    /// Where the page before ended; none for the first page.
    pub after: Option<PageEnd>,
    /// How many transactions the page has at most.
    pub limit: u32,
}

impl PageQuery {
    /// The transactions of the page come after this.
    pub fn start(&self) -> PageEnd {
        let before = PageEnd::before(self.from);
        self.after.map_or(before, |after| after.max(before))
    }
}

/// Authorisations, captures and reversals.
pub trait PaymentStore {
    /// The facts of an authorisation, all at one point in time.
    ///
    /// # Errors
    /// [`StoreError`].
    fn authorisation_facts(
        &mut self,
        subject: &AuthorisationSubject,
    ) -> Result<AuthorisationFacts, StoreError>;

    /// Records a decided authorisation if its facts still hold: the transaction, the counter of the
    /// card, and for an approval the entry that reserves the amount.
    ///
    /// # Errors
    /// [`StoreError::RuleBroken`] if there is a transaction with this key already, if the counter
    /// is not above the card's, if the terminal has used the number, or if the hold takes more than
    /// is available; [`StoreError`].
    fn record_authorisation(
        &mut self,
        authorisation: &AuthorisationRecord,
        facts: &AuthorisationFacts,
    ) -> Result<Written, StoreError>;

    /// Records a capture if the transaction is still approved: its state and the entry.
    ///
    /// # Errors
    /// [`StoreError::RuleBroken`] if the entry takes more than is held; [`StoreError`].
    fn record_capture(&mut self, capture: &CaptureRecord) -> Result<Written, StoreError>;

    /// Records a reversal if the transaction is still approved: its state, the receipt and the
    /// entry.
    ///
    /// # Errors
    /// [`StoreError::RuleBroken`] if the entry takes more than there is; [`StoreError`].
    fn record_reversal(&mut self, reversal: &ReversalRecord) -> Result<Written, StoreError>;

    /// Records a tombstone if there still is no transaction with this key.
    ///
    /// # Errors
    /// [`StoreError`].
    fn record_tombstone(&mut self, tombstone: &TombstoneRecord) -> Result<Written, StoreError>;

    /// The transactions that are approved, of one terminal or of all, oldest first, at most
    /// `limit`.
    ///
    /// # Errors
    /// [`StoreError`].
    fn approved_transactions(
        &mut self,
        terminal: Option<TerminalId>,
        limit: u32,
    ) -> Result<Vec<TransactionRecord>, StoreError>;

    /// How many tombstones a terminal has left since a time.
    ///
    /// # Errors
    /// [`StoreError`].
    fn tombstones_since(
        &mut self,
        terminal: TerminalId,
        since: UnixTime,
    ) -> Result<u64, StoreError>;

    /// What was kept of the authorisation; none for a tombstone and an id that was never seen.
    ///
    /// # Errors
    /// [`StoreError`].
    fn evidence(&mut self, key: &TransactionKey) -> Result<Option<Evidence>, StoreError>;

    /// One transaction; none if it was never seen.
    ///
    /// # Errors
    /// [`StoreError`].
    fn transaction(
        &mut self,
        key: &TransactionKey,
    ) -> Result<Option<TransactionRecord>, StoreError>;

    /// One page of a terminal's transactions of a period: in the order of their creation, and those
    /// of the same second in the order of their numbers.
    ///
    /// # Errors
    /// [`StoreError`].
    fn transaction_page(&mut self, query: &PageQuery)
    -> Result<Vec<TransactionRecord>, StoreError>;

    /// The newest transactions, of one terminal or of all, newest first, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`].
    fn newest_transactions(
        &mut self,
        terminal: Option<TerminalId>,
        limit: u32,
    ) -> Result<Vec<TransactionRecord>, StoreError>;

    /// The newest transactions whose command names this card, newest first, at most `limit`; those
    /// with a lower number than `before_number`, if there is one.
    ///
    /// # Errors
    /// [`StoreError`].
    fn card_transactions(
        &mut self,
        card: CardId,
        before_number: Option<i64>,
        limit: u32,
    ) -> Result<Vec<TransactionRecord>, StoreError>;

    /// Every transaction with this id: one for each terminal that has sent it, in the order of
    /// their numbers.
    ///
    /// # Errors
    /// [`StoreError`].
    fn transactions_with_id(
        &mut self,
        id: TransactionId,
    ) -> Result<Vec<TransactionRecord>, StoreError>;
}
