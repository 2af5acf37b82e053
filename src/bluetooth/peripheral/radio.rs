//! Finds the adapter and switches it on.

use bluer::{Adapter, Session};

use super::fault::RadioFault;

/// Vendor and product of BlueZ's own device id (`DeviceID` in its main.conf).
const LINUX_FOUNDATION: u32 = 0x1d6b;
const BLUEZ_PRODUCT: u32 = 0x0246;

/// The adapter of that name, or the first, switched on.
pub(super) async fn open_adapter(wanted: Option<&str>) -> Result<(Session, Adapter), RadioFault> {
    let name_or_any = wanted.unwrap_or("(any)");
    // Nothing is asked of BlueZ here, so whatever fails, it is the bus.
    let session = Session::new().await.map_err(|error| RadioFault::NoBus(error.to_string()))?;
    let mut present = session
        .adapter_names()
        .await
        .map_err(|error| RadioFault::of(&error, name_or_any, "listing the adapters"))?;
    present.sort();
    let name = match wanted {
        Some(name) if present.iter().any(|present| present == name) => name.to_owned(),
        Some(_) | None if present.is_empty() => return Err(RadioFault::NoAdapter),
        Some(name) => {
            return Err(RadioFault::OtherAdapters { wanted: name.to_owned(), present: present.join(", ") });
        }
        None => present.swap_remove(0),
    };
    let adapter =
        session.adapter(&name).map_err(|error| RadioFault::of(&error, &name, "opening the adapter"))?;
    let is_powered =
        adapter.is_powered().await.map_err(|error| RadioFault::of(&error, &name, "asking for its power"))?;
    if !is_powered {
        adapter.set_powered(true).await.map_err(|error| RadioFault::of(&error, &name, "switching it on"))?;
    }
    Ok((session, adapter))
}

/// Which BlueZ this is, (5, 66) for 5.66, where it says so: in the device id that it gives out unless configured otherwise.
pub(super) async fn bluez_version(adapter: &Adapter) -> Option<(u8, u8)> {
    let id = adapter.modalias().await.ok()??;
    let [major, minor] = u16::try_from(id.device).ok()?.to_be_bytes();
    (id.vendor == LINUX_FOUNDATION && id.product == BLUEZ_PRODUCT).then_some((major, minor))
}
