//! How a wallet's session with a terminal ends, and what the person is told.
//!
//! Texts and reasons only. Only the institution's signed receipt proves what became of the money;
//! everything else here is what the terminal says or what the wallet itself knows.

use super::PaymentStatus;
use crate::credential::CredentialError;
use crate::domain::{
    Amount, DeclineReason, Exclusion, Receipt, ReceiptStatus, TerminalId, TransactionId, UnixTime,
};
use crate::protocol::{ProtocolError, WireError};

/// How a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionEnd {
    /// A receipt about this payment, signed by the institution.
    Settled(Receipt),
    /// A receipt that the amount is reserved, for an offer that takes it only when the goods were
    /// released. What became of it is not known here.
    Reserved(Receipt),
    /// The institution signed that this wallet's command was not used and never will be.
    NotCharged(Exclusion),
    /// A command was sent, and its result is not known here.
    Pending(PendingReason),
    /// A command was sent, and the terminal says something about it that the institution did not
    /// sign. The result is not known.
    Unproven(TerminalWord),
    /// A command was sent, and the receipt that the terminal presented does not prove the result.
    NotProven(ReceiptFault),
    /// No command was sent, for a reason outside this wallet.
    NotPaid(NotPaid),
    /// No command was sent: this wallet refused.
    Refused(Refusal),
    /// No command was sent: the link failed.
    LinkFailed(LinkFault),
    /// No command was sent: the wallet could not store the payment before sending it.
    StoreFailed,
}

/// Why the result is not known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PendingReason {
    /// The terminal is waiting for the institution.
    #[error("your bank has not answered the machine yet")]
    Institution,
    #[error("the connection to the machine was lost after the payment was sent")]
    LinkLost,
    /// The terminal stopped answering.
    #[error("the machine stopped answering after the payment was sent")]
    NoSignOfLife,
    /// The terminal kept saying that it is working on it.
    #[error("the machine took too long")]
    TookTooLong,
    /// What came could not be read.
    #[error("what the machine answered could not be read")]
    Unreadable,
    /// The terminal answered with an error.
    #[error("{}", cause(*.0))]
    Terminal(WireError),
    /// The institution was asked itself, and has not seen the command.
    #[error("your bank has not seen this payment, and it may still come")]
    NotSeen,
    /// The command was sent in an earlier session, and the terminal could not be asked about it.
    #[error("you ordered this payment before, and the machine has not said what became of it")]
    OrderedBefore,
}

/// What the terminal says of a command without the institution's signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TerminalWord {
    /// Another phone's command was first.
    #[error("another phone paid first")]
    Taken,
    /// The till took the offer back.
    #[error("the machine took the offer back")]
    Withdrawn,
    /// The offer's time ran out.
    #[error("the offer's time ran out")]
    Expired,
    /// Called off, or given back.
    #[error("the payment was called off")]
    Reversed,
    /// The institution was not reached, or does not serve the terminal.
    #[error("{}", cause(*.0))]
    Institution(WireError),
}

/// What an error of the terminal means, as a part of a sentence. [`WireError::message`] has whole
/// sentences, with advice that does not fit after a command was sent.
fn cause(error: WireError) -> &'static str {
    match error {
        WireError::MalformedFragment
        | WireError::MessageTooLong
        | WireError::MalformedMessage
        | WireError::UnexpectedMessage
        | WireError::HandshakeFailed
        | WireError::ChannelFailed => "phone and machine did not understand each other",
        WireError::VersionUnsupported => "your wallet and the machine have no version in common",
        WireError::TooManyAttempts => "the machine got too many requests from this phone",
        WireError::TransactionUnknown => "the machine does not know this payment",
        WireError::Busy => "too many phones are at the machine",
        WireError::OutOfService => "the machine is out of service",
        WireError::InstitutionUnreachable => "the machine cannot reach your bank",
        WireError::InstitutionRefused => "your bank does not serve the machine",
        WireError::TooSlow => "the phone took too long",
    }
}

/// Why no command was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotPaid {
    #[error("you declined")]
    Declined,
    /// The person took longer than the offer was valid.
    #[error("the offer's time ran out before you decided")]
    DecidedTooLate,
    /// Another phone's command was first.
    #[error("another phone paid first")]
    Taken,
    /// The till took the offer back.
    #[error("the machine took the offer back")]
    Withdrawn,
    /// The offer's time ran out.
    #[error("the offer's time ran out")]
    Expired,
    /// No offer came in time.
    #[error("the machine has nothing to pay; order something and try again")]
    NothingToPay,
    /// The terminal answered with an error.
    #[error("{}", cause(*.0))]
    Terminal(WireError),
    /// The terminal said something that does not belong here. It is at fault.
    #[error("the machine breaks the protocol ({0}); tell its operator")]
    TerminalMisbehaves(ProtocolError),
}

/// Why this wallet refused. Nothing was paid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The terminal's certificate is not signed by this card's institution, or not valid now.
    #[error(
        "the machine cannot prove who it is: {0}. Do not pay here; if this phone's clock is wrong, \
         set it"
    )]
    Certificate(CredentialError),
    /// The certificate belongs to another terminal's key.
    #[error("the machine shows the certificate of another machine. Do not pay here")]
    CertificateOfAnotherKey,
    /// Not the key that the engagement link names.
    #[error(
        "this is not the machine whose code you scanned, but one that looks like it. Do not pay \
         here"
    )]
    LookAlike,
    /// Not the terminal that was asked for.
    #[error("this is machine {found}, and you chose {expected}")]
    OtherTerminal { expected: TerminalId, found: TerminalId },
    /// Not a terminal with the short code that the person read on the machine, whatever name it
    /// advertises.
    #[error("this is machine {found}, and you chose one with the code {expected}. Do not pay here")]
    OtherShortCode {
        /// Read on the machine.
        expected: String,
        found: TerminalId,
    },
    /// The offer names another terminal than the certificate.
    #[error("the machine's offer names another machine than its certificate. Do not pay here")]
    OfferOfAnotherTerminal,
    /// The offer names another merchant than the certificate.
    #[error("the machine's offer names another merchant than its certificate. Do not pay here")]
    OfferOfAnotherMerchant,
    /// Another transaction than the engagement link's.
    #[error(
        "the machine offers another payment than the one whose code you scanned; scan the code \
         that its screen shows now"
    )]
    OtherTransaction,
    /// Over the card's limit, or the person's own.
    #[error("{amount} is over the limit of {limit}")]
    OverLimit {
        amount: Amount,
        /// The smaller of the two.
        limit: Amount,
    },
    /// The card's account is in another currency.
    #[error("the machine asks for {amount}, and this card pays in {card}")]
    OtherCurrency { amount: Amount, card: crate::domain::Currency },
    /// The card has expired.
    #[error("this card was valid until {0}; enrol a new one")]
    CardExpired(UnixTime),
    /// The phone's clock is before the time at which the institution made its keyring.
    #[error(
        "this phone's clock says {now}, which is before this card was issued ({issued_at}); set \
         the clock"
    )]
    ClockBehind {
        now: UnixTime,
        /// When the keyring was made.
        issued_at: UnixTime,
    },
    /// The keyring has no key to seal the command with.
    #[error("the keys of your bank on this card are out of date ({0}); enrol the card again")]
    KeyringOutOfDate(CredentialError),
    /// This wallet has the institution's receipt for this transaction already.
    #[error("this payment was settled before")]
    AlreadySettled,
    /// A command for this transaction was sent before, and the terminal now offers it with other
    /// content or to another card.
    #[error(
        "the machine offers a payment that you ordered before again, with other content. Do not \
         pay here"
    )]
    OfferChanged,
}

/// Why what was presented as the result proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptFault {
    /// There must be one, and there is none.
    #[error("there is no receipt")]
    Missing,
    /// Not signed by the institution, or not readable.
    #[error("{0}")]
    Credential(CredentialError),
    #[error("the receipt is for another payment")]
    OtherTransaction,
    /// About another offer than the person saw.
    #[error("the receipt is for another offer than the one you saw")]
    OtherOffer,
    #[error("the receipt is for another amount")]
    OtherAmount,
    #[error("the receipt is for another machine")]
    OtherTerminal,
    #[error("the receipt is for another command than yours")]
    OtherCommand,
    /// It states another result than the terminal.
    #[error("the receipt states another result than the machine")]
    OtherStatus,
    /// Older than what the wallet has already.
    #[error("the receipt is older than the one you have")]
    Outdated,
    /// It does not say that this wallet's command was not used.
    #[error("it does not say that your order was not used")]
    NoExclusion,
}

/// Why the link failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LinkFault {
    #[error("the connection to the machine was lost; try again")]
    Lost,
    /// No answer to the hello.
    #[error("the machine did not answer; try again")]
    NoAnswer,
    /// What came could not be read.
    #[error("what the machine sent could not be read; try again")]
    Unreadable,
}

impl SessionEnd {
    /// A stable name for programs: lower case, words joined by underscores.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Settled(receipt) => match receipt.status {
                ReceiptStatus::Approved { .. } => "approved",
                ReceiptStatus::Captured { .. } => "captured",
                ReceiptStatus::Declined(_) => "declined",
                ReceiptStatus::Reversed => "reversed",
            },
            Self::Reserved(_) => "reserved",
            Self::NotCharged(_) => "not_charged",
            Self::Pending(_) => "pending",
            Self::Unproven(_) => "unproven",
            Self::NotProven(_) => "not_proven",
            Self::NotPaid(NotPaid::Declined) => "cancelled",
            Self::NotPaid(_) => "not_paid",
            Self::Refused(_) => "refused",
            Self::LinkFailed(_) => "link_failed",
            Self::StoreFailed => "store_failed",
        }
    }

    /// A stable name of the reason, for programs, where the end alone does not give it.
    pub fn reason(&self) -> Option<&'static str> {
        match self {
            Self::Settled(receipt) => match receipt.status {
                ReceiptStatus::Declined(reason) => Some(reason.name()),
                ReceiptStatus::Approved { .. }
                | ReceiptStatus::Captured { .. }
                | ReceiptStatus::Reversed => None,
            },
            Self::Reserved(_) | Self::NotCharged(_) | Self::StoreFailed => None,
            Self::Pending(reason) => Some(reason.name()),
            Self::Unproven(word) => Some(word.name()),
            Self::NotProven(fault) => Some(fault.name()),
            Self::NotPaid(reason) => Some(reason.name()),
            Self::Refused(refusal) => Some(refusal.name()),
            Self::LinkFailed(fault) => Some(fault.name()),
        }
    }

    /// What the person is told: what happened, and what to do.
    pub fn message(&self) -> String {
        match self {
            Self::Settled(receipt) => match &receipt.status {
                ReceiptStatus::Approved { .. } => format!("Paid {}.", receipt.amount),
                ReceiptStatus::Captured { refunded_minor: 0, .. } => {
                    format!("Paid {}.", receipt.amount)
                }
                ReceiptStatus::Captured { refunded_minor, .. } => {
                    let refunded = Amount::new(*refunded_minor, receipt.amount.currency())
                        .unwrap_or(receipt.amount);
                    format!("Paid {}; {refunded} of it was given back.", receipt.amount)
                }
                ReceiptStatus::Declined(reason) => format!("Declined. {}", reason.message()),
                ReceiptStatus::Reversed => {
                    format!("{} was given back. You were not charged.", receipt.amount)
                }
            },
            Self::Reserved(receipt) => format!(
                "{} is reserved. It is taken when the machine has released the goods, and given \
                 back if it does not; `florin-wallet result` says which.",
                receipt.amount
            ),
            Self::NotCharged(_) => "Not paid: your bank confirms that your order was not used and \
                never will be. You were not charged."
                .to_owned(),
            Self::Pending(reason) => format!(
                "Nobody knows yet whether this was paid: {reason}. Do not pay again; ask later \
                 with `florin-wallet result`, at this machine, or ask your bank."
            ),
            Self::Unproven(word) => format!(
                "The machine says: {word}. Your bank has not confirmed it. Do not pay again \
                 before you know: ask with `florin-wallet result`, or ask your bank."
            ),
            Self::NotProven(fault) => format!(
                "The machine claims a result that your bank did not confirm: {fault}. Believe \
                 neither \"paid\" nor \"not paid\"; ask your bank, and do not pay here again."
            ),
            Self::NotPaid(NotPaid::Terminal(wire)) => {
                format!("Nothing was paid. {}", wire.message())
            }
            Self::NotPaid(reason) => format!("Nothing was paid: {reason}."),
            // "Nothing was paid" is true of this session, and wrong of the payment.
            Self::Refused(Refusal::AlreadySettled) => {
                "This payment was settled before, and is not made again; `florin-wallet receipts` \
                shows its receipt."
                    .to_owned()
            }
            Self::Refused(refusal) => format!("Refused, nothing was paid: {refusal}."),
            Self::LinkFailed(fault) => format!("Nothing was paid: {fault}."),
            Self::StoreFailed => {
                "Nothing was paid: the wallet could not store the payment before sending it."
                    .to_owned()
            }
        }
    }

    /// The institution's reason, where it declined.
    pub fn decline_reason(&self) -> Option<DeclineReason> {
        match self {
            Self::Settled(Receipt { status: ReceiptStatus::Declined(reason), .. }) => Some(*reason),
            Self::Settled(_)
            | Self::Reserved(_)
            | Self::NotCharged(_)
            | Self::Pending(_)
            | Self::Unproven(_)
            | Self::NotProven(_)
            | Self::NotPaid(_)
            | Self::Refused(_)
            | Self::LinkFailed(_)
            | Self::StoreFailed => None,
        }
    }

    /// The verified receipt, where there is one.
    pub fn receipt(&self) -> Option<&Receipt> {
        match self {
            Self::Settled(receipt) | Self::Reserved(receipt) => Some(receipt),
            Self::NotCharged(_)
            | Self::Pending(_)
            | Self::Unproven(_)
            | Self::NotProven(_)
            | Self::NotPaid(_)
            | Self::Refused(_)
            | Self::LinkFailed(_)
            | Self::StoreFailed => None,
        }
    }

    /// Whether the machine said something of the payment that the institution has not signed: the
    /// institution itself may know.
    pub fn is_unproven(&self) -> bool {
        matches!(self, Self::Unproven(_) | Self::NotProven(_))
    }

    /// Whether the wallet may try again on its own: only if no command was sent and the link or the
    /// radio failed.
    pub fn may_retry(&self) -> bool {
        match self {
            Self::LinkFailed(_) => true,
            Self::NotPaid(NotPaid::Terminal(wire)) => wire.may_retry(),
            Self::Settled(_)
            | Self::Reserved(_)
            | Self::NotCharged(_)
            | Self::Pending(_)
            | Self::Unproven(_)
            | Self::NotProven(_)
            | Self::NotPaid(_)
            | Self::Refused(_)
            | Self::StoreFailed => false,
        }
    }

    /// The payment that the wallet asks about on its own after this end of an attempt to pay: the
    /// one that was offered, if the link hid its result; the engagement link's, if that offer is
    /// gone, perhaps to this very phone.
    pub fn to_ask_about(
        &self,
        offered: Option<TransactionId>,
        linked: Option<TransactionId>,
    ) -> Option<TransactionId> {
        match self {
            Self::Pending(
                PendingReason::LinkLost | PendingReason::NoSignOfLife | PendingReason::Unreadable,
            ) => offered,
            Self::NotPaid(NotPaid::Taken | NotPaid::Terminal(WireError::TransactionUnknown)) => {
                linked
            }
            Self::Settled(_)
            | Self::Reserved(_)
            | Self::NotCharged(_)
            | Self::Pending(_)
            | Self::Unproven(_)
            | Self::NotProven(_)
            | Self::NotPaid(_)
            | Self::Refused(_)
            | Self::LinkFailed(_)
            | Self::StoreFailed => None,
        }
    }

    /// Whether this answers the question for a payment's result.
    pub fn is_an_answer(&self) -> bool {
        match self {
            Self::Settled(_)
            | Self::Reserved(_)
            | Self::NotCharged(_)
            | Self::Unproven(_)
            | Self::NotProven(_)
            | Self::Pending(PendingReason::Institution) => true,
            Self::Pending(_)
            | Self::NotPaid(_)
            | Self::Refused(_)
            | Self::LinkFailed(_)
            | Self::StoreFailed => false,
        }
    }

    /// What the end of a session without an offer means if this wallet ordered the same payment in
    /// an earlier session: "nothing was paid" is true of this session, but not of the payment.
    #[must_use]
    pub fn given_earlier(self, earlier: PaymentStatus) -> Self {
        match (&self, earlier) {
            (
                Self::NotPaid(_) | Self::Refused(_) | Self::LinkFailed(_) | Self::StoreFailed,
                PaymentStatus::Approved
                | PaymentStatus::Captured
                | PaymentStatus::Declined
                | PaymentStatus::Reversed
                | PaymentStatus::NotCharged,
            ) => Self::Refused(Refusal::AlreadySettled),
            (
                Self::NotPaid(_) | Self::Refused(_) | Self::LinkFailed(_) | Self::StoreFailed,
                PaymentStatus::Pending | PaymentStatus::NotProven,
            ) => Self::Pending(PendingReason::OrderedBefore),
            (_, _) => self,
        }
    }

    /// The transaction of the receipt, where there is one.
    pub fn transaction_id(&self) -> Option<TransactionId> {
        self.receipt().map(|receipt| receipt.transaction_id)
    }
}

impl PendingReason {
    fn name(self) -> &'static str {
        match self {
            Self::Institution => "institution_silent",
            Self::LinkLost => "link_lost",
            Self::NoSignOfLife => "no_sign_of_life",
            Self::TookTooLong => "took_too_long",
            Self::Unreadable => "unreadable",
            Self::Terminal(wire) => wire.name(),
            Self::NotSeen => "not_seen",
            Self::OrderedBefore => "ordered_before",
        }
    }
}

impl TerminalWord {
    /// A stable name for programs: lower case, words joined by underscores.
    pub fn name(self) -> &'static str {
        match self {
            Self::Taken => "taken",
            Self::Withdrawn => "withdrawn",
            Self::Expired => "expired",
            Self::Reversed => "reversed",
            Self::Institution(wire) => wire.name(),
        }
    }
}

impl NotPaid {
    fn name(&self) -> &'static str {
        match self {
            Self::Declined => "declined_by_person",
            Self::DecidedTooLate => "decided_too_late",
            Self::Taken => "taken",
            Self::Withdrawn => "withdrawn",
            Self::Expired => "expired",
            Self::NothingToPay => "nothing_to_pay",
            Self::Terminal(wire) => wire.name(),
            Self::TerminalMisbehaves(_) => "terminal_misbehaves",
        }
    }
}

impl Refusal {
    fn name(&self) -> &'static str {
        match self {
            Self::Certificate(_) => "certificate",
            Self::CertificateOfAnotherKey => "certificate_of_another_key",
            Self::LookAlike => "look_alike",
            Self::OtherTerminal { .. } => "other_terminal",
            Self::OtherShortCode { .. } => "other_short_code",
            Self::OfferOfAnotherTerminal => "offer_of_another_terminal",
            Self::OfferOfAnotherMerchant => "offer_of_another_merchant",
            Self::OtherTransaction => "other_transaction",
            Self::OverLimit { .. } => "over_limit",
            Self::OtherCurrency { .. } => "other_currency",
            Self::CardExpired(_) => "card_expired",
            Self::ClockBehind { .. } => "clock_behind",
            Self::KeyringOutOfDate(_) => "keyring_out_of_date",
            Self::AlreadySettled => "already_settled",
            Self::OfferChanged => "offer_changed",
        }
    }
}

impl ReceiptFault {
    fn name(&self) -> &'static str {
        match self {
            Self::Missing => "receipt_missing",
            Self::Credential(_) => "receipt_forged",
            Self::OtherTransaction => "receipt_of_other_transaction",
            Self::OtherOffer => "receipt_of_other_offer",
            Self::OtherAmount => "receipt_of_other_amount",
            Self::OtherTerminal => "receipt_of_other_terminal",
            Self::OtherCommand => "receipt_of_other_command",
            Self::OtherStatus => "receipt_of_other_status",
            Self::Outdated => "receipt_outdated",
            Self::NoExclusion => "no_exclusion",
        }
    }
}

impl LinkFault {
    fn name(self) -> &'static str {
        match self {
            Self::Lost => "link_lost",
            Self::NoAnswer => "no_answer",
            Self::Unreadable => "unreadable",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One end of each kind whose message is put together of parts.
    fn ends() -> Vec<SessionEnd> {
        let mut ends = vec![
            SessionEnd::Unproven(TerminalWord::Reversed),
            SessionEnd::StoreFailed,
            SessionEnd::Refused(Refusal::AlreadySettled),
            SessionEnd::Refused(Refusal::LookAlike),
            SessionEnd::Refused(Refusal::OtherTransaction),
            SessionEnd::Refused(Refusal::OfferChanged),
            SessionEnd::NotProven(ReceiptFault::Missing),
            SessionEnd::NotProven(ReceiptFault::OtherStatus),
            SessionEnd::Pending(PendingReason::Institution),
            SessionEnd::Pending(PendingReason::LinkLost),
            SessionEnd::Pending(PendingReason::NoSignOfLife),
            SessionEnd::Pending(PendingReason::OrderedBefore),
            SessionEnd::Unproven(TerminalWord::Taken),
            SessionEnd::Unproven(TerminalWord::Withdrawn),
            SessionEnd::NotPaid(NotPaid::Declined),
            SessionEnd::NotPaid(NotPaid::NothingToPay),
            SessionEnd::LinkFailed(LinkFault::Lost),
            SessionEnd::LinkFailed(LinkFault::NoAnswer),
            SessionEnd::LinkFailed(LinkFault::Unreadable),
        ];
        for error in WireError::ALL {
            ends.push(SessionEnd::Pending(PendingReason::Terminal(error)));
            ends.push(SessionEnd::Unproven(TerminalWord::Institution(error)));
            ends.push(SessionEnd::NotPaid(NotPaid::Terminal(error)));
        }
        ends
    }

    #[test]
    fn no_message_says_anything_twice() {
        for end in ends() {
            let message = end.message();
            let lower = message.to_lowercase();
            let clauses: Vec<&str> = lower
                .split(['.', ';', ':', ','])
                .map(str::trim)
                .filter(|clause| clause.len() > 8)
                .collect();
            for (index, clause) in clauses.iter().enumerate() {
                for (other, longer) in clauses.iter().enumerate() {
                    assert!(index == other || !longer.contains(clause), "{clause:?} in {message}");
                }
            }
        }
    }

    #[test]
    fn nothing_was_paid_is_not_said_of_a_payment_that_was_ordered_before() {
        let lost = || SessionEnd::LinkFailed(LinkFault::Lost);
        for (earlier, end) in [
            (PaymentStatus::Pending, SessionEnd::Pending(PendingReason::OrderedBefore)),
            (PaymentStatus::NotProven, SessionEnd::Pending(PendingReason::OrderedBefore)),
            (PaymentStatus::Approved, SessionEnd::Refused(Refusal::AlreadySettled)),
            (PaymentStatus::NotSent, lost()),
            (PaymentStatus::NotCharged, SessionEnd::Refused(Refusal::AlreadySettled)),
        ] {
            assert_eq!(lost().given_earlier(earlier), end);
        }
        let pending = SessionEnd::Pending(PendingReason::LinkLost);
        assert_eq!(pending.clone().given_earlier(PaymentStatus::Approved), pending);
    }
}
