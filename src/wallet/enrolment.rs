//! Enrols a card: exchanges a one-time code for a card of the institution, over TLS 1.3.
//!
//! The private key is made here and never leaves. It is on the disk before the institution gets the
//! public key, so that a lost answer can be asked for again with the same key.

use rand::TryRngCore;
use rand::rngs::OsRng;
use sha2::{Digest, Sha256};

use super::CardParts;
use super::institution_channel::{ContactError, InstitutionContact, connect, printable};
use super::{Card, CardError, CardName, DirectoryError, WalletDirectory};
use crate::credential::{
    CredentialError, Signed, SigningKey, VerifyingKey, card_enrolment_proof, plain_enrolment_code,
};
use crate::domain::{Amount, CardId, MINOR_UNITS_MAX, UnixTime};
use crate::institution_api::enrolment_client::EnrolmentClient;
use crate::institution_api::{EnrolCardRequest, EnrolCardResponse};

/// What is needed to enrol.
#[derive(Debug, Clone)]
pub struct EnrolmentRequest {
    /// Where the institution is. The card keeps it.
    pub institution: InstitutionContact,
    /// The one-time code. It is a secret until it is used.
    pub code: secrecy::SecretString,
    /// What to call the card; without one, `card-` and the last four digits of its identifier.
    pub name: Option<CardName>,
}

/// Why a card could not be enrolled.
#[derive(Debug, thiserror::Error)]
pub enum EnrolmentError {
    /// There is no connection to the institution.
    #[error(transparent)]
    Contact(#[from] ContactError),
    /// The institution does not accept the code.
    #[error("the institution refused: {0}. A code can be used once, and for a limited time")]
    Refused(String),
    /// The institution did not answer as it should.
    #[error("the institution failed: {0}. Try again with the same code; the card's key was kept")]
    Failed(String),
    /// The answer is not usable.
    #[error("the institution's answer is not usable: {0}")]
    Answer(String),
    /// The card could not be put into the wallet.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The system gives no random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(String),
}

/// Enrols a card and puts it into the wallet.
///
/// # Errors
/// [`EnrolmentError`]. After [`EnrolmentError::Failed`] and [`EnrolmentError::Contact`] the same
/// code can be tried again.
pub async fn enrol_card(
    directory: &WalletDirectory,
    request: EnrolmentRequest,
) -> Result<Card, EnrolmentError> {
    use secrecy::ExposeSecret;
    // As the institution reads it, so that another spelling of the code finds the same key.
    let code = zeroize::Zeroizing::new(plain_enrolment_code(request.code.expose_secret()));
    if let Some(name) = &request.name
        && directory.card_names()?.contains(name)
    {
        return Err(DirectoryError::CardExists(name.clone()).into());
    }
    let mut client = EnrolmentClient::new(connect(&request.institution).await?);
    let code_digest: [u8; 32] = Sha256::digest(code.as_bytes()).into();
    let mut random = None;
    let key = directory.enrolment_key(&code_digest, || {
        draw_key().map_err(|error| {
            random = Some(error);
            CardError::Credential(CredentialError::BadKey("source of randomness"))
        })
    });
    if let Some(error) = random {
        return Err(error);
    }
    let key = key?;
    let message = EnrolCardRequest {
        code: code.to_string(),
        card_public_key: key.verifying_key().to_sec1(),
        proof: card_enrolment_proof(&key, &code).to_vec(),
    };
    let answer = match client.enrol_card(message).await {
        Ok(answer) => answer.into_inner(),
        Err(status) => {
            // The institution will not make a card with this code and this key later either.
            if let tonic::Code::InvalidArgument
            | tonic::Code::NotFound
            | tonic::Code::PermissionDenied = status.code()
            {
                directory.forget_enrolment_key(&code_digest)?;
            }
            return Err(failed(&status));
        }
    };
    let card = read_answer(answer, key, request.name)?;
    directory.add_card(&card, 0, Some(&request.institution))?;
    directory.forget_enrolment_key(&code_digest)?;
    Ok(card)
}

fn draw_key() -> Result<SigningKey, EnrolmentError> {
    let mut scalar = zeroize::Zeroizing::new([0; 32]);
    loop {
        OsRng
            .try_fill_bytes(scalar.as_mut_slice())
            .map_err(|error| EnrolmentError::Random(error.to_string()))?;
        // Fails for less than one in 2^32 draws.
        if let Ok(key) = SigningKey::from_scalar(&scalar) {
            return Ok(key);
        }
    }
}

fn read_answer(
    answer: EnrolCardResponse,
    key: SigningKey,
    name: Option<CardName>,
) -> Result<Card, EnrolmentError> {
    let unusable = |detail: &dyn std::fmt::Display| EnrolmentError::Answer(detail.to_string());
    let card_id = CardId::from_octets(&answer.card_id).map_err(|error| unusable(&error))?;
    let currency = answer.currency.parse().map_err(|error| unusable(&error))?;
    // More than any payment can be is the same as no limit.
    let payment_limit = Amount::new(answer.payment_limit_minor.min(MINOR_UNITS_MAX), currency)
        .map_err(|error| unusable(&error))?;
    let name = match name {
        Some(name) => name,
        None => format!("card-{}", card_id.hint()).parse().map_err(|error| unusable(&error))?,
    };
    Card::new(CardParts {
        name,
        card_id,
        key,
        payment_limit,
        not_after: UnixTime { seconds: answer.not_after_unix_s },
        root_key: VerifyingKey::from_sec1(&answer.root_public_key)
            .map_err(|error| unusable(&error))?,
        signed_keyring: Signed::decode(&answer.keyring).map_err(|error| unusable(&error))?,
    })
    .map_err(|error| unusable(&error))
}

/// Whether the institution refused, or failed and may be asked again.
fn failed(status: &tonic::Status) -> EnrolmentError {
    use tonic::Code;
    let message = printable(status.message());
    match status.code() {
        Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::Unauthenticated
        | Code::OutOfRange => EnrolmentError::Refused(message),
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::ResourceExhausted
        | Code::Aborted
        | Code::Unimplemented
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => EnrolmentError::Failed(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::Keyring;
    use crate::terminal::fixtures;

    fn key(number: u8) -> SigningKey {
        SigningKey::from_scalar(&[number; 32]).unwrap()
    }

    fn answer(keyring: &Keyring, signer: &SigningKey) -> EnrolCardResponse {
        EnrolCardResponse {
            card_id: vec![0xab; 16],
            root_public_key: fixtures::root_key().verifying_key().to_sec1(),
            keyring: keyring.sign(signer).encode(),
            not_after_unix_s: 1_000,
            payment_limit_minor: 5_000,
            currency: "EUR".into(),
        }
    }

    #[test]
    fn a_card_is_made_only_of_a_usable_keyring_that_the_root_signed() {
        let root = fixtures::root_key();
        let read = |answer| read_answer(answer, key(9), None).map_err(|error| error.to_string());
        read(answer(&fixtures::keyring(), &root)).unwrap();
        let without = |index: usize| {
            let mut keyring = fixtures::keyring();
            keyring.keys.remove(index);
            keyring
        };
        let unseen = Keyring { institution_name: "\u{200b}".into(), ..fixtures::keyring() };
        let mut low_order = fixtures::keyring();
        low_order.keys[2].public_key = vec![0; 32];
        for (keyring, signer, words) in [
            (fixtures::keyring(), key(8), "signature of the keyring"),
            (without(0), root.clone(), "no key for terminal certificates"),
            (without(1), root.clone(), "no key for receipts"),
            (without(2), root.clone(), "no key for sealing"),
            (low_order, root.clone(), "low order"),
            (unseen, root.clone(), "institution_name: U+200B"),
        ] {
            let refused = read(answer(&keyring, &signer)).unwrap_err();
            assert!(refused.contains(words), "{refused}");
        }
    }
}
