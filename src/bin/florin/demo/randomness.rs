//! Random octets for the demo's keys, codes and names.

use rand::TryRngCore;
use rand::rngs::OsRng;

pub(super) fn random<const OCTETS: usize>() -> [u8; OCTETS] {
    let mut octets = [0; OCTETS];
    // Where the system has none, keys would be worthless: the demo must not go on.
    assert!(OsRng.try_fill_bytes(&mut octets).is_ok(), "the operating system gives no randomness");
    octets
}
