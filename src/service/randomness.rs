//! Fresh random octets of the operating system.

use rand::TryRngCore;
use rand::rngs::OsRng;

use super::ServiceError;

pub(super) fn random_octets<const OCTETS: usize>() -> Result<[u8; OCTETS], ServiceError> {
    let mut octets = [0; OCTETS];
    OsRng
        .try_fill_bytes(&mut octets)
        .map_err(|error| ServiceError::System { what: "randomness", detail: error.to_string() })?;
    Ok(octets)
}
