//! A dishonest terminal (examples/dishonest_terminal) takes the money and lies. Whatever it says,
//! the wallet believes only what the institution signed.

#![cfg(all(feature = "terminal", feature = "wallet", feature = "institution", unix))]
#![allow(clippy::unwrap_used)]

mod programs;

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use programs::Programs;
use serde_json::Value;

/// What the wallet says where nothing is proven.
const UNPROVEN_EXIT: i32 = 12;

struct DishonestTerminal(Child);

impl DishonestTerminal {
    fn start(programs: &Programs, lie: &str) -> Self {
        let mut program = PathBuf::from(env!("CARGO_BIN_EXE_florin"));
        program.pop();
        program.push("examples/dishonest_terminal");
        let mut command = Command::new(program);
        command.arg("--state").arg(programs.state());
        command.args(["--air", &programs.air_address().to_string(), "--lie", lie]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains("ready"), "{line:?}");
        Self(child)
    }
}

impl Drop for DishonestTerminal {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
