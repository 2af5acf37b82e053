//! How far connecting has come, for whoever waits for it.

use std::sync::{Arc, Mutex, PoisonError};

use super::super::ConnectStage;

/// The stage that was reached last. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Progress(Arc<Mutex<ConnectStage>>);

impl Progress {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(ConnectStage::Name)))
    }

    pub(super) fn reach(&self, stage: ConnectStage) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = stage;
    }

    pub(super) fn stage(&self) -> ConnectStage {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
