//! Evidence of a payment: what the card ordered and what the institution decided, checked anew.
//!
//! Everything in it is signed by others or by the institution, so that a third party can check it
//! without believing whoever shows it (docs/institution.md, "Evidence").

use super::Institution;
use super::error::InstitutionError;
use super::records::{Evidence, TransactionDetail, TransactionKey, TransactionRecord};
use crate::credential::{
    CardCommand, Keyring, PayloadType, SealedCommand, Signed, VerifyingKey, verify_receipt,
};
use crate::protocol::{decode_offer, digest_offer};

/// What was checked, and whether it is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EvidenceCheck {
    /// A stable name for programs: lower case, with underscores.
    pub name: &'static str,
    /// Whether it is right; none if there is nothing to check.
    pub is_right: Option<bool>,
}

/// A payment with what proves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvidenceReport {
    pub transaction: TransactionDetail,
    pub evidence: Evidence,
    /// The card's signed command out of its seal, with its content; none if it could not be read.
    pub command: Option<(Signed, CardCommand)>,
    /// Encoded and signed, in the order in which they were made: of the authorisation, the capture,
    /// the newest refund, the reversal.
    pub receipts: Vec<Vec<u8>>,
    /// On which command the institution decided: signed and encoded.
    pub exclusion: Vec<u8>,
    /// The institution's signed keyring, encoded.
    pub keyring: Vec<u8>,
    /// The key that signed the keyring, SEC1 uncompressed.
    pub root_public_key: Vec<u8>,
    /// The checks, made anew.
    pub checks: Vec<EvidenceCheck>,
}

impl EvidenceReport {
    /// Whether every check is right that there is anything to check for.
    pub fn is_right(&self) -> bool {
        self.checks.iter().all(|check| check.is_right != Some(false))
    }
}

impl Institution {
    /// What proves a payment, checked anew.
    ///
    /// # Errors
    /// [`InstitutionError::NotFound`] for an id that was never authorised;
    /// [`InstitutionError::Store`].
    pub fn evidence(&mut self, key: &TransactionKey) -> Result<EvidenceReport, InstitutionError> {
        let not_found = || {
            let unseen = format!("{} with an authorisation", key.id);
            InstitutionError::not_found("transaction", unseen)
        };
        let record = self.store.transaction(key)?.ok_or_else(not_found)?;
        let evidence = self.store.evidence(key)?.ok_or_else(not_found)?;
        let command = evidence.signed_command.as_deref().and_then(read_command);
        let receipts = receipts_of(&record);
        let checks = self.checks(&record, &evidence, command.as_ref(), &receipts);
        Ok(EvidenceReport {
            evidence,
            command,
            receipts,
            exclusion: record.exclusion.clone(),
            keyring: self.keys.keyring.encode(),
            root_public_key: self.keys.root_public_key.to_sec1(),
            checks,
            transaction: TransactionDetail::from(record),
        })
    }

    fn checks(
        &self,
        record: &TransactionRecord,
        evidence: &Evidence,
        command: Option<&(Signed, CardCommand)>,
        receipts: &[Vec<u8>],
    ) -> Vec<EvidenceCheck> {
        let offer_digest = digest_offer(&evidence.offer);
        let command_digest = SealedCommand::digest_of_encoded(&evidence.sealed_command);
        let names_transaction = decode_offer(&evidence.offer).is_ok_and(|offer| {
            offer.transaction_id() == record.key.id && offer.terminal_id() == record.key.terminal
        });
        let opens = SealedCommand::decode(&evidence.sealed_command)
            .and_then(|sealed| self.keys.sealing.open(&sealed, &offer_digest))
            .and_then(|plaintext| Signed::decode(&plaintext))
            .is_ok_and(|signed| command.is_some_and(|(kept, _)| *kept == signed));
        let card_key = evidence.card_public_key.as_deref().map(VerifyingKey::from_sec1);
        let is_cards = command.zip(card_key).map(|((signed, _), key)| {
            key.is_ok_and(|key| CardCommand::verify(signed, &key).is_ok())
        });
        let are_signed =
            receipts.iter().all(|receipt| self.has_signed(PayloadType::Receipt, receipt));
        let are_of_it = receipts.iter().all(|receipt| self.is_receipt_of(record, receipt));
        let check = |name, is_right| EvidenceCheck { name, is_right };
        vec![
            check("offer_is_the_recorded_one", Some(record.offer_digest == Some(offer_digest))),
            check("offer_names_the_transaction", Some(names_transaction)),
            check(
                "sealed_command_is_the_recorded_one",
                Some(record.command_digest == Some(command_digest)),
            ),
            check("sealed_command_opens_to_the_signed_one", command.map(|_| opens)),
            check(
                "command_is_for_the_offer",
                command.map(|(_, command)| command.offer_digest == offer_digest),
            ),
            check("command_is_signed_by_the_card", is_cards),
            check("receipts_are_signed_by_the_institution", Some(are_signed)),
            check("receipts_name_the_transaction", Some(are_of_it)),
            check(
                "exclusion_is_signed_by_the_institution",
                Some(self.has_signed(PayloadType::Exclusion, &record.exclusion)),
            ),
        ]
    }

    /// Whether it is a receipt for this transaction, offer and command.
    fn is_receipt_of(&self, record: &TransactionRecord, encoded: &[u8]) -> bool {
        let keyring = Keyring::verify(&self.keys.keyring, &self.keys.root_public_key);
        // When the payment was made: what was signed in time is good for ever here.
        let receipt = keyring.and_then(|keyring| {
            verify_receipt(&Signed::decode(encoded)?, &keyring, record.created_at)
        });
        receipt.is_ok_and(|receipt| {
            receipt.transaction_id == record.key.id
                && receipt.terminal_id == record.key.terminal
                && Some(receipt.offer_digest) == record.offer_digest
                && Some(receipt.command_digest) == record.command_digest
                && Some(receipt.amount) == record.amount
        })
    }

    /// Whether the institution's receipt key has signed it.
    fn has_signed(&self, payload_type: PayloadType, encoded: &[u8]) -> bool {
        Signed::decode(encoded).is_ok_and(|signed| {
            self.keys.receipt.verifying_key().verify(payload_type, &signed).is_ok()
        })
    }
}

fn read_command(encoded: &[u8]) -> Option<(Signed, CardCommand)> {
    let signed = Signed::decode(encoded).ok()?;
    let command = CardCommand::read_unverified(&signed).ok()?;
    Some((signed, command))
}

fn receipts_of(record: &TransactionRecord) -> Vec<Vec<u8>> {
    [
        &record.authorisation_receipt,
        &record.capture_receipt,
        &record.refund_receipt,
        &record.reversal_receipt,
    ]
    .into_iter()
    .filter(|receipt| !receipt.is_empty())
    .cloned()
    .collect()
}
