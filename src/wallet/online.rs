//! What the phone asks the institution itself, over the network: what became of a payment, which
//! payments a card made, and how the card stands. Nothing here changes anything at the institution.
//!
//! The card signs each question over a fresh challenge. A receipt, an exclusion and a keyring in an
//! answer are verified like those from a machine. Only the time is another: what comes from the
//! institution itself may be older than the end of the key that signed it.

use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use tonic::transport::Channel;

use super::institution_channel::{ContactError, InstitutionContact, connect, printable};
use super::{
    Card, DirectoryError, PaymentRecord, PaymentStore, PendingReason, ReceiptFault, SessionEnd,
    StoreError, WalletDirectory, check_exclusion, check_receipt, exclude, settle,
};
use crate::credential::{
    CardCommand, CredentialError, Signed, sign_cardholder_question, verify_receipt,
};
use crate::domain::{Amount, MINOR_UNITS_MAX, Receipt, TransactionId, UnixTime};
use crate::institution_api::ask_response::Answer;
use crate::institution_api::cardholder_client::CardholderClient;
use crate::institution_api::question::About;
use crate::institution_api::{
    AskRequest, CardAnswer, CardPayment, CardQuestion, GetChallengeRequest, PaymentQuestion,
    PaymentsQuestion, Question, Transaction, TransactionState,
};

/// How many payments one question lists: as many as the institution answers at once.
const PAYMENTS_MAX: u32 = 100;

/// Why the institution could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum OnlineError {
    /// The card was not enrolled over the network.
    #[error("this card does not know where its institution is; enrol a new card to ask it online")]
    NoContact,
    /// There is no connection to the institution.
    #[error(transparent)]
    Contact(#[from] ContactError),
    /// It took too long.
    #[error("the institution did not answer within {0} ms; try again, or ask at the machine")]
    TooSlow(u64),
    /// The institution does not answer this card.
    #[error("the institution refused: {0}")]
    Refused(String),
    /// The institution did not answer as it should.
    #[error("the institution failed: {0}; try again later")]
    Failed(String),
    /// The answer is not usable.
    #[error("the institution's answer is not usable: {0}; tell the institution")]
    Answer(String),
    /// The wallet's files cannot be used.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The wallet's store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A payment as the institution lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedPayment {
    pub transaction_id: TransactionId,
    /// How it stands, as [`PaymentRecord::standing`] names it.
    pub standing: &'static str,
    pub amount: Amount,
    /// By the institution's clock.
    pub created_at: UnixTime,
    /// The newest receipt, if a key that the card's keyring still names signed it.
    pub receipt: Option<Receipt>,
    /// As the institution names the merchant.
    pub merchant_name: String,
}

/// How a card stands at the institution, and what was renewed in the wallet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CardStanding {
    /// The highest counter that the institution has accepted.
    pub counter: u64,
    /// The counter of this wallet before it was raised, if it was too low.
    pub counter_before: Option<u64>,
    /// Whether the institution had a newer keyring.
    pub is_keyring_new: bool,
    pub payment_limit: Amount,
    /// The last second in which the card may pay.
    pub not_after: UnixTime,
    pub is_blocked: bool,
}

/// A card's connection to its institution.
#[derive(Debug)]
pub struct Online {
    client: CardholderClient<Channel>,
    directory: WalletDirectory,
    card: Arc<Card>,
    /// By the phone's clock.
    now: UnixTime,
}

impl Online {
    /// Connects to the card's institution, and asks nothing yet.
    ///
    /// # Errors
    /// [`OnlineError::NoContact`]; [`OnlineError::Contact`]; [`OnlineError::Directory`].
    pub async fn connect(
        directory: &WalletDirectory,
        card: Arc<Card>,
        now: UnixTime,
    ) -> Result<Self, OnlineError> {
        let contact: InstitutionContact =
            directory.institution(card.name())?.ok_or(OnlineError::NoContact)?;
        let client = CardholderClient::new(connect(&contact).await?);
        Ok(Self { client, directory: directory.clone(), card, now })
    }

    /// Asks what became of a payment, and stores the proof. The end is
    /// [`SessionEnd::Pending`] if the institution has not seen the payment: it may still come.
    ///
    /// # Errors
    /// [`OnlineError`]; the record is then as before.
    pub async fn payment(&mut self, record: &PaymentRecord) -> Result<SessionEnd, OnlineError> {
        let about = About::Payment(PaymentQuestion {
            transaction_id: record.transaction_id().as_octets().to_vec(),
            terminal_id: record.offer().terminal_id().to_string(),
            command_digest: record.command_digest().0.to_vec(),
        });
        let Answer::Payment(answer) = self.ask(about).await? else { return Err(other_answer()) };
        let transaction = answer.transaction.ok_or_else(|| unusable("no transaction"))?;
        if transaction.receipt.is_empty() && transaction.exclusion.is_empty() {
            return Ok(SessionEnd::Pending(PendingReason::NotSeen));
        }
        let mut record = record.clone();
        let end = match self.take_proof(&mut record, &transaction) {
            Err(ReceiptFault::Credential(CredentialError::UnknownKey(_))) => {
                // The institution may have changed its keys since the card was enrolled.
                self.standing().await?;
                self.take_proof(&mut record, &transaction)
            }
            other => other,
        }
        .map_err(unusable)?;
        record.updated_at = self.now;
        self.directory.store(self.card.name()).update(&record)?;
        Ok(end)
    }

    fn take_proof(
        &self,
        record: &mut PaymentRecord,
        transaction: &Transaction,
    ) -> Result<SessionEnd, ReceiptFault> {
        let (keyring, signed_at) = (self.card.keyring(), self.signed_at(transaction));
        if transaction.receipt.is_empty() {
            let exclusion = check_exclusion(record, &transaction.exclusion, keyring, signed_at)?;
            return Ok(exclude(record, exclusion, transaction.exclusion.clone()));
        }
        let receipt = check_receipt(record, &transaction.receipt, keyring, signed_at)?;
        Ok(settle(record, receipt, transaction.receipt.clone()))
    }

    /// A time at which every key that signed for this transaction was good.
    fn signed_at(&self, transaction: &Transaction) -> UnixTime {
        match transaction.created_at_unix_s {
            0 => self.now,
            seconds => self.now.min(UnixTime { seconds }),
        }
    }

    /// Lists the payments that the institution decided on this card's commands, newest first:
    /// `count_max` at most.
    ///
    /// # Errors
    /// [`OnlineError`].
    pub async fn payments(&mut self, count_max: usize) -> Result<Vec<ListedPayment>, OnlineError> {
        // Old receipts may be signed with keys that only a newer keyring still names.
        self.standing().await?;
        let mut listed = Vec::new();
        let mut before_number = 0;
        while listed.len() < count_max {
            let about =
                About::Payments(PaymentsQuestion { before_number, count_max: PAYMENTS_MAX.into() });
            let Answer::Payments(answer) = self.ask(about).await? else {
                return Err(other_answer());
            };
            let Some(last) = answer.payments.last() else { break };
            let is_onward = before_number == 0 || last.number < before_number;
            if !is_onward || last.number == 0 {
                return Err(unusable("its list does not end"));
            }
            before_number = last.number;
            for payment in answer.payments {
                listed.push(self.listed(payment)?);
            }
        }
        listed.truncate(count_max);
        Ok(listed)
    }

    fn listed(&self, payment: CardPayment) -> Result<ListedPayment, OnlineError> {
        let transaction = payment.transaction.ok_or_else(|| unusable("no transaction"))?;
        let transaction_id =
            TransactionId::from_octets(&transaction.transaction_id).map_err(unusable)?;
        let standing = match transaction.state() {
            TransactionState::Approved => "reserved",
            TransactionState::Captured => "paid",
            TransactionState::Declined => "declined",
            TransactionState::Reversed => "given_back",
            TransactionState::Unspecified | TransactionState::Unknown => {
                return Err(unusable("a payment in no state"));
            }
        };
        let currency = transaction.currency.parse().map_err(unusable)?;
        let amount = Amount::new(transaction.amount_minor, currency).map_err(unusable)?;
        let receipt = Signed::decode(&transaction.receipt)
            .and_then(|signed| {
                verify_receipt(&signed, self.card.keyring(), self.signed_at(&transaction))
            })
            .ok()
            .filter(|receipt| receipt.transaction_id == transaction_id);
        Ok(ListedPayment {
            transaction_id,
            standing,
            amount,
            created_at: UnixTime { seconds: transaction.created_at_unix_s },
            receipt,
            merchant_name: payment.merchant_name,
        })
    }

    /// Asks how the card stands, and renews what the wallet has: keyring, limits, and the counter,
    /// if a restored wallet is behind.
    ///
    /// # Errors
    /// [`OnlineError`].
    pub async fn standing(&mut self) -> Result<CardStanding, OnlineError> {
        let Answer::Card(answer) = self.ask(About::Card(CardQuestion {})).await? else {
            return Err(other_answer());
        };
        let (payment_limit, keyring) = read_standing(&answer)?;
        let name = self.card.name().clone();
        // The counter is first: the rest is of no use to a card that uses a value again.
        let counter_before = self.directory.raise_counter(&name, answer.counter)?;
        self.directory.store_keyring(&name, &keyring)?;
        let not_after = UnixTime { seconds: answer.not_after_unix_s };
        self.directory.store_terms(&name, payment_limit, not_after)?;
        let card = self.directory.card(&name)?;
        let is_keyring_new = card.keyring().issued_at > self.card.keyring().issued_at;
        self.card = Arc::new(card);
        Ok(CardStanding {
            counter: answer.counter,
            counter_before,
            is_keyring_new,
            payment_limit,
            not_after,
            is_blocked: answer.is_blocked,
        })
    }

    async fn ask(&mut self, about: About) -> Result<Answer, OnlineError> {
        let challenge = self
            .client
            .get_challenge(GetChallengeRequest {})
            .await
            .map_err(|status| failed(&status))?
            .into_inner()
            .challenge;
        let question = Question {
            challenge,
            card_id: self.card.card_id().as_octets().to_vec(),
            about: Some(about),
        };
        let signed = sign_cardholder_question(question.encode_to_vec(), self.card.key());
        let answer = self
            .client
            .ask(AskRequest { question: signed.encode() })
            .await
            .map_err(|status| failed(&status))?;
        answer.into_inner().answer.ok_or_else(|| unusable("it is about nothing"))
    }
}

/// Asks the institution what became of a payment, within this time, in milliseconds.
///
/// # Errors
/// [`OnlineError`]; the record is then as before.
pub async fn ask_online(
    directory: &WalletDirectory,
    card: Arc<Card>,
    record: &PaymentRecord,
    now: UnixTime,
    time_limit_ms: u64,
) -> Result<SessionEnd, OnlineError> {
    let asking = async { Online::connect(directory, card, now).await?.payment(record).await };
    tokio::time::timeout(Duration::from_millis(time_limit_ms), asking)
        .await
        .map_err(|_| OnlineError::TooSlow(time_limit_ms))?
}

fn read_standing(answer: &CardAnswer) -> Result<(Amount, Signed), OnlineError> {
    if answer.counter > CardCommand::COUNTER_MAX {
        return Err(unusable("a counter out of its range"));
    }
    let currency = answer.currency.parse().map_err(unusable)?;
    // More than any payment can be is the same as no limit.
    let payment_limit =
        Amount::new(answer.payment_limit_minor.min(MINOR_UNITS_MAX), currency).map_err(unusable)?;
    let keyring = Signed::decode(&answer.keyring).map_err(unusable)?;
    Ok((payment_limit, keyring))
}

fn unusable(detail: impl std::fmt::Display) -> OnlineError {
    OnlineError::Answer(detail.to_string())
}

fn other_answer() -> OnlineError {
    unusable("it answers another question")
}

/// Whether the institution refused, or failed and may be asked again.
fn failed(status: &tonic::Status) -> OnlineError {
    use tonic::Code;
    let message = printable(status.message());
    match status.code() {
        Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::Unauthenticated
        | Code::Unimplemented
        | Code::OutOfRange => OnlineError::Refused(message),
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::ResourceExhausted
        | Code::Aborted
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => OnlineError::Failed(message),
    }
}
