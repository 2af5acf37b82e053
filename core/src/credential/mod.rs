//! What is signed, what is sealed, and who vouches for whom (docs/protocol.md, section
//! "Credentials").
//!
//! Keys come in as values and randomness as an input. This room opens no file, asks no clock and
//! makes no key out of nothing.

mod card_command;
mod cardholder_question;
mod channel_key_proof;
mod exclusion;
mod key_agreement;
mod keyring;
mod receipt;
mod seal;
mod signature;
mod terminal_certificate;

pub use card_command::CardCommand;
pub use cardholder_question::{sign_cardholder_question, verify_cardholder_question};
pub use channel_key_proof::{channel_key_proof, verify_channel_key_proof};
pub use exclusion::{sign_exclusion, verify_exclusion};
pub use key_agreement::check_public_key;
#[cfg(any(test, feature = "test-support"))]
pub use key_agreement::low_order_keys;
pub use keyring::{INSTITUTION_NAME_OCTETS_MAX, InstitutionKey, KeyPurpose, Keyring};
pub use receipt::{sign_receipt, verify_receipt};
pub use seal::{SEAL_SUITE, SealedCommand, SealingKey, SealingPublicKey};
pub use signature::{
    KeyId, PayloadType, Signed, SigningKey, VerifyingKey, card_enrolment_proof,
    plain_enrolment_code, verify_card_enrolment_proof,
};
pub use terminal_certificate::{MERCHANT_ID_OCTETS_MAX, TerminalCertificate};

/// The generated types of `credential.proto`; nothing outside this room sees them.
mod generated {
    #![allow(clippy::wildcard_enum_match_arm)]
    include!(concat!(env!("OUT_DIR"), "/florin.credential.v1.rs"));
}

/// Why a credential is not accepted. Never holds key or card data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// The octets are not the protobuf message that belongs there, or a field is out of its range.
    #[error("malformed {what}: {detail}")]
    Malformed {
        /// Which kind of credential.
        what: &'static str,
        detail: String,
    },
    /// The key did not sign these octets.
    #[error("the signature of the {0} is not valid")]
    BadSignature(&'static str),
    /// It names a key that is not in the keyring, or whose time has run out.
    #[error(
        "the {0} was signed with a key that is not (or no longer) in the institution's keyring"
    )]
    UnknownKey(&'static str),
    /// The credential is not valid now.
    #[error("the {what} is good from {from} to {until}; it is now {now}")]
    OutOfTime {
        /// Which kind of credential.
        what: &'static str,
        /// The first second in which it is valid.
        from: crate::domain::UnixTime,
        /// The last second in which it is valid.
        until: crate::domain::UnixTime,
        now: crate::domain::UnixTime,
    },
    /// A sealed command does not open: another key, altered octets, or another offer.
    #[error("the sealed command does not open for this offer")]
    DoesNotOpen,
    /// The octets are not such a key.
    #[error("not a usable {0}")]
    BadKey(&'static str),
}

/// The value of an enumeration that a number on the wire stands for; "unspecified" for a number
/// that this version does not know.
fn enumeration<E: TryFrom<i32> + Default>(number: u64) -> E {
    i32::try_from(number).ok().and_then(|number| E::try_from(number).ok()).unwrap_or_default()
}

/// The number that stands for a value of an enumeration.
fn number_of(value: impl Into<i32>) -> u64 {
    u64::try_from(value.into()).unwrap_or_default()
}

fn malformed(what: &'static str, detail: impl ToString) -> CredentialError {
    CredentialError::Malformed { what, detail: detail.to_string() }
}
