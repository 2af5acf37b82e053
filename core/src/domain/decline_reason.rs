//! Why the institution declines a payment.

/// Why the institution declines a payment. The numbers are part of the protocol and never change
/// their meaning (docs/protocol.md, section "Decline reasons").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u32)]
pub enum DeclineReason {
    /// The institution does not know the card.
    UnknownCard = 1,
    /// The card is blocked.
    CardBlocked = 2,
    /// The card has expired.
    CardExpired = 3,
    /// The command's signature is not the card's.
    BadSignature = 4,
    /// The card's counter was used before: the command is a replay, or the card was copied.
    CounterReplayed = 5,
    /// The card signed another offer than the one that the terminal presents.
    OfferMismatch = 6,
    /// The offer had expired.
    OfferExpired = 7,
    /// The account holds too little money.
    InsufficientFunds = 8,
    /// The amount is more than the card may pay at once.
    OverLimit = 9,
    /// The institution does not know the terminal, or has blocked it.
    TerminalUnknown = 10,
    /// The account is in another currency.
    CurrencyMismatch = 11,
    /// The institution cannot decrypt or decode the command.
    MalformedCommand = 12,
    /// The institution requires a stronger verification of the holder for this amount.
    VerificationRequired = 13,
    /// The transaction was reversed before its authorisation arrived.
    AlreadyReversed = 14,
    /// A reason that a later version added. This version does not know it; the payment is declined
    /// all the same.
    Other = 15,
}

impl DeclineReason {
    /// Every reason, by number.
    pub const ALL: [Self; 15] = [
        Self::UnknownCard,
        Self::CardBlocked,
        Self::CardExpired,
        Self::BadSignature,
        Self::CounterReplayed,
        Self::OfferMismatch,
        Self::OfferExpired,
        Self::InsufficientFunds,
        Self::OverLimit,
        Self::TerminalUnknown,
        Self::CurrencyMismatch,
        Self::MalformedCommand,
        Self::VerificationRequired,
        Self::AlreadyReversed,
        Self::Other,
    ];

    /// The number in messages, 1 to 15.
    pub fn code(self) -> u32 {
        self as u32
    }

    /// The reason with this number, if there is one.
    pub fn from_code(code: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.code() == code)
    }

    /// The reason that another party gave, which may be of a later version. None if it gave none.
    pub fn heard(code: u32) -> Option<Self> {
        (code != 0).then(|| Self::from_code(code).unwrap_or(Self::Other))
    }

    /// A stable name for programs: lower case, words joined by underscores.
    pub fn name(self) -> &'static str {
        match self {
            Self::UnknownCard => "unknown_card",
            Self::CardBlocked => "card_blocked",
            Self::CardExpired => "card_expired",
            Self::BadSignature => "bad_signature",
            Self::CounterReplayed => "counter_replayed",
            Self::OfferMismatch => "offer_mismatch",
            Self::OfferExpired => "offer_expired",
            Self::InsufficientFunds => "insufficient_funds",
            Self::OverLimit => "over_limit",
            Self::TerminalUnknown => "terminal_unknown",
            Self::CurrencyMismatch => "currency_mismatch",
            Self::MalformedCommand => "malformed_command",
            Self::VerificationRequired => "verification_required",
            Self::AlreadyReversed => "already_reversed",
            Self::Other => "other",
        }
    }

    /// No card of the institution stands behind the command: anybody can make one that is declined
    /// for this reason, as often as they like, and nobody can be asked for it.
    ///
    /// A replayed counter is none of these: it is found behind the card's own signature over this
    /// very offer, since a command that was sealed for another offer cannot be opened.
    pub fn shows_no_card(self) -> bool {
        match self {
            Self::UnknownCard | Self::BadSignature | Self::MalformedCommand => true,
            Self::CardBlocked
            | Self::CardExpired
            | Self::CounterReplayed
            | Self::OfferMismatch
            | Self::OfferExpired
            | Self::InsufficientFunds
            | Self::OverLimit
            | Self::TerminalUnknown
            | Self::CurrencyMismatch
            | Self::VerificationRequired
            | Self::AlreadyReversed
            | Self::Other => false,
        }
    }

    /// What the phone tells the person.
    pub fn message(self) -> &'static str {
        match self {
            Self::UnknownCard => "Your bank does not know this card.",
            Self::CardBlocked => "This card is blocked. Ask your bank.",
            Self::CardExpired => "This card has expired.",
            Self::BadSignature | Self::CounterReplayed => {
                "Your bank did not accept this card's signature. Ask your bank."
            }
            Self::OfferMismatch => {
                "The machine asked your bank for something else than you were shown. Do not pay \
                 here."
            }
            Self::OfferExpired => "The offer's time had run out. Try again.",
            Self::InsufficientFunds => "There is not enough money in your account.",
            Self::OverLimit => "The amount is over your card's limit.",
            Self::TerminalUnknown => "Your bank does not know this machine. Do not pay here.",
            Self::CurrencyMismatch => "Your card cannot pay in this currency.",
            Self::MalformedCommand => "Your bank could not read the payment. Update your wallet.",
            Self::VerificationRequired => {
                "Your bank wants you to confirm this amount with your fingerprint or passcode."
            }
            Self::AlreadyReversed => {
                "The payment was called off before your bank decided. You were not charged."
            }
            Self::Other => "Your bank declined the payment. Ask your bank.",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_dense_and_read_back() {
        for (index, reason) in DeclineReason::ALL.into_iter().enumerate() {
            assert_eq!(reason.code() as usize, index + 1);
            assert_eq!(DeclineReason::from_code(reason.code()), Some(reason));
        }
        assert_eq!(DeclineReason::from_code(0), None);
        assert_eq!(DeclineReason::from_code(16), None);
    }

    #[test]
    fn a_reason_of_a_later_version_is_heard_as_a_decline() {
        assert_eq!(DeclineReason::heard(8), Some(DeclineReason::InsufficientFunds));
        assert_eq!(DeclineReason::heard(16), Some(DeclineReason::Other));
        assert_eq!(DeclineReason::heard(u32::MAX), Some(DeclineReason::Other));
        assert_eq!(DeclineReason::heard(0), None, "no reason is none");
    }
}
