//! A wall clock that is wrong under a program: tests/wall-clock.c, put before the C library.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::preload;

/// How far a program's wall clock is off. It can be set while the program runs.
#[derive(Debug)]
pub struct WallClock {
    file: PathBuf,
}

impl WallClock {
    /// A clock that is right, kept in this file.
    pub fn new(file: &Path) -> Self {
        let clock = Self { file: file.to_owned() };
        clock.set_off_s(0);
        clock
    }

    /// It is off by so many seconds from now on: behind, if negative.
    pub fn set_off_s(&self, seconds: i64) {
        // In one step, since the program may be reading it.
        let new = self.file.with_extension("new");
        fs::write(&new, seconds.to_string()).unwrap();
        fs::rename(&new, &self.file).unwrap();
    }

    /// The program gets this clock.
    pub fn put_under(&self, command: &mut Command) {
        static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
        let library = LIBRARY.get_or_init(|| preload::compile("wall-clock"));
        command.env("LD_PRELOAD", library).env("WALL_CLOCK_OFF", &self.file);
    }
}
