//! `florin-acquirer operator`: the people who may use the administration service.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Subcommand;
use florin::command_line::whole_number;
use florin::domain::UnixTime;
use florin::institution::{OpenedInstitution, OperatorName, RegisteredOperator, random};
use florin::private_file;
use serde_json::json;

use crate::output::{Item, Output};

/// How long an operator's certificate is valid, in days, unless told otherwise.
const VALID_FOR_DAYS: u64 = 365;

/// The commands of this group.
#[derive(Debug, Subcommand)]
pub enum OperatorCommand {
    /// Make a key and a client certificate for an operator, in files that only this user may read.
    ///
    /// An operator who has a certificate gets a new one; the older one is then refused.
    Add {
        /// The name for the audit log: lower-case letters, digits, dots, hyphens and underscores.
        name: OperatorName,
        /// The directory of the two files [default: `operators` in the institution's directory].
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        /// How long the certificate is valid.
        #[arg(
            long,
            value_name = "DAYS",
            default_value_t = VALID_FOR_DAYS,
            value_parser = whole_number::<u64>("days", 1..=3_650),
        )]
        valid_for_days: u64,
    },
    /// List all operators.
    List,
    /// Shut an operator out, at once.
    Remove {
        /// The operator's name.
        name: OperatorName,
    },
}

/// Runs a command of this group.
pub fn run(
    command: OperatorCommand,
    mut opened: OpenedInstitution,
    directory: &Path,
    now: UnixTime,
    output: &Output,
) -> anyhow::Result<()> {
    match command {
        OperatorCommand::Add { name, out, valid_for_days } => {
            let out = out.unwrap_or_else(|| directory.join("operators"));
            let seconds = now.seconds.saturating_add(valid_for_days * 86_400);
            add(&mut opened, &name, &out, now, UnixTime { seconds }, output)
        }
        OperatorCommand::List => {
            let operators = opened.institution.operators()?;
            let headings = ["OPERATOR", "STATE", "CERTIFICATE ENDS"];
            output.list(&headings, operators.iter().map(item).collect())
        }
        OperatorCommand::Remove { name } => {
            opened.institution.remove_operator(&name, now)?;
            let object = json!({ "operator": name.as_str(), "state": "removed" });
            output.object(&object, || format!("operator {name} is shut out"))
        }
    }
}

fn add(
    opened: &mut OpenedInstitution,
    name: &OperatorName,
    out: &Path,
    now: UnixTime,
    not_after: UnixTime,
    output: &Output,
) -> anyhow::Result<()> {
    let serial = random()?;
    let made = opened.authority.issue_operator(name, now, not_after, *serial)?;
    private_file::create_directory(out)?;
    let key_path = out.join(format!("{name}-key.pem"));
    let certificate_path = out.join(format!("{name}.pem"));
    private_file::replace(&key_path, made.key_pem.as_bytes())?;
    private_file::replace(&certificate_path, made.certificate_pem.as_bytes())?;
    // Only what is in a file may be registered: an older certificate is good until then.
    opened
        .institution
        .add_operator(name, made.key_digest, not_after)
        .context("the operator's files are written, and the operator is not registered")?;
    let object = json!({
        "operator": name.as_str(),
        "key": key_path,
        "certificate": certificate_path,
        "not_after_unix_s": not_after.seconds,
    });
    output.object(&object, || {
        format!(
            "operator {name} has a certificate until {not_after}.\nGive {name} alone {} and {}.",
            key_path.display(),
            certificate_path.display()
        )
    })
}

fn item(operator: &RegisteredOperator) -> Item {
    let state = if operator.removed_at.is_some() { "removed" } else { "active" };
    let object = json!({
        "operator": operator.name.as_str(),
        "state": state,
        "not_after_unix_s": operator.not_after.seconds,
        "removed_at_unix_s": operator.removed_at.map(|time| time.seconds),
    });
    let name = operator.name.to_string();
    (object, vec![name, state.to_owned(), operator.not_after.to_string()])
}
