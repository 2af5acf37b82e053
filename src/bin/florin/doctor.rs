//! `florin doctor`: everything that the service needs, and what to do where it is not as it should
//! be.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use florin::service::{
    CONFIGURATION_PATH, Extent, Finding, ServiceExit, Verdict, examine, grpc_relay,
};
use serde::Serialize;

use crate::configuration::configuration;
use crate::findings::print_findings;
use crate::till::print_json;

/// Check everything that the terminal needs, and say of each thing whether it is fine or what to
/// do.
///
/// Run it as the service's user: `sudo -u florin florin doctor`. It mends nothing. It can run
/// beside the service. If none runs, it switches the Bluetooth adapter on, and registers a GATT
/// service with BlueZ for a moment to see whether it may.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes: that of the first thing that is wrong; mere advice does not count.
   0  nothing is wrong
   1  the service runs and is out of service; or something else went wrong
   2  wrong arguments
  10  the configuration is wrong
  11  not enrolled, or the enrolment cannot be used
  12  a certificate has expired or is not valid yet
  13  the clock was never set
  14  the state directory, the disk or the journal cannot be used
  15  another program than the service answers at the till API's address
  16  no D-Bus or no BlueZ
  17  D-Bus does not let this user talk to BlueZ
  18  no usable Bluetooth adapter: none, blocked, or unable to advertise
  19  the institution cannot be reached, or refuses this terminal")]
pub struct DoctorArguments {
    /// The configuration of the service.
    #[arg(long, value_name = "FILE", default_value = CONFIGURATION_PATH)]
    configuration: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// What was found, as `--json` prints it. docs/operations.md says what the fields mean.
#[derive(Serialize)]
struct Report<'findings> {
    verdict: Verdict,
    exit_code: u8,
    version: &'static str,
    checks: &'findings [Finding],
}

pub async fn run(arguments: DoctorArguments) -> ExitCode {
    let findings = match configuration(&arguments.configuration) {
        Ok(configuration) => examine(&configuration, grpc_relay, Extent::Everything).await,
        // Without a configuration it is not known what to examine.
        Err(error) => vec![Finding::fault("configuration", &error)],
    };
    let exit = findings.iter().find_map(|finding| finding.exit);
    let exit_code = exit.map_or(0, |exit| exit as u8);
    if arguments.json {
        let verdict = findings.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Fine);
        let version = env!("CARGO_PKG_VERSION");
        print_json(&Report { verdict, exit_code, version, checks: &findings });
    } else {
        print_findings(&findings);
    }
    exit.map_or(ExitCode::SUCCESS, ServiceExit::into)
}
