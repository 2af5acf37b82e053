//! `florin serve`: the service itself, and a check of what it needs.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use florin::link::AirAddress;
use florin::service::{
    CONFIGURATION_PATH, Configuration, ConfigurationError, Extent, ServiceError, ServiceExit,
    examine, serve,
};
use tokio::signal::unix::{SignalKind, signal};

use crate::doctor::print_findings;

pub const SERVICE_EXIT_CODES: &str = "\
Exit codes:
   0  stopped as asked (SIGTERM, SIGINT), or all is well (--check)
   1  something else went wrong
   2  wrong arguments
  10  the configuration is wrong: the message names file, line, column and key
  11  not enrolled, or the enrolment cannot be used
  12  a certificate is not good now (not serve: it waits, out of service, for it may be the clock)
  13  the clock was never set (not serve: it waits, out of service)
  14  the state directory or the journal cannot be used
  15  the till API's address is in use or cannot be used
  16  no D-Bus or no BlueZ (--check only: the service keeps trying)
  17  D-Bus does not let this user talk to BlueZ (--check only)
  18  no usable Bluetooth adapter: none, blocked, or unable to advertise (--check only)
  19  the institution cannot be reached, or refuses this terminal (--check and enrol only)
  21  open payments in the journal are of another terminal or institution, which alone can settle them (serve and enrol)";

/// Serve phones and the till until told to stop.
///
/// Bluetooth and the institution may come and go: the service says what is wrong (Bluetooth: `florin
/// status`; both: the log) and keeps trying.
#[derive(Debug, Args)]
#[command(after_help = SERVICE_EXIT_CODES)]
pub struct ServeArguments {
    /// The configuration. The default file may be missing: then everything has its default.
    #[arg(long, value_name = "FILE", default_value = CONFIGURATION_PATH)]
    configuration: PathBuf,
    /// Look at what the service cannot do without, say what is wrong, and end. `florin doctor`
    /// looks at more.
    #[arg(long)]
    check: bool,
    /// In place of Bluetooth, wait for phones on this Unix socket (`unix:/tmp/air.sock`), as
    /// `florin-wallet --air` does.
    #[arg(long, value_name = "ADDRESS", conflicts_with = "check", help_heading = "Testing")]
    air: Option<AirAddress>,
}

pub async fn run(arguments: ServeArguments) -> ExitCode {
    let result = match configuration(&arguments.configuration) {
        Ok(configuration) if arguments.check => return report(&configuration).await,
        Ok(configuration) => match stop_signal() {
            Ok(stop) => serve(configuration, arguments.air, stop).await,
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

/// Reads the configuration. The default file need not be there.
pub fn configuration(path: &Path) -> Result<Configuration, ServiceError> {
    match Configuration::read(path) {
        Err(ConfigurationError::Unreadable { source, .. })
            if source.kind() == std::io::ErrorKind::NotFound
                && path == Path::new(CONFIGURATION_PATH) =>
        {
            tracing::debug!("there is no {CONFIGURATION_PATH}: everything has its default");
            Ok(Configuration::default())
        }
        result => Ok(result?),
    }
}

/// Done when the service is told to stop.
fn stop_signal() -> Result<impl Future<Output = ()>, ServiceError> {
    let system =
        |error: std::io::Error| ServiceError::System { what: "signals", detail: error.to_string() };
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
    let findings = examine(configuration, Extent::Service).await;
    print_findings(&findings);
    findings.iter().find_map(|finding| finding.exit).map_or(ExitCode::SUCCESS, ServiceExit::into)
}
