//! The rules of the house, read from the source: which room may know which, and what the pure ones
//! must not touch.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Which rooms each room may name. Arrows point one way (ARCHITECTURE.md).
const ROOMS: [(&str, &[&str]); 14] = [
    ("domain", &[]),
    ("protocol", &["domain"]),
    ("credential", &["domain"]),
    ("terminal", &["domain", "protocol", "credential"]),
    ("private_file", &[]),
    ("log", &[]),
    ("manual", &[]),
    (
        "wallet",
        &["domain", "protocol", "credential", "private_file", "bluetooth", "institution_api"],
    ),
    ("institution", &["domain", "protocol", "credential", "private_file", "institution_api"]),
    ("bluetooth", &["domain", "protocol", "terminal"]),
    ("journal", &["domain", "terminal", "private_file"]),
    ("relay", &["domain", "terminal", "institution_api"]),
    ("till", &["domain", "protocol", "terminal"]),
    (
        "service",
        &[
            "domain",
            "protocol",
            "credential",
            "terminal",
            "private_file",
            "bluetooth",
            "journal",
            "relay",
            "till",
            "institution_api",
        ],
    ),
];

/// Rooms, and files of others, that know no clock, socket, file, runtime or source of randomness.
const PURE: [&str; 5] =
    ["src/domain", "src/protocol", "src/credential", "src/terminal", "src/wallet/session"];

/// What a pure room must not name.
const IMPURE: [&str; 14] = [
    "tokio",
    "Instant::now",
    "SystemTime",
    "std::fs",
    "std::net",
    "std::env",
    "std::io",
    "std::thread",
    "OsRng",
    "from_os_rng",
    "thread_rng",
    "rand::",
    "rusqlite",
    "tonic",
];

fn source_files(directory: &Path) -> Vec<PathBuf> {
    if directory.is_file() {
        return vec![directory.to_owned()];
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(source_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The lines that are code: no comments, and nothing from the tests at a file's end.
fn code_lines(path: &Path) -> Vec<(usize, String)> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .enumerate()
        .take_while(|(_, line)| !line.starts_with("#[cfg(test)]"))
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .map(|(index, line)| (index + 1, line.to_owned()))
        .collect()
}

#[test]
fn every_room_names_only_rooms_below_it() {
    let allowed: BTreeMap<&str, &[&str]> = ROOMS.into_iter().collect();
    let mut faults = Vec::new();
    for (room, below) in &allowed {
        let directory = root().join("src").join(room);
        let files = if directory.is_dir() {
            source_files(&directory)
        } else {
            vec![root().join("src").join(format!("{room}.rs"))]
        };
        for path in files {
            for (number, line) in code_lines(&path) {
                for other in allowed.keys().filter(|other| *other != room && !below.contains(other))
                {
                    if line.contains(&format!("crate::{other}::"))
                        || line.contains(&format!("crate::{other};"))
                    {
                        faults.push(format!("{}:{number}: {room} names {other}", path.display()));
                    }
                }
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_room_is_known_to_this_test() {
    for entry in std::fs::read_dir(root().join("src")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let is_known = ["lib", "bin", "institution_api"].contains(&name.as_str())
            || ROOMS.iter().any(|(room, _)| *room == name);
        assert!(
            is_known,
            "src/{name} has no place in the house: give it one in ROOMS and ARCHITECTURE.md"
        );
    }
}

#[test]
fn the_pure_rooms_touch_no_clock_file_socket_runtime_or_randomness() {
    let mut faults = Vec::new();
    for place in PURE {
        for path in source_files(&root().join(place)) {
            for (number, line) in code_lines(&path) {
                for word in IMPURE.iter().filter(|word| line.contains(*word)) {
                    faults.push(format!("{}:{number}: {word}", path.display()));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn no_file_is_named_for_nothing() {
    for path in source_files(&root().join("src")) {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        for vague in ["utils", "util", "common", "helpers", "helper", "manager", "misc"] {
            assert_ne!(name, vague, "{}", path.display());
        }
    }
}

#[test]
fn every_file_says_what_it_is() {
    for path in source_files(&root().join("src")) {
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("//! "), "{} has no header", path.display());
    }
}
