//! What the commands that use the till API have in common: where it is, how a payment is shown, how
//! a call can fail.

use std::process::ExitCode;

use clap::Args;
use florin::domain::TransactionId;
use florin::service::TILL_ADDRESS;
use florin::till::{PaymentJson, TillAddress, TillClient, TillClientError};

/// Wrong arguments, as clap ends with them.
pub const USAGE: u8 = 2;
/// The service was not reached, or its answer was lost.
pub const TILL_UNREACHABLE: u8 = 8;
/// The service refuses: out of service, another offer is waiting, the payment's state does not
/// allow it.
pub const REFUSED: u8 = 9;

#[derive(Debug, Args)]
pub struct TillArguments {
    /// Where the service's till API is: `unix:PATH`, or a loopback address with its port.
    #[arg(long, env = "FLORIN_TILL", default_value = TILL_ADDRESS, value_name = "ADDRESS")]
    till: TillAddress,
}

impl TillArguments {
    pub fn client(&self) -> TillClient {
        TillClient::new(self.till.clone())
    }
}

/// Says what went wrong and gives the exit code for it.
pub fn failure(error: &TillClientError) -> ExitCode {
    eprintln!("florin: {error}");
    ExitCode::from(exit_code(error))
}

pub fn exit_code(error: &TillClientError) -> u8 {
    match error {
        TillClientError::Unreachable { .. }
        | TillClientError::Lost(_)
        | TillClientError::Foreign { .. } => TILL_UNREACHABLE,
        TillClientError::Refused { .. } => REFUSED,
    }
}

/// For clap: a payment's id.
pub fn transaction_id(text: &str) -> Result<TransactionId, String> {
    text.parse().map_err(|error: florin::domain::IdentifierError| error.to_string())
}

/// A payment's state with its reason: `declined (insufficient_funds)`.
pub fn state(payment: &PaymentJson) -> String {
    match &payment.reason {
        Some(reason) => format!("{} ({reason})", payment.state),
        None => payment.state.clone(),
    }
}

/// One JSON object on a line of its own.
pub fn print_json(value: &impl serde::Serialize) {
    match serde_json::to_string(value) {
        Ok(line) => println!("{line}"),
        Err(error) => eprintln!("florin: {error}"),
    }
}
