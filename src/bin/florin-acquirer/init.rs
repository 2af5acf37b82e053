//! `florin-acquirer init`: makes a new institution.

use std::path::Path;

use clap::Args;
use florin::domain::UnixTime;
use florin::institution::{authority_certificate_path, create_institution};
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
}

/// Makes the institution and says what comes next.
pub fn run(
    InitArguments { name, host_names }: InitArguments,
    directory: &Path,
    now: UnixTime,
    output: &Output,
) -> anyhow::Result<()> {
    create_institution(directory, &name, &host_names, now)?;
    let certificate = authority_certificate_path(directory);
    let object = json!({
        "directory": directory,
        "name": name,
        "host_names": host_names,
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
