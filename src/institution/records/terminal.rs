//! Terminals that the institution vouches for.

use super::EnrolmentState;
use crate::domain::{TerminalId, UnixTime};

/// One terminal in the institution's registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisteredTerminal {
    pub id: TerminalId,
    /// Who is paid: the owner of the ledger account.
    pub merchant_id: String,
    /// What people are shown: 1 to 40 octets.
    pub merchant_name: String,
    pub state: EnrolmentState,
    /// Since when it is blocked; none if it is not.
    pub blocked_at: Option<UnixTime>,
    /// The last second in which its certificates are valid; none before enrolment.
    pub certificate_not_after: Option<UnixTime>,
    /// SHA-256 of the public key in the client certificate that it uses; none before enrolment.
    pub client_key_digest: Option<[u8; 32]>,
    /// The static X25519 key of its Noise channel; none before enrolment.
    pub channel_key: Option<[u8; 32]>,
    /// A renewed client certificate that was not used yet.
    pub next_client: Option<NextClient>,
    /// Since when it is known to run on two machines; none if it is not.
    pub copied_at: Option<UnixTime>,
}

/// A renewed client certificate, which takes the place of the old one when it is first used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextClient {
    /// SHA-256 of the public key in it.
    pub key_digest: [u8; 32],
    /// The last second in which it is valid.
    pub certificate_not_after: UnixTime,
}

/// A terminal to be registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTerminal {
    pub id: TerminalId,
    pub merchant_id: String,
    pub merchant_name: String,
    pub registered_at: UnixTime,
}

/// What a terminal's enrolment adds to its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TerminalKeys {
    /// The static X25519 key of its Noise channel.
    pub channel_key: [u8; 32],
    /// SHA-256 of the public key in its client certificate.
    pub client_key_digest: [u8; 32],
    /// The last second in which its certificates are valid.
    pub certificate_not_after: UnixTime,
}
