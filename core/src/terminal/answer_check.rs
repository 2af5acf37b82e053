//! Is an answer of the institution proven? The engine moves on proven answers only, as a phone
//! does.
//!
//! A pure function over the answer, the payment and the institution's keyring. What follows from a
//! proven or an unproven answer is the engine's business.

use std::fmt;

use crate::credential::{CredentialError, Keyring, Signed, verify_exclusion, verify_receipt};
use crate::domain::{
    CommandDigest, Exclusion, Receipt, ReceiptMismatch, ReceiptStatus, ReceiptSubject, TerminalId,
    TransactionState, UnixTime,
};
use crate::protocol::digest_offer;

use super::{InstitutionAnswer, Payment, StoreGeneration, TransactionClaim};

/// An answer, after the check.
#[derive(Debug)]
pub(super) enum CheckedAnswer {
    /// The institution says how the transaction stands, and proves it.
    Proven(ProvenTransaction),
    /// It says how the transaction stands, and what it shows does not prove it.
    Unproven(AnswerFault),
    NotSent {
        detail: String,
    },
    Refused {
        detail: String,
    },
    Unanswered {
        detail: String,
    },
}

impl fmt::Display for CheckedAnswer {
    /// For the log.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Proven(proven) => write!(formatter, "{}, with proof", proven.state.name()),
            Self::Unproven(fault) => write!(formatter, "no proof: {fault}"),
            Self::NotSent { detail } => write!(formatter, "not sent: {detail}"),
            Self::Refused { detail } => write!(formatter, "refused: {detail}"),
            Self::Unanswered { detail } => write!(formatter, "unanswered: {detail}"),
        }
    }
}

/// How a transaction stands, and what proves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ProvenTransaction {
    pub(super) state: TransactionState,
    /// None for unknown ids and tombstones.
    pub(super) receipt: Option<Vec<u8>>,
    /// Fits the receipt, or says that no command will be used.
    pub(super) exclusion: Option<Vec<u8>>,
    /// The command that the institution decided on, if there is one.
    pub(super) command_digest: Option<CommandDigest>,
    /// Which life of the institution's store says so.
    pub(super) store_generation: Option<StoreGeneration>,
}

/// Why an answer proves nothing.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum AnswerFault {
    #[error("it has no receipt")]
    NoReceipt,
    #[error("its receipt: {0}")]
    Receipt(CredentialError),
    #[error("its receipt is for another payment: {0}")]
    OtherPayment(#[from] ReceiptMismatch),
    #[error("its receipt has another status than the answer")]
    OtherStatus,
    #[error("it calls the transaction reversed, with neither a receipt nor an exclusion")]
    NoExclusion,
    #[error("its exclusion: {0}")]
    Exclusion(CredentialError),
    #[error("its exclusion does not say that no command will be used for this transaction")]
    OtherExclusion,
}

/// Checks an answer about `payment`.
pub(super) fn check_answer(
    answer: InstitutionAnswer,
    payment: &Payment,
    terminal_id: TerminalId,
    keyring: &Keyring,
    now: UnixTime,
) -> CheckedAnswer {
    match answer {
        InstitutionAnswer::Transaction(claim) => {
            match check_claim(claim, payment, terminal_id, keyring, now) {
                Ok(proven) => CheckedAnswer::Proven(proven),
                Err(fault) => CheckedAnswer::Unproven(fault),
            }
        }
        InstitutionAnswer::NotSent { detail } => CheckedAnswer::NotSent { detail },
        InstitutionAnswer::Refused { detail } => CheckedAnswer::Refused { detail },
        InstitutionAnswer::Unanswered { detail } => CheckedAnswer::Unanswered { detail },
    }
}

fn check_claim(
    claim: TransactionClaim,
    payment: &Payment,
    terminal_id: TerminalId,
    keyring: &Keyring,
    now: UnixTime,
) -> Result<ProvenTransaction, AnswerFault> {
    let (state, store_generation) = (claim.state, claim.store_generation);
    if state == TransactionState::Unknown {
        // It claims nothing, and a tombstone follows before anybody relies on it.
        return Ok(ProvenTransaction {
            state,
            receipt: None,
            exclusion: None,
            command_digest: None,
            store_generation,
        });
    }
    let Some(octets) = claim.receipt else {
        if state != TransactionState::Reversed {
            return Err(AnswerFault::NoReceipt);
        }
        let octets = claim.exclusion.ok_or(AnswerFault::NoExclusion)?;
        let exclusion = read_exclusion(&octets, keyring, now).map_err(AnswerFault::Exclusion)?;
        if !fits(&exclusion, payment, terminal_id, None) {
            return Err(AnswerFault::OtherExclusion);
        }
        let exclusion = Some(octets);
        return Ok(ProvenTransaction {
            state,
            receipt: None,
            exclusion,
            command_digest: None,
            store_generation,
        });
    };
    let receipt = Signed::decode(&octets)
        .and_then(|signed| verify_receipt(&signed, keyring, now))
        .map_err(AnswerFault::Receipt)?;
    let subject = ReceiptSubject {
        transaction_id: payment.transaction_id,
        terminal_id,
        offer_digest: digest_offer(&payment.offer),
        amount: payment.amount,
        command_digest: payment.command_digest(),
    };
    if let Some(mismatch) = receipt.mismatch(&subject) {
        return Err(mismatch.into());
    }
    if !has_status_of(&receipt, state) {
        return Err(AnswerFault::OtherStatus);
    }
    let command_digest = Some(receipt.command_digest);
    // The receipt alone decides this payment. The exclusion is for phones whose command was not
    // used: one that does not fit is not passed on.
    let exclusion = claim.exclusion.filter(|octets| {
        read_exclusion(octets, keyring, now)
            .is_ok_and(|exclusion| fits(&exclusion, payment, terminal_id, command_digest))
    });
    let receipt = Some(octets);
    Ok(ProvenTransaction { state, receipt, exclusion, command_digest, store_generation })
}

fn read_exclusion(
    octets: &[u8],
    keyring: &Keyring,
    now: UnixTime,
) -> Result<Exclusion, CredentialError> {
    Signed::decode(octets).and_then(|signed| verify_exclusion(&signed, keyring, now))
}

fn fits(
    exclusion: &Exclusion,
    payment: &Payment,
    terminal_id: TerminalId,
    command_digest: Option<CommandDigest>,
) -> bool {
    exclusion.transaction_id == payment.transaction_id
        && exclusion.terminal_id == terminal_id
        && exclusion.command_digest == command_digest
}

/// Does the receipt have the status of the state?
fn has_status_of(receipt: &Receipt, state: TransactionState) -> bool {
    match (&receipt.status, state) {
        (ReceiptStatus::Approved { .. }, TransactionState::Approved)
        | (ReceiptStatus::Captured { .. }, TransactionState::Captured)
        | (ReceiptStatus::Reversed, TransactionState::Reversed) => true,
        (ReceiptStatus::Declined(signed), TransactionState::Declined(told)) => *signed == told,
        (
            ReceiptStatus::Approved { .. }
            | ReceiptStatus::Captured { .. }
            | ReceiptStatus::Declined(_)
            | ReceiptStatus::Reversed,
            _,
        ) => false,
    }
}
