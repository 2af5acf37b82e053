//! Decisions that are made again when the facts they rest on have changed.

use super::error::InstitutionError;
use super::store::StoreError;

/// How often a decision is made at most. It is made again only if another writer came in between
/// and changed just the facts that it rests on.
const DECISIONS_MAX: usize = 16;

/// Has `decide` read the facts, decide, and have the decision written, until it was written. It
/// returns none if the facts had changed by then.
///
/// # Errors
/// Those of `decide`; [`StoreError::Busy`] if the facts change again and again.
pub(super) fn until_written<T>(
    mut decide: impl FnMut() -> Result<Option<T>, InstitutionError>,
) -> Result<T, InstitutionError> {
    for _ in 0..DECISIONS_MAX {
        if let Some(answer) = decide()? {
            return Ok(answer);
        }
    }
    Err(StoreError::Busy.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_is_made_again_until_it_is_written_and_not_for_ever() {
        let mut left = 3;
        let answer = until_written(|| {
            left -= 1;
            Ok((left == 0).then_some("written"))
        });
        assert_eq!(answer.unwrap(), "written");
        let endless = until_written::<()>(|| Ok(None));
        assert!(matches!(endless, Err(InstitutionError::Store(StoreError::Busy))));
    }
}
