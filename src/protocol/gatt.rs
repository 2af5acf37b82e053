//! The names of the GATT service and what is advertised (Core Specification 5.4, Vol 3 Parts C and G).

use crate::domain::TerminalId;

/// The payment service. A new layout of its table gets a new UUID, since phones cache tables for days.
pub const SERVICE_UUID: u128 = 0xf1079a00_5a1e_4d7c_9c1b_3e6f0c7d8a01;
/// Phone to terminal: write and write without response.
pub const INBOX_UUID: u128 = 0xf1079a01_5a1e_4d7c_9c1b_3e6f0c7d8a01;
/// Terminal to phone: notify.
pub const OUTBOX_UUID: u128 = 0xf1079a02_5a1e_4d7c_9c1b_3e6f0c7d8a01;
/// Read: an encoded `Info`.
pub const INFO_UUID: u128 = 0xf1079a03_5a1e_4d7c_9c1b_3e6f0c7d8a01;

const NAME_PREFIX: &str = "Florin ";

/// The local name in the scan response: `Florin ` and the short code, 11 octets.
pub fn advertised_name(terminal_id: &TerminalId) -> String {
    format!("{NAME_PREFIX}{}", terminal_id.short_code())
}

/// The short code in an advertised name, if it is one of ours.
pub fn short_code_of_name(name: &str) -> Option<&str> {
    name.strip_prefix(NAME_PREFIX).filter(|code| code.len() == 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_carries_the_short_code() {
        let terminal_id: TerminalId = "0123456789".parse().unwrap();
        assert_eq!(short_code_of_name(&advertised_name(&terminal_id)), Some("6789"));
        assert_eq!(short_code_of_name("Florin"), None);
        assert_eq!(short_code_of_name("Speaker 6789"), None);
    }
}
