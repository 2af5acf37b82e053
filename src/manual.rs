//! The subcommand `manual DIRECTORY`: manual pages and shell completions for packages, made from
//! the programs' own help texts.
//!
//! Only programs built with the feature `manual` have it; a terminal's binary is built without.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap_complete::Shell;

/// For which shells there are completions, and where below the directory they go.
const SHELLS: [(Shell, &str); 3] = [
    (Shell::Bash, "completions/bash"),
    (Shell::Zsh, "completions/zsh"),
    (Shell::Fish, "completions/fish"),
];

/// Write manual pages and shell completions.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes:\n   0  written\n   1  the directory cannot be written\n   \
2  wrong arguments")]
pub struct ManualArguments {
    /// The directory to write them to. It is created if it does not exist.
    #[arg(value_name = "DIRECTORY", value_parser = directory)]
    directory: PathBuf,
}

/// The manual cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the manual to {}: {detail}", .directory.display())]
pub struct ManualError {
    directory: PathBuf,
    detail: io::Error,
}

/// Writes the manual pages and completions of `command`, a program with all its subcommands.
///
/// The subcommand `manual` itself gets no page: it is for whoever makes a package.
///
/// # Errors
/// [`ManualError`] if the directory cannot be created or written.
pub fn write_manual(
    command: clap::Command,
    arguments: &ManualArguments,
) -> Result<(), ManualError> {
    let directory = &arguments.directory;
    let command = command.mut_subcommand("manual", |manual| manual.hide(true));
    write(command, directory).map_err(|detail| ManualError { directory: directory.clone(), detail })
}

fn write(mut command: clap::Command, directory: &Path) -> io::Result<()> {
    let pages = directory.join("man1");
    fs::create_dir_all(&pages)?;
    // A page for each subcommand too: `man florin-pay`.
    clap_mangen::generate_to(command.clone(), &pages)?;
    let name = command.get_name().to_owned();
    for (shell, place) in SHELLS {
        let place = directory.join(place);
        fs::create_dir_all(&place)?;
        clap_complete::generate_to(shell, &mut command, &name, &place)?;
    }
    Ok(())
}

/// A word that begins with `-` is an option that somebody expected here, never a directory.
fn directory(text: &str) -> Result<PathBuf, String> {
    match text {
        "" => Err("the path is empty".to_owned()),
        text if text.starts_with('-') => {
            Err(format!("this looks like an option; for a directory of that name write `./{text}`"))
        }
        text => Ok(PathBuf::from(text)),
    }
}
