//! `florin enrol`: makes this machine a terminal of an institution.

use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use florin::institution_address::InstitutionAddress;
use florin::io_error_text::io_error_text;
use florin::service::{CONFIGURATION_PATH, Replacement, ServiceError, enrol, wall_clock};

use crate::configuration::configuration;
use crate::serve::SERVICE_EXIT_CODES;

/// The longest root file and code that are read, in octets.
const INPUT_OCTETS_MAX: u64 = 64 * 1024;

/// Enrol this terminal with an institution, once.
///
/// Makes the terminal's keys, has the institution certify them, verifies its answer, and keeps
/// everything in the state directory. Run it as the service's user: `sudo -u florin florin enrol
/// …`.
#[derive(Debug, Args)]
#[command(after_help = SERVICE_EXIT_CODES)]
pub struct EnrolArguments {
    /// The institution's server: `https://host:port`.
    #[arg(long, value_name = "URL")]
    institution: InstitutionAddress,
    /// The certificate, in PEM, that vouches for that server. The institution hands it out with
    /// the code.
    #[arg(long, value_name = "FILE")]
    root: PathBuf,
    /// Give up the enrolment that this terminal has. The channel key stays, so the stickers on the
    /// machine stay good. A running service takes the new enrolment over by itself.
    #[arg(long)]
    replace: bool,
    /// With --replace: give up the channel key too. Every sticker on the machine is void then, and
    /// phones that read one refuse to pay. For a machine whose disk was copied or stolen.
    #[arg(long, requires = "replace")]
    new_channel_key: bool,
    /// Where the enrolment is kept [default: the state directory of the configuration].
    #[arg(long, value_name = "DIRECTORY")]
    state_directory: Option<PathBuf>,
    /// The configuration of the service.
    #[arg(long, value_name = "FILE", default_value = CONFIGURATION_PATH)]
    configuration: PathBuf,
    /// The institution's one-time code; `-` reads it from standard input, so that it stays out of
    /// the process list.
    code: String,
}

pub async fn run(arguments: EnrolArguments) -> ExitCode {
    match try_run(arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err((problem, code)) => {
            eprintln!("florin enrol: {problem}");
            code
        }
    }
}

async fn try_run(arguments: EnrolArguments) -> Result<(), (String, ExitCode)> {
    let service = |error: ServiceError| (error.to_string(), error.exit().into());
    let usage = |problem: String| (problem, ExitCode::from(crate::till::USAGE));
    let state_directory = match arguments.state_directory {
        Some(directory) => directory,
        None => configuration(&arguments.configuration).map_err(service)?.state_directory,
    };
    let root = read(std::fs::File::open(&arguments.root)).map_err(|error| {
        let root = arguments.root.display();
        usage(format!(
            "cannot read the root certificate {root}: {}; expected the institution's certificate \
             in PEM",
            io_error_text(&error)
        ))
    })?;
    let code = match arguments.code.as_str() {
        "-" => read(Ok(std::io::stdin())).map_err(|error| {
            usage(format!(
                "cannot read the code from standard input: {}; expected one line",
                io_error_text(&error)
            ))
        })?,
        code => code.to_owned(),
    };
    let replacement = match (arguments.replace, arguments.new_channel_key) {
        (false, _) => Replacement::Refused,
        (true, false) => Replacement::KeepChannelKey,
        (true, true) => Replacement::NewChannelKey,
    };
    let terminal_id = enrol(
        &state_directory,
        &arguments.institution,
        &root,
        code.trim(),
        replacement,
        wall_clock(),
    )
    .await
    .map_err(|error| service(error.into()))?;
    if replacement == Replacement::NewChannelKey {
        eprintln!(
            "florin enrol: the channel key is new: restart the service, take every sticker of \
             before off the machine, and print the one that `florin status` shows"
        );
    }
    println!("enrolled as terminal {terminal_id} (short code {})", terminal_id.short_code());
    Ok(())
}

fn read(source: std::io::Result<impl Read>) -> std::io::Result<String> {
    let mut text = String::new();
    source?.take(INPUT_OCTETS_MAX).read_to_string(&mut text)?;
    Ok(text)
}
