//! Why there is no connection to a machine.

use florin::bluetooth::CentralError;
use florin::link::PhoneLinkError;

#[derive(Debug, thiserror::Error)]
pub enum RadioError {
    /// The radio, or the connection.
    #[error(transparent)]
    Central(#[from] CentralError),
    /// The socket in place of the radio, or the connection over it.
    #[error(transparent)]
    EmulatedAir(#[from] PhoneLinkError),
    #[error("no machine{with} in reach after {waited_ms} ms; is it on, and are you close to it?")]
    NotFound {
        /// The short code that was looked for, in words.
        with: String,
        waited_ms: u64,
    },
    /// It says itself that it takes no payments.
    #[error(
        "the machine {0} is out of service: it takes no payments now; use another one, or come \
         back later"
    )]
    OutOfService(String),
    #[error("no machine was chosen")]
    NotChosen,
}
