//! What the institution needs of a store to tell a restored copy from the store itself.

use super::StoreError;
use crate::institution::records::MaintenanceEntry;

/// Which life of the store this is, and how far it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreLife {
    /// Every answer says it. A store that was restored from a copy gets another one.
    pub generation: [u8; 16],
    /// Drawn at each start of a server.
    pub server_start: [u8; 16],
    /// Made by `florin-acquirer store backup`, and not taken into service since.
    pub is_copy: bool,
    pub progress: StoreProgress,
}

/// How far the store has come: it only goes up. An older copy is behind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoreProgress {
    /// The number of the newest transaction; 0 before the first.
    pub transaction: i64,
    /// The number of the newest entry of the ledger; 0 before the first.
    pub entry: i64,
}

impl StoreProgress {
    /// Whether something is missing here that was there.
    pub fn is_behind(self, other: Self) -> bool {
        self.transaction < other.transaction || self.entry < other.entry
    }
}

/// The lives of the store.
pub trait LifeStore {
    /// Which life of the store this is.
    ///
    /// # Errors
    /// [`StoreError`].
    fn life(&mut self) -> Result<StoreLife, StoreError>;

    /// Notes that a server starts with the store.
    ///
    /// # Errors
    /// [`StoreError`].
    fn note_server_start(&mut self, server_start: &[u8; 16]) -> Result<(), StoreError>;

    /// Begins another life, and logs who did it: a copy becomes the store.
    ///
    /// # Errors
    /// [`StoreError`].
    fn begin_generation(
        &mut self,
        generation: &[u8; 16],
        entry: &MaintenanceEntry,
    ) -> Result<(), StoreError>;
}
