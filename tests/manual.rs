//! Manual pages and completions: every command has them, and they say what the command says.

#![cfg(all(feature = "manual", feature = "terminal", feature = "wallet", feature = "institution"))]
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;

/// A program, some of its subcommands, and words that stand in the page of the first.
const PROGRAMS: [(&str, &str, &[&str], &str); 3] = [
    (
        "florin",
        env!("CARGO_BIN_EXE_florin"),
        &["pay", "serve", "enrol", "doctor", "reconcile", "journal-export"],
        "--after-dispense",
    ),
    ("florin-wallet", env!("CARGO_BIN_EXE_florin-wallet"), &["pay", "enrol", "cards"], "--nearest"),
    (
        "florin-acquirer",
        env!("CARGO_BIN_EXE_florin-acquirer"),
        &["init", "serve", "terminal-add"],
        "--host-name",
    ),
];

fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.as_ref().display()))
}

#[test]
fn every_command_has_a_page_and_completions() {
    for (name, program, subcommands, words) in PROGRAMS {
        let directory = tempfile::tempdir().unwrap();
        let output = Command::new(program).arg("manual").arg(directory.path()).output().unwrap();
        assert!(output.status.success() && output.stdout.is_empty(), "{output:?}");
        let pages = directory.path().join("man1");
        for subcommand in subcommands {
            let page = read(pages.join(format!("{name}-{subcommand}.1")));
            assert!(page.contains(".TH ") && page.contains("SYNOPSIS"), "{page}");
        }
        let first = read(pages.join(format!("{name}-{}.1", subcommands[0])));
        let words = words.replace('-', "\\-");
        assert!(first.contains(&words), "no {words} in {first}");
        let whole = read(pages.join(format!("{name}.1")));
        assert!(!whole.contains("manual"), "the way to make the pages stands in the page");
        for file in
            [format!("bash/{name}.bash"), format!("zsh/_{name}"), format!("fish/{name}.fish")]
        {
            let completions = read(directory.path().join("completions").join(file));
            assert!(completions.contains(subcommands[0]), "{completions}");
        }
    }
}

#[test]
fn exit_codes_stand_in_the_pages_of_the_commands_that_have_some() {
    let directory = tempfile::tempdir().unwrap();
    let status = Command::new(env!("CARGO_BIN_EXE_florin"))
        .arg("manual")
        .arg(directory.path())
        .status()
        .unwrap();
    assert!(status.success());
    for (page, line) in
        [("pay", "3  declined by the institution"), ("doctor", "19  the institution")]
    {
        let text = read(directory.path().join(format!("man1/florin-{page}.1")));
        assert!(text.contains(line), "{text}");
    }
}

#[test]
fn a_directory_that_cannot_be_made_is_said_so() {
    for (_, program, ..) in PROGRAMS {
        let output = Command::new(program).args(["manual", "/proc/nowhere"]).output().unwrap();
        assert!(output.status.code() == Some(1) && !output.stderr.is_empty(), "{output:?}");
    }
}

#[test]
fn every_program_lists_the_subcommand_and_never_takes_an_option_for_a_directory() {
    let place = tempfile::tempdir().unwrap();
    for (name, program, ..) in PROGRAMS {
        let run = |words: &[&str]| {
            Command::new(program).args(words).current_dir(place.path()).output().unwrap()
        };
        let help = String::from_utf8(run(&["--help"]).stdout).unwrap();
        assert!(help.contains("Write manual pages and shell completions"), "{name}: {help}");
        let help = run(&["manual", "--help"]);
        assert_eq!(help.status.code(), Some(0), "{help:?}");
        assert!(String::from_utf8(help.stdout).unwrap().contains("DIRECTORY"));
        for words in
            [&["manual", "-x"][..], &["manual", "--halp"], &["manual", "--", "--help"], &["manual"]]
        {
            let refused = run(words);
            assert_eq!(refused.status.code(), Some(2), "{name} {words:?}: {refused:?}");
        }
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0, "{name} made something");
    }
}

#[test]
fn a_log_filter_that_cannot_be_read_is_a_usage_error_in_every_program() {
    for (name, program, subcommands, _) in PROGRAMS {
        let subcommand = subcommands[0];
        for (flag, variable) in [(Some("inof"), None), (None, Some("inof"))] {
            let mut command = Command::new(program);
            command.arg(subcommand).env_remove("RUST_LOG");
            command.args(flag.into_iter().flat_map(|filter| ["--log", filter]));
            command.envs(variable.map(|filter| ("RUST_LOG", filter)));
            let output = command.output().unwrap();
            let said = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(2), "{name}: {said}");
            assert!(said.contains("`inof` is not a log level"), "{name}: {said}");
            assert!(said.contains("info,florin::relay=debug"), "{name}: {said}");
        }
    }
}
