//! One thing that the doctor examined, and what was found.

use serde::Serialize;

use super::super::{ServiceError, ServiceExit};

/// How a thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// As it should be.
    Fine,
    /// It could not be examined, because of something else that is named wrong.
    NotExamined,
    /// The terminal works, and something should still be done.
    Advice,
    /// The terminal does not work like this.
    Wrong,
}

/// One thing that was examined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Its stable name (docs/operations.md lists them).
    pub check: &'static str,
    pub verdict: Verdict,
    /// What was found, and unless it is fine, what to do.
    pub detail: String,
    /// The command's exit code where this is the first thing that is wrong.
    #[serde(skip)]
    pub exit: Option<ServiceExit>,
}

impl Finding {
    pub(super) fn fine(check: &'static str, detail: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Fine, detail: detail.into(), exit: None }
    }

    pub(super) fn advice(check: &'static str, detail: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Advice, detail: detail.into(), exit: None }
    }

    pub(super) fn not_examined(check: &'static str, detail: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::NotExamined, detail: detail.into(), exit: None }
    }

    pub(super) fn wrong(check: &'static str, detail: impl Into<String>, exit: ServiceExit) -> Self {
        Self { check, verdict: Verdict::Wrong, detail: detail.into(), exit: Some(exit) }
    }

    /// A thing that is wrong, in the words in which the service would report it.
    pub fn fault(check: &'static str, error: &ServiceError) -> Self {
        Self::wrong(check, error.to_string(), error.exit())
    }
}
