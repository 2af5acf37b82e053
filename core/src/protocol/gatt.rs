//! The names of the GATT service and what is advertised (Core Specification 5.4, Vol 3 Parts C and
//! G).

use crate::domain::TerminalId;

/// The payment service. A new layout of its table gets a new UUID, since phones cache tables for
/// days.
pub const SERVICE_UUID: u128 = 0xf1079a00_5a1e_4d7c_9c1b_3e6f0c7d8a01;
/// Phone to terminal: write and write without response.
pub const INBOX_UUID: u128 = 0xf1079a01_5a1e_4d7c_9c1b_3e6f0c7d8a01;
/// Terminal to phone: notify.
pub const OUTBOX_UUID: u128 = 0xf1079a02_5a1e_4d7c_9c1b_3e6f0c7d8a01;
/// Read: an encoded `Info`.
pub const INFO_UUID: u128 = 0xf1079a03_5a1e_4d7c_9c1b_3e6f0c7d8a01;

const NAME_PREFIX: &str = "Florin ";
const OUT_OF_SERVICE_SUFFIX: &str = " out of service";

/// The local name in the scan response: `Florin ` and the short code, 11 octets; ` out of service`
/// after it where the terminal takes no payments, 26 octets. With the two before it, it fits into
/// the scan response's 31.
pub fn advertised_name(terminal_id: &TerminalId, is_out_of_service: bool) -> String {
    let suffix = if is_out_of_service { OUT_OF_SERVICE_SUFFIX } else { "" };
    format!("{NAME_PREFIX}{}{suffix}", terminal_id.short_code())
}

/// The content of an advertised name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdvertisedName<'name> {
    /// The terminal's short code.
    pub short_code: &'name str,
    /// The terminal says that it takes no payments.
    pub is_out_of_service: bool,
}

impl<'name> AdvertisedName<'name> {
    /// Reads an advertised name; none if it is not a terminal's.
    pub fn read(name: &'name str) -> Option<Self> {
        let rest = name.strip_prefix(NAME_PREFIX)?;
        let (short_code, is_out_of_service) = match rest.strip_suffix(OUT_OF_SERVICE_SUFFIX) {
            Some(short_code) => (short_code, true),
            None => (rest, false),
        };
        (short_code.len() == 4).then_some(Self { short_code, is_out_of_service })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A legacy scan response less the length and the type of its only field (Core Specification
    /// 5.4, Vol 3 Part C, 11).
    const NAME_OCTETS_MAX: usize = 29;

    #[test]
    fn the_name_carries_the_short_code_and_whether_it_is_out_of_service() {
        let terminal_id: TerminalId = "0123456789".parse().unwrap();
        for is_out_of_service in [false, true] {
            let name = advertised_name(&terminal_id, is_out_of_service);
            assert!(name.len() <= NAME_OCTETS_MAX, "{name}");
            assert_eq!(
                AdvertisedName::read(&name),
                Some(AdvertisedName { short_code: "6789", is_out_of_service }),
                "{name}"
            );
        }
        for name in
            ["Florin", "Speaker 6789", "Florin  out of service", "Florin 6789 out", "Florin 67890"]
        {
            assert_eq!(AdvertisedName::read(name), None, "{name}");
        }
    }
}
