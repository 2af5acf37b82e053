//! A dishonest terminal (examples/dishonest_terminal) takes the money and lies. Whatever it says,
//! the wallet believes only what the institution signed.

#![cfg(all(feature = "terminal", feature = "wallet", feature = "institution", unix))]
#![allow(clippy::unwrap_used)]

mod programs;

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};

use programs::{Programs, done};
use serde_json::Value;

/// What the wallet ends with where nothing is proven.
const UNPROVEN: i32 = 12;
/// Everything that the terminal says after it has taken the money.
const LIES: [&str; 6] = ["taken", "withdrawn", "expired", "unreachable", "reversed", "declined"];

struct DishonestTerminal {
    child: Child,
    /// Held open, so that it can go on writing.
    _output: BufReader<ChildStdout>,
}

impl DishonestTerminal {
    fn start(programs: &Programs, lie: &str) -> Self {
        let mut command = Command::new(program());
        command.arg("--state").arg(programs.state());
        command.args(["--air", &programs.air_address().to_string(), "--lie", lie]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        output.read_line(&mut line).unwrap();
        assert!(line.contains("ready"), "{line:?}");
        Self { child, _output: output }
    }
}

/// The example, built: `cargo test --test NAME` builds no examples.
fn program() -> PathBuf {
    let mut built = PathBuf::from(env!("CARGO_BIN_EXE_florin"));
    built.pop();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--example", "dishonest_terminal", "--target-dir"]);
    done(cargo.arg(built.parent().unwrap()).current_dir(env!("CARGO_MANIFEST_DIR")));
    built.join("examples/dishonest_terminal")
}

impl Drop for DishonestTerminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The last line of JSON, and the exit code.
fn told(command: &mut Command) -> (Value, i32) {
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let line = text.lines().last().unwrap_or_else(|| panic!("nothing was said: {output:?}"));
    (serde_json::from_str(line).unwrap(), output.status.code().unwrap())
}

#[test]
fn no_lie_of_a_terminal_makes_a_person_believe_not_charged() {
    let directory = tempfile::tempdir().unwrap();
    let programs = Programs::set_up(&directory.path().join("a"));
    let institution = programs.start_institution(None);
    let air = programs.air_address().to_string();
    for lie in LIES {
        let terminal = DishonestTerminal::start(&programs, lie);
        let pay = ["pay", "--yes", "--json", "--offline", "--air", &air];
        let code = programs.short_code();
        let pay = [&pay[..], &["--code", &code]].concat();
        let (paid, exit) = told(&mut programs.wallet(&pay));
        assert_eq!(exit, UNPROVEN, "{lie}: {paid}");
        let outcome = paid["outcome"].as_str().unwrap();
        assert!(["unproven", "not_proven"].contains(&outcome), "{lie}: {paid}");
        let id = paid["transaction_id"].as_str().unwrap();
        let there = programs.institution(&["transaction", "show", id]);
        assert_eq!(there["state"], "captured", "{lie}");

        // The bank tells the cardholder, with its signature.
        let (asked, exit) = told(&mut programs.wallet(&["result", id, "--json", "--online"]));
        assert_eq!((&asked["outcome"], exit), (&"captured".into(), 0), "{lie}: {asked}");
        drop(terminal);
    }

    // A phone that is online asks the bank by itself.
    let terminal = DishonestTerminal::start(&programs, "expired");
    let code = programs.short_code();
    let pay = ["pay", "--yes", "--json", "--air", &air, "--code", &code];
    let (paid, exit) = told(&mut programs.wallet(&pay));
    assert_eq!((&paid["outcome"], exit), (&"captured".into(), 0), "{paid}");
    drop(terminal);
    institution.stop();
}

#[test]
fn a_claim_without_a_receipt_is_not_believed() {
    let directory = tempfile::tempdir().unwrap();
    let programs = Programs::set_up(&directory.path().join("a"));
    let institution = programs.start_institution(None);
    let air = programs.air_address().to_string();
    let terminal = DishonestTerminal::start(&programs, "approved");
    let code = programs.short_code();
    let pay = ["pay", "--yes", "--json", "--offline", "--air", &air, "--code", &code];
    let (paid, exit) = told(&mut programs.wallet(&pay));
    assert_eq!((&paid["outcome"], exit), (&"not_proven".into(), UNPROVEN), "{paid}");
    drop(terminal);
    institution.stop();
}
