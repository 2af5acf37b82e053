//! The state of the way from the terminal to the institution.

use std::collections::BTreeMap;

use florin::terminal::InstitutionRequest;

use super::randomness::Dice;

/// A request whose answer the relay waits for.
#[derive(Debug)]
pub struct Ask {
    pub epoch: u64,
    pub request: InstitutionRequest,
}

/// What is under way.
#[derive(Debug)]
pub struct Network {
    pub asks: BTreeMap<u64, Ask>,
    pub last_ask: u64,
    pub dice: Dice,
    /// Nothing gets through until then.
    pub down_until_ms: u64,
}

impl Network {
    /// Nothing is under way.
    pub fn new(dice: Dice) -> Self {
        Self { asks: BTreeMap::new(), last_ask: 0, dice, down_until_ms: 0 }
    }
}
