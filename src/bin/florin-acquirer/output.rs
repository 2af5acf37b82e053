//! Standard output, for people or for programs.

use std::io::{self, Write};

use anyhow::Context;
use florin::domain::UnixTime;
use serde_json::Value;

/// Standard output, for people or for programs.
pub struct Output {
    pub json: bool,
}

/// One item of a list: the object for programs, and the cells of its row for people.
pub type Item = (Value, Vec<String>);

impl Output {
    /// Prints one result.
    pub fn object(&self, value: &Value, text: impl FnOnce() -> String) -> anyhow::Result<()> {
        let line = if self.json { value.to_string() } else { text() };
        print(&[line])
    }

    /// Prints one object per line, or a table.
    pub fn list(&self, headings: &[&str], items: Vec<Item>) -> anyhow::Result<()> {
        let lines = if self.json {
            items.into_iter().map(|(value, _)| value.to_string()).collect()
        } else {
            let rows = items.into_iter().map(|(_, row)| row);
            let headings = headings.iter().map(|heading| (*heading).to_owned()).collect();
            table(std::iter::once(headings).chain(rows).collect())
        };
        print(&lines)
    }
}

fn print(lines: &[String]) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    let mut written = Ok(());
    for line in lines {
        written = written.and_then(|()| writeln!(stdout, "{line}"));
    }
    written.and_then(|()| stdout.flush()).context("cannot write to standard output")
}

/// Rows with columns of equal width.
fn table(rows: Vec<Vec<String>>) -> Vec<String> {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| {
        let lengths = rows.iter().map(|row: &Vec<String>| row[column].chars().count());
        lengths.max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// What stands in a row for nothing.
pub fn dash() -> String {
    "-".to_owned()
}

/// The time, or a dash.
pub fn time_or_dash(time: Option<UnixTime>) -> String {
    time.map_or_else(dash, |time| time.to_string())
}
