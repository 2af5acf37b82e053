//! In what BlueZ's versions differ, as far as the terminal cares: the one place that knows
//! (docs/bluetooth.md).
//!
//! It only tells what to reckon with; the service and the doctor act on it. Between the oldest that
//! is tested, 5.66, and the newest, 5.82.

use bluer::Adapter;

use super::radio::in_time;

/// The oldest that Florin was tried with.
pub const TRIED_SINCE: (u8, u8) = (5, 66);
/// The first whose main.conf has `[GATT] Client`.
pub const GATT_CLIENT_SETTING_SINCE: (u8, u8) = (5, 74);

/// Vendor and product of BlueZ's own device id (`DeviceID` in its main.conf).
const LINUX_FOUNDATION: u32 = 0x1d6b;
const BLUEZ_PRODUCT: u32 = 0x0246;

/// The first that keeps attributes at the handles that were asked for. One before puts whatever it
/// hears of into the next free place, whatever handle it has, and then finds nothing again: there
/// it must choose itself.
const FIXED_PLACES_SINCE: (u8, u8) = (5, 75);
/// The first that gives every phone a notification socket of its own (bluez issue 820).
const OWN_SOCKETS_SINCE: (u8, u8) = (5, 76);

/// Which BlueZ this is, as far as it says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BlueZ {
    version: Option<(u8, u8)>,
}

impl BlueZ {
    /// Reads the version from the device id that BlueZ gives out unless configured otherwise. One
    /// that does not say is taken for the oldest: what is made for that works with all.
    pub(super) async fn ask(adapter: &Adapter) -> Self {
        let version = async {
            let id = in_time(adapter.modalias()).await.ok()?.ok()??;
            let [major, minor] = u16::try_from(id.device).ok()?.to_be_bytes();
            (id.vendor == LINUX_FOUNDATION && id.product == BLUEZ_PRODUCT).then_some((major, minor))
        };
        Self { version: version.await }
    }

    /// (5, 66) for 5.66, where it says so.
    pub(super) fn version(self) -> Option<(u8, u8)> {
        self.version
    }

    /// Whether attributes stay at the handles that are asked for.
    pub(super) fn has_fixed_places(self) -> bool {
        self.version >= Some(FIXED_PLACES_SINCE)
    }

    /// Whether each phone has a notification socket of its own, rather than the first one's being
    /// shared.
    pub(super) fn has_own_outboxes(self) -> bool {
        self.version >= Some(OWN_SOCKETS_SINCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generations_differ_where_they_do() {
        let told = |version| {
            let bluez = BlueZ { version };
            (bluez.has_fixed_places(), bluez.has_own_outboxes())
        };
        assert_eq!(told(None), (false, false));
        assert_eq!(told(Some((5, 66))), (false, false));
        assert_eq!(told(Some((5, 75))), (true, false));
        assert_eq!(told(Some((5, 76))), (true, true));
        assert_eq!(told(Some((5, 82))), (true, true));
        assert_eq!(told(Some((6, 0))), (true, true));
    }
}
