//! Where in a TOML file something is: line, column and key, for messages.

use std::fmt;

/// Where in a file something is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// With its table: `till.listen`. Empty where no key is meant.
    pub key: String,
}

impl fmt::Display for Place {
    /// Prints `3:9: till.listen`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.line, self.column)?;
        if self.key.is_empty() { Ok(()) } else { write!(formatter, ": {}", self.key) }
    }
}

/// Where the octet at `offset` is: its line and column, and the key of that line with the table
/// above it.
pub(super) fn place(text: &str, offset: usize) -> Place {
    let offset =
        (0..=offset.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    let before = &text[..offset];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = text[line_start..].lines().next().unwrap_or_default();
    let key = line.split_once('=').map(|(key, _)| key.trim()).filter(|key| !key.starts_with('#'));
    let table = text[..line_start].lines().rev().find_map(|line| {
        let line = line.trim();
        line.strip_prefix('[').and_then(|rest| rest.split_once(']')).map(|(table, _)| table.trim())
    });
    let key = match (table, key) {
        (Some(table), Some(key)) => format!("{table}.{key}"),
        (None, Some(key)) => key.to_owned(),
        (_, None) => String::new(),
    };
    Place {
        line: before.matches('\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
        key,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_place_has_its_line_column_and_key() {
        let text = "[till]\n\nlisten = 7\n";
        assert_eq!(place(text, text.find('7').unwrap()).to_string(), "3:10: till.listen");
        assert_eq!(place("é = 1", 2).to_string(), "1:2: é");
        assert_eq!(place("", 0).to_string(), "1:1");
    }

    proptest! {
        #[test]
        fn every_offset_into_any_text_has_a_place(text: String) {
            for offset in 0..text.len() + 2 {
                let _ = place(&text, offset);
            }
        }
    }
}
