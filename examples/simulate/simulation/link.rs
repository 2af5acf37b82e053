//! The connections between phones and the terminal, as each side sees them.

use std::collections::BTreeMap;

use florin::terminal::PhoneId;

use super::randomness::Dice;

/// One connection.
#[derive(Debug)]
pub struct Connection {
    pub phone: usize,
    pub value_octets_max: usize,
    /// Which process of the terminal it was made with.
    pub boot: u64,
    /// When the last value in each direction arrives.
    pub up_ms: u64,
    pub down_ms: u64,
    pub is_broken: bool,
}

/// Every connection.
#[derive(Debug)]
pub struct Link {
    pub connections: BTreeMap<PhoneId, Connection>,
    pub last: u64,
    pub dice: Dice,
}

impl Link {
    /// Nobody is connected.
    pub fn new(dice: Dice) -> Self {
        Self { connections: BTreeMap::new(), last: 0, dice }
    }

    /// What the terminal's process of that number sees of a connection: the longest value. None if
    /// it is gone.
    pub fn seen_by_machine(&self, connection: PhoneId, boot: u64) -> Option<usize> {
        self.connections
            .get(&connection)
            .filter(|connection| connection.boot == boot)
            .map(|connection| connection.value_octets_max)
    }

    /// Do values still pass?
    pub fn is_whole(&self, connection: PhoneId) -> bool {
        self.connections.get(&connection).is_some_and(|connection| !connection.is_broken)
    }

    /// The terminal knows that it is gone.
    pub fn forget(&mut self, connection: PhoneId) {
        self.connections.remove(&connection);
    }
}
