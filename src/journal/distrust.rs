//! What of a journal is not trusted after a fault, and a mark of it beside the file, so that it
//! outlives the process.
//!
//! The mark is written as well as the disk allows, and is not synced: it has to outlive the process
//! alone. What the kernel holds and the disk does not have ends with a power cut, and so does the
//! reason to distrust it.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::beside;

/// The mark's name, after the journal's own.
const ENDING: &str = ".distrusted";
/// What a mark says that asks for less than everything.
const CONTENT: &str = "content";

/// What is not trusted of a journal's file after a fault. The later, the less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Distrust {
    /// It is opened as at every start. That takes a write, so a disk that takes none is noticed.
    Nothing,
    /// Every page is looked at first.
    Content,
    /// What was written may not be on the disk: everything is written anew, and looked at.
    Disk,
}

impl Distrust {
    /// What the mark beside the journal says. One that could not be written to its end asks for
    /// everything.
    pub(super) fn marked(path: &Path) -> Self {
        let mark = beside(path, ENDING);
        match fs::read_to_string(&mark) {
            Ok(text) if text.trim() == CONTENT => Self::Content,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::Nothing,
            Ok(_) | Err(_) => Self::Disk,
        }
    }

    /// Leaves a mark beside the journal for whoever opens it next. A mark that asks for as much
    /// stays.
    pub fn mark(self, path: &Path) {
        if self <= Self::marked(path) {
            return;
        }
        let text = if self == Self::Content { CONTENT } else { "disk" };
        let mark = beside(path, ENDING);
        let written = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&mark)
            .and_then(|mut file| file.write_all(text.as_bytes()));
        if let Err(error) = written {
            tracing::warn!(mark = %mark.display(), %error, "a restart may not know that the journal is not to be trusted");
        }
    }

    /// The journal is trusted again.
    pub(super) fn forget(path: &Path) {
        let mark = beside(path, ENDING);
        if mark.exists()
            && let Err(error) = fs::remove_file(&mark)
        {
            tracing::warn!(mark = %mark.display(), %error, "the next start will check the journal once more than it needs to");
        }
    }
}
