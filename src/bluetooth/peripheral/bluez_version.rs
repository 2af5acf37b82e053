//! Which BlueZ this is, and what its versions do differently as far as the terminal cares: the one
//! place that knows (docs/bluetooth.md).
//!
//! It only tells; the service and the doctor act on it. It covers the versions from 5.66, the
//! oldest that is tested, to 5.82, the newest.

use bluer::Adapter;

use super::answer_timeout::with_answer_timeout;

/// The oldest version that Florin was tried with.
pub const TRIED_SINCE: (u8, u8) = (5, 66);
/// The first version whose main.conf has `[GATT] Client`.
pub const GATT_CLIENT_SETTING_SINCE: (u8, u8) = (5, 74);

/// Vendor and product of BlueZ's own device id (`DeviceID` in its main.conf).
const LINUX_FOUNDATION: u32 = 0x1d6b;
const BLUEZ_PRODUCT: u32 = 0x0246;

/// The first version that keeps attributes at the handles that were requested. An earlier one puts
/// each attribute into the next free handle, whatever was requested, and then does not find it
/// again: there BlueZ must choose the handles itself.
const REQUESTED_HANDLES_SINCE: (u8, u8) = (5, 75);
/// The first version that gives every phone a notification socket of its own (bluez issue 820).
const SOCKET_PER_PHONE_SINCE: (u8, u8) = (5, 76);

/// BlueZ's version, if it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BlueZVersion {
    number: Option<(u8, u8)>,
}

impl BlueZVersion {
    /// Reads the version from the device id, which holds it unless main.conf sets another. A BlueZ
    /// without one counts as the oldest, since what is made for the oldest works with all.
    pub(super) async fn read(adapter: &Adapter) -> Self {
        let number = async {
            let id = with_answer_timeout(adapter.modalias()).await.ok()?.ok()??;
            let [major, minor] = u16::try_from(id.device).ok()?.to_be_bytes();
            (id.vendor == LINUX_FOUNDATION && id.product == BLUEZ_PRODUCT).then_some((major, minor))
        };
        Self { number: number.await }
    }

    /// (5, 66) for 5.66, if it is known.
    pub(super) fn number(self) -> Option<(u8, u8)> {
        self.number
    }

    /// Whether attributes stay at the handles that are requested.
    pub(super) fn keeps_requested_handles(self) -> bool {
        self.number >= Some(REQUESTED_HANDLES_SINCE)
    }

    /// Whether each phone has a notification socket of its own. Otherwise all phones share the
    /// first phone's.
    pub(super) fn has_socket_per_phone(self) -> bool {
        self.number >= Some(SOCKET_PER_PHONE_SINCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_version_has_what_came_with_it() {
        let told = |number| {
            let bluez = BlueZVersion { number };
            (bluez.keeps_requested_handles(), bluez.has_socket_per_phone())
        };
        assert_eq!(told(None), (false, false));
        assert_eq!(told(Some((5, 66))), (false, false));
        assert_eq!(told(Some((5, 75))), (true, false));
        assert_eq!(told(Some((5, 76))), (true, true));
        assert_eq!(told(Some((5, 82))), (true, true));
        assert_eq!(told(Some((6, 0))), (true, true));
    }
}
