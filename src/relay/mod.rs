//! From the terminal to the institution: carries a question there and says what became of it.
//!
//! What to ask, when, and what an answer means for a payment is the engine's business; this room
//! never repeats a question on its own. Another institution's protocol is another [`Relay`].

mod connection;
mod enrolment;
mod examination;
mod grpc;
mod sent;
mod statement;

#[cfg(test)]
mod tests;

pub use connection::{ConnectError, InstitutionAddress, InstitutionAddressError, TlsFiles};
pub use enrolment::{EnrolError, Enrolled, enrol_terminal};
pub use examination::InstitutionExamination;
pub use grpc::{CONNECT_TIMEOUT_MS, GrpcRelay};
pub use statement::StatementError;

use crate::terminal::{InstitutionAnswer, InstitutionRequest};

/// A way to the institution. Questions about different payments may be asked at the same time.
pub trait Relay: Send + Sync {
    /// Asks once and waits for what becomes of it, at most `timeout_ms` with all that it needs.
    /// Dropping the future leaves it unknown whether the question was sent: treat it as
    /// [`InstitutionAnswer::Unanswered`].
    fn ask(
        &self,
        request: InstitutionRequest,
        timeout_ms: u64,
    ) -> impl Future<Output = InstitutionAnswer> + Send;

    /// An offer waits: be ready to ask, so that the person does not wait for a connection. Fails
    /// silently; the question itself will say what is wrong.
    fn prepare(&self) -> impl Future<Output = ()> + Send;
}

impl<R: Relay> Relay for std::sync::Arc<R> {
    fn ask(
        &self,
        request: InstitutionRequest,
        timeout_ms: u64,
    ) -> impl Future<Output = InstitutionAnswer> + Send {
        R::ask(self, request, timeout_ms)
    }

    fn prepare(&self) -> impl Future<Output = ()> + Send {
        R::prepare(self)
    }
}
