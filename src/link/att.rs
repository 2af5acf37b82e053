//! How long a value may be at a connection's ATT MTU (Core Specification 5.4, Vol 3 Part F).

use crate::protocol::{VALUE_OCTETS_MAX, VALUE_OCTETS_MIN};

/// Octets of a write or notification in addition to its value: opcode and handle.
pub(crate) const HEADER_OCTETS: usize = 3;

/// The longest value that a connection with this MTU carries. An impossible MTU counts as the
/// nearest possible one.
pub(crate) fn value_octets_max(mtu: usize) -> usize {
    mtu.saturating_sub(HEADER_OCTETS).clamp(VALUE_OCTETS_MIN, VALUE_OCTETS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_the_mtu_less_its_header_within_the_protocols_bounds() {
        for (mtu, expected) in [
            (0, 20),
            (22, 20),
            (23, 20),
            (24, 21),
            (185, 182),
            (515, 512),
            (517, 512),
            (65_535, 512),
        ] {
            assert_eq!(value_octets_max(mtu), expected, "{mtu}");
        }
    }
}
