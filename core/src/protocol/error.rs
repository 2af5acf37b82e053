//! The closed list of wire errors, and what decoding can find wrong.

use crate::domain::displayable;

/// Who has to change something after an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The phone sent something wrong, or the air mangled it.
    Phone,
    /// The terminal is the one that cannot go on.
    Terminal,
    /// The institution cannot go on, or cannot be reached.
    Institution,
}

/// An error as it is told to a phone. The numbers are part of the protocol and never change their
/// meaning (docs/protocol.md, section "Errors").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u32)]
pub enum WireError {
    /// A fragment out of order, too short, or of no known kind.
    MalformedFragment = 1,
    /// A message longer than announced or than allowed.
    MessageTooLong = 2,
    /// Octets that are not the message that belongs there.
    MalformedMessage = 3,
    /// A message that does not belong in this state.
    UnexpectedMessage = 4,
    /// No version in common, or not the highest that both speak.
    VersionUnsupported = 5,
    /// The first handshake message could not be used.
    HandshakeFailed = 6,
    /// A sealed message did not open. The channel is over; say hello again.
    ChannelFailed = 7,
    /// Too many attempts on this connection. Disconnect; connect again later.
    TooManyAttempts = 8,
    /// The terminal has no such transaction for this phone.
    TransactionUnknown = 9,
    /// The terminal serves as many phones as it can.
    Busy = 10,
    /// The terminal cannot take payments now.
    OutOfService = 11,
    /// The institution could not be reached, and nothing was sent to it: nobody was charged.
    InstitutionUnreachable = 12,
    /// The institution refused the terminal's request without deciding on the card: nobody was
    /// charged.
    InstitutionRefused = 13,
    /// The phone took too long.
    TooSlow = 14,
}

impl WireError {
    /// Every error, by number.
    pub const ALL: [Self; 14] = [
        Self::MalformedFragment,
        Self::MessageTooLong,
        Self::MalformedMessage,
        Self::UnexpectedMessage,
        Self::VersionUnsupported,
        Self::HandshakeFailed,
        Self::ChannelFailed,
        Self::TooManyAttempts,
        Self::TransactionUnknown,
        Self::Busy,
        Self::OutOfService,
        Self::InstitutionUnreachable,
        Self::InstitutionRefused,
        Self::TooSlow,
    ];

    /// The number on the wire, 1 to 14.
    pub fn code(self) -> u32 {
        self as u32
    }

    /// Finds the error with this number.
    pub fn from_code(code: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|error| error.code() == code)
    }

    /// A stable name for programs: lower case, words joined by underscores.
    pub fn name(self) -> &'static str {
        match self {
            Self::MalformedFragment => "malformed_fragment",
            Self::MessageTooLong => "message_too_long",
            Self::MalformedMessage => "malformed_message",
            Self::UnexpectedMessage => "unexpected_message",
            Self::VersionUnsupported => "version_unsupported",
            Self::HandshakeFailed => "handshake_failed",
            Self::ChannelFailed => "channel_failed",
            Self::TooManyAttempts => "too_many_attempts",
            Self::TransactionUnknown => "transaction_unknown",
            Self::Busy => "busy",
            Self::OutOfService => "out_of_service",
            Self::InstitutionUnreachable => "institution_unreachable",
            Self::InstitutionRefused => "institution_refused",
            Self::TooSlow => "too_slow",
        }
    }

    /// Returns who has to change something.
    pub fn fault(self) -> Fault {
        match self {
            Self::MalformedFragment
            | Self::MessageTooLong
            | Self::MalformedMessage
            | Self::UnexpectedMessage
            | Self::VersionUnsupported
            | Self::HandshakeFailed
            | Self::ChannelFailed
            | Self::TooManyAttempts
            | Self::TransactionUnknown
            | Self::TooSlow => Fault::Phone,
            Self::Busy | Self::OutOfService => Fault::Terminal,
            Self::InstitutionUnreachable | Self::InstitutionRefused => Fault::Institution,
        }
    }

    /// May the phone try the same again on its own, without asking the person?
    pub fn may_retry(self) -> bool {
        match self {
            Self::MalformedFragment | Self::HandshakeFailed | Self::ChannelFailed | Self::Busy => {
                true
            }
            Self::MessageTooLong
            | Self::MalformedMessage
            | Self::UnexpectedMessage
            | Self::VersionUnsupported
            | Self::TooManyAttempts
            | Self::TransactionUnknown
            | Self::OutOfService
            | Self::InstitutionUnreachable
            | Self::InstitutionRefused
            | Self::TooSlow => false,
        }
    }

    /// Returns the sentence that the phone shows to the person.
    pub fn message(self) -> &'static str {
        match self {
            Self::MalformedFragment
            | Self::MessageTooLong
            | Self::MalformedMessage
            | Self::UnexpectedMessage
            | Self::HandshakeFailed
            | Self::ChannelFailed => "Phone and machine did not understand each other. Try again.",
            Self::VersionUnsupported => {
                "Your wallet and this machine have no version in common. Update your wallet."
            }
            Self::TooManyAttempts => "The machine wants a rest. Try again in a minute.",
            Self::TransactionUnknown => "The machine knows nothing of this payment. Ask your bank.",
            Self::Busy => "Too many phones are at this machine. Try again in a moment.",
            Self::OutOfService => "The machine cannot take payments now.",
            Self::InstitutionUnreachable => "The machine cannot reach the bank.",
            Self::InstitutionRefused => "The bank does not serve this machine.",
            Self::TooSlow => "That took too long. Try again.",
        }
    }
}

/// What is wrong with octets that the other side sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {detail}", wire.name())]
pub struct ProtocolError {
    /// The error as the other side receives it.
    pub wire: WireError,
    /// Text for a developer, at most 120 octets. It never holds a secret or card data.
    pub detail: String,
}

impl ProtocolError {
    /// An error with its detail, cut to 120 octets. Characters that a screen cannot show are
    /// replaced: the detail may be the other side's, and a log is read on a terminal.
    pub fn new(wire: WireError, detail: impl ToString) -> Self {
        let mut detail = displayable(&detail.to_string());
        while detail.len() > 120 {
            detail.pop();
        }
        Self { wire, detail }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_dense_and_read_back() {
        for (index, error) in WireError::ALL.into_iter().enumerate() {
            assert_eq!(error.code() as usize, index + 1);
            assert_eq!(WireError::from_code(error.code()), Some(error));
        }
        assert_eq!(WireError::from_code(0), None);
        assert_eq!(WireError::from_code(15), None);
    }

    #[test]
    fn a_detail_is_short_and_cannot_steer_a_terminal() {
        let error = ProtocolError::new(WireError::Busy, format!("\u{1b}[2J{}", "é".repeat(100)));
        assert!(error.detail.starts_with("\u{fffd}[2J") && error.detail.len() <= 120, "{error}");
    }
}
