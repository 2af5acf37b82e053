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
