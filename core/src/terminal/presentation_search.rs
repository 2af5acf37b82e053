//! How far the engine is with the search for payments that a life of the institution's store has
//! not confirmed. What is done with them is the engine's business.

use crate::domain::TransactionId;

/// A search of the journal, from the newest payment to the oldest.
#[derive(Debug, Default)]
pub(super) struct PresentationSearch {
    /// The oldest payment that was found.
    pub(super) before: Option<TransactionId>,
    /// The journal is being searched now.
    pub(super) is_searching: bool,
}
