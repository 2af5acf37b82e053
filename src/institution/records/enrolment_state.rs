//! How a terminal or a card stands with the institution.

/// How a terminal or a card stands with the institution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EnrolmentState {
    /// Its enrolment code was not used yet.
    Pending,
    Active,
    /// It is blocked: its payments are declined. A blocked terminal may still capture and reverse
    /// what was approved before.
    Blocked,
}

impl EnrolmentState {
    /// The state of a terminal or a card that is or is not blocked, and has or has not enrolled.
    pub fn new(is_blocked: bool, is_enrolled: bool) -> Self {
        match (is_blocked, is_enrolled) {
            (true, _) => Self::Blocked,
            (false, true) => Self::Active,
            (false, false) => Self::Pending,
        }
    }

    /// A stable name for programs: one word in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Blocked => "blocked",
        }
    }
}
