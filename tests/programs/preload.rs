//! Libraries in C that are put before the C library of a program (LD_PRELOAD).

use std::path::{Path, PathBuf};
use std::process::Command;

/// Compiles `tests/NAME.c`. Where it is afterwards.
pub fn compile(name: &str) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/{name}.c"));
    let library = directory.join(format!("{name}-{}.so", env!("CARGO_CRATE_NAME")));
    // Another run may be using the old one.
    let new = directory.join(format!("{name}-{}.so", std::process::id()));
    let status = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o"])
        .arg(&new)
        .arg(&source)
        .arg("-ldl")
        .status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "cc could not compile {}",
        source.display()
    );
    std::fs::rename(&new, &library).unwrap();
    library
}
