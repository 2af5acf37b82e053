//! What a journal needs after a fault before it is trusted again.

/// From the least to the most. Each level includes the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum RecoveryLevel {
    /// It is opened as at every start. That takes a write, so a disk that takes none is noticed.
    #[default]
    Open,
    /// Its whole content is checked.
    Check,
    /// What was written may not be on the disk: everything is written anew, then checked.
    Rewrite,
}
