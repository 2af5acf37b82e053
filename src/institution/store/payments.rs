//! What the institution needs of a store to authorise, capture and reverse payments, and to say how
//! they stand.

use super::{StoreError, Written};
use crate::domain::{
    Amount, CardId, DeclineReason, OfferDigest, ReversalReason, TerminalId, TransactionId,
    TransactionState, UnixTime,
};
use crate::institution::records::{
    IssuedCard, PageEnd, RegisteredTerminal, TransactionKey, TransactionRecord, Transfer,
};

/// What an authorisation is about: the store looks up its facts by this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuthorisationSubject {
    pub key: TransactionKey,
    /// The card that the command names; none if the command cannot be read.
    pub card: Option<CardId>,
    /// What is to be paid.
    pub amount: Amount,
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
}

impl AuthorisationFacts {
    /// The facts, from what the card's account can spend in the currency of the amount.
    pub fn new(
        subject: &AuthorisationSubject,
        earlier: Option<TransactionRecord>,
        terminal: Option<RegisteredTerminal>,
        card: Option<IssuedCard>,
        available_minor: i64,
    ) -> Self {
        let amount_minor = i64::try_from(subject.amount.minor());
        let has_funds = amount_minor.is_ok_and(|minor| minor <= available_minor);
        Self { earlier, terminal, card, has_funds }
    }
}

/// What approves a payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approval {
    /// What the holder can quote.
    pub code: String,
    pub hold: Transfer,
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
    /// Empty if the command could not be read.
    pub card_hint: String,
    /// The signed receipt, encoded.
    pub receipt: Vec<u8>,
    pub decided_at: UnixTime,
}

/// A decided capture, to be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaptureRecord {
    pub key: TransactionKey,
    /// Takes the reserved amount.
    pub transfer: Transfer,
    pub captured_at: UnixTime,
}

/// A decided reversal, to be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReversalRecord {
    pub key: TransactionKey,
    /// How the transaction stood when this was decided: approved or captured.
    pub reversed_from: TransactionState,
    /// Gives the amount back.
    pub transfer: Transfer,
    pub reason: ReversalReason,
    /// The signed receipt, encoded.
    pub receipt: Vec<u8>,
    pub reversed_at: UnixTime,
}

/// The reversal of a transaction that was never seen, to be recorded: from then on an authorisation
/// of that id is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TombstoneRecord {
    pub key: TransactionKey,
    pub reason: ReversalReason,
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
    /// From now on, a method returns [`StoreError::Busy`] where another process has been writing
    /// for so long. A store that no other process writes to has nothing to wait for.
    ///
    /// # Errors
    /// [`StoreError`].
    fn wait_for_lock_at_most(&mut self, milliseconds: u64) -> Result<(), StoreError> {
        let _ = milliseconds;
        Ok(())
    }

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
    /// is not above the card's, or if the hold takes more than is available; [`StoreError`].
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

    /// Records a reversal if the transaction still stands as it did: its state, the receipt and the
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
