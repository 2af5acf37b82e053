//! `florin journal`: checks the journal, writes finished payments to a file, and removes them from
//! the journal if asked.

use std::fs::File;
use std::io::{BufWriter, ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use data_encoding::BASE64;
use florin::causes::with_causes;
use florin::domain::{TransactionId, UnixTime};
use florin::journal::{Journal, SqliteJournal};
use florin::plural::counted;
use florin::private_file::{new_file_options, sync_parent};
use florin::service::{CONFIGURATION_PATH, Configuration, ServiceExit};
use serde::Serialize;

use crate::configuration::configuration;
use crate::till::USAGE;

/// How many payments one transaction removes: the service waits for the journal meanwhile.
const PRUNED_AT_ONCE: usize = 200;

/// Check the journal, or export and prune finished payments.
#[derive(Debug, Args)]
pub struct JournalArguments {
    #[command(subcommand)]
    command: JournalCommand,
}

#[derive(Debug, Subcommand)]
enum JournalCommand {
    Check(CheckArguments),
    Export(ExportArguments),
}

/// Check every page of the journal's file.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes:
   0  the journal is whole
   1  something else went wrong
   2  wrong arguments
  10  the configuration is wrong
  14  the journal is damaged or cannot be read")]
struct CheckArguments {
    /// The configuration of the service.
    #[arg(long, value_name = "FILE", default_value = CONFIGURATION_PATH)]
    configuration: PathBuf,
}

/// Write finished payments to a file, one line of JSON each, and remove them from the journal if
/// asked.
///
/// The period counts by each payment's last change, by the terminal's clock. Open payments are
/// never written or removed. This can run beside the service. Reconcile before you prune:
/// afterwards the journal does not know the payments any more, and their idempotency keys can be
/// used again.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes:
   0  done
   1  something else went wrong
   2  wrong arguments
  10  the configuration is wrong
  14  the journal or the output file cannot be used; nothing is removed that is not in the file")]
struct ExportArguments {
    /// The configuration of the service.
    #[arg(long, value_name = "FILE", default_value = CONFIGURATION_PATH)]
    configuration: PathBuf,
    /// From this time on, in UTC, such as 2026-01-01 [default: all].
    #[arg(long, value_name = "TIME")]
    from: Option<UnixTime>,
    /// Up to this time, which is not included.
    #[arg(long, value_name = "TIME")]
    until: UnixTime,
    /// Remove the payments from the journal once the file is safely on the disk.
    #[arg(long)]
    prune: bool,
    /// The file to write. It must not exist.
    #[arg(value_name = "FILE")]
    output: PathBuf,
}

/// A payment as it is exported. docs/operations.md says what the fields mean.
#[derive(Serialize)]
struct ExportedPayment {
    transaction_id: String,
    sale_id: String,
    state: &'static str,
    reason: Option<&'static str>,
    amount_minor: u64,
    currency: String,
    reference: String,
    capture: &'static str,
    released: bool,
    idempotency_key: Option<String>,
    created_at: String,
    updated_at: String,
    /// The octets of the offer, in base64.
    offer: String,
    /// The octets of the institution's newest signed receipt, in base64.
    receipt: Option<String>,
    /// The octets of the institution's signed exclusion, in base64.
    exclusion: Option<String>,
    changes: Vec<ExportedChange>,
}

#[derive(Serialize)]
struct ExportedChange {
    state: &'static str,
    reason: Option<&'static str>,
    at: String,
}

pub fn run(arguments: JournalArguments) -> ExitCode {
    if let JournalCommand::Export(export) = &arguments.command
        && let (from, until) = (export.from(), export.until)
        && until <= from
    {
        eprintln!("florin journal: the period ends ({until}) before it begins ({from})");
        return ExitCode::from(USAGE);
    }
    let path = match &arguments.command {
        JournalCommand::Check(check) => &check.configuration,
        JournalCommand::Export(export) => &export.configuration,
    };
    let configuration = match configuration(path) {
        Ok(configuration) => configuration,
        Err(error) => {
            eprintln!("florin journal: {error}");
            return error.exit().into();
        }
    };
    let done = match arguments.command {
        JournalCommand::Check(_) => check(&configuration),
        JournalCommand::Export(export) => write_out(&configuration, &export),
    };
    match done {
        Ok(result) => {
            println!("{result}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("florin journal: {}", with_causes(error.as_ref()));
            ServiceExit::Journal.into()
        }
    }
}

impl ExportArguments {
    fn from(&self) -> UnixTime {
        self.from.unwrap_or_default()
    }
}

fn check(configuration: &Configuration) -> anyhow::Result<String> {
    let path = configuration.journal();
    SqliteJournal::open_to_read(&path)?.check_content()?;
    Ok(format!("{} is whole", path.display()))
}

fn write_out(configuration: &Configuration, export: &ExportArguments) -> anyhow::Result<String> {
    let path = configuration.journal();
    let mut journal = if export.prune {
        SqliteJournal::open_to_prune(&path)?
    } else {
        SqliteJournal::open_to_read(&path)?
    };
    let finished = journal.finished_between(export.from(), export.until)?;
    let output = export.output.display();
    let file = match new_file_options().open(&export.output) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            bail!("{output} exists already, and is not overwritten; name another file")
        }
        created => created.with_context(|| format!("cannot create {output}"))?,
    };
    write_payments(&mut journal, &finished, &file)
        .with_context(|| format!("cannot write {output}"))?;
    sync_parent(&export.output)
        .with_context(|| format!("cannot make {output} safe on the disk"))?;
    let mut removed = 0;
    if export.prune {
        for some in finished.chunks(PRUNED_AT_ONCE) {
            removed += journal.prune(some)?;
        }
    }
    let written = counted(finished.len() as u64, "payment", "payments");
    Ok(format!("{written} written to {output}, {removed} removed from the journal"))
}

fn write_payments(
    journal: &mut SqliteJournal,
    finished: &[TransactionId],
    file: &File,
) -> anyhow::Result<()> {
    let mut writer = BufWriter::new(file);
    for transaction_id in finished {
        // A final payment does not change; another export may have removed it meanwhile.
        let Some(payment) = journal.payment(*transaction_id)? else { continue };
        let or_none = |reason: &'static str| Some(reason).filter(|reason| !reason.is_empty());
        let changes = journal.changes(*transaction_id)?.into_iter().map(|change| ExportedChange {
            state: change.state.name(),
            reason: or_none(change.state.reason()),
            at: change.at.to_string(),
        });
        let exported = ExportedPayment {
            transaction_id: transaction_id.to_string(),
            sale_id: payment.sale_id.to_string(),
            state: payment.state.name(),
            reason: or_none(payment.state.reason()),
            amount_minor: payment.amount.minor(),
            currency: payment.amount.currency().to_string(),
            capture: if payment.capture_after_dispense { "after_dispense" } else { "at_once" },
            released: payment.released,
            created_at: payment.created_at.to_string(),
            updated_at: payment.updated_at.to_string(),
            offer: BASE64.encode(&payment.offer),
            receipt: payment.receipt.as_ref().map(|receipt| BASE64.encode(receipt)),
            exclusion: payment.exclusion.as_ref().map(|exclusion| BASE64.encode(exclusion)),
            idempotency_key: payment.idempotency.map(|(key, _)| key),
            reference: payment.reference,
            changes: changes.collect(),
        };
        serde_json::to_writer(&mut writer, &exported)?;
        writer.write_all(b"\n")?;
    }
    writer.flush()?;
    drop(writer);
    file.sync_all()?;
    Ok(())
}
