//! docs/by-hand.md, word for word: its shell blocks run in one shell in an empty directory, and
//! print what the page says.

#![cfg(all(feature = "terminal", feature = "wallet", feature = "institution", unix))]
#![allow(clippy::unwrap_used)]

mod page;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

/// How long the whole page may take, in seconds. On an idle machine it takes one.
const TIMEOUT_S: u64 = 120;
/// What stands between the marks differs from run to run.
const MARKS: (char, char) = ('‹', '›');
/// Ends a line that may be missing.
const OR_NOT: &str = "  ‹or not›";
/// The shell prints this between the output of one block and of the next.
const DIVIDER: &str = "====== end of a block of the page ======";

/// A shell block, and what it prints.
#[derive(Debug, Default)]
struct Step {
    commands: Vec<String>,
    expected: Vec<String>,
    first_line: usize,
}

#[test]
fn the_commands_of_the_page_print_what_the_page_says() {
    let steps = steps(&page::read("docs/by-hand.md"));
    assert!(steps.len() >= 12, "only {} shell blocks were found", steps.len());
    let printed = run(&steps);
    let mut known = BTreeMap::new();
    for (step, printed) in steps.iter().zip(&printed) {
        if let Err(difference) = compare(&step.expected, printed, &mut known) {
            panic!(
                "docs/by-hand.md:{}: {}\n{difference}\nAll that was printed:\n{}\n",
                step.first_line,
                step.commands.join("\n"),
                printed.join("\n")
            );
        }
    }
    assert_eq!(printed.len(), steps.len(), "the shell stopped early: {printed:#?}");
}

/// Each `sh` block with the `text` block that follows it; without one it prints nothing. The
/// `console` block builds the programs, which cargo has done for this test.
fn steps(page: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for block in page::code_blocks(page) {
        match block.language.as_str() {
            "sh" => steps.push(Step {
                commands: block.lines,
                expected: Vec::new(),
                first_line: block.first_line,
            }),
            "text" => {
                let step = steps.last_mut().expect("output comes after commands");
                assert!(step.expected.is_empty(), "two outputs for one block of commands");
                step.expected = block.lines;
            }
            "console" => {}
            other => panic!("line {}: what is a block of `{other}`?", block.first_line),
        }
    }
    steps
}

/// Kills the shell and everything that it started.
struct Shell(Child);

impl Drop for Shell {
    fn drop(&mut self) {
        if let Some(group) = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.0.wait();
    }
}

/// Runs all steps in one shell; what each of them printed, on both outputs. A command that fails
/// ends the shell and the test.
fn run(steps: &[Step]) -> Vec<Vec<String>> {
    let directory = tempfile::tempdir().unwrap();
    let script: String = steps
        .iter()
        .map(|step| format!("{}\nprintf '%s\\n' '{DIVIDER}'\n", step.commands.join("\n")))
        .collect();
    fs::write(directory.path().join("page.sh"), script).unwrap();
    let output = directory.path().join("output.txt");
    let file = fs::File::create(&output).unwrap();
    let programs = Path::new(env!("CARGO_BIN_EXE_florin")).parent().unwrap();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let mut command = Command::new("bash");
    command.args(["-e", "-o", "pipefail", "page.sh"]).current_dir(directory.path());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("FLORIN_") {
            command.env_remove(name);
        }
    }
    command.env_remove("RUST_LOG").env("PATH", path).env("HOME", directory.path());
    command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file).process_group(0);
    let mut shell = Shell(command.spawn().unwrap());
    let end = Instant::now() + Duration::from_secs(TIMEOUT_S);
    let status = loop {
        match shell.0.try_wait().unwrap() {
            Some(status) => break Some(status),
            None if Instant::now() > end => break None,
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    let text = fs::read_to_string(&output).unwrap();
    match status {
        None => panic!("the page was not through after {TIMEOUT_S} s; it printed:\n{text}"),
        Some(status) if !status.success() => panic!("a command failed; printed was:\n{text}"),
        Some(_) => {}
    }
    let mut printed = vec![Vec::new()];
    for line in text.lines() {
        if line == DIVIDER {
            printed.push(Vec::new());
        } else {
            printed.last_mut().unwrap().push(line.to_owned());
        }
    }
    let after_the_last = printed.pop().unwrap();
    assert!(after_the_last.is_empty(), "{after_the_last:?}");
    printed
}

/// Holds what was printed against the page. `known` has what stood in the marks so far: the page's
/// text, and what was printed in its place.
fn compare(
    expected: &[String],
    printed: &[String],
    known: &mut BTreeMap<String, String>,
) -> Result<(), String> {
    let mut printed = printed.iter();
    let mut next = printed.next();
    for line in expected {
        let (pattern, may_be_missing) = match line.strip_suffix(OR_NOT) {
            Some(pattern) => (pattern, true),
            None => (line.as_str(), false),
        };
        let Some(actual) = next else {
            if may_be_missing {
                continue;
            }
            return Err(format!("the page says\n  {pattern}\nand nothing more was printed"));
        };
        match fit(pattern, actual, known) {
            Ok(()) => next = printed.next(),
            Err(_) if may_be_missing => {}
            Err(why) => {
                return Err(format!(
                    "the page says\n  {pattern}\nand printed was\n  {actual}\n{why}"
                ));
            }
        }
    }
    match next {
        None => Ok(()),
        Some(line) => Err(format!("the page does not say\n  {line}")),
    }
}

/// Whether a printed line is the page's line, but for what is marked.
fn fit(
    pattern: &str,
    actual: &str,
    known: &mut BTreeMap<String, String>,
) -> Result<(), &'static str> {
    let mut found = BTreeMap::new();
    let (literal, mut pattern) = pattern.split_once(MARKS.0).unwrap_or((pattern, ""));
    let mut actual = actual.strip_prefix(literal).ok_or("the words differ")?;
    while !pattern.is_empty() {
        let (sample, rest) = pattern.split_once(MARKS.1).ok_or("a mark has no end")?;
        let (literal, rest) = rest.split_once(MARKS.0).unwrap_or((rest, ""));
        let end = if literal.is_empty() { Some(actual.len()) } else { actual.find(literal) };
        let (value, after) = actual.split_at(end.ok_or("the words differ")?);
        if shape(value) != shape(sample) {
            return Err("what is marked has another form");
        }
        let before = found.get(sample).or_else(|| known.get(sample));
        if !is_time(sample) && before.is_some_and(|before| before != value) {
            return Err("what is marked stood elsewhere with another value");
        }
        found.insert(sample.to_owned(), value.to_owned());
        (actual, pattern) = (&after[literal.len()..], rest);
        if pattern.is_empty() && !actual.is_empty() {
            return Err("the words differ at the end");
        }
    }
    known.append(&mut found);
    Ok(())
}

/// A moment such as `2026-11-27T10:22:30Z`, or a length of time such as `0 s`.
fn is_time(sample: &str) -> bool {
    sample.contains(':') || sample.contains(' ')
}

/// Letters and digits become one `x`; all else stays: `x-x-x` for a code, `x` for a port.
fn shape(text: &str) -> String {
    let mut shape = String::new();
    for character in text.chars() {
        if !character.is_ascii_alphanumeric() {
            shape.push(character);
        } else if !shape.ends_with('x') {
            shape.push('x');
        }
    }
    shape
}

#[test]
fn other_words_another_value_a_missing_and_a_further_line_are_noticed() {
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let page =
        lines("terminal ‹A1›, code ‹B2›\nseen  ‹or not›\nterminal ‹A1› at ‹10:00›, ‹10:00›.");
    let holds = |printed: &str| compare(&page, &lines(printed), &mut BTreeMap::new());
    holds("terminal C3, code D4\nseen\nterminal C3 at 11:22, 11:23.").unwrap();
    holds("terminal C3, code D4\nterminal C3 at 11:22, 11:23.").unwrap();
    for (printed, why) in [
        ("terminals C3, code D4\nterminal C3 at 11:22, 11:23.", "the words differ"),
        ("terminal C3, code D4\nterminal X9 at 11:22, 11:23.", "another value"),
        ("terminal C3, code D-4\nterminal C3 at 11:22, 11:23.", "another form"),
        ("terminal C3, code \nterminal C3 at 11:22, 11:23.", "another form"),
        ("terminal C3, code D4\nterminal C3 at 11:22, 11:23", "the words differ"),
        ("terminal C3, code D4\nterminal C3 at 11:22, 11:23. Or so", "at the end"),
        ("terminal C3, code D4\nseen", "nothing more was printed"),
        ("terminal C3, code D4\nterminal C3 at 11:22, 11:23.\nmore", "does not say"),
    ] {
        let difference = holds(printed).unwrap_err();
        assert!(difference.contains(why), "{printed}: {difference}");
    }
}
