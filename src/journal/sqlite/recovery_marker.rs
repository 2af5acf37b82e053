//! A marker beside the database that says what the journal needs before it is trusted again, so
//! that this outlives the process.
//!
//! The marker is written as well as the disk allows, and is not synced: it only has to outlive the
//! process. A power cut ends what the kernel holds and the disk does not have, and with it the
//! reason for the marker.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::super::RecoveryLevel;
use super::side_file::side_file;

/// The marker's name, after the journal's own.
const ENDING: &str = ".recovery";
const CHECK: &str = "check";
const REWRITE: &str = "rewrite";

/// The level that the marker asks for. A marker that was not written whole asks for everything.
pub(super) fn marked_level(database: &Path) -> RecoveryLevel {
    match fs::read_to_string(side_file(database, ENDING)) {
        Ok(text) if text.trim() == CHECK => RecoveryLevel::Check,
        Err(error) if error.kind() == io::ErrorKind::NotFound => RecoveryLevel::Open,
        Ok(_) | Err(_) => RecoveryLevel::Rewrite,
    }
}

/// Writes a marker that asks for `level`. One that asks for as much stays.
pub(super) fn raise_marker(database: &Path, level: RecoveryLevel) {
    if level <= marked_level(database) {
        return;
    }
    let text = if level == RecoveryLevel::Check { CHECK } else { REWRITE };
    let marker = side_file(database, ENDING);
    let written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&marker)
        .and_then(|mut file| file.write_all(text.as_bytes()));
    if let Err(error) = written {
        tracing::warn!(
            marker = %marker.display(), %error,
            "cannot write the recovery marker; after a restart the journal may be used unchecked"
        );
    }
}

/// The journal is trusted again.
pub(super) fn remove_marker(database: &Path) {
    let marker = side_file(database, ENDING);
    if marker.exists()
        && let Err(error) = fs::remove_file(&marker)
    {
        tracing::warn!(
            marker = %marker.display(), %error,
            "cannot remove the recovery marker; the next start checks the journal needlessly"
        );
    }
}
