//! `florin-acquirer store`: copies of the store, and taking one into service.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use florin::domain::UnixTime;
use florin::institution::{adopt_store, back_up_store};
use serde_json::json;

use crate::operator::OperatorName;
use crate::output::Output;

/// The commands of this group.
#[derive(Debug, Subcommand)]
pub enum StoreCommand {
    /// Copy the store into a new file that only you may read. The server may run.
    ///
    /// The keys are not in it: keep a copy of the rest of the directory too.
    Backup {
        /// The new file.
        file: PathBuf,
    },
    /// Take a store into service that was put back from a copy.
    ///
    /// Stop the server first. The institution gets another sealing key, so that no command that was
    /// used after the copy was made is authorised anew, and terminals present again what the copy
    /// lacks. Needs keys/root-key.pem, which signs the new keyring.
    Adopt {
        /// Why, for the institution's log.
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        operator: OperatorName,
    },
}

/// Runs a command of this group.
pub fn run(
    command: StoreCommand,
    directory: &Path,
    now: UnixTime,
    output: &Output,
) -> anyhow::Result<()> {
    match command {
        StoreCommand::Backup { file } => {
            back_up_store(directory, &file)?;
            output.object(&json!({ "backup": file.display().to_string() }), || {
                format!("copied the store into {}", file.display())
            })
        }
        StoreCommand::Adopt { reason, operator } => {
            adopt_store(directory, &operator.resolve()?, &reason, now)?;
            output.object(&json!({ "adopted": true }), || {
                "the store is in service again, with a new generation and a new sealing key; start \
                 the server"
                    .to_owned()
            })
        }
    }
}
