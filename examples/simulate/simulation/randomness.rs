//! Randomness from a seed (SplitMix64): the same parts always make the same dice.
//!
//! Not for secrets. Every purpose has dice of its own, so that leaving out one fault does not shift
//! all others.

/// A stream of random numbers.
#[derive(Debug, Clone)]
pub struct Dice(u64);

fn mixed(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

impl Dice {
    /// The dice of these parts: a seed, and what they are for.
    pub fn of(parts: &[u64]) -> Self {
        let state = parts.iter().fold(0x9e37_79b9_7f4a_7c15, |state: u64, part| {
            mixed(state.wrapping_add(0x9e37_79b9_7f4a_7c15) ^ mixed(part.wrapping_add(1)))
        });
        Self(state)
    }

    /// The next number.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed(self.0)
    }

    /// From 0 until `end`, excluded; 0 if that is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        if end == 0 { 0 } else { self.roll() % end }
    }

    /// From `first` to `last`, both included.
    pub fn between(&mut self, first: u64, last: u64) -> u64 {
        first + self.below(last.saturating_sub(first) + 1)
    }

    /// From `first` to `last`, each order of magnitude as likely as the others.
    pub fn magnitude(&mut self, first: u64, last: u64) -> u64 {
        let (low, high) = (first.max(1).ilog2(), last.max(1).ilog2());
        let exponent = self.between(u64::from(low), u64::from(high));
        self.between(1 << exponent, (2 << exponent) - 1).clamp(first, last)
    }

    /// True that many times in a hundred.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// As many octets as wanted.
    pub fn octets<const OCTETS: usize>(&mut self) -> [u8; OCTETS] {
        let mut octets = [0; OCTETS];
        for chunk in octets.chunks_mut(8) {
            let random = self.roll().to_le_bytes();
            chunk.copy_from_slice(&random[..chunk.len()]);
        }
        octets
    }
}
