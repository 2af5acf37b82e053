//! Finds the adapter, reads its state, and switches it on and off. Registers nothing with BlueZ.

use std::path::Path;
use std::time::Duration;

use bluer::{Adapter, Address, Device, Session};
use tokio::time::sleep;

use super::answer_timeout::with_answer_timeout;
use super::fault::RadioFault;

/// How long the adapter stays off in a power cycle.
const POWER_CYCLE_OFF: Duration = Duration::from_millis(200);
/// Where the kernel shows the state of its rfkill switches to every user.
const RFKILL_DIRECTORY: &str = "/sys/class/rfkill";

/// The adapter of that name; without a name, the first.
pub(super) async fn find_adapter(
    session: &Session,
    wanted: Option<&str>,
) -> Result<Adapter, RadioFault> {
    let name_or_any = wanted.unwrap_or("(any)");
    let mut present = with_answer_timeout(session.adapter_names())
        .await?
        .map_err(|error| RadioFault::of(&error, name_or_any, "listing the adapters"))?;
    present.sort();
    let name = match wanted {
        Some(name) if present.iter().any(|present| present == name) => name.to_owned(),
        Some(_) | None if present.is_empty() => return Err(RadioFault::NoAdapter),
        Some(name) => {
            return Err(RadioFault::AdapterNotFound {
                wanted: name.to_owned(),
                present: present.join(", "),
            });
        }
        None => present.swap_remove(0),
    };
    session.adapter(&name).map_err(|error| RadioFault::of(&error, &name, "opening the adapter"))
}

/// The addresses of all connected phones, including those that have sent nothing.
pub(super) async fn connected_phones(adapter: &Adapter) -> Result<Vec<Address>, RadioFault> {
    let known = with_answer_timeout(adapter.device_addresses())
        .await?
        .map_err(|error| RadioFault::of(&error, adapter.name(), "listing the connected devices"))?;
    let mut phones = Vec::new();
    for address in known {
        // BlueZ may have removed the device meanwhile; then it is not connected.
        if let Ok(device) = adapter.device(address)
            && with_answer_timeout(is_phone(&device)).await?
        {
            phones.push(address);
        }
    }
    Ok(phones)
}

/// Whether this is a connected phone. A paired device, such as a keyboard or a scanner, is not a
/// phone, since phones do not pair. Nor is a device about which BlueZ gives no information.
pub(super) async fn is_phone(device: &Device) -> bool {
    device.is_connected().await.unwrap_or(false) && !device.is_paired().await.unwrap_or(true)
}

/// Switches the adapter on if it is off, and returns whether it was off. Leaves an adapter alone
/// that rfkill blocks: somebody has blocked it on purpose.
pub(super) async fn power_on(adapter: &Adapter) -> Result<bool, RadioFault> {
    let is_powered = with_answer_timeout(adapter.is_powered()).await?.map_err(|error| {
        RadioFault::of(&error, adapter.name(), "reading the adapter's power state")
    })?;
    if !is_powered {
        set_powered(adapter, true, "switching the adapter on").await?;
    }
    Ok(!is_powered)
}

/// Switches the adapter off and on.
pub(super) async fn power_cycle(adapter: &Adapter) -> Result<(), RadioFault> {
    set_powered(adapter, false, "switching the adapter off").await?;
    sleep(POWER_CYCLE_OFF).await;
    set_powered(adapter, true, "switching the adapter on").await
}

async fn set_powered(
    adapter: &Adapter,
    is_on: bool,
    during: &'static str,
) -> Result<(), RadioFault> {
    if is_on && is_blocked(Path::new(RFKILL_DIRECTORY), adapter.name()) {
        return Err(RadioFault::Blocked(adapter.name().to_owned()));
    }
    with_answer_timeout(adapter.set_powered(is_on))
        .await?
        .map_err(|error| RadioFault::of(&error, adapter.name(), during))
}

/// The fault of an adapter that is off although it had been switched on.
pub(super) fn power_off_fault(adapter: &Adapter) -> RadioFault {
    let name = adapter.name().to_owned();
    if is_blocked(Path::new(RFKILL_DIRECTORY), &name) {
        RadioFault::Blocked(name)
    } else {
        RadioFault::PoweredOff(name)
    }
}

/// Whether rfkill blocks the adapter. BlueZ 5.66 reports that from its own record; BlueZ 5.82 only
/// reports that switching on failed.
fn is_blocked(rfkill: &Path, adapter: &str) -> bool {
    let Ok(switches) = std::fs::read_dir(rfkill) else { return false };
    switches.flatten().any(|switch| {
        let read =
            |file: &str| std::fs::read_to_string(switch.path().join(file)).unwrap_or_default();
        read("name").trim() == adapter && (read("soft").trim() == "1" || read("hard").trim() == "1")
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn an_rfkill_switch_blocks_its_own_adapter_only() {
        let switches = tempfile::tempdir().unwrap();
        for (number, name, soft, hard) in [
            (0, "hci0", "0\n", "0\n"),
            (1, "hci1", "1\n", "0\n"),
            (2, "phy0", "1\n", "1\n"),
            (3, "hci2", "0\n", "1\n"),
        ] {
            let switch = switches.path().join(format!("rfkill{number}"));
            std::fs::create_dir(&switch).unwrap();
            for (file, content) in
                [("name", format!("{name}\n")), ("soft", soft.into()), ("hard", hard.into())]
            {
                std::fs::write(switch.join(file), content).unwrap();
            }
        }
        let blocked = |adapter| is_blocked(switches.path(), adapter);
        assert!(!blocked("hci0") && blocked("hci1") && blocked("hci2") && !blocked("hci3"));
        assert!(!is_blocked(&switches.path().join("absent"), "hci1"));
    }
}
