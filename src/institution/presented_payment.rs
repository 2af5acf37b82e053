//! A terminal's request to authorise: how it is read, opened and told from others, before anything
//! is looked up.

use sha2::{Digest, Sha256};

use super::error::InstitutionError;
use super::records::TransactionKey;
use super::store::AuthorisationSubject;
use crate::credential::{CardCommand, CredentialError, SealedCommand, SealingKey, Signed};
use crate::domain::{
    CommandDigest, DeclineReason, OfferDigest, OfferParts, TerminalId, TransactionId,
};
use crate::protocol::{decode_offer, digest_offer};

/// The highest number of a transaction: the store counts to it.
const SEQUENCE_MAX: u64 = i64::MAX as u64;

/// A terminal's request to authorise, as it was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthorisationRequest {
    /// The terminal, by its client certificate.
    pub terminal_id: TerminalId,
    pub transaction_id: TransactionId,
    /// The offer's octets as the phone got them.
    pub offer: Vec<u8>,
    /// How old the offer is by the terminal's monotonic clock, in milliseconds.
    pub offer_age_ms: u64,
    /// The sealed command's octets as the phone sent them.
    pub sealed_command: Vec<u8>,
    /// The terminal's number for the transaction: 1 to 2^63 - 1.
    pub sequence: u64,
}

impl AuthorisationRequest {
    /// Over everything that makes two requests the same payment. The age is left out: it grows from
    /// one repeat to the next.
    fn digest(&self) -> [u8; 32] {
        let mut digest = Sha256::new();
        for part in [&self.offer, &self.sealed_command] {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        digest.finalize().into()
    }
}

/// A card's command, taken out of its seal. Its signature is not verified yet.
#[derive(Debug)]
pub(super) struct OpenedCommand {
    pub signed: Signed,
    pub command: CardCommand,
}

/// A request whose offer is read and whose command is opened.
#[derive(Debug)]
pub(super) struct PresentedPayment {
    pub subject: AuthorisationSubject,
    pub merchant_name: String,
    /// How long the offer is good for, in milliseconds.
    pub valid_for_ms: u64,
    pub offer: Vec<u8>,
    pub offer_digest: OfferDigest,
    pub sealed_command: Vec<u8>,
    pub command_digest: CommandDigest,
    /// By the terminal's monotonic clock.
    pub offer_age_ms: u64,
    pub request_digest: [u8; 32],
    /// The command, or why it cannot be read.
    pub command: Result<OpenedCommand, DeclineReason>,
}

impl PresentedPayment {
    /// Reads the offer and opens the command.
    ///
    /// # Errors
    /// [`InstitutionError::InvalidRequest`] if the offer cannot be read, or is for another
    /// transaction or terminal than the request. A command that cannot be read is no error: it is
    /// declined, so that the phone hears of it.
    pub(super) fn read(
        request: &AuthorisationRequest,
        sealing_key: &SealingKey,
    ) -> Result<Self, InstitutionError> {
        let invalid = |field, detail: &str| InstitutionError::invalid(field, detail);
        let offer = decode_offer(&request.offer)
            .map_err(|error| invalid("offer", error.detail.trim_start_matches("offer: ")))?;
        let OfferParts { transaction_id, terminal_id, merchant_name, amount, valid_for_s, .. } =
            offer.into_parts();
        if transaction_id != request.transaction_id {
            let detail = "is not the transaction id of the request";
            return Err(invalid("offer.transaction_id", detail));
        }
        if terminal_id != request.terminal_id {
            let detail = "is not the terminal of the client certificate";
            return Err(invalid("offer.terminal_id", detail));
        }
        if !(1..=SEQUENCE_MAX).contains(&request.sequence) {
            let detail = format!("expected 1 to {SEQUENCE_MAX}, got {}", request.sequence);
            return Err(invalid("sequence", &detail));
        }
        let offer_digest = digest_offer(&request.offer);
        let command = open_command(sealing_key, &request.sealed_command, &offer_digest);
        let key = TransactionKey { terminal: terminal_id, id: transaction_id };
        let card = command.as_ref().ok().map(|opened| opened.command.card_id);
        Ok(Self {
            subject: AuthorisationSubject { key, card, amount, sequence: request.sequence },
            merchant_name,
            valid_for_ms: u64::from(valid_for_s) * 1_000,
            offer: request.offer.clone(),
            offer_digest,
            sealed_command: request.sealed_command.clone(),
            command_digest: SealedCommand::digest_of_encoded(&request.sealed_command),
            offer_age_ms: request.offer_age_ms,
            request_digest: request.digest(),
            command,
        })
    }
}

/// Opens and reads a sealed command.
///
/// A command that a known key does not open was sealed for another offer than the terminal
/// presents, or altered on its way. Either way the phone should hear of it.
fn open_command(
    sealing_key: &SealingKey,
    sealed_command: &[u8],
    offer_digest: &OfferDigest,
) -> Result<OpenedCommand, DeclineReason> {
    let malformed = |_| DeclineReason::MalformedCommand;
    let sealed = SealedCommand::decode(sealed_command).map_err(malformed)?;
    if sealed.key_id != sealing_key.public_key().key_id() {
        return Err(DeclineReason::MalformedCommand);
    }
    let plaintext = sealing_key.open(&sealed, offer_digest).map_err(|error| match error {
        CredentialError::DoesNotOpen => DeclineReason::OfferMismatch,
        CredentialError::Malformed { .. }
        | CredentialError::BadSignature(_)
        | CredentialError::UnknownKey(_)
        | CredentialError::OutOfTime { .. }
        | CredentialError::BadKey(_) => DeclineReason::MalformedCommand,
    })?;
    let signed = Signed::decode(&plaintext).map_err(malformed)?;
    // The card id names the key: a key id beside it would be a second opinion.
    if signed.key_id.is_some() {
        return Err(DeclineReason::MalformedCommand);
    }
    let command = CardCommand::read_unverified(&signed).map_err(malformed)?;
    Ok(OpenedCommand { signed, command })
}
