//! The rules of the house, read from the source: which room may know which, what the core must not
//! touch, and what keeps the source readable. Each rule is shown to find what it is for.

// `tests/house --figures` shows what the tests print.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod house_plan;

use std::collections::BTreeMap;
use std::process::Command;

use house_plan::rules::{circles, homeless_files, impurities, wrong_arrows};
use house_plan::text::{
    COLUMNS_MAX, FUNCTION_LINES_MAX, count_functions, files, is_script, long_functions, long_lines,
    poor_docs,
};
use house_plan::tree::{ROOTS, Tree, from_disk, root};

/// Functions that may be longer than the rest, each with its reason. At most three.
const LONG_FUNCTIONS: [(&str, &str); 1] = [(
    "tests/vectors.rs: vectors",
    "one payment in the order in which it happens; the file that it makes has the same shape",
)];
/// The most crates below `florin-core`, without those that only build it.
const CORE_CRATES_MAX: usize = 85;
/// What must not be below `florin-core`: runtimes, sockets, clocks, and whatever builds C code.
const CORE_FORBIDDEN: [&str; 12] = [
    "bindgen",
    "bluer",
    "cc",
    "chrono",
    "cmake",
    "dbus",
    "pkg-config",
    "rand",
    "ring",
    "rusqlite",
    "time",
    "tokio",
];

fn house() -> Tree {
    Tree::read(&ROOTS, &from_disk)
}

fn assert_none(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn every_room_names_only_rooms_below_it() {
    let house = house();
    let references = house.references();
    let counted = references.iter().filter(|reference| reference.target.is_some()).count();
    assert!(counted > 3_000, "only {counted} names were understood");
    assert_none(&wrong_arrows(&references));
}

#[test]
fn every_file_has_a_room_and_every_source_is_read() {
    let house = house();
    assert_none(&homeless_files(&house));
    let for_tests = |file: &&String| {
        file.ends_with("tests.rs") || file.contains("/tests/") || file.contains("fixtures")
    };
    let unread: Vec<String> = files(&[".rs"])
        .into_iter()
        .filter(|file| file.starts_with("src/") || file.starts_with("core/src/"))
        .filter(|file| !house.files().contains(file) && !for_tests(&file))
        .collect();
    assert_none(&unread);
}

#[test]
fn the_core_touches_no_clock_file_socket_thread_or_randomness() {
    assert_none(&impurities(&house().references()));
}

/// The names of the crates below `florin-core`: `normal` for those in a program, with `build` for
/// those that build it too.
fn crates_below_the_core(edges: &str) -> Vec<String> {
    let listed = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "-p", "florin-core", "-e", edges])
        .args(["--prefix", "none", "--no-dedupe", "--format", "{p}"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(listed.status.success(), "cargo tree: {}", String::from_utf8_lossy(&listed.stderr));
    let text = String::from_utf8(listed.stdout).unwrap();
    let named = |line: &str| line.split(' ').take(2).collect::<Vec<_>>().join(" ");
    let mut names: Vec<String> = text.lines().map(named).filter(|name| !name.is_empty()).collect();
    names.sort();
    names.dedup();
    names
}

#[test]
fn the_core_has_few_crates_below_it_and_none_with_c_code_or_a_runtime() {
    let below = crates_below_the_core("normal");
    println!("crates below florin-core: {} (at most {CORE_CRATES_MAX})", below.len());
    assert!(below.len() > 10 && below.len() <= CORE_CRATES_MAX, "{} crates", below.len());
    for entry in crates_below_the_core("normal,build") {
        let name = entry.split(' ').next().unwrap();
        assert!(!CORE_FORBIDDEN.contains(&name), "{entry} is below florin-core");
    }
}

#[test]
fn no_files_name_each_other_in_a_circle() {
    let circles = circles(&house().references());
    println!("circles between files: {} (at most 0)", circles.len());
    let circles: Vec<String> = circles.iter().map(|circle| circle.join(", ")).collect();
    for circle in &circles {
        println!("  {circle}");
    }
    assert_none(&circles);
}

#[test]
fn no_file_is_named_for_nothing() {
    for file in files(&[".rs", ".py", ".sh"]) {
        let name = file.rsplit('/').next().unwrap().split('.').next().unwrap();
        for vague in ["utils", "util", "common", "helpers", "helper", "manager", "misc"] {
            assert_ne!(name, vague, "{file}");
        }
    }
}

#[test]
fn every_file_says_what_it_is() {
    let unsaid = |file: &String| !from_disk(file).unwrap().starts_with("//! ");
    assert_none(&files(&[".rs"]).into_iter().filter(unsaid).collect::<Vec<_>>());
}

#[test]
fn public_items_are_documented_in_more_than_a_word() {
    let mut faults = Vec::new();
    for file in files(&[".rs"]).iter().filter(|file| file.contains("src/")) {
        if !file.contains("fixtures") && !file.ends_with("tests.rs") {
            faults.extend(poor_docs(file, &from_disk(file).unwrap()));
        }
    }
    assert_none(&faults);
}

#[test]
fn lines_and_functions_are_short() {
    let long = all_long_lines();
    println!("source lines over {COLUMNS_MAX} columns: {} (at most 0)", long.len());
    assert_none(&long);
    let reasons: BTreeMap<&str, &str> = LONG_FUNCTIONS.into_iter().collect();
    let functions: usize =
        files(&[".rs"]).iter().map(|file| count_functions(&from_disk(file).unwrap())).sum();
    let found = all_long_functions();
    println!(
        "functions over {FUNCTION_LINES_MAX} lines: {} of {functions} (at most 3)",
        found.len()
    );
    for found in &found {
        println!("  {found} lines");
    }
    assert!(reasons.len() <= 3);
    let known = |found: &&String| {
        let (file, function) = found.split_once(": ").unwrap();
        let name = function.split(',').next().unwrap();
        reasons.contains_key(format!("{file}: {name}").as_str())
    };
    let (with_reason, without): (Vec<_>, Vec<_>) =
        found.into_iter().partition(|found| known(&found));
    assert_none(&without);
    assert_eq!(with_reason.len(), reasons.len(), "a reason for a function that is short now");
}

fn all_long_lines() -> Vec<String> {
    let mut sources = files(&[".rs", ".py", ".sh", ".mjs", ".js", ".ts", ".proto", ".sql", ".c"]);
    sources.extend(files(&[""]).into_iter().filter(|file| is_script(file)));
    let vectors = |file: &String| !file.starts_with("fuzz/seeds/");
    let in_file = |file: String| long_lines(&file, &from_disk(&file).unwrap_or_default());
    sources.into_iter().filter(vectors).flat_map(in_file).collect()
}

fn all_long_functions() -> Vec<String> {
    let in_file = |file: String| long_functions(&file, &from_disk(&file).unwrap());
    files(&[".rs"]).into_iter().flat_map(in_file).collect()
}

// ---- The rules find what they are for

/// A house of two crates, with a violation planted.
fn planted(files: &[(&str, &str)]) -> Tree {
    let mut texts: BTreeMap<String, String> = BTreeMap::new();
    for (file, text) in [
        ("core/src/lib.rs", "pub mod domain; pub mod terminal; pub mod wallet;"),
        ("core/src/domain/mod.rs", "mod amount; pub use amount::Amount;"),
        ("core/src/domain/amount.rs", "pub struct Amount;"),
        ("core/src/terminal/mod.rs", "mod engine; pub use engine::Terminal;"),
        ("core/src/terminal/engine.rs", "use crate::domain::Amount; pub struct Terminal(Amount);"),
        ("core/src/wallet/mod.rs", "mod card; pub use card::Card;"),
        ("core/src/wallet/card.rs", "pub struct Card;"),
        ("src/lib.rs", "pub mod journal; pub mod link; pub use florin_core::{domain, terminal};"),
        ("src/journal/mod.rs", "use crate::terminal::Terminal; pub struct Journal(Terminal);"),
        ("src/link/mod.rs", "pub struct Link;"),
    ]
    .iter()
    .chain(files)
    {
        texts.insert((*file).to_owned(), (*text).to_owned());
    }
    Tree::read(&ROOTS, &|path| texts.get(path).cloned())
}

#[test]
fn a_house_in_order_has_no_faults() {
    let house = planted(&[]);
    let references = house.references();
    assert!(references.iter().any(|found| {
        found.file == "src/journal/mod.rs"
            && found.target.as_deref() == Some("core/src/terminal/engine.rs")
    }));
    assert_none(&wrong_arrows(&references));
    assert_none(&impurities(&references));
    assert_none(&homeless_files(&house));
    assert!(circles(&references).is_empty());
}

#[test]
fn an_arrow_that_points_the_wrong_way_is_found_however_it_is_written() {
    for (file, text) in [
        ("src/journal/mod.rs", "#[cfg(test)] mod tests; use crate::link::Link;"),
        ("src/journal/mod.rs", "use crate::{link::Link as L};"),
        ("src/journal/mod.rs", "use crate::{link::{self}}; fn f(_: link::Link) {}"),
        ("src/journal/mod.rs", "use super::link; fn f(_: link::Link) {}"),
        ("src/journal/mod.rs", "use super::link::*;  fn f() { let _ = crate::link::Link; }"),
        ("src/journal/mod.rs", "fn f() { use crate::link::Link; }"),
        ("src/journal/mod.rs", "fn f() -> Option<crate::link::Link> { None }"),
        ("src/journal/mod.rs", "fn f() { println!(\"{}\", crate::link::Link); }"),
        ("src/journal/mod.rs", "pub use crate::link::Link;"),
        ("src/journal/mod.rs", "mod inner { use super::super::link::Link; }"),
        ("core/src/terminal/engine.rs", "use crate::{wallet::Card}; pub struct Terminal(Card);"),
        ("core/src/terminal/engine.rs", "use super::super::wallet::Card; pub struct Terminal;"),
        ("core/src/domain/amount.rs", "pub struct Amount(crate::terminal::Terminal);"),
    ] {
        let found = wrong_arrows(&planted(&[(file, text)]).references());
        assert!(!found.is_empty(), "not found in {file}: {text}");
    }
}

#[test]
fn an_impure_name_in_the_core_is_found_however_it_is_written() {
    for text in [
        "use std::fs; pub struct Card;",
        "use std::{fmt, fs::File}; pub struct Card;",
        "#[cfg(test)] mod tests { } pub fn f() { let _ = std::fs::read(\"x\"); }",
        "pub fn f() { let _ = std::time::Instant::now(); }",
        "use std::time::{Duration, SystemTime as Clock};",
        "pub fn f() { assert!(std::env::args().count() > 1); }",
        "mod inner { pub(super) use std::io::Write; }",
        "pub fn f(_: std::net::IpAddr) {}",
    ] {
        let found = impurities(&planted(&[("core/src/wallet/card.rs", text)]).references());
        assert!(!found.is_empty(), "not found: {text}");
    }
    let for_tests = "pub struct Card; #[cfg(test)] mod tests { use std::fs; }";
    assert_none(&impurities(&planted(&[("core/src/wallet/card.rs", for_tests)]).references()));
}

#[test]
fn a_circle_is_found_between_siblings_and_between_parent_and_child() {
    let siblings = planted(&[
        ("core/src/wallet/mod.rs", "mod card; mod record; pub use card::Card; pub use record::R;"),
        ("core/src/wallet/card.rs", "use super::R; pub struct Card(R);"),
        ("core/src/wallet/record.rs", "pub struct R; fn f(_: super::Card) {}"),
    ]);
    let found = circles(&siblings.references());
    assert_eq!(found, [["core/src/wallet/card.rs", "core/src/wallet/record.rs"]]);

    let parent = planted(&[
        ("core/src/wallet/mod.rs", "mod card; use card::Card; pub struct W(Card); pub struct N;"),
        ("core/src/wallet/card.rs", "use super::N; pub struct Card(N);"),
    ]);
    let found = circles(&parent.references());
    assert_eq!(found, [["core/src/wallet/card.rs", "core/src/wallet/mod.rs"]]);
}

#[test]
fn a_file_without_a_room_is_found() {
    let house = planted(&[("src/lib.rs", "pub mod attic;"), ("src/attic.rs", "")]);
    assert_eq!(homeless_files(&house).len(), 1);
}

#[test]
fn long_lines_long_functions_and_poor_docs_are_found() {
    assert_eq!(long_lines("f", &format!("{}\n{}", "ä".repeat(100), "a".repeat(101))), ["f:2"]);
    let function = |lines: usize| format!("fn f() {{\n{}}}", "a();\n".repeat(lines - 2));
    assert!(long_functions("f", &function(70)).is_empty());
    assert_eq!(long_functions("f", &function(71)), ["f: f, 71"]);
    let in_impl = format!("impl A {{\n{}\n}}", function(71));
    assert_eq!(long_functions("f", &in_impl), ["f: f, 71"]);
    for (text, count) in [
        ("#[derive(Debug, clap::Args)]\n/// Those.\nstruct A {\n/// Which.\nb: u8 }", 0),
        ("/// Says what it is.\npub struct A {\n/// Which it is.\npub b: u8 }", 1),
        ("pub struct A;", 1),
        ("/// Which.\npub struct A;", 1),
        ("/// Says what it is.\npub struct A { pub b: u8 }", 0),
        ("/// Says what it is.\npub struct A {\n/// Which.\npub b: u8 }", 1),
        ("struct A; impl A { pub fn f() {} }", 1),
        ("/// Says what it is.\npub enum A {\n/// That.\nB }", 1),
        ("#[cfg(test)] mod tests { pub struct A; }", 0),
    ] {
        assert_eq!(poor_docs("f", text).len(), count, "{text}");
    }
}
