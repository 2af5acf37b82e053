//! Terminal certificates, by which the institution vouches for a terminal.

use prost::Message;

use super::key_agreement::check_public_key;
use super::{
    CredentialError, KeyPurpose, Keyring, PayloadType, Signed, SigningKey, generated, malformed,
};
use crate::domain::{TerminalId, UnixTime, check_displayed_text, check_merchant_name};

/// The longest id of a merchant, in octets of UTF-8.
pub const MERCHANT_ID_OCTETS_MAX: usize = 32;

const WHAT: &str = "terminal certificate";

/// Names a terminal, its merchant and its channel key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TerminalCertificate {
    pub terminal_id: TerminalId,
    /// The institution's name for the merchant: 1 to [`MERCHANT_ID_OCTETS_MAX`] octets.
    pub merchant_id: String,
    /// The merchant's name, as the person sees it.
    pub merchant_name: String,
    /// The static X25519 public key that the terminal proves to hold in the handshake.
    pub channel_key: [u8; 32],
    /// The first second in which it is valid.
    pub not_before: UnixTime,
    /// The last second in which it is valid.
    pub not_after: UnixTime,
}

impl TerminalCertificate {
    /// Signs the certificate with the institution's key for terminal certificates.
    pub fn sign(&self, institution_key: &SigningKey) -> Signed {
        let body = generated::TerminalCertificate {
            terminal_id: self.terminal_id.to_string(),
            merchant_id: self.merchant_id.clone(),
            merchant_name: self.merchant_name.clone(),
            channel_key: self.channel_key.to_vec(),
            not_before_unix_s: self.not_before.seconds,
            not_after_unix_s: self.not_after.seconds,
        }
        .encode_to_vec();
        institution_key.sign(PayloadType::TerminalCertificate, body)
    }

    /// Verifies a certificate against the institution's keyring and the reader's clock.
    ///
    /// The caller still has to compare `channel_key` with the key that the handshake proved.
    ///
    /// # Errors
    /// [`CredentialError`]: an unknown key, a bad signature, a malformed body, or out of its time.
    pub fn verify(
        signed: &Signed,
        keyring: &Keyring,
        now: UnixTime,
    ) -> Result<Self, CredentialError> {
        keyring
            .verifying_key(KeyPurpose::TerminalCertificate, signed, WHAT, now)?
            .verify(PayloadType::TerminalCertificate, signed)?;
        let certificate = Self::read_unverified(signed)?;
        if now < certificate.not_before || now > certificate.not_after {
            return Err(CredentialError::OutOfTime {
                what: WHAT,
                from: certificate.not_before,
                until: certificate.not_after,
                now,
            });
        }
        Ok(certificate)
    }

    /// Reads a certificate without trusting it, such as the terminal's own.
    ///
    /// # Errors
    /// [`CredentialError::Malformed`] if the body is not a terminal certificate, or if no phone
    /// shows the merchant's name; [`CredentialError::BadKey`] if the channel key is of low order.
    pub fn read_unverified(signed: &Signed) -> Result<Self, CredentialError> {
        let message = generated::TerminalCertificate::decode(signed.body.as_slice())
            .map_err(|error| malformed(WHAT, error))?;
        let channel_key = message
            .channel_key
            .as_slice()
            .try_into()
            .map_err(|_| malformed(WHAT, "a channel key that has not 32 octets"))?;
        check_public_key(&channel_key)?;
        check_displayed_text(&message.merchant_id, 1..=MERCHANT_ID_OCTETS_MAX)
            .map_err(|error| malformed(WHAT, format!("merchant_id: {error}")))?;
        check_merchant_name(&message.merchant_name)
            .map_err(|error| malformed(WHAT, format!("merchant_name: {error}")))?;
        Ok(Self {
            terminal_id: message.terminal_id.parse().map_err(|error| malformed(WHAT, error))?,
            merchant_id: message.merchant_id,
            merchant_name: message.merchant_name,
            channel_key,
            not_before: UnixTime { seconds: message.not_before_unix_s },
            not_after: UnixTime { seconds: message.not_after_unix_s },
        })
    }
}
