//! Who the terminal is: its key in the channel and its certificate.

use crate::credential::{CredentialError, Keyring, Signed, TerminalCertificate, VerifyingKey};
use crate::domain::TerminalId;
use crate::protocol::{ChannelKey, EngagementLink, Fingerprint};

/// What the terminal proves its identity with.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The terminal's static key in the channel.
    pub channel_key: ChannelKey,
    pub certificate: TerminalCertificate,
    /// The certificate as it is sent to phones.
    pub certificate_octets: Vec<u8>,
    /// The institution's keys, by which its receipts and exclusions are verified.
    pub keyring: Keyring,
    /// The keyring as it is sent to phones whose own is older.
    pub keyring_octets: Vec<u8>,
}

impl Identity {
    /// Joins a certificate, as the institution issued it, with the key that it names, and with the
    /// institution's keyring.
    ///
    /// Verifies the keyring with the root key that was pinned at enrolment. Does not verify the
    /// certificate: enrolment did so, and phones do so.
    ///
    /// # Errors
    /// [`CredentialError`] if the root key did not sign the keyring, or if the certificate is
    /// malformed or names another key.
    pub fn new(
        certificate_octets: Vec<u8>,
        channel_key: ChannelKey,
        keyring_octets: Vec<u8>,
        root_key: &VerifyingKey,
    ) -> Result<Self, CredentialError> {
        let keyring = Keyring::verify(&Signed::decode(&keyring_octets)?, root_key)?;
        let certificate =
            TerminalCertificate::read_unverified(&Signed::decode(&certificate_octets)?)?;
        if certificate.channel_key != channel_key.public_key() {
            return Err(CredentialError::Malformed {
                what: "terminal certificate",
                detail: "it was issued for another channel key than this terminal's; enrol again"
                    .into(),
            });
        }
        Ok(Self { channel_key, certificate, certificate_octets, keyring, keyring_octets })
    }

    pub fn terminal_id(&self) -> TerminalId {
        self.certificate.terminal_id
    }

    /// The link for a sticker on the machine: it names no transaction.
    pub fn engagement_link(&self) -> EngagementLink {
        EngagementLink {
            terminal_id: self.terminal_id(),
            fingerprint: Fingerprint::of(&self.certificate.channel_key),
            transaction_id: None,
        }
    }
}
