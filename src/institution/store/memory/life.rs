//! The life of the store in memory: it has one, which ends with the value.

use super::tables::MemoryStore;
use crate::institution::records::MaintenanceEntry;
use crate::institution::store::{LifeStore, StoreError, StoreLife, StoreProgress};

impl LifeStore for MemoryStore {
    fn life(&mut self) -> Result<StoreLife, StoreError> {
        let number = |length: usize| i64::try_from(length).unwrap_or(i64::MAX);
        Ok(StoreLife {
            generation: self.generation,
            server_start: self.server_start,
            is_copy: false,
            progress: StoreProgress {
                transaction: number(self.transactions.len()),
                entry: number(self.books.entries.len()),
            },
        })
    }

    fn note_server_start(&mut self, server_start: &[u8; 16]) -> Result<(), StoreError> {
        self.server_start = *server_start;
        Ok(())
    }

    fn begin_generation(
        &mut self,
        generation: &[u8; 16],
        entry: &MaintenanceEntry,
    ) -> Result<(), StoreError> {
        self.generation = *generation;
        self.server_start = *generation;
        self.maintenance.push(entry.clone());
        Ok(())
    }
}
