//! How much the doctor examines.

/// How much `florin doctor` examines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// What the service cannot work without.
    Service,
    /// All that can be examined.
    Everything,
}
