//! What the commands that use the till API share: its address, how a payment is shown, and the exit
//! code of a call that failed.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use florin::service::{CONFIGURATION_PATH, ServiceError, TILL_ADDRESS, till_address};
use florin::till::{PaymentJson, TillAddress, TillClient, TillClientError};

/// Wrong arguments, as clap ends with them.
pub const USAGE: u8 = 2;
/// The service was not reached, or its answer was lost.
pub const TILL_UNREACHABLE: u8 = 8;
/// The service refuses: out of service, another offer is waiting, the payment's state does not
/// allow it.
pub const REFUSED: u8 = 9;

/// Where the service listens: the flag or the environment variable, else the configuration, else
/// the default.
#[derive(Debug, Args)]
pub struct TillArguments {
    #[arg(
        long,
        env = "FLORIN_TILL",
        value_name = "ADDRESS",
        help = format!(
            "Where the service's till API listens: `unix:PATH`, or a loopback address with its \
             port [default: `[till] listen` of the configuration, or else {TILL_ADDRESS}]"
        ),
    )]
    till: Option<TillAddress>,
    #[arg(
        long,
        value_name = "FILE",
        help = format!(
            "The configuration of the service, read if --till is not given [default: \
             {CONFIGURATION_PATH}, if it exists]"
        ),
    )]
    configuration: Option<PathBuf>,
}

impl TillArguments {
    /// A client of the service; as an error the exit code, after the message was printed.
    pub fn client(&self) -> Result<TillClient, ExitCode> {
        till_address(self.till.clone(), self.configuration.as_deref()).map(TillClient::new).map_err(
            |error| {
                eprintln!("florin: {error}; or say with --till where the service listens");
                ServiceError::from(error).exit().into()
            },
        )
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

/// A payment's state with its reason: `declined (insufficient_funds)`.
pub fn state(payment: &PaymentJson) -> String {
    match &payment.reason {
        Some(reason) => format!("{} ({reason})", payment.state),
        None => payment.state.clone(),
    }
}

/// Prints one JSON object on a line of its own.
pub fn print_json(value: &impl serde::Serialize) {
    match serde_json::to_string(value) {
        Ok(line) => println!("{line}"),
        Err(error) => eprintln!("florin: {error}"),
    }
}
