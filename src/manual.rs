//! Manual pages and shell completions, made from what the commands say of themselves: for packages.
//!
//! A command that is built with the feature `manual` writes them when it is called as `COMMAND
//! manual DIRECTORY`. That is no subcommand and stands in no page; a terminal's binary is built
//! without it.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::Path;

use clap_complete::Shell;

/// For which shells there are completions, and where below the directory they go.
const SHELLS: [(Shell, &str); 3] = [
    (Shell::Bash, "completions/bash"),
    (Shell::Zsh, "completions/zsh"),
    (Shell::Fish, "completions/fish"),
];

/// Writes the pages and completions of this command, if the process was called for them; none if
/// not.
pub fn written_if_asked(command: clap::Command) -> Option<io::Result<()>> {
    let mut arguments = std::env::args_os().skip(1);
    let is_asked = arguments.next().is_some_and(|word| word == "manual");
    match (is_asked, arguments.next(), arguments.next()) {
        (true, Some(directory), None) => Some(write(command, &directory)),
        _ => None,
    }
}

fn write(mut command: clap::Command, directory: &OsString) -> io::Result<()> {
    let directory = Path::new(directory);
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
