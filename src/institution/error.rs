//! Why the institution did not do what it was asked.

use super::records::{OperatorName, RefundId};
use super::store::StoreError;
use crate::domain::{TerminalId, TransactionId, TransactionState, UnixTime};

/// Why the institution did not do what it was asked. It changed nothing, unless its store failed:
/// then whether the change was made is not known. Never holds card data.
#[derive(Debug, thiserror::Error)]
pub enum InstitutionError {
    /// A value of the request is wrong: the same request will be refused again.
    #[error("{field}: {detail}")]
    InvalidRequest {
        field: &'static str,
        /// What is wrong with it, and what was expected.
        detail: String,
    },
    /// The transaction id was used for something else.
    #[error(
        "transaction {0} was authorised with another offer or another command; nothing was charged \
         for this one; make a new transaction id for a new payment"
    )]
    OtherContent(TransactionId),
    /// Only an approved transaction can be captured.
    #[error("transaction {id} is {}, so it cannot be captured; nothing was changed", state.name())]
    NotCapturable { id: TransactionId, state: TransactionState },
    /// Only an approved transaction can be reversed.
    #[error(
        "transaction {id} is {}, so it cannot be reversed; nothing was changed; what is captured, \
         the institution's operators refund",
        state.name()
    )]
    NotReversible { id: TransactionId, state: TransactionState },
    /// Only an approved transaction can be written off.
    #[error(
        "transaction {id} is {}, so it cannot be written off; nothing was changed",
        state.name()
    )]
    NotWrittenOff { id: TransactionId, state: TransactionState },
    /// So much cannot be given back.
    #[error("transaction {id} cannot be refunded so: {detail}; nothing was changed")]
    NotRefundable {
        id: TransactionId,
        /// How it stands, and what could be given back.
        detail: String,
    },
    /// The id of a refund was used for something else.
    #[error("refund {0} was made of another payment or amount; give a new refund a new id")]
    RefundUsed(RefundId),
    /// A blocked terminal asks after the hold has ended.
    #[error(
        "terminal {terminal} is blocked, and the hold of transaction {id} has ended; nothing was \
         changed; the institution's operators end it"
    )]
    HoldEnded { id: TransactionId, terminal: TerminalId },
    /// The terminal has reversed too many ids that were never authorised.
    #[error(
        "too many ids of this terminal were reversed before they were authorised; {0} was not \
         reversed, and nothing was changed; send the same request again tomorrow, or ask the \
         institution"
    )]
    TooManyTombstones(TransactionId),
    /// Two people are needed, and this is one.
    #[error("{operator} has asked for approval {number}; another person has to confirm it")]
    SamePerson { number: i64, operator: String },
    /// Somebody has confirmed or refused it.
    #[error("approval {0} was decided already; nothing was changed")]
    RequestDecided(i64),
    /// There is nothing of that name.
    #[error("there is no {what} {id}")]
    NotFound { what: &'static str, id: String },
    /// No such code was issued, or it was replaced by a newer one.
    #[error(
        "the enrolment code is not known: it was never issued, or a newer one has replaced it; ask \
         the institution for a new code"
    )]
    CodeUnknown,
    /// The code can no longer be used.
    #[error("the enrolment code was good until {0}; ask the institution for a new code")]
    CodeExpired(UnixTime),
    /// Other keys were enrolled with the code.
    #[error(
        "the enrolment code was used already, with other keys; if that was not you, tell the \
         institution"
    )]
    CodeUsed,
    /// The terminal or card is blocked.
    #[error("this {0} is blocked; ask the institution to unblock it")]
    Blocked(&'static str),
    /// The card is not known, not enrolled, or its key did not sign. One error for all three, so
    /// that nobody can find out which cards there are.
    #[error(
        "no enrolled card has this id and signed with this key; if it was enrolled again or \
         issued by another institution, ask with the newest card; otherwise ask the institution"
    )]
    CardNotProved,
    /// Two machines share the terminal's identity.
    #[error(
        "terminal {0} seems to run on two machines: two payments carry the same number. Nothing \
         was charged for this one. New payments of both are refused until the institution's \
         operator has decided; a new enrolment of one of them ends it too"
    )]
    TerminalCopied(TerminalId),
    /// The store lacks something that the payment rests on.
    #[error(
        "transaction {id} cannot be recorded again: {detail}; nothing was changed; the \
         institution's operator has to decide"
    )]
    NotPresentable {
        id: TransactionId,
        /// What the store lacks, and what to do.
        detail: &'static str,
    },
    /// No copy of the terminal is known.
    #[error("terminal {0} is not known to run on two machines; nothing was changed")]
    NotCopied(TerminalId),
    /// The client certificate is not the terminal's newest.
    #[error(
        "the client certificate of terminal {0} was replaced by a newer enrolment; use the newer \
         certificate, or enrol again"
    )]
    CertificateReplaced(TerminalId),
    /// The operator is not registered, was removed, or shows an older certificate.
    #[error(
        "the client certificate of operator {0} is not good any more; get a new one with \
         `florin-acquirer operator add {0}`"
    )]
    OperatorRefused(OperatorName),
    /// The store did not do its part.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl InstitutionError {
    pub(super) fn invalid(field: &'static str, detail: impl ToString) -> Self {
        Self::InvalidRequest { field, detail: detail.to_string() }
    }

    pub(super) fn not_found(what: &'static str, id: impl ToString) -> Self {
        Self::NotFound { what, id: id.to_string() }
    }
}
