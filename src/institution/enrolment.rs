//! Enrolment: a terminal or a card gets its credentials for a one-time code.

use sha2::{Digest, Sha256};

use super::Institution;
use super::error::InstitutionError;
use super::records::{
    CardKey, EnrolmentCode, EnrolmentState, IssuedCard, RegisteredTerminal, TerminalKeys,
};
use super::retry::until_written;
use super::store::{
    CardEnrolmentRecord, EnrolmentFacts, EnrolmentSubject, TerminalEnrolmentRecord,
};
use super::validity::{CARD_VALIDITY_S, CLOCK_TOLERANCE_S, TERMINAL_VALIDITY_S};
use crate::credential::{
    TerminalCertificate, VerifyingKey, verify_card_enrolment_proof, verify_channel_key_proof,
};
use crate::domain::{CardId, Currency, TerminalId, UnixTime};

/// The static key of a terminal's channel, and the proof that the terminal holds its private half.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelKeyClaim {
    /// X25519, 32 octets.
    pub channel_key: [u8; 32],
    /// Made by [`crate::credential::channel_key_proof`] with the keyring's sealing key.
    pub proof: Vec<u8>,
}

/// What a terminal gets at enrolment, apart from its client certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TerminalEnrolment {
    pub terminal_id: TerminalId,
    /// For phones: a signed terminal certificate, encoded.
    pub terminal_certificate: Vec<u8>,
    /// The signed keyring, encoded.
    pub keyring: Vec<u8>,
    /// P-256, SEC1 uncompressed.
    pub root_public_key: Vec<u8>,
    /// The last second in which its certificates are valid.
    pub not_after: UnixTime,
}

/// What the institution tells everybody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedKeyring {
    /// The signed keyring, encoded.
    pub keyring: Vec<u8>,
    /// P-256, SEC1 uncompressed.
    pub root_public_key: Vec<u8>,
}

/// What a wallet gets at enrolment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CardEnrolment {
    pub card_id: CardId,
    /// The signed keyring, encoded.
    pub keyring: Vec<u8>,
    /// P-256, SEC1 uncompressed.
    pub root_public_key: Vec<u8>,
    /// The last second in which the card may pay.
    pub not_after: UnixTime,
    /// The most it may pay at once, in minor units.
    pub payment_limit_minor: u64,
    pub currency: Currency,
}

impl Institution {
    /// Enrols the terminal that a one-time code is for, with the static key of its channel. The
    /// same keys may use the code again while it is valid, so that a lost answer costs nothing;
    /// other keys may not.
    ///
    /// # Errors
    /// [`InstitutionError`]: the code is malformed, unknown, expired, used, or not a terminal's;
    /// the channel key is of low order or not proved; the terminal is blocked; the store.
    pub fn enrol_terminal(
        &mut self,
        code: &str,
        claim: &ChannelKeyClaim,
        client_key_digest: &[u8; 32],
        now: UnixTime,
    ) -> Result<TerminalEnrolment, InstitutionError> {
        let digest = read_code(code)?.digest();
        let ChannelKeyClaim { channel_key, proof } = claim;
        verify_channel_key_proof(channel_key, &self.keys.sealing, code, proof)
            .map_err(|error| InstitutionError::invalid("channel_key_proof", error))?;
        let code = digest;
        let used_by =
            Sha256::new().chain_update(channel_key).chain_update(client_key_digest).finalize();
        let used_by = used_by.into();
        let keys = TerminalKeys {
            channel_key: *channel_key,
            client_key_digest: *client_key_digest,
            certificate_not_after: later(now, TERMINAL_VALIDITY_S),
        };
        until_written(|| {
            let facts = self.store.enrolment_facts(&code)?.ok_or(InstitutionError::CodeUnknown)?;
            let terminal = terminal_to_enrol(&facts, &used_by, now)?;
            let record = TerminalEnrolmentRecord { code, used_by, terminal: terminal.id, keys };
            let enrolment = self.terminal_enrolment(terminal, &keys, now);
            let written = self.store.record_terminal_enrolment(&record, &facts)?;
            Ok(written.then_some(enrolment))
        })
    }

    /// Enrols the card that a one-time code is for. The card proves that it holds the private key
    /// of `public_key` (SEC1, uncompressed). The same key may use the code again while it is valid.
    ///
    /// # Errors
    /// [`InstitutionError`]: the code is malformed, unknown, expired, used, or not a card's; the
    /// key is not one; the proof is wrong; the card is blocked; the store.
    pub fn enrol_card(
        &mut self,
        code: &str,
        public_key: &[u8],
        proof: &[u8],
        now: UnixTime,
    ) -> Result<CardEnrolment, InstitutionError> {
        let digest = read_code(code)?.digest();
        let public_key = VerifyingKey::from_sec1(public_key)
            .map_err(|error| InstitutionError::invalid("card_public_key", error))?;
        verify_card_enrolment_proof(&public_key, code, proof)
            .map_err(|error| InstitutionError::invalid("proof", error))?;
        let used_by = Sha256::digest(public_key.to_sec1()).into();
        until_written(|| {
            let facts =
                self.store.enrolment_facts(&digest)?.ok_or(InstitutionError::CodeUnknown)?;
            let card = card_to_enrol(&facts, &used_by, now)?;
            // A repeat keeps the end of the first answer.
            let not_after = card.not_after.unwrap_or(later(now, CARD_VALIDITY_S));
            let key = CardKey { public_key, not_after };
            let record = CardEnrolmentRecord { code: digest, used_by, card: card.id, key };
            let enrolment = self.card_enrolment(card, not_after);
            let written = self.store.record_card_enrolment(&record, &facts)?;
            Ok(written.then_some(enrolment))
        })
    }

    /// The newest keyring and the root key, which anybody may have.
    pub fn published_keyring(&self) -> PublishedKeyring {
        PublishedKeyring {
            keyring: self.keys.keyring.encode(),
            root_public_key: self.keys.root_public_key.to_sec1(),
        }
    }

    pub(super) fn terminal_enrolment(
        &self,
        terminal: &RegisteredTerminal,
        keys: &TerminalKeys,
        now: UnixTime,
    ) -> TerminalEnrolment {
        let certificate = TerminalCertificate {
            terminal_id: terminal.id,
            merchant_id: terminal.merchant_id.clone(),
            merchant_name: terminal.merchant_name.clone(),
            channel_key: keys.channel_key,
            not_before: UnixTime { seconds: now.seconds.saturating_sub(CLOCK_TOLERANCE_S) },
            not_after: keys.certificate_not_after,
        };
        TerminalEnrolment {
            terminal_id: terminal.id,
            terminal_certificate: certificate.sign(&self.keys.terminal_certificate).encode(),
            keyring: self.keys.keyring.encode(),
            root_public_key: self.keys.root_public_key.to_sec1(),
            not_after: keys.certificate_not_after,
        }
    }

    fn card_enrolment(&self, card: &IssuedCard, not_after: UnixTime) -> CardEnrolment {
        CardEnrolment {
            card_id: card.id,
            keyring: self.keys.keyring.encode(),
            root_public_key: self.keys.root_public_key.to_sec1(),
            not_after,
            payment_limit_minor: card.payment_limit_minor,
            currency: card.currency,
        }
    }
}

fn read_code(code: &str) -> Result<EnrolmentCode, InstitutionError> {
    EnrolmentCode::parse(code).map_err(|error| InstitutionError::invalid("code", error))
}

pub(super) fn later(now: UnixTime, validity_s: u64) -> UnixTime {
    UnixTime { seconds: now.seconds.saturating_add(validity_s) }
}

/// The terminal, if these keys may enrol it with this code now.
fn terminal_to_enrol<'facts>(
    facts: &'facts EnrolmentFacts,
    used_by: &[u8; 32],
    now: UnixTime,
) -> Result<&'facts RegisteredTerminal, InstitutionError> {
    check_code(facts, used_by, now)?;
    let EnrolmentSubject::Terminal(terminal) = &facts.subject else {
        return Err(InstitutionError::invalid("code", "is for a card, not for a terminal"));
    };
    if terminal.state == EnrolmentState::Blocked {
        return Err(InstitutionError::Blocked("terminal"));
    }
    Ok(terminal)
}

/// The card, if this key may enrol it with this code now.
fn card_to_enrol<'facts>(
    facts: &'facts EnrolmentFacts,
    used_by: &[u8; 32],
    now: UnixTime,
) -> Result<&'facts IssuedCard, InstitutionError> {
    check_code(facts, used_by, now)?;
    let EnrolmentSubject::Card(card) = &facts.subject else {
        return Err(InstitutionError::invalid("code", "is for a terminal, not for a card"));
    };
    if card.state == EnrolmentState::Blocked {
        return Err(InstitutionError::Blocked("card"));
    }
    Ok(card)
}

/// Whether these keys may use the code now.
fn check_code(
    facts: &EnrolmentFacts,
    used_by: &[u8; 32],
    now: UnixTime,
) -> Result<(), InstitutionError> {
    if facts.used_by.is_some_and(|first| first != *used_by) {
        return Err(InstitutionError::CodeUsed);
    }
    if now > facts.not_after {
        return Err(InstitutionError::CodeExpired(facts.not_after));
    }
    Ok(())
}
