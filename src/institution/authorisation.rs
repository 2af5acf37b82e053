//! Authorisation: the card's command is checked against the offer, and the amount is reserved.
//!
//! The steps: read the request and open the command; read the facts; decide; sign the receipt;
//! record the decision if the facts still hold.

use super::Institution;
use super::copies::refuse_copied;
use super::decision::{Decision, decide};
use super::error::InstitutionError;
use super::presented_payment::{AuthorisationRequest, PresentedPayment};
use super::records::{TransactionRecord, Transfer};
use super::retry::until_written;
use super::settlement::HOLD_S;
use super::store::{Approval, AuthorisationRecord};
use super::transaction::Transaction;
use crate::credential::{sign_exclusion, sign_receipt};
use crate::domain::{Exclusion, Receipt, ReceiptStatus, TransactionState, UnixTime};

/// How many characters an approval code has.
pub const APPROVAL_CODE_CHARACTERS: usize = 6;

/// Digits, and letters that do not look like others.
const APPROVAL_CODE_LETTERS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

impl Institution {
    /// Checks the card's command against the offer and reserves the amount, or declines.
    ///
    /// A repeat gets the first answer, octet by octet, unless the transaction was reversed since.
    /// Then, and for a tombstone, the answer is [`TransactionState::Reversed`] and says that the
    /// request came too late, since nobody may release goods for it any more. `random` makes the
    /// approval code.
    ///
    /// # Errors
    /// [`InstitutionError::InvalidRequest`]; [`InstitutionError::OtherContent`];
    /// [`InstitutionError::TerminalCopied`]; [`InstitutionError::Store`].
    pub fn authorise(
        &mut self,
        request: &AuthorisationRequest,
        now: UnixTime,
        random: [u8; APPROVAL_CODE_CHARACTERS],
    ) -> Result<Transaction, InstitutionError> {
        let payment = PresentedPayment::read(request, &self.keys.sealing)?;
        let approval_code = approval_code_of(random);
        until_written(|| {
            let facts = self.store.authorisation_facts(&payment.subject)?;
            // What was reversed or decided before is answered, whoever asks.
            if let Some(earlier) = &facts.earlier {
                return repeated_answer(earlier, &payment.request_digest).map(Some);
            }
            refuse_copied(self.store.as_mut(), &facts, now)?;
            let decision = decide(&payment, &facts, now);
            let record = self.authorisation_record(&payment, decision, &approval_code, now);
            let written = self.store.record_authorisation(&record, &facts)?;
            Ok(written.then_some(first_answer(record)))
        })
    }

    /// The decision with its signed receipt, as it is recorded.
    fn authorisation_record(
        &self,
        payment: &PresentedPayment,
        decision: Decision,
        approval_code: &str,
        decided_at: UnixTime,
    ) -> AuthorisationRecord {
        let amount = payment.subject.amount;
        let verdict = decision.verdict.map(|account| Approval {
            code: approval_code.to_owned(),
            hold: Transfer::hold(account, amount),
            hold_until: UnixTime { seconds: decided_at.seconds.saturating_add(HOLD_S) },
        });
        let card_hint = payment.subject.card.map_or_else(String::new, |card| card.hint());
        let receipt = Receipt {
            transaction_id: payment.subject.key.id,
            offer_digest: payment.offer_digest,
            status: match &verdict {
                Ok(approval) => ReceiptStatus::Approved { approval_code: approval.code.clone() },
                Err(reason) => ReceiptStatus::Declined(*reason),
            },
            amount,
            terminal_id: payment.subject.key.terminal,
            command_digest: payment.command_digest,
            decided_at,
        };
        let exclusion = Exclusion {
            transaction_id: payment.subject.key.id,
            terminal_id: payment.subject.key.terminal,
            command_digest: Some(payment.command_digest),
            decided_at,
        };
        AuthorisationRecord {
            subject: payment.subject,
            verdict,
            accepted_counter: decision.accepted_counter,
            request_digest: payment.request_digest,
            offer: payment.offer.clone(),
            offer_digest: payment.offer_digest,
            command_digest: payment.command_digest,
            sealed_command: payment.sealed_command.clone(),
            signed_command: payment.command.as_ref().ok().map(|opened| opened.signed.encode()),
            card_hint,
            receipt: sign_receipt(&receipt, &self.keys.receipt).encode(),
            exclusion: sign_exclusion(&exclusion, &self.keys.receipt).encode(),
            decided_at,
            is_presented: false,
        }
    }
}

/// The answer to an authorisation that was just recorded.
fn first_answer(record: AuthorisationRecord) -> Transaction {
    Transaction {
        id: record.subject.key.id,
        state: match record.verdict {
            Ok(_) => TransactionState::Approved,
            Err(reason) => TransactionState::Declined(reason),
        },
        is_too_late: false,
        amount: Some(record.subject.amount),
        receipt: record.receipt,
        exclusion: record.exclusion,
        created_at: record.decided_at,
    }
}

/// The answer to an authorisation whose transaction is known already.
fn repeated_answer(
    record: &TransactionRecord,
    request_digest: &[u8; 32],
) -> Result<Transaction, InstitutionError> {
    if record.request_digest.is_some_and(|first| first != *request_digest) {
        return Err(InstitutionError::OtherContent(record.key.id));
    }
    let answer = Transaction::from(record);
    Ok(match record.state {
        TransactionState::Reversed => Transaction { is_too_late: true, ..answer },
        // The first answer to this request, whatever was captured since.
        TransactionState::Captured => Transaction {
            state: TransactionState::Approved,
            receipt: record.authorisation_receipt.clone(),
            ..answer
        },
        TransactionState::Unknown | TransactionState::Declined(_) | TransactionState::Approved => {
            answer
        }
    })
}

fn approval_code_of(random: [u8; APPROVAL_CODE_CHARACTERS]) -> String {
    random.iter().map(|octet| char::from(APPROVAL_CODE_LETTERS[usize::from(octet & 31)])).collect()
}
