//! What a server holds while it serves, and how a store is told from an older copy of it.
//!
//! A file beside the store says how far the store had come. It is no part of a copy of the store,
//! so that an older store that is put back is noticed.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::error::DirectoryError;
use super::layout::{SERVING_FILE, STORE_FILE};
use super::serving_lock::ServingLock;
use crate::institution::Institution;
use crate::institution::randomness::random;
use crate::institution::request_queue::RequestQueue;
use crate::institution::store::{StoreLife, StoreProgress};
use crate::private_file;

/// How often the file is brought up to date while the server runs, in milliseconds.
const NOTE_INTERVAL_MS: u64 = 10_000;

/// The file, as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Json {
    generation_hex: String,
    /// Of the last start of a server, and of the one that may not be in the store yet.
    server_starts_hex: Vec<String>,
    newest_transaction: i64,
    newest_entry: i64,
    /// The number of the store's file in its file system: a file that is put back has another one.
    store_inode: u64,
}

impl Json {
    fn of(life: &StoreLife, server_starts: &[[u8; 16]], store_inode: u64) -> Self {
        Self {
            generation_hex: HEXLOWER.encode(&life.generation),
            server_starts_hex: server_starts.iter().map(|start| HEXLOWER.encode(start)).collect(),
            newest_transaction: life.progress.transaction,
            newest_entry: life.progress.entry,
            store_inode,
        }
    }

    /// Why the store is not the one that was served last; none if it is.
    fn difference(&self, life: &StoreLife, store_inode: u64) -> Option<&'static str> {
        let noted =
            StoreProgress { transaction: self.newest_transaction, entry: self.newest_entry };
        if life.is_copy {
            Some("it is a copy that `florin-acquirer store backup` made")
        } else if self.generation_hex != HEXLOWER.encode(&life.generation) {
            Some("it is of another generation")
        } else if !self.server_starts_hex.contains(&HEXLOWER.encode(&life.server_start)) {
            Some("another server has started with it, or it is older than the last start")
        } else if life.progress.is_behind(noted) {
            Some("it lacks transactions that were there")
        } else if self.store_inode != store_inode {
            Some("its file was put in the place of another")
        } else {
            None
        }
    }
}

/// What a server holds while it serves the institution in a directory.
#[derive(Debug)]
pub struct Serving {
    directory: PathBuf,
    server_start: [u8; 16],
    _lock: ServingLock,
}

/// Notes that the store of a directory is the one to serve, as it is now. The caller has made it or
/// taken it into service.
pub(super) fn note_store(directory: &Path, life: &StoreLife) -> Result<(), DirectoryError> {
    write(directory, &Json::of(life, &[life.server_start], inode(directory)?))
}

impl Serving {
    /// Notes that a server starts, if the store is the one that was served last.
    ///
    /// # Errors
    /// [`DirectoryError::Restored`]; [`DirectoryError`].
    pub(super) fn begin(
        directory: &Path,
        institution: &mut Institution,
        lock: ServingLock,
    ) -> Result<Self, DirectoryError> {
        let life = institution.store_life()?;
        refuse_restored(directory, &life)?;
        let server_start = *random()?;
        // Both starts are good until the store has the new one: a crash in between costs nothing.
        let store_inode = inode(directory)?;
        write(directory, &Json::of(&life, &[life.server_start, server_start], store_inode))?;
        institution.note_server_start(&server_start)?;
        write(directory, &Json::of(&life, &[server_start], store_inode))?;
        Ok(Self { directory: directory.to_path_buf(), server_start, _lock: lock })
    }
}

fn refuse_restored(directory: &Path, life: &StoreLife) -> Result<(), DirectoryError> {
    let path = directory.join(SERVING_FILE);
    let restored = |what| Err(DirectoryError::Restored { path: directory.join(STORE_FILE), what });
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return restored("nothing was served in this directory yet (serving.json is missing)");
        }
        Err(error) => return Err(DirectoryError::system("read", &path, &error)),
    };
    let Ok(json) = serde_json::from_str::<Json>(&text) else {
        return restored("serving.json cannot be read");
    };
    json.difference(life, inode(directory)?).map_or(Ok(()), restored)
}

fn inode(directory: &Path) -> Result<u64, DirectoryError> {
    let path = directory.join(STORE_FILE);
    let metadata =
        fs::metadata(&path).map_err(|error| DirectoryError::system("examine", &path, &error))?;
    Ok(metadata.ino())
}

fn write(directory: &Path, json: &Json) -> Result<(), DirectoryError> {
    let path = directory.join(SERVING_FILE);
    let text = serde_json::to_string_pretty(json)
        .map_err(|error| DirectoryError::damaged(&path, error))?;
    Ok(private_file::replace(&path, text.as_bytes())?)
}

impl Serving {
    /// Brings the file up to date from time to time, and once more when the server is told to end.
    pub(in crate::institution) async fn note_progress(
        self,
        queue: RequestQueue,
        mut shut_down: watch::Receiver<bool>,
    ) {
        let mut noted = StoreProgress::default();
        let mut is_last = false;
        while !is_last {
            is_last = tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(NOTE_INTERVAL_MS)) => false,
                _ = shut_down.wait_for(|told| *told) => true,
            };
            let Ok(life) = queue.run(Institution::store_life).await else { continue };
            if life.progress == noted {
                continue;
            }
            let (directory, server_start) = (self.directory.clone(), self.server_start);
            let writing = tokio::task::spawn_blocking(move || {
                let store_inode = inode(&directory)?;
                write(&directory, &Json::of(&life, &[server_start], store_inode))
            });
            match writing.await {
                Ok(Ok(())) => noted = life.progress,
                Ok(Err(error)) => tracing::warn!(%error, "cannot note how far the store has come"),
                Err(_) => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_store_is_told_from_the_one_that_was_served_last() {
        let life = StoreLife {
            generation: [1; 16],
            server_start: [2; 16],
            is_copy: false,
            progress: StoreProgress { transaction: 5, entry: 9 },
        };
        let noted = Json::of(&life, &[[2; 16], [3; 16]], 77);
        let ahead = StoreProgress { transaction: 6, entry: 9 };
        for same in [
            life,
            StoreLife { progress: ahead, ..life },
            StoreLife { server_start: [3; 16], ..life },
        ] {
            assert_eq!(noted.difference(&same, 77), None);
        }
        let behind = StoreProgress { transaction: 5, entry: 8 };
        for other in [
            StoreLife { is_copy: true, ..life },
            StoreLife { generation: [9; 16], ..life },
            StoreLife { server_start: [9; 16], ..life },
            StoreLife { progress: behind, ..life },
        ] {
            assert!(noted.difference(&other, 77).is_some(), "{other:?}");
        }
        assert!(noted.difference(&life, 78).is_some());
    }
}
