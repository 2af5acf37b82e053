//! Faults of the storage under a program: tests/storage-faults.c, put before the C library.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::preload;

/// What happens at a storage call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// Nothing: calls are only counted.
    None,
    /// SIGKILL, and the call is not made.
    KillBefore,
    /// The call is made, then SIGKILL.
    KillAfter,
    /// What was written since each file's last fsync is lost, torn or kept by the dice; then
    /// SIGKILL, and the call is not made.
    CutPower,
    /// It fails with ENOSPC: no space left.
    NoSpace,
    /// It fails with EIO.
    InputOutput,
    /// It fails with EROFS: the file system is read-only.
    ReadOnly,
    /// It is made when the file of [`StorageFault::only_while`] is gone.
    Hang,
}

impl FaultKind {
    fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::KillBefore => "kill-before",
            Self::KillAfter => "kill-after",
            Self::CutPower => "cut-power",
            Self::NoSpace => "enospc",
            Self::InputOutput => "eio",
            Self::ReadOnly => "erofs",
            Self::Hang => "hang",
        }
    }
}

/// A fault to start a program with. Calls on files below a directory are counted, from 1.
#[derive(Debug, Clone)]
pub struct StorageFault {
    below: PathBuf,
    kind: FaultKind,
    at: u64,
    seed: u64,
    times: Option<u64>,
    calls: Option<&'static str>,
    only_while: Option<PathBuf>,
    log: Option<PathBuf>,
}

impl StorageFault {
    /// This fault from the call `at` on, for good.
    pub fn new(below: &Path, kind: FaultKind, at: u64) -> Self {
        // The program sees its files by their real names.
        let below = below.canonicalize().unwrap();
        Self { below, kind, at, seed: at, times: None, calls: None, only_while: None, log: None }
    }

    /// What a power cut loses; `at` if not said.
    pub fn seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// At so many calls only.
    pub fn times(self, times: u64) -> Self {
        Self { times: Some(times), ..self }
    }

    /// Only these calls are counted and hit, with commas between, such as `fsync,fdatasync`.
    pub fn calls(self, calls: &'static str) -> Self {
        Self { calls: Some(calls), ..self }
    }

    /// Only while there is such a file; other calls are not counted. `eio fsync` in the file takes
    /// the place of the kind and the calls, so that they can change meanwhile.
    pub fn only_while(self, file: &Path) -> Self {
        Self { only_while: Some(file.to_owned()), ..self }
    }

    /// Writes a line for each call that is counted: `number call file`.
    pub fn log(self, file: &Path) -> Self {
        Self { log: Some(file.to_owned()), ..self }
    }

    /// What a program is started with.
    pub fn environment(&self) -> Vec<(&'static str, OsString)> {
        let mut variables: Vec<(_, OsString)> = vec![
            ("LD_PRELOAD", library().into()),
            ("STORAGE_FAULT_BELOW", self.below.clone().into()),
            ("STORAGE_FAULT", self.kind.name().into()),
            ("STORAGE_FAULT_AT", self.at.to_string().into()),
            ("STORAGE_FAULT_SEED", self.seed.to_string().into()),
        ];
        variables.extend(self.times.map(|times| ("STORAGE_FAULT_TIMES", times.to_string().into())));
        variables.extend(self.calls.map(|calls| ("STORAGE_FAULT_CALLS", calls.into())));
        variables.extend(self.only_while.clone().map(|file| ("STORAGE_FAULT_WHILE", file.into())));
        variables.extend(self.log.clone().map(|file| ("STORAGE_FAULT_LOG", file.into())));
        variables
    }
}

/// Compiled once for each test program.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| preload::compile("storage-faults"))
}
