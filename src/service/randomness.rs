//! Fresh random octets of the operating system.

use rand::TryRngCore;
use rand::rngs::OsRng;

/// The operating system gave none.
#[derive(Debug, thiserror::Error)]
#[error("the operating system does not provide randomness: {0}")]
pub(super) struct NoRandomness(pub(super) String);

pub(super) fn random_octets<const OCTETS: usize>() -> Result<[u8; OCTETS], NoRandomness> {
    let mut octets = [0; OCTETS];
    OsRng.try_fill_bytes(&mut octets).map_err(|error| NoRandomness(error.to_string()))?;
    Ok(octets)
}
