//! The documents: the demo prints what README.md shows, links lead somewhere, and the glossary is
//! in order.

#![allow(clippy::unwrap_used)]

mod page;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Directories without documents of this project.
const ELSEWHERE: [&str; 3] = ["target", ".git", "node_modules"];

#[cfg(all(feature = "terminal", feature = "wallet", feature = "institution"))]
#[test]
fn the_demo_prints_what_the_readme_says() {
    let blocks = page::code_blocks(&page::read("README.md"));
    let is_demo = |block: &&page::Block| block.lines[0].starts_with("Paying ");
    let block = blocks.iter().find(is_demo).expect("README.md shows what the demo prints");
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_florin"))
        .arg("demo")
        .env_remove("RUST_LOG")
        .output()
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{printed}{}", String::from_utf8_lossy(&output.stderr));
    let masked = |lines: Vec<&str>| lines.into_iter().map(mask).collect::<Vec<_>>().join("\n");
    let shown = masked(block.lines.iter().map(String::as_str).collect());
    let actual = masked(printed.lines().collect());
    assert_eq!(
        actual, shown,
        "README.md:{} shows something else; a real run printed\n\n{printed}",
        block.first_line
    );
}

/// A line of the demo without what differs from run to run: times, codes, and the directory.
#[cfg(all(feature = "terminal", feature = "wallet", feature = "institution"))]
fn mask(line: &str) -> String {
    let mut words: Vec<&str> = Vec::new();
    for word in line.trim_start().split(' ') {
        let masked = match words.last_mut() {
            Some(&mut "code") => "CODE",
            Some(&mut "in") if word.starts_with('/') => "DIRECTORY",
            Some(number) if word == "ms" => {
                number.parse::<f64>().unwrap();
                *number = "0.0";
                "ms"
            }
            _ if word.parse::<florin::domain::UnixTime>().is_ok() => "TIME",
            _ => word,
        };
        words.push(masked);
    }
    words.join(" ")
}

#[test]
fn every_link_between_the_documents_leads_somewhere() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let documents = documents_below(&root);
    assert!(documents.len() >= 10, "only {} documents were found", documents.len());
    let mut faults = Vec::new();
    for document in &documents {
        let text = std::fs::read_to_string(document).unwrap();
        for target in links(&text) {
            if target.contains("://") {
                continue;
            }
            let (path, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let file = if path.is_empty() {
                document.clone()
            } else {
                document.parent().unwrap().join(path)
            };
            let leads_somewhere = if anchor.is_empty() {
                file.exists()
            } else {
                std::fs::read_to_string(&file).is_ok_and(|text| anchors(&text).contains(anchor))
            };
            if !leads_somewhere {
                faults.push(format!("{}: {target}", document.display()));
            }
        }
    }
    assert!(faults.is_empty(), "these links lead nowhere:\n{}", faults.join("\n"));
}

fn documents_below(directory: &Path) -> Vec<PathBuf> {
    let mut documents = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && !ELSEWHERE.contains(&name.as_str()) {
            documents.extend(documents_below(&path));
        } else if name.ends_with(".md") {
            documents.push(path);
        }
    }
    documents
}

/// The targets of all `[words](target)` outside of code blocks.
fn links(text: &str) -> Vec<String> {
    let mut is_code = false;
    let mut targets = Vec::new();
    for line in text.lines() {
        is_code ^= line.trim_start().starts_with("```");
        if is_code {
            continue;
        }
        for part in line.split("](").skip(1) {
            targets.push(part.split(')').next().unwrap().to_owned());
        }
    }
    targets
}

/// What the headings of a document can be linked by: small letters, hyphens for spaces, no other
/// punctuation.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut is_code = false;
    let mut anchors = BTreeSet::new();
    for line in text.lines() {
        is_code ^= line.trim_start().starts_with("```");
        let title = line.trim_start_matches('#');
        if is_code || title == line || !title.starts_with(' ') {
            continue;
        }
        let kept = |character: &char| character.is_alphanumeric() || " -_".contains(*character);
        let anchor = title.trim().to_lowercase().chars().filter(kept).collect::<String>();
        anchors.insert(anchor.replace(' ', "-"));
    }
    anchors
}

#[test]
fn a_link_without_a_target_is_noticed() {
    let text = "# A title: one\n[a](#a-title-one) [b](x.md#y)\n```\n[c](d)\n# e\n```\n";
    assert_eq!(links(text), ["#a-title-one", "x.md#y"]);
    assert_eq!(anchors(text), BTreeSet::from(["a-title-one".to_owned()]));
}

#[test]
fn the_glossary_is_in_alphabetical_order_and_every_term_has_a_source() {
    let text = page::read("GLOSSARY.md");
    let mut terms: Vec<(&str, String)> = Vec::new();
    for line in text.lines() {
        match (line.strip_prefix("### "), terms.last_mut()) {
            (Some(term), _) => terms.push((term, String::new())),
            (None, Some((_, words))) => words.push_str(&format!("{line}\n")),
            (None, None) => {}
        }
    }
    assert!(terms.len() >= 80, "only {} terms were found", terms.len());
    for pair in terms.windows(2) {
        let (first, second) = (pair[0].0.to_lowercase(), pair[1].0.to_lowercase());
        assert!(first < second, "`{first}` stands before `{second}`");
    }
    for (term, words) in &terms {
        assert!(words.contains("\n*Source:* "), "`{term}` has no source");
    }
}

#[test]
fn every_test_that_the_threat_model_names_exists() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let named = tests_named(&page::read("docs/threat-model.md"));
    assert!(named.len() >= 40, "only {} tests are named", named.len());
    let mut sources = String::new();
    for folder in ["core", "src", "tests", "examples", "fuzz"] {
        sources.push_str(&sources_below(&root.join(folder)));
    }
    let is_missing = |name: &&String| {
        let name = name.replace('-', "_");
        !sources.contains(&format!("fn {name}(")) && !sources.contains(&format!("def {name}("))
    };
    let missing: Vec<&String> = named.iter().filter(is_missing).collect();
    assert!(missing.is_empty(), "docs/threat-model.md names tests that do not exist: {missing:?}");
}

/// The words in backquotes of the last column of each table.
fn tests_named(text: &str) -> BTreeSet<String> {
    let mut named = BTreeSet::new();
    for line in text.lines().filter(|line| line.starts_with('|')) {
        let column = line.trim_end_matches('|').rsplit('|').next().unwrap_or_default();
        named.extend(column.split('`').skip(1).step_by(2).map(str::to_owned));
    }
    named
}

/// All Rust and Python sources below a directory, as one text.
fn sources_below(directory: &Path) -> String {
    let mut text = String::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && !ELSEWHERE.contains(&name.as_str()) {
            text.push_str(&sources_below(&path));
        } else if name.ends_with(".rs") || name.ends_with(".py") {
            text.push_str(&std::fs::read_to_string(&path).unwrap());
        }
    }
    text
}
