//! Names of the files beside the database: its path with an ending.

use std::path::{Path, PathBuf};

pub(super) fn side_file(database: &Path, ending: &str) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(ending);
    name.into()
}
