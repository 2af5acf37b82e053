//! The one place that decides whether a request was sent, and what the institution did with it.
//!
//! A wrong "not sent" or "refused" charges somebody for nothing, so both need proof. A request
//! without proof counts as unanswered, which costs an inquiry and nothing else. HTTP/2's word on a
//! stream that has left is no proof: REFUSED_STREAM, and a GOAWAY below the stream, should mean
//! that nothing was done. But the library's error does not always distinguish such a stream from
//! one that was being processed when the connection broke, and proxies are careless with both.

use std::sync::{Arc, Mutex, PoisonError};

use tonic::{Code, Status};

use crate::domain::displayable;
use crate::terminal::{InstitutionAnswer, TransactionClaim};

/// What was seen of one exchange, noted by the connection while it happened.
#[derive(Debug, Clone, Default)]
pub(super) struct DeliveryEvidence(Arc<Mutex<Facts>>);

#[derive(Debug, Clone, Copy, Default)]
struct Facts {
    handed_over: bool,
    given_back: bool,
    server_status: Option<i32>,
}

impl DeliveryEvidence {
    fn facts(&self) -> std::sync::MutexGuard<'_, Facts> {
        // Nothing panics while it holds this lock; if something did, the facts are still whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The request is handed to the HTTP connection.
    pub(super) fn hand_over(&self) {
        self.facts().handed_over = true;
    }

    /// The HTTP connection returned the request whole: it had begun to close, and sent no octet of
    /// it.
    pub(super) fn give_back(&self) {
        self.facts().given_back = true;
    }

    /// The server's own `grpc-status`, from the headers or trailers of an HTTP answer that is
    /// gRPC's.
    pub(super) fn server_status(&self, code: i32) {
        self.facts().server_status = Some(code);
    }

    /// The server's own status, where one came.
    pub(super) fn server_code(&self) -> Option<Code> {
        self.facts().server_status.map(Code::from_i32)
    }

    /// No octet of the request can have left.
    pub(super) fn is_unsent(&self) -> bool {
        let facts = self.facts();
        !facts.handed_over || facts.given_back
    }

    /// What an exchange that brought no transaction means.
    pub(super) fn failure(&self, status: &Status) -> InstitutionAnswer {
        if self.is_unsent() {
            return not_sent(describe(status));
        }
        // `status` alone is not enough: the client makes statuses of its own, for a proxy's HTTP
        // error or for a reset stream, with the very codes that mean a refusal when the
        // server sends them.
        match self.server_code() {
            Some(code) if is_refusal(code) => {
                InstitutionAnswer::Refused { detail: describe(status) }
            }
            Some(_) | None => InstitutionAnswer::Unanswered { detail: describe(status) },
        }
    }

    /// What it means that the time has run out.
    pub(super) fn time_over(&self, timeout_ms: u64) -> InstitutionAnswer {
        if self.is_unsent() {
            not_sent(format!("no connection within {timeout_ms} ms"))
        } else {
            InstitutionAnswer::Unanswered { detail: format!("no answer within {timeout_ms} ms") }
        }
    }
}

/// There was no connection to send anything over.
pub(super) fn not_sent(detail: impl ToString) -> InstitutionAnswer {
    InstitutionAnswer::NotSent { detail: detail.to_string() }
}

/// The institution's answer about the transaction, if it could be read.
pub(super) fn answered(answer: Result<TransactionClaim, String>) -> InstitutionAnswer {
    match answer {
        Ok(claim) => InstitutionAnswer::Transaction(claim),
        Err(detail) => {
            let detail = format!("its answer cannot be understood: {detail}");
            InstitutionAnswer::Unanswered { detail }
        }
    }
}

/// The codes with which a server says that it did nothing and will do nothing
/// (docs/institution.md). Not among them: UNAVAILABLE, ABORTED, RESOURCE_EXHAUSTED and the like,
/// which servers and proxies also send when the work has begun.
fn is_refusal(code: Code) -> bool {
    match code {
        Code::InvalidArgument
        | Code::Unauthenticated
        | Code::PermissionDenied
        | Code::NotFound
        | Code::FailedPrecondition
        | Code::Unimplemented => true,
        Code::Ok
        | Code::AlreadyExists
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::ResourceExhausted
        | Code::Aborted
        | Code::OutOfRange
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => false,
    }
}

/// For the log: the code, and the beginning of what the server or the connection says.
pub(super) fn describe(status: &Status) -> String {
    let mut detail = format!("{:?}: {}", status.code(), status.message());
    let mut source = std::error::Error::source(status);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !detail.contains(&cause_text) {
            detail = format!("{detail}: {cause_text}");
        }
        source = cause.source();
    }
    displayable(&detail).chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_proof_makes_a_refusal_or_a_not_sent() {
        let denied = Status::permission_denied("no");
        assert!(matches!(
            DeliveryEvidence::default().failure(&denied),
            InstitutionAnswer::NotSent { .. }
        ));

        let sent = DeliveryEvidence::default();
        sent.hand_over();
        // The client's own status, as for a reset stream: no proof.
        assert!(matches!(sent.failure(&denied), InstitutionAnswer::Unanswered { .. }));
        assert!(matches!(sent.time_over(1), InstitutionAnswer::Unanswered { .. }));
        sent.server_status(Code::PermissionDenied as i32);
        assert!(matches!(sent.failure(&denied), InstitutionAnswer::Refused { .. }));

        let returned = DeliveryEvidence::default();
        returned.hand_over();
        returned.give_back();
        assert!(matches!(returned.failure(&denied), InstitutionAnswer::NotSent { .. }));
        assert!(matches!(returned.time_over(1), InstitutionAnswer::NotSent { .. }));
    }

    #[test]
    fn every_code_has_its_meaning() {
        let refusals: Vec<i32> =
            (-1..=20).filter(|code| is_refusal(Code::from_i32(*code))).collect();
        assert_eq!(refusals, [3, 5, 7, 9, 12, 16]);
    }
}
