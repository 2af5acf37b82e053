//! A directory of the demo's own, with its keys and databases, that is gone afterwards.

use std::path::{Path, PathBuf};

use anyhow::Context;

use super::randomness::random;

/// Removed when it is dropped.
pub(super) struct TemporaryDirectory(PathBuf);

impl TemporaryDirectory {
    pub(super) fn create() -> anyhow::Result<Self> {
        let number = u64::from_le_bytes(random::<8>());
        let path = std::env::temp_dir().join(format!("florin-demo-{number:016x}"));
        florin::private_file::create_directory(&path)
            .context("cannot create a temporary directory")?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TemporaryDirectory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
