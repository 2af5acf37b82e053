//! From the terminal to the institution: carries a question there and says what became of it.
//!
//! What to ask, when, and what an answer means for a payment is the engine's business; this room
//! never repeats a question on its own. `interface` is what the terminal needs of an institution;
//! another institution's protocol is another [`Relay`]. `grpc` is the reference institution's.

mod grpc;
mod interface;
mod tls_files;

pub use grpc::{EnrolError, Enrolled, GrpcRelay, enrol_terminal};
pub use interface::{
    ConnectError, ConnectStage, HandshakeFault, InstitutionExamination, Relay, RenewalError,
    Renewed, StandingError, StatementError,
};
pub use tls_files::TlsFiles;
