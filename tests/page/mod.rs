//! A page of documentation: its code blocks, as they stand in Markdown.

use std::path::PathBuf;

/// A fenced code block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// What the fence says: `sh`, `text`, ...
    pub language: String,
    /// The lines between the fences.
    pub lines: Vec<String>,
    /// The number of the first of them in the page, from 1.
    pub first_line: usize,
}

/// The text of a page, by its path in the repository.
pub fn read(path: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All its fenced code blocks, in order.
pub fn code_blocks(page: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for (index, line) in page.lines().enumerate() {
        open = match (open, line.strip_prefix("```")) {
            (None, Some(language)) => {
                let language = language.to_owned();
                Some(Block { language, lines: Vec::new(), first_line: index + 2 })
            }
            (None, None) => None,
            (Some(block), Some(_)) => {
                blocks.push(block);
                None
            }
            (Some(mut block), None) => {
                block.lines.push(line.to_owned());
                Some(block)
            }
        };
    }
    assert!(open.is_none(), "a code block has no end");
    blocks
}
