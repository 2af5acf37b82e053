//! The rules of the house, over a tree of modules: each gives the places that break it.

use std::collections::{BTreeMap, BTreeSet};

use super::tree::{Reference, Tree};

/// Which rooms each room may name. Arrows point one way (ARCHITECTURE.md). That the core names no
/// room outside of it is the compiler's to hold.
pub const ROOMS: [(&str, &[&str]); 25] = [
    ("core/src/domain", &[]),
    ("core/src/protocol", &["core/src/domain"]),
    ("core/src/credential", &["core/src/domain"]),
    ("core/src/terminal", &CORE_RULES),
    ("core/src/wallet", &CORE_RULES),
    ("src/private_file", &["src/io_error_text"]),
    ("src/log", &[]),
    ("src/causes", &[]),
    ("src/plural", &[]),
    ("src/duration_text", &["src/plural"]),
    ("src/io_error_text", &[]),
    ("src/command_line", &["core/src/domain"]),
    ("src/manual", &[]),
    ("src/institution_api", &[]),
    ("src/institution_address", &[]),
    ("src/link", &["core/src"]),
    ("src/bluetooth", &["core/src", "src/link"]),
    ("src/journal", &["core/src", "src/private_file", "src/io_error_text"]),
    (
        "src/relay",
        &["core/src", "src/institution_api", "src/institution_address", "src/io_error_text"],
    ),
    ("src/till", &["core/src", "src/plural"]),
    (
        "src/wallet",
        &[
            "core/src",
            "src/private_file",
            "src/link",
            "src/institution_api",
            "src/institution_address",
        ],
    ),
    ("src/institution", &["core/src", "src/private_file", "src/institution_api"]),
    (
        "src/service",
        &[
            "core/src",
            "src/private_file",
            "src/link",
            "src/bluetooth",
            "src/journal",
            "src/relay",
            "src/till",
            "src/institution_api",
            "src/institution_address",
            "src/plural",
            "src/duration_text",
            "src/io_error_text",
        ],
    ),
    ("src/bin", &["core/src", "src"]),
    ("examples", &["core/src", "src"]),
];

const CORE_RULES: [&str; 3] = ["core/src/domain", "core/src/protocol", "core/src/credential"];

/// Files that belong to no room: they only name rooms.
pub const DOORS: [&str; 2] = ["core/src/lib.rs", "src/lib.rs"];

/// What the core must not name. It has no crate that could do such things; the standard library
/// can.
const IMPURE: [&str; 11] = [
    "std::env",
    "std::fs",
    "std::io",
    "std::net",
    "std::os",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    "std::hash::RandomState",
    "std::collections::hash_map::RandomState",
];

fn is_in(file: &str, place: &str) -> bool {
    file.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '.']))
}

fn room_of(file: &str) -> Option<&'static str> {
    ROOMS.iter().map(|(room, _)| *room).find(|room| is_in(file, room))
}

/// Names that a room must not know.
pub fn wrong_arrows(references: &[Reference]) -> Vec<String> {
    let mut faults = Vec::new();
    for reference in references {
        let (Some(room), Some(target)) = (room_of(&reference.file), &reference.target) else {
            continue;
        };
        let allowed = ROOMS.iter().find(|(name, _)| *name == room).unwrap().1;
        let is_right = is_in(target, room)
            || DOORS.contains(&target.as_str())
            || allowed.iter().any(|place| is_in(target, place));
        if !is_right {
            let Reference { file, line, path, .. } = reference;
            faults
                .push(format!("{file}:{line}: {path} is in {target}, which {room} must not know"));
        }
    }
    faults
}

/// Files without a room.
pub fn homeless_files(tree: &Tree) -> Vec<String> {
    let is_homeless = |file: &&String| room_of(file).is_none() && !DOORS.contains(&file.as_str());
    let say = |file: &String| format!("{file} has no place in the house: give it one in ROOMS");
    tree.files().iter().filter(is_homeless).map(say).collect()
}

/// What the core names of clocks, files, sockets, threads and randomness.
pub fn impurities(references: &[Reference]) -> Vec<String> {
    let in_core = |reference: &&Reference| is_in(&reference.file, "core/src");
    let mut faults = Vec::new();
    for Reference { file, line, path, .. } in references.iter().filter(in_core) {
        let plain = path.replacen("core::", "std::", 1).replacen("alloc::", "std::", 1);
        if IMPURE.iter().any(|word| plain == *word || plain.starts_with(&format!("{word}::"))) {
            faults.push(format!("{file}:{line}: {path}"));
        }
    }
    faults
}

/// Groups of files that name each other in a circle. A re-export is no naming.
pub fn circles(references: &[Reference]) -> Vec<Vec<String>> {
    let mut edges: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for reference in references.iter().filter(|reference| !reference.is_reexport) {
        if let Some(target) = reference.target.as_deref().filter(|to| *to != reference.file) {
            edges.entry(&reference.file).or_default().insert(target);
        }
    }
    let reached: BTreeMap<&str, BTreeSet<&str>> =
        edges.keys().map(|file| (*file, reachable(&edges, file))).collect();
    let mut circles: BTreeSet<Vec<String>> = BTreeSet::new();
    for (file, from_here) in &reached {
        let together: Vec<String> = from_here
            .iter()
            .filter(|other| reached.get(*other).is_some_and(|back| back.contains(file)))
            .map(|other| (*other).to_owned())
            .collect();
        if together.len() > 1 {
            circles.insert(together);
        }
    }
    circles.into_iter().collect()
}

fn reachable<'tree>(
    edges: &BTreeMap<&'tree str, BTreeSet<&'tree str>>,
    start: &str,
) -> BTreeSet<&'tree str> {
    let mut reached = BTreeSet::new();
    let mut waiting: Vec<&str> = edges.get(start).into_iter().flatten().copied().collect();
    while let Some(file) = waiting.pop() {
        if reached.insert(file) {
            waiting.extend(edges.get(file).into_iter().flatten());
        }
    }
    reached
}
