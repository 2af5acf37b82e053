//! Random octets of the operating system, for the edges: the institution takes randomness as an
//! input.

use rand::TryRngCore;
use rand::rngs::OsRng;
use zeroize::Zeroizing;

/// The operating system gives no random octets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the operating system gives no random octets ({0}), so no keys and codes can be made; try \
     again, and if it happens again look at the system's log"
)]
pub struct RandomnessError(String);

/// Returns so many random octets; they are erased from memory when dropped.
///
/// # Errors
/// [`RandomnessError`].
pub fn random<const OCTETS: usize>() -> Result<Zeroizing<[u8; OCTETS]>, RandomnessError> {
    let mut octets = Zeroizing::new([0; OCTETS]);
    OsRng.try_fill_bytes(octets.as_mut()).map_err(|error| RandomnessError(error.to_string()))?;
    Ok(octets)
}
