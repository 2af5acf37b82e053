//! Whether a decision was written.

/// Whether a decision was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Written {
    /// All of it was written, and it is durable.
    Done,
    /// Nothing was written: the facts that the decision rests on no longer hold. Decide again, on
    /// newer facts.
    Outdated,
}

impl Written {
    /// The answer if the decision was written; none if it is outdated.
    pub fn then_some<T>(self, answer: T) -> Option<T> {
        match self {
            Self::Done => Some(answer),
            Self::Outdated => None,
        }
    }
}
