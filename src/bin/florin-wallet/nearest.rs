//! Which machine in reach is the one that a person stands at. docs/protocol.md, section 2, has the
//! rule.

/// The weakest signal of a machine that the person stands at, in dBm: from within a metre or two.
pub const STRENGTH_MIN_DBM: i16 = -65;
/// How much weaker every other machine has to be, in dB: from one moment to the next a signal
/// changes by less.
pub const MARGIN_MIN_DB: i16 = 10;

/// Why no machine is clearly the nearest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotClear {
    #[error("no machine is in reach")]
    None,
    /// Without a strength there is nothing to compare.
    #[error("the radio does not tell the signal strength of a machine in reach")]
    Unknown,
    /// A person who stands at a machine receives it better.
    #[error(
        "the strongest signal has {strongest_dbm} dBm, and right at a machine it has \
         {STRENGTH_MIN_DBM} or more"
    )]
    Weak { strongest_dbm: i16 },
    /// Two that might be it.
    #[error(
        "the second signal is only {margin_db} dB weaker than the strongest, and has to be at \
         least {MARGIN_MIN_DB} dB weaker"
    )]
    Close { margin_db: i16 },
}

/// The index of the machine that is clearly the nearest, by the signal strength of each, in dBm.
pub fn nearest(strengths_dbm: &[Option<i16>]) -> Result<usize, NotClear> {
    let mut known = Vec::new();
    for (index, strength_dbm) in strengths_dbm.iter().enumerate() {
        known.push((strength_dbm.ok_or(NotClear::Unknown)?, index));
    }
    known.sort_unstable_by_key(|(strength_dbm, _)| std::cmp::Reverse(*strength_dbm));
    let &(strongest_dbm, index) = known.first().ok_or(NotClear::None)?;
    if strongest_dbm < STRENGTH_MIN_DBM {
        return Err(NotClear::Weak { strongest_dbm });
    }
    match known.get(1).map(|(second_dbm, _)| strongest_dbm.saturating_sub(*second_dbm)) {
        Some(margin_db) if margin_db < MARGIN_MIN_DB => Err(NotClear::Close { margin_db }),
        Some(_) | None => Ok(index),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_is_strong_enough_and_clearly_stronger_than_every_other() {
        assert_eq!(nearest(&[Some(-65)]), Ok(0));
        assert_eq!(nearest(&[Some(-75), Some(-65)]), Ok(1));
        assert_eq!(nearest(&[Some(-40), Some(-90), Some(-50)]), Ok(0));
        assert_eq!(nearest(&[Some(i16::MAX), Some(i16::MIN)]), Ok(0));
    }

    #[test]
    fn a_machine_alone_is_not_the_nearest_where_it_is_far_away() {
        assert_eq!(nearest(&[Some(-66)]), Err(NotClear::Weak { strongest_dbm: -66 }));
        assert_eq!(nearest(&[Some(-100), Some(-80)]), Err(NotClear::Weak { strongest_dbm: -80 }));
    }

    #[test]
    fn two_that_might_be_it_are_not_clear() {
        assert_eq!(nearest(&[Some(-50), Some(-59)]), Err(NotClear::Close { margin_db: 9 }));
        assert_eq!(nearest(&[Some(-50), Some(-50)]), Err(NotClear::Close { margin_db: 0 }));
        assert_eq!(
            nearest(&[Some(-90), Some(-45), Some(-40)]),
            Err(NotClear::Close { margin_db: 5 })
        );
    }

    #[test]
    fn an_unknown_strength_may_be_the_strongest() {
        assert_eq!(nearest(&[None]), Err(NotClear::Unknown));
        assert_eq!(nearest(&[Some(-40), None]), Err(NotClear::Unknown));
        assert_eq!(nearest(&[]), Err(NotClear::None));
    }
}
