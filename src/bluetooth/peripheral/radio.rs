//! Finds the adapter, switches it on, switches it off and on. Registers nothing with BlueZ.

use std::path::Path;
use std::time::Duration;

use bluer::{Adapter, Address, Device, Session};
use tokio::time::{sleep, timeout};

use super::fault::RadioFault;

/// How long BlueZ gets to answer, in milliseconds. It answers within a few, a second when it has to
/// be started, or hangs.
const ANSWER_TIMEOUT_MS: u64 = 5_000;
/// How long the adapter stays off in a power cycle, in milliseconds.
const OFF_MS: u64 = 200;
/// Where the kernel tells of its switches, to everybody.
const SWITCHES: &str = "/sys/class/rfkill";

/// An answer of BlueZ's, or the fault that none came. bluer itself would wait for two minutes.
pub(super) async fn in_time<T>(question: impl Future<Output = T>) -> Result<T, RadioFault> {
    timeout(Duration::from_millis(ANSWER_TIMEOUT_MS), question)
        .await
        .map_err(|_| RadioFault::Silent(ANSWER_TIMEOUT_MS))
}

/// The adapter of that name, or the first.
pub(super) async fn find_adapter(
    session: &Session,
    wanted: Option<&str>,
) -> Result<Adapter, RadioFault> {
    let name_or_any = wanted.unwrap_or("(any)");
    let mut present = in_time(session.adapter_names())
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

/// The phones that are connected, whether or not they have said anything.
pub(super) async fn connected_phones(adapter: &Adapter) -> Result<Vec<Address>, RadioFault> {
    let known = in_time(adapter.device_addresses())
        .await?
        .map_err(|error| RadioFault::of(&error, adapter.name(), "asking who is connected"))?;
    let mut phones = Vec::new();
    for address in known {
        // Devices come and go meanwhile; one that is not known any more is not connected.
        if let Ok(device) = adapter.device(address)
            && in_time(is_phone(&device)).await?
        {
            phones.push(address);
        }
    }
    Ok(phones)
}

/// Whether this is a phone that is connected. What is paired with the machine, a keyboard or a
/// scanner, is none: phones are not paired. One that BlueZ says nothing about is none of our
/// business either.
pub(super) async fn is_phone(device: &Device) -> bool {
    device.is_connected().await.unwrap_or(false) && !device.is_paired().await.unwrap_or(true)
}

/// Switches the adapter on if it is off; whether it was. One that rfkill blocks is left alone:
/// somebody wants it.
pub(super) async fn switch_on(adapter: &Adapter) -> Result<bool, RadioFault> {
    let is_powered = in_time(adapter.is_powered())
        .await?
        .map_err(|error| RadioFault::of(&error, adapter.name(), "asking for its power"))?;
    if !is_powered {
        set_powered(adapter, true, "switching it on").await?;
    }
    Ok(!is_powered)
}

/// Switches the adapter off and on.
pub(super) async fn power_cycle(adapter: &Adapter) -> Result<(), RadioFault> {
    set_powered(adapter, false, "switching it off").await?;
    sleep(Duration::from_millis(OFF_MS)).await;
    set_powered(adapter, true, "switching it on").await
}

async fn set_powered(
    adapter: &Adapter,
    is_on: bool,
    during: &'static str,
) -> Result<(), RadioFault> {
    if is_on && is_blocked(Path::new(SWITCHES), adapter.name()) {
        return Err(RadioFault::Blocked(adapter.name().to_owned()));
    }
    in_time(adapter.set_powered(is_on))
        .await?
        .map_err(|error| RadioFault::of(&error, adapter.name(), during))
}

/// Why an adapter is off that had been on.
pub(super) fn switched_off(adapter: &Adapter) -> RadioFault {
    let name = adapter.name().to_owned();
    if is_blocked(Path::new(SWITCHES), &name) {
        RadioFault::Blocked(name)
    } else {
        RadioFault::PoweredOff(name)
    }
}

/// Whether rfkill blocks the adapter. BlueZ says so from its own record (5.66), or only that it
/// failed (5.82).
fn is_blocked(switches: &Path, adapter: &str) -> bool {
    let Ok(entries) = std::fs::read_dir(switches) else { return false };
    entries.flatten().any(|switch| {
        let says =
            |file: &str| std::fs::read_to_string(switch.path().join(file)).unwrap_or_default();
        says("name").trim() == adapter && (says("soft").trim() == "1" || says("hard").trim() == "1")
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_switch_blocks_its_own_adapter_only() {
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
