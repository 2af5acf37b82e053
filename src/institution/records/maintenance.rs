//! What operators decide about a terminal or about the store, and the log of it.

use crate::domain::{TerminalId, UnixTime};

/// What an operator has decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaintenanceAction {
    /// A terminal that ran on two machines may take payments again.
    ClearCopy(TerminalId),
    /// A restored store was taken into service.
    AdoptStore,
}

impl MaintenanceAction {
    /// A stable name for programs: lower case, with an underscore between words.
    pub fn name(self) -> &'static str {
        match self {
            Self::ClearCopy(_) => "clear_copy",
            Self::AdoptStore => "adopt_store",
        }
    }

    /// The terminal that it is about; none for the store.
    pub fn terminal(self) -> Option<TerminalId> {
        match self {
            Self::ClearCopy(terminal) => Some(terminal),
            Self::AdoptStore => None,
        }
    }
}

/// One entry of the maintenance log. It is never changed or deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaintenanceEntry {
    /// By the institution's clock.
    pub made_at: UnixTime,
    /// Who did it, by name.
    pub operator: String,
    pub action: MaintenanceAction,
    /// Why, in the operator's words.
    pub reason: String,
}
