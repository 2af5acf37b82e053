//! How a conversation with a terminal ends for the wallet, and what the person is told.
//!
//! Words and reasons only. What became of the money is known by the institution's signed receipt
//! alone; everything else here is the terminal's word or the wallet's own.

use super::PaymentStatus;
use crate::credential::CredentialError;
use crate::domain::{
    Amount, DeclineReason, Receipt, ReceiptStatus, TerminalId, TransactionId, UnixTime,
};
use crate::protocol::{ProtocolError, WireError};

/// How a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionEnd {
    /// The institution's word, proven by its signature and about this payment.
    Settled(Receipt),
    /// The terminal says that nothing is charged and the institution never approved: there is no
    /// receipt for that.
    ReversedUnproven,
    /// A command was sent, and nobody here knows what became of it.
    Pending(PendingReason),
    /// A command was sent, and the terminal says that the institution did not act on it.
    NotCharged(NotCharged),
    /// A command was sent, and what the terminal presented as the result does not prove it.
    NotProven(ReceiptFault),
    /// No command was sent, for a reason outside this wallet.
    NotPaid(NotPaid),
    /// No command was sent: this wallet refused.
    Refused(Refusal),
    /// No command was sent: the link did not work.
    LinkFailed(LinkFault),
    /// No command was sent: the wallet could not store what must be stored first.
    StoreFailed,
}

/// Why nobody here knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PendingReason {
    /// The terminal waits for the institution.
    #[error("your bank has not answered the machine yet")]
    Institution,
    /// The connection broke.
    #[error("the connection to the machine was lost after the payment was sent")]
    LinkLost,
    /// The terminal went quiet.
    #[error("the machine went quiet after the payment was sent")]
    NoSignOfLife,
    /// The terminal kept saying that it works on it.
    #[error("the machine took too long")]
    TookTooLong,
    /// What came could not be read.
    #[error("what the machine answered could not be read")]
    Unreadable,
    /// The terminal refused to say.
    #[error("the machine answered \"{}\"", .0.message())]
    Terminal(WireError),
    /// A command was sent before, not now, and the terminal could not be asked about it.
    #[error("you ordered this payment before, and the machine has not said what became of it")]
    OrderedBefore,
}

/// Why the terminal says that the institution did not act on a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotCharged {
    /// Another phone's command was first.
    #[error("another phone paid first")]
    Taken,
    /// The till took the offer back.
    #[error("the machine took the offer back")]
    Withdrawn,
    /// The offer's time ran out.
    #[error("the offer's time ran out")]
    Expired,
    /// The institution was not reached, or does not serve the terminal.
    #[error("the machine answered \"{}\"", .0.message())]
    Institution(WireError),
}

/// Why no command was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotPaid {
    /// The person did not want to.
    #[error("you declined")]
    Declined,
    /// The person took longer than the offer was good for.
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
    /// No offer came in the time that was given.
    #[error("the machine has nothing to pay; order something and try again")]
    NothingToPay,
    /// The terminal answered with an error.
    #[error("the machine answered \"{}\"", .0.message())]
    Terminal(WireError),
    /// The terminal said something that makes no sense here. It is at fault.
    #[error("the machine does not keep to the protocol ({0}); tell its operator")]
    TerminalMisbehaves(ProtocolError),
}

/// Why this wallet refused. Nothing was paid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nobody whom this card trusts vouches for the terminal, or not now.
    #[error(
        "the machine cannot prove who it is: {0}. Do not pay here; if this phone's clock is wrong, set it"
    )]
    Certificate(CredentialError),
    /// The certificate belongs to another terminal's key.
    #[error("the machine shows the certificate of another one. Do not pay here")]
    CertificateOfAnotherKey,
    /// Not the key that the engagement link names.
    #[error(
        "this is not the machine whose code you scanned, but one that looks like it. Do not pay here"
    )]
    LookAlike,
    /// Not the terminal that was asked for.
    #[error("this is machine {found}, not {expected} that you pointed at")]
    OtherTerminal {
        /// Asked for.
        expected: TerminalId,
        /// By its certificate.
        found: TerminalId,
    },
    /// Not a terminal with the short code that the person read on the machine, whatever name it
    /// advertises.
    #[error(
        "this is machine {found}, not one with the code {expected} that you pointed at. Do not pay here"
    )]
    OtherShortCode {
        /// Read on the machine.
        expected: String,
        /// By its certificate.
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
        "the machine offers another payment than the one whose code you scanned; scan what its screen shows now"
    )]
    OtherTransaction,
    /// Over the card's limit, or the person's own.
    #[error("{amount} is over the limit of {limit}")]
    OverLimit {
        /// Of the offer.
        amount: Amount,
        /// The smaller of the two.
        limit: Amount,
    },
    /// The card's account is in another currency.
    #[error("the machine wants {amount}, and this card pays in {card}")]
    OtherCurrency {
        /// Of the offer.
        amount: Amount,
        /// Of the card.
        card: crate::domain::Currency,
    },
    /// The card's time has run out.
    #[error("this card was good until {0}; enrol a new one")]
    CardExpired(UnixTime),
    /// The phone's clock is before the time at which the institution made its keyring.
    #[error(
        "this phone's clock says {now}, which is before this card was issued ({issued_at}); set the clock"
    )]
    ClockBehind {
        /// The phone's clock.
        now: UnixTime,
        /// When the keyring was made.
        issued_at: UnixTime,
    },
    /// There is no key to seal the command with.
    #[error("this card's keys of the institution are out of date ({0}); enrol the card again")]
    KeyringOutOfDate(CredentialError),
    /// This wallet has the institution's word on this transaction already.
    #[error("this payment was settled already; look at its receipt with `receipts`")]
    AlreadySettled,
    /// A command for this transaction was sent before, and the terminal now offers it with other
    /// content or to another card.
    #[error(
        "the machine offers a payment again that you ordered before, with other content. Do not pay here"
    )]
    OfferChanged,
}

/// Why what was presented as the result proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptFault {
    /// There is none where there must be one.
    #[error("there is no receipt")]
    Missing,
    /// Not signed by the institution, or not readable.
    #[error("{0}")]
    Credential(CredentialError),
    /// About another transaction.
    #[error("the receipt is of another payment")]
    OtherTransaction,
    /// About another offer than the person saw.
    #[error("the receipt is for another offer than the one you saw")]
    OtherOffer,
    /// About another amount.
    #[error("the receipt is over another amount")]
    OtherAmount,
    /// About another terminal.
    #[error("the receipt is of another machine")]
    OtherTerminal,
    /// About another card.
    #[error("the receipt is of another card")]
    OtherCard,
    /// It says something else than the terminal.
    #[error("the receipt says something else than the machine")]
    OtherStatus,
    /// Older than what the wallet has already.
    #[error("the receipt is older than the one you have")]
    Outdated,
}

/// Why the link did not work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LinkFault {
    /// The connection broke.
    #[error("the connection to the machine was lost before anything was paid; try again")]
    Lost,
    /// No answer to the hello.
    #[error("the machine did not answer; nothing was paid; try again")]
    NoAnswer,
    /// What came could not be read.
    #[error("what the machine sent could not be read; nothing was paid; try again")]
    Unreadable,
}

impl SessionEnd {
    /// A stable name for programs: lower case, words joined by underscores.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Settled(receipt) => match receipt.status {
                ReceiptStatus::Approved { .. } => "approved",
                ReceiptStatus::Declined(_) => "declined",
                ReceiptStatus::Reversed => "reversed",
            },
            Self::ReversedUnproven => "reversed",
            Self::Pending(_) => "pending",
            Self::NotCharged(_) => "not_charged",
            Self::NotProven(_) => "not_proven",
            Self::NotPaid(NotPaid::Declined) => "cancelled",
            Self::NotPaid(_) => "not_paid",
            Self::Refused(_) => "refused",
            Self::LinkFailed(_) => "link_failed",
            Self::StoreFailed => "store_failed",
        }
    }

    /// A stable name for programs of why it ended so, where the end alone does not say it.
    pub fn reason(&self) -> Option<&'static str> {
        match self {
            Self::Settled(receipt) => match receipt.status {
                ReceiptStatus::Declined(reason) => Some(reason.name()),
                ReceiptStatus::Approved { .. } | ReceiptStatus::Reversed => None,
            },
            Self::ReversedUnproven | Self::StoreFailed => None,
            Self::Pending(reason) => Some(reason.name()),
            Self::NotCharged(reason) => Some(reason.name()),
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
                ReceiptStatus::Declined(reason) => format!("Declined. {}", reason.message()),
                ReceiptStatus::Reversed => {
                    format!("{} was given back. You were not charged.", receipt.amount)
                }
            },
            Self::ReversedUnproven => {
                "The machine says that the payment was called off. You should not be \
                charged; look at your account if in doubt."
                    .to_owned()
            }
            Self::Pending(reason) => format!(
                "Nobody knows yet whether this was paid: {reason}. Do not pay again; ask later with `result`, at \
                 this machine, or ask your bank."
            ),
            Self::NotCharged(reason) => {
                format!("Not paid: {reason}. The machine says you were not charged.")
            }
            Self::NotProven(fault) => format!(
                "The machine claims a result that your bank did not confirm: {fault}. Believe neither \"paid\" nor \
                 \"not paid\"; ask your bank, and do not pay here again."
            ),
            Self::NotPaid(NotPaid::Terminal(wire)) => {
                format!("Nothing was paid. {}", wire.message())
            }
            Self::NotPaid(reason) => format!("Nothing was paid: {reason}."),
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
            | Self::ReversedUnproven
            | Self::Pending(_)
            | Self::NotCharged(_)
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
            Self::Settled(receipt) => Some(receipt),
            Self::ReversedUnproven
            | Self::Pending(_)
            | Self::NotCharged(_)
            | Self::NotProven(_)
            | Self::NotPaid(_)
            | Self::Refused(_)
            | Self::LinkFailed(_)
            | Self::StoreFailed => None,
        }
    }

    /// May the wallet try again on its own? Only where no command was sent and the link or the air
    /// was at fault.
    pub fn may_retry(&self) -> bool {
        match self {
            Self::LinkFailed(_) => true,
            Self::NotPaid(NotPaid::Terminal(wire)) => wire.may_retry(),
            Self::Settled(_)
            | Self::ReversedUnproven
            | Self::Pending(_)
            | Self::NotCharged(_)
            | Self::NotProven(_)
            | Self::NotPaid(_)
            | Self::Refused(_)
            | Self::StoreFailed => false,
        }
    }

    /// About which payment the wallet asks on its own after this end of an attempt to pay, if it
    /// ordered it: about what was offered, where the result is not known because of the link;
    /// about the link's, where its offer is gone, perhaps to this very phone.
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
            | Self::ReversedUnproven
            | Self::Pending(_)
            | Self::NotCharged(_)
            | Self::NotProven(_)
            | Self::NotPaid(_)
            | Self::Refused(_)
            | Self::LinkFailed(_)
            | Self::StoreFailed => None,
        }
    }

    /// Has who asked for a result got one?
    pub fn is_an_answer(&self) -> bool {
        match self {
            Self::Settled(_)
            | Self::ReversedUnproven
            | Self::NotCharged(_)
            | Self::NotProven(_)
            | Self::Pending(PendingReason::Institution) => true,
            Self::Pending(_)
            | Self::NotPaid(_)
            | Self::Refused(_)
            | Self::LinkFailed(_)
            | Self::StoreFailed => false,
        }
    }

    /// What the end of a session without an offer means where this wallet ordered the same payment
    /// in an earlier one: "nothing was paid" is true of this session alone, and must not be
    /// said of the payment.
    #[must_use]
    pub fn given_earlier(self, earlier: PaymentStatus) -> Self {
        match (&self, earlier) {
            (
                Self::NotPaid(_) | Self::Refused(_) | Self::LinkFailed(_) | Self::StoreFailed,
                PaymentStatus::Approved | PaymentStatus::Declined | PaymentStatus::Reversed,
            ) => Self::Refused(Refusal::AlreadySettled),
            (
                Self::NotPaid(_) | Self::Refused(_) | Self::LinkFailed(_) | Self::StoreFailed,
                PaymentStatus::Pending | PaymentStatus::NotProven,
            ) => Self::Pending(PendingReason::OrderedBefore),
            (_, _) => self,
        }
    }

    /// Which transaction a settled end is about.
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
            Self::OrderedBefore => "ordered_before",
        }
    }
}

impl NotCharged {
    fn name(self) -> &'static str {
        match self {
            Self::Taken => "taken",
            Self::Withdrawn => "withdrawn",
            Self::Expired => "expired",
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
            Self::OtherCard => "receipt_of_other_card",
            Self::OtherStatus => "receipt_of_other_status",
            Self::Outdated => "receipt_outdated",
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

    #[test]
    fn nothing_was_paid_is_not_said_of_a_payment_that_was_ordered_before() {
        let lost = || SessionEnd::LinkFailed(LinkFault::Lost);
        for (earlier, end) in [
            (PaymentStatus::Pending, SessionEnd::Pending(PendingReason::OrderedBefore)),
            (PaymentStatus::NotProven, SessionEnd::Pending(PendingReason::OrderedBefore)),
            (PaymentStatus::Approved, SessionEnd::Refused(Refusal::AlreadySettled)),
            (PaymentStatus::NotSent, lost()),
            (PaymentStatus::NotCharged, lost()),
        ] {
            assert_eq!(lost().given_earlier(earlier), end);
        }
        let pending = SessionEnd::Pending(PendingReason::LinkLost);
        assert_eq!(pending.clone().given_earlier(PaymentStatus::Approved), pending);
    }
}
