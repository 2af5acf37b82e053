//! A party's wall clock, which may be years off. Deadlines never use it.

use florin::domain::UnixTime;

use super::randomness::Dice;

/// When every world begins, by a clock that is right.
const BEGINNING_S: u64 = 1_800_000_000;
/// How far a clock jumps at most, in seconds: ten years.
const JUMP_S_MAX: u64 = 10 * 365 * 86_400;

/// A wall clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct WallClock {
    offset_s: i64,
}

impl WallClock {
    /// What it shows.
    pub fn read(self, now_ms: u64) -> UnixTime {
        UnixTime { seconds: (BEGINNING_S + now_ms / 1000).saturating_add_signed(self.offset_s) }
    }

    /// Jumps somewhere, or to the right time if it was somewhere.
    pub fn jump(&mut self, mut dice: Dice) {
        let distance = i64::try_from(dice.magnitude(1, JUMP_S_MAX)).unwrap_or(0);
        self.offset_s = match (self.offset_s, dice.percent(50)) {
            (0, true) => distance,
            (0, false) => -distance,
            (_, _) => 0,
        };
    }

    /// Is set right.
    pub fn set_right(&mut self) {
        self.offset_s = 0;
    }
}
