//! Who the terminal is: its key in the channel and its certificate.

use crate::credential::{CredentialError, Signed, TerminalCertificate};
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
}

impl Identity {
    /// Joins a certificate, as the institution issued it, with the key that it names.
    ///
    /// Does not verify the signature: enrolment did so, with the institution's root key.
    ///
    /// # Errors
    /// [`CredentialError`] if the certificate is malformed, or names another key.
    pub fn new(
        certificate_octets: Vec<u8>,
        channel_key: ChannelKey,
    ) -> Result<Self, CredentialError> {
        let certificate =
            TerminalCertificate::read_unverified(&Signed::decode(&certificate_octets)?)?;
        if certificate.channel_key != channel_key.public_key() {
            return Err(CredentialError::Malformed {
                what: "terminal certificate",
                detail: "it was issued for another channel key than this terminal's; enrol again"
                    .into(),
            });
        }
        Ok(Self { channel_key, certificate, certificate_octets })
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
