//! `florin serve`: the service itself, and a check of what it needs.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use florin::io_error_text::io_error_text;
use florin::link::AirAddress;
use florin::service::{
    CONFIGURATION_PATH, Configuration, Extent, ServiceError, ServiceExit, examine, grpc_relay,
    serve,
};
use tokio::signal::unix::{SignalKind, signal};

use crate::configuration::configuration;
use crate::findings::print_findings;

pub const SERVICE_EXIT_CODES: &str = "\
Exit codes:
   0  stopped as asked (SIGTERM, SIGINT), or nothing is wrong (--check)
   1  something else went wrong
   2  wrong arguments
  10  the configuration is wrong: the message names file, line, column and key
  11  not enrolled, or the enrolment cannot be used
  12  a certificate has expired or is not valid yet (not serve: it waits, out of service,
      since the clock may be wrong)
  13  the clock was never set (not serve: it waits, out of service)
  14  the state directory or the journal cannot be used
  15  the till API's address is in use or cannot be used
  16  no D-Bus or no BlueZ (--check only: the service keeps trying)
  17  D-Bus does not let this user talk to BlueZ (--check only)
  18  no usable Bluetooth adapter: none, blocked, or unable to advertise (--check only)
  19  the institution cannot be reached, or refuses this terminal (--check and enrol only)
  21  open payments in the journal belong to another terminal or institution, which alone can
      settle them (serve and enrol)";

/// Serve phones and the till until told to stop.
///
/// Bluetooth and the institution may come and go: the service reports what is wrong (Bluetooth:
/// `florin status`; both: the log) and keeps trying.
#[derive(Debug, Args)]
#[command(after_help = SERVICE_EXIT_CODES)]
pub struct ServeArguments {
    /// The configuration. If the default file is missing, every setting has its default.
    #[arg(long, value_name = "FILE", default_value = CONFIGURATION_PATH)]
    configuration: PathBuf,
    /// Check what the service cannot work without, say what is wrong, and end. `florin doctor`
    /// checks more.
    #[arg(long)]
    check: bool,
    /// Instead of Bluetooth, wait for phones on this Unix socket (`unix:/tmp/air.sock`), which
    /// `florin-wallet --air` uses.
    #[arg(long, value_name = "ADDRESS", conflicts_with = "check", help_heading = "Testing")]
    air: Option<AirAddress>,
}

pub async fn run(arguments: ServeArguments) -> ExitCode {
    let result = match configuration(&arguments.configuration) {
        Ok(configuration) if arguments.check => return report(&configuration).await,
        Ok(configuration) => match stop_signal() {
            Ok(stop) => serve(configuration, grpc_relay, arguments.air, stop).await,
            Err(error) => Err(error),
        },
        Err(error) => Err(error),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("florin serve: {error}");
            error.exit().into()
        }
    }
}

/// Done when the service is told to stop.
fn stop_signal() -> Result<impl Future<Output = ()>, ServiceError> {
    let system = |error: std::io::Error| ServiceError::System {
        what: "signal handlers",
        detail: io_error_text(&error),
    };
    let mut terminate = signal(SignalKind::terminate()).map_err(system)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(system)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Prints what a check finds. The exit code is that of the first fault.
async fn report(configuration: &Configuration) -> ExitCode {
    let findings = examine(configuration, grpc_relay, Extent::Service).await;
    print_findings(&findings);
    findings.iter().find_map(|finding| finding.exit).map_or(ExitCode::SUCCESS, ServiceExit::into)
}
