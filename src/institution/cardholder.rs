//! What a cardholder can ask about the card and its payments. Nothing here changes anything.
//!
//! The card's signature over the question is the only authentication. A blocked card may ask: its
//! payments of before are still its own.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::Institution;
use super::error::InstitutionError;
use super::records::{EnrolmentState, IssuedCard, TransactionKey, TransactionRecord};
use super::transaction::Transaction;
use crate::credential::{Signed, verify_cardholder_question};
use crate::domain::{CardId, CommandDigest, Currency, TransactionId, UnixTime};

/// How many payments one answer lists at most.
pub const CARD_PAYMENTS_MAX: u32 = 100;

/// A question, as the cardholder's phone sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CardholderQuestion {
    /// Says that it is this card's question; verified against the card's key.
    pub signed: Signed,
    pub card: CardId,
    pub subject: QuestionSubject,
}

/// What a question is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuestionSubject {
    Payment { key: TransactionKey, command_digest: CommandDigest },
    Payments { before_number: Option<i64>, count_max: u32 },
    Card,
}

/// The answer to a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CardholderAnswer {
    Payment(PaymentStanding),
    /// The newest payment comes first.
    Payments(Vec<CardPayment>),
    Card(CardStanding),
}

/// What became of a payment that a card asks about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PaymentStanding {
    /// The institution decided on this command, or never saw the transaction.
    Own(Transaction),
    /// The institution decided on another command, or on none: nobody else's payment is shown.
    Excluded {
        transaction_id: TransactionId,
        /// The signed exclusion, encoded.
        exclusion: Vec<u8>,
    },
}

/// One payment in the list of a card's payments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CardPayment {
    /// Lower for older payments.
    pub number: i64,
    pub transaction: Transaction,
    pub merchant_name: String,
}

/// How a card stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CardStanding {
    /// The newest signed keyring, encoded.
    pub keyring: Vec<u8>,
    /// The highest counter that was accepted.
    pub counter: u64,
    /// The last second in which the card may pay.
    pub not_after: UnixTime,
    /// The most it may pay at once, in minor units.
    pub payment_limit_minor: u64,
    pub currency: Currency,
    pub is_blocked: bool,
}

impl Institution {
    /// Answers a cardholder's question, if the card's key signed it. The caller has checked the
    /// challenge in it.
    ///
    /// # Errors
    /// [`InstitutionError::CardNotProved`]; [`InstitutionError::Store`].
    pub fn answer_cardholder(
        &mut self,
        question: &CardholderQuestion,
    ) -> Result<CardholderAnswer, InstitutionError> {
        let card = self.store.card(question.card)?.ok_or(InstitutionError::CardNotProved)?;
        let public_key = card.public_key.ok_or(InstitutionError::CardNotProved)?;
        verify_cardholder_question(&question.signed, &public_key)
            .map_err(|_| InstitutionError::CardNotProved)?;
        Ok(match question.subject {
            QuestionSubject::Payment { key, command_digest } => {
                let record = self.store.transaction(&key)?;
                CardholderAnswer::Payment(payment_standing(record, key.id, &card, command_digest))
            }
            QuestionSubject::Payments { before_number, count_max } => {
                let limit = count_max.clamp(1, CARD_PAYMENTS_MAX);
                CardholderAnswer::Payments(self.card_payments(card.id, before_number, limit)?)
            }
            QuestionSubject::Card => CardholderAnswer::Card(self.card_standing(&card)),
        })
    }

    fn card_payments(
        &mut self,
        card: CardId,
        before_number: Option<i64>,
        limit: u32,
    ) -> Result<Vec<CardPayment>, InstitutionError> {
        let records = self.store.card_transactions(card, before_number, limit)?;
        let mut merchant_names = BTreeMap::new();
        for record in &records {
            if let Entry::Vacant(entry) = merchant_names.entry(record.key.terminal) {
                let known = self.store.terminal(record.key.terminal)?;
                entry.insert(known.map_or_else(String::new, |terminal| terminal.merchant_name));
            }
        }
        let payment = |record: &TransactionRecord| CardPayment {
            number: record.number,
            transaction: Transaction::from(record),
            merchant_name: merchant_names.get(&record.key.terminal).cloned().unwrap_or_default(),
        };
        Ok(records.iter().map(payment).collect())
    }

    fn card_standing(&self, card: &IssuedCard) -> CardStanding {
        CardStanding {
            keyring: self.keys.keyring.encode(),
            counter: card.counter,
            not_after: card.not_after.unwrap_or_default(),
            payment_limit_minor: card.payment_limit_minor,
            currency: card.currency,
            is_blocked: card.state == EnrolmentState::Blocked,
        }
    }
}

/// The transaction if it was decided on just this command. A command that could not be read names
/// no card, and then its digest is enough: only the phone, the terminal and the institution know
/// it.
fn payment_standing(
    record: Option<TransactionRecord>,
    id: TransactionId,
    card: &IssuedCard,
    command_digest: CommandDigest,
) -> PaymentStanding {
    let Some(record) = record else { return PaymentStanding::Own(Transaction::unknown(id)) };
    let is_own = record.command_digest == Some(command_digest)
        && record.card.is_none_or(|other| other == card.id);
    if is_own {
        PaymentStanding::Own(Transaction::from(&record))
    } else {
        PaymentStanding::Excluded { transaction_id: id, exclusion: record.exclusion }
    }
}
