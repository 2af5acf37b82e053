//! `florin-acquirer init`: makes a new institution.

use std::path::Path;

use clap::Args;
use florin::command_line::whole_number;
use florin::domain::{MINOR_UNITS_MAX, UnixTime};
use florin::institution::{authority_certificate_path, create_institution_of_two};
use serde_json::json;

use crate::output::Output;

/// Make a new institution: its keys, its TLS authority and an empty store, in a directory of its
/// own.
#[derive(Debug, Args)]
pub struct InitArguments {
    /// The institution's name, which wallets show.
    #[arg(long)]
    name: String,
    /// A name or IP address under which terminals and wallets reach the server; may be given
    /// several times.
    #[arg(long = "host-name", required = true, value_name = "HOST")]
    host_names: Vec<String>,
    /// Above this amount what an operator does to a payment takes two people: in minor units of
    /// the payment's currency, such as 5000 for 50.00 EUR. 0 is for every amount [default: never].
    #[arg(long, value_name = "MINOR", value_parser = whole_number::<u64>("", 0..=MINOR_UNITS_MAX))]
    two_people_above: Option<u64>,
}

/// Makes the institution and says what comes next.
pub fn run(
    InitArguments { name, host_names, two_people_above }: InitArguments,
    directory: &Path,
    now: UnixTime,
    output: &Output,
) -> anyhow::Result<()> {
    create_institution_of_two(directory, &name, &host_names, two_people_above, now)?;
    let certificate = authority_certificate_path(directory);
    let object = json!({
        "directory": directory,
        "name": name,
        "host_names": host_names,
        "two_people_above_minor": two_people_above,
        "root_certificate": certificate,
    });
    output.object(&object, || {
        format!(
            "{name} is made in {}.\nGive terminals and wallets {}.\nBack the directory up, and \
             keep keys/root-key.pem elsewhere: serving does not need it.",
            directory.display(),
            certificate.display()
        )
    })
}
