//! BlueZ's main.conf against what deploy/bluetooth-main.conf asks for. BlueZ does not show its
//! settings, so the file is read.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Finding;
use crate::bluetooth::BLUEZ_GATT_CLIENT_SETTING_SINCE;
use crate::io_error_text::io_error_text;

const PATH: &str = "/etc/bluetooth/main.conf";
/// The file that is shipped, so that the doctor asks for nothing else.
const WANTED: &str = include_str!("../../../deploy/bluetooth-main.conf");
/// Settings that only newer versions of BlueZ have: section, key, and the first version.
const SINCE: [(&str, &str, (u8, u8)); 1] = [("GATT", "Client", BLUEZ_GATT_CLIENT_SETTING_SINCE)];
/// Section and key that must not be set: Florin reads BlueZ's version from its default.
const UNWANTED: (&str, &str) = ("General", "DeviceID");
const CHECK: &str = "bluez_settings";
/// How much later than the kernel's figures say a process may have been started, in seconds: both
/// figures are cut to whole seconds.
const INEXACT_S: u64 = 2;

/// By section and key.
type Settings = BTreeMap<(String, String), String>;

/// Reads the file and compares.
pub(super) fn examine(bluez_version: Option<(u8, u8)>) -> Finding {
    let text = match std::fs::read_to_string(PATH) {
        Ok(text) => text,
        Err(error) => {
            return Finding::advice(
                CHECK,
                format!(
                    "cannot read {PATH} ({}); put the lines of deploy/bluetooth-main.conf there",
                    io_error_text(&error)
                ),
            );
        }
    };
    let differences = differences(&text, bluez_version);
    if !differences.is_empty() {
        return Finding::advice(
            CHECK,
            format!(
                "{PATH}: {}. Change it (deploy/bluetooth-main.conf has the reasons), then \
                 `systemctl restart bluetooth`",
                differences.join("; ")
            ),
        );
    }
    let changed_at = std::fs::metadata(PATH).and_then(|metadata| metadata.modified());
    match (changed_at, started_at("bluetoothd")) {
        (Ok(changed_at), Some(started_at))
            if changed_at > started_at + Duration::from_secs(INEXACT_S) =>
        {
            Finding::advice(
                CHECK,
                format!(
                    "{PATH} was changed after bluetoothd was started: `systemctl restart bluetooth`"
                ),
            )
        }
        (Ok(_) | Err(_), Some(_) | None) => {
            Finding::fine(CHECK, format!("{PATH} is as Florin wants it"))
        }
    }
}

/// The settings that are not as they should be, one text for each.
fn differences(text: &str, bluez_version: Option<(u8, u8)>) -> Vec<String> {
    let found = read(text);
    let is_known = |section: &str, key: &str| {
        let since = SINCE.iter().find(|(of, name, _)| (*of, *name) == (section, key));
        since.is_none_or(|(_, _, since)| bluez_version.is_none_or(|version| version >= *since))
    };
    let mut differences: Vec<String> = read(WANTED)
        .into_iter()
        .filter(|((section, key), _)| is_known(section, key))
        .filter_map(|((section, key), wanted)| match found.get(&(section.clone(), key.clone())) {
            Some(value) if *value == wanted => None,
            Some(value) => Some(format!("[{section}] {key} is {value}, should be {wanted}")),
            None => Some(format!("[{section}] {key} is not set, should be {wanted}")),
        })
        .collect();
    if found.contains_key(&(UNWANTED.0.to_owned(), UNWANTED.1.to_owned())) {
        differences.push(format!("[{}] {} is set, and should not be", UNWANTED.0, UNWANTED.1));
    }
    differences
}

/// Reads a key file as GLib does: the last of several lines with the same key counts.
fn read(text: &str) -> Settings {
    let mut settings = Settings::new();
    let mut section = String::new();
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name.to_owned();
        } else if let Some((key, value)) = line.split_once('=') {
            settings.insert((section.clone(), key.trim().to_owned()), value.trim().to_owned());
        }
    }
    settings
}

/// When the process of that name was started, if there is one that this user may see.
fn started_at(name: &str) -> Option<SystemTime> {
    let processes = std::fs::read_dir("/proc").ok()?;
    let stat = processes.flatten().find_map(|process| {
        let is_it = std::fs::read_to_string(process.path().join("comm")).ok()?.trim_end() == name;
        is_it.then(|| std::fs::read_to_string(process.path().join("stat")).ok()).flatten()
    })?;
    let boot = std::fs::read_to_string("/proc/stat").ok()?;
    start_time(&stat, &boot, rustix::param::clock_ticks_per_second())
}

/// From `/proc/PID/stat` and `/proc/stat` (proc(5)).
fn start_time(stat: &str, boot: &str, ticks_per_second: u64) -> Option<SystemTime> {
    // The second field is the name in parentheses, which may hold blanks; the start time is field
    // 22.
    let (_, after_name) = stat.rsplit_once(')')?;
    let ticks: u64 = after_name.split_whitespace().nth(19)?.parse().ok()?;
    let booted = boot.lines().find_map(|line| line.strip_prefix("btime "))?;
    let since_boot = Duration::from_secs(ticks.checked_div(ticks_per_second)?);
    Some(UNIX_EPOCH + Duration::from_secs(booted.trim().parse().ok()?) + since_boot)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shipped_has_no_differences_from_itself() {
        assert_eq!(differences(WANTED, Some((5, 82))), Vec::<String>::new());
        assert_eq!(read(WANTED).len(), 8);
    }

    #[test]
    fn what_is_missing_or_other_is_named_with_its_section() {
        let commented = WANTED.replace("ReverseServiceDiscovery", "#ReverseServiceDiscovery");
        assert_eq!(
            differences(&commented, None),
            ["[General] ReverseServiceDiscovery is not set, should be false"]
        );
        let other = WANTED.replace("MaxConnectionInterval = 24", "MaxConnectionInterval=40");
        assert_eq!(differences(&other, None), ["[LE] MaxConnectionInterval is 40, should be 24"]);
        // In another section it does not count.
        let elsewhere = WANTED.replace("[GATT]", "[Policy]");
        assert_eq!(
            differences(&elsewhere, Some((5, 82))),
            ["[GATT] Client is not set, should be false"]
        );
        assert_eq!(
            differences(&elsewhere, Some((5, 66))),
            Vec::<String>::new(),
            "5.66 has no such key"
        );
        assert_eq!(differences("", Some((5, 66))).len(), 7);
        let with_id = format!("{WANTED}\n[General]\nDeviceID = false\n");
        assert_eq!(differences(&with_id, None), ["[General] DeviceID is set, and should not be"]);
    }

    #[test]
    fn a_process_start_is_read_where_its_name_has_blanks() {
        let stat =
            "812 (blue tooth) d) S 1 812 812 0 -1 4194560 1 0 0 0 2 3 0 0 20 0 1 0 250 1 2 3";
        let boot = "cpu 1 2 3\nbtime 1000\nprocesses 5\n";
        assert_eq!(start_time(stat, boot, 100), Some(UNIX_EPOCH + Duration::from_secs(1002)));
        assert_eq!(start_time("nonsense", boot, 100), None);
        assert_eq!(start_time(stat, "", 100), None);
    }

    #[test]
    fn this_process_was_started_before_now() {
        let own = std::fs::read_to_string("/proc/self/comm").unwrap();
        assert!(started_at(own.trim_end()).unwrap() <= SystemTime::now() + Duration::from_secs(1));
    }
}
