//! Presentation: after the store was restored from a copy, a terminal presents again what the copy
//! lacks.
//!
//! The institution believes its own signatures and nothing else. It opens the command also with
//! the sealing keys of before, since nothing is decided anew: it records again what it had decided.

use super::Institution;
use super::error::InstitutionError;
use super::presented_payment::{AuthorisationRequest, OpenedCommand, PresentedPayment};
use super::records::{TransactionKey, TransactionRecord, Transfer};
use super::retry::until_written;
use super::settlement::HOLD_S;
use super::store::{
    Approval, AuthorisationFacts, AuthorisationRecord, CaptureRecord, ReversalRecord,
    TombstoneRecord, Written,
};
use super::transaction::Transaction;
use crate::credential::{
    CardCommand, Keyring, SealedCommand, SealingKey, Signed, sign_receipt, verify_exclusion,
    verify_receipt,
};
use crate::domain::{
    Exclusion, Receipt, ReceiptStatus, ReversalReason, TransactionState, UnixTime,
};

/// The approval code of a payment whose code was lost. It was reversed, so nobody quotes it.
const LOST_APPROVAL_CODE: &str = "000000";

/// What a terminal presents again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presentation {
    /// As in the request to authorise it. Offer and command are empty for a tombstone.
    pub request: AuthorisationRequest,
    /// The newest signed receipt, encoded; empty for a tombstone.
    pub receipt: Vec<u8>,
    /// The signed exclusion, encoded.
    pub exclusion: Vec<u8>,
}

impl Presentation {
    fn is_tombstone(&self) -> bool {
        self.receipt.is_empty()
            && self.request.offer.is_empty()
            && self.request.sealed_command.is_empty()
    }
}

/// A payment that the institution's own signatures prove.
struct ProvedPayment {
    payment: PresentedPayment,
    receipt: Receipt,
    receipt_octets: Vec<u8>,
    exclusion: Exclusion,
    exclusion_octets: Vec<u8>,
}

impl Institution {
    /// Records again what the institution had decided, if its store does not have it. A repeat is
    /// answered alike.
    ///
    /// # Errors
    /// [`InstitutionError::InvalidRequest`] if the parts do not belong together or the institution
    /// did not sign them; [`InstitutionError::NotPresentable`] if the store lacks what the payment
    /// rests on; [`InstitutionError::OtherContent`]; [`InstitutionError::Store`].
    pub fn present(
        &mut self,
        presentation: &Presentation,
        now: UnixTime,
    ) -> Result<Transaction, InstitutionError> {
        let exclusion = self.own_exclusion(presentation, now)?;
        if presentation.is_tombstone() {
            return self.present_tombstone(presentation, exclusion);
        }
        let proved = self.proved(presentation, exclusion, now)?;
        until_written(|| {
            let facts = self.store.authorisation_facts(&proved.payment.subject)?;
            let Some(record) = &facts.earlier else {
                let record = self.lost_authorisation(&proved, &facts, now)?;
                let _: Written = self.store.record_authorisation(&record, &facts)?;
                // Once more, to bring it as far as it had come.
                return Ok(None);
            };
            self.bring_forward(record, &proved)
        })
    }

    /// The exclusion, if the institution signed it for this transaction.
    fn own_exclusion(
        &self,
        presentation: &Presentation,
        now: UnixTime,
    ) -> Result<Exclusion, InstitutionError> {
        let invalid = |detail: String| InstitutionError::invalid("exclusion", detail);
        let AuthorisationRequest { transaction_id, terminal_id, .. } = &presentation.request;
        let exclusion = Signed::decode(&presentation.exclusion)
            .and_then(|signed| verify_exclusion(&signed, &self.own_keyring()?, now))
            .map_err(|error| invalid(error.to_string()))?;
        let is_of_this =
            exclusion.transaction_id == *transaction_id && exclusion.terminal_id == *terminal_id;
        is_of_this
            .then_some(exclusion)
            .ok_or_else(|| invalid("is another transaction's".to_owned()))
    }

    fn own_keyring(&self) -> Result<Keyring, crate::credential::CredentialError> {
        Keyring::verify(&self.keys.keyring, &self.keys.root_public_key)
    }

    fn present_tombstone(
        &mut self,
        presentation: &Presentation,
        exclusion: Exclusion,
    ) -> Result<Transaction, InstitutionError> {
        if exclusion.command_digest.is_some() {
            let detail = "names a command; present the offer, the command and the receipt too";
            return Err(InstitutionError::invalid("exclusion", detail));
        }
        let key = TransactionKey { terminal: exclusion.terminal_id, id: exclusion.transaction_id };
        let tombstone = TombstoneRecord {
            key,
            reason: ReversalReason::Unanswered,
            exclusion: presentation.exclusion.clone(),
            reversed_at: exclusion.decided_at,
        };
        until_written(|| {
            if let Some(record) = self.store.transaction(&key)? {
                return Ok(Some(Transaction::from(&record)));
            }
            let _: Written = self.store.record_tombstone(&tombstone)?;
            Ok(None)
        })
    }

    /// Reads the payment, and holds the institution's own signatures against it.
    fn proved(
        &self,
        presentation: &Presentation,
        exclusion: Exclusion,
        now: UnixTime,
    ) -> Result<ProvedPayment, InstitutionError> {
        let payment = PresentedPayment::read(
            &presentation.request,
            self.sealing_key_of(&presentation.request.sealed_command),
        )?;
        let invalid = |detail: String| InstitutionError::invalid("receipt", detail);
        let receipt = Signed::decode(&presentation.receipt)
            .and_then(|signed| verify_receipt(&signed, &self.own_keyring()?, now))
            .map_err(|error| invalid(error.to_string()))?;
        let key = payment.subject.key;
        let is_of_this = receipt.transaction_id == key.id
            && receipt.terminal_id == key.terminal
            && receipt.offer_digest == payment.offer_digest
            && receipt.command_digest == payment.command_digest
            && receipt.amount == payment.subject.amount
            && exclusion.command_digest == Some(payment.command_digest);
        if !is_of_this {
            return Err(invalid("is not of this offer and this command".to_owned()));
        }
        Ok(ProvedPayment {
            payment,
            receipt,
            receipt_octets: presentation.receipt.clone(),
            exclusion,
            exclusion_octets: presentation.exclusion.clone(),
        })
    }

    /// The key that a command names, also one of before; the newest if it names none.
    fn sealing_key_of(&self, sealed_command: &[u8]) -> &SealingKey {
        let key_id = SealedCommand::decode(sealed_command).ok().map(|sealed| sealed.key_id);
        self.keys
            .former_sealing
            .iter()
            .find(|key| Some(key.public_key().key_id()) == key_id)
            .unwrap_or(&self.keys.sealing)
    }

    /// The authorisation that the store has lost, as it is recorded again.
    fn lost_authorisation(
        &self,
        proved: &ProvedPayment,
        facts: &AuthorisationFacts,
        now: UnixTime,
    ) -> Result<AuthorisationRecord, InstitutionError> {
        let ProvedPayment { payment, receipt, exclusion, .. } = proved;
        let not_presentable =
            |detail| InstitutionError::NotPresentable { id: payment.subject.key.id, detail };
        if facts.sequence_used_by.is_some() {
            return Err(not_presentable("the terminal gave its number to another transaction"));
        }
        let opened = payment.command.as_ref().ok();
        let (verdict, authorised) = match &receipt.status {
            ReceiptStatus::Declined(reason) => (Err(*reason), proved.receipt_octets.clone()),
            ReceiptStatus::Approved { approval_code } => {
                (Ok(approval_code.clone()), proved.receipt_octets.clone())
            }
            ReceiptStatus::Captured { approval_code, refunded_minor: 0 } => {
                (Ok(approval_code.clone()), self.approval_of(proved, approval_code))
            }
            ReceiptStatus::Captured { .. } => {
                return Err(not_presentable("a part of it was given back; refund it anew"));
            }
            ReceiptStatus::Reversed => {
                let code = LOST_APPROVAL_CODE;
                (Ok(code.to_owned()), self.approval_of(proved, code))
            }
        };
        let accepted_counter = accepted_counter(opened, facts, verdict.is_ok());
        let verdict = match verdict {
            Err(reason) => Err(reason),
            Ok(code) => Ok(lost_approval(proved, facts, code, now).map_err(not_presentable)?),
        };
        Ok(AuthorisationRecord {
            subject: payment.subject,
            verdict,
            accepted_counter,
            request_digest: payment.request_digest,
            offer: payment.offer.clone(),
            offer_digest: payment.offer_digest,
            command_digest: payment.command_digest,
            sealed_command: payment.sealed_command.clone(),
            signed_command: opened.map(|opened| opened.signed.encode()),
            card_hint: payment.subject.card.map_or_else(String::new, |card| card.hint()),
            receipt: authorised,
            exclusion: proved.exclusion_octets.clone(),
            decided_at: exclusion.decided_at,
            is_presented: true,
        })
    }

    /// The receipt of the approval that came before a capture or a reversal. Signatures are
    /// deterministic and the exclusion was made in the same second, so it is the one of then.
    fn approval_of(&self, proved: &ProvedPayment, approval_code: &str) -> Vec<u8> {
        let receipt = Receipt {
            status: ReceiptStatus::Approved { approval_code: approval_code.to_owned() },
            decided_at: proved.exclusion.decided_at,
            ..proved.receipt.clone()
        };
        sign_receipt(&receipt, &self.keys.receipt).encode()
    }

    /// Brings a recorded payment as far as its receipt says that it had come. Returns the answer;
    /// none if it was changed meanwhile.
    fn bring_forward(
        &mut self,
        record: &TransactionRecord,
        proved: &ProvedPayment,
    ) -> Result<Option<Transaction>, InstitutionError> {
        let is_other =
            record.request_digest.is_some_and(|digest| digest != proved.payment.request_digest);
        if is_other {
            return Err(InstitutionError::OtherContent(record.key.id));
        }
        if record.state != TransactionState::Approved {
            return Ok(Some(Transaction::from(record)));
        }
        let (receipt, decided_at) = (proved.receipt_octets.clone(), proved.receipt.decided_at);
        let _: Written = match &proved.receipt.status {
            ReceiptStatus::Approved { .. } | ReceiptStatus::Declined(_) => {
                return Ok(Some(Transaction::from(record)));
            }
            ReceiptStatus::Captured { .. } => {
                let capture = self.capture_record(record, None, decided_at)?;
                self.store.record_capture(&CaptureRecord { receipt, ..capture })?
            }
            ReceiptStatus::Reversed => {
                let reason = Some(ReversalReason::Unanswered);
                let reversal = self.reversal_record(record, reason, None, decided_at)?;
                self.store.record_reversal(&ReversalRecord { receipt, ..reversal })?
            }
        };
        Ok(None)
    }
}

/// What approved the payment, as far as the store can carry it again.
fn lost_approval(
    proved: &ProvedPayment,
    facts: &AuthorisationFacts,
    code: String,
    now: UnixTime,
) -> Result<Approval, &'static str> {
    if facts.terminal.is_none() {
        return Err("its terminal is not registered any more; add it again");
    }
    let card = facts.card.as_ref().ok_or("its card is not known any more")?;
    if !facts.has_funds {
        return Err("its account has not enough money any more; fund it again");
    }
    let hold = Transfer::hold(card.account, proved.payment.subject.amount);
    Ok(Approval {
        code,
        hold,
        hold_until: UnixTime { seconds: now.seconds.saturating_add(HOLD_S) },
    })
}

/// The counter that the command used up. Of a declined one only if the card did sign it.
fn accepted_counter(
    opened: Option<&OpenedCommand>,
    facts: &AuthorisationFacts,
    is_approved: bool,
) -> Option<u64> {
    let opened = opened?;
    let public_key = facts.card.as_ref().and_then(|card| card.public_key.as_ref());
    let is_signed = public_key.is_some_and(|key| CardCommand::verify(&opened.signed, key).is_ok());
    (is_approved || is_signed).then_some(opened.command.counter)
}
