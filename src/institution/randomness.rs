//! Octets from the operating system, for the edges: the core takes randomness as an input.

use rand::TryRngCore;
use rand::rngs::OsRng;
use zeroize::Zeroizing;

/// The operating system gives no randomness.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gives no randomness, and nothing secret is made without: {0}")]
pub struct RandomnessError(String);

/// That many octets; erased from memory when dropped.
///
/// # Errors
/// [`RandomnessError`].
pub fn random<const OCTETS: usize>() -> Result<Zeroizing<[u8; OCTETS]>, RandomnessError> {
    let mut octets = Zeroizing::new([0; OCTETS]);
    OsRng.try_fill_bytes(octets.as_mut()).map_err(|error| RandomnessError(error.to_string()))?;
    Ok(octets)
}
