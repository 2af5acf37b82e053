//! Who the terminal is.

use crate::credential::{CredentialError, Signed, TerminalCertificate};
use crate::domain::TerminalId;
use crate::protocol::{ChannelKey, EngagementLink, Fingerprint};

/// What the terminal proves itself with.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Its own static key in the channel.
    pub channel_key: ChannelKey,
    /// What the institution says of it.
    pub certificate: TerminalCertificate,
    /// The same as it is sent to phones.
    pub certificate_octets: Vec<u8>,
}

impl Identity {
    /// Joins a certificate, as the institution issued it, with the key that it names.
    ///
    /// Does not verify the signature: that was done at enrolment, with the institution's root.
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

    /// Which terminal.
    pub fn terminal_id(&self) -> TerminalId {
        self.certificate.terminal_id
    }

    /// The link for a sticker on the machine: without a transaction.
    pub fn engagement_link(&self) -> EngagementLink {
        EngagementLink {
            terminal_id: self.terminal_id(),
            fingerprint: Fingerprint::of(&self.certificate.channel_key),
            transaction_id: None,
        }
    }
}
