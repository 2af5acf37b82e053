//! Rules that are about a file's own text: headers, names, docs, the length of lines and functions.

use std::path::Path;
use std::process::Command;

use proc_macro2::Span;
use quote::ToTokens;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Attribute, Expr, Item, Lit, Meta, Visibility};

use super::tree::{attributes, is_for_tests, root};

/// The longest function, in lines, from `fn` to its last brace.
pub const FUNCTION_LINES_MAX: usize = 70;
/// The longest line, in columns.
pub const COLUMNS_MAX: usize = 100;
/// A doc comment of fewer words only repeats the name, unless it gives a form or a figure.
const ITEM_WORDS_MIN: usize = 3;
/// The same for fields and variants, whose names say more. What clap prints as help is for people.
const MEMBER_WORDS_MIN: usize = 4;

/// Files that git knows, or would, with one of these endings.
pub fn files(endings: &[&str]) -> Vec<String> {
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(listed.status.success(), "git ls-files: {}", String::from_utf8_lossy(&listed.stderr));
    let is_wanted = |file: &&str| {
        endings.iter().any(|ending| file.ends_with(ending)) && root().join(file).is_file()
    };
    String::from_utf8(listed.stdout).unwrap().lines().filter(is_wanted).map(Into::into).collect()
}

/// Is the file a program's source, by its first line?
pub fn is_script(file: &str) -> bool {
    let text = std::fs::read(root().join(file)).unwrap_or_default();
    Path::new(file).extension().is_none() && text.starts_with(b"#!")
}

/// Lines that are too long, as `file:line`.
pub fn long_lines(file: &str, text: &str) -> Vec<String> {
    text.lines()
        .enumerate()
        .filter(|(_, line)| line.chars().count() > COLUMNS_MAX)
        .map(|(index, _)| format!("{file}:{}", index + 1))
        .collect()
}

/// Functions that are too long, as `file: name, lines`.
pub fn long_functions(file: &str, text: &str) -> Vec<String> {
    let parsed = syn::parse_file(text).unwrap_or_else(|error| panic!("{file}: {error}"));
    let mut finder = LongFunctions { file, found: Vec::new(), count: 0 };
    finder.visit_file(&parsed);
    finder.found
}

/// How many functions there are.
pub fn count_functions(text: &str) -> usize {
    let mut finder = LongFunctions { file: "", found: Vec::new(), count: 0 };
    finder.visit_file(&syn::parse_file(text).unwrap());
    finder.count
}

struct LongFunctions<'file> {
    file: &'file str,
    found: Vec<String>,
    count: usize,
}

impl LongFunctions<'_> {
    fn measure(&mut self, name: &syn::Ident, signature: Span, block: Span) {
        self.count += 1;
        let lines = block.end().line - signature.start().line + 1;
        if lines > FUNCTION_LINES_MAX {
            self.found.push(format!("{}: {name}, {lines}", self.file));
        }
    }
}

impl<'ast> Visit<'ast> for LongFunctions<'_> {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.measure(&item.sig.ident, item.sig.span(), item.block.span());
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.measure(&item.sig.ident, item.sig.span(), item.block.span());
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.measure(&item.sig.ident, item.sig.span(), block.span());
        }
        visit::visit_trait_item_fn(self, item);
    }
}

/// Public items without a doc comment, and doc comments that only repeat a name. Accessors, fields
/// and variants may explain themselves.
pub fn poor_docs(file: &str, text: &str) -> Vec<String> {
    let parsed = syn::parse_file(text).unwrap_or_else(|error| panic!("{file}: {error}"));
    let mut finder = PoorDocs { file, found: Vec::new() };
    finder.visit_file(&parsed);
    finder.found
}

struct PoorDocs<'file> {
    file: &'file str,
    found: Vec<String>,
}

impl PoorDocs<'_> {
    fn check(&mut self, name: &syn::Ident, visibility: &Visibility, attributes: &[Attribute]) {
        let doc = doc_of(attributes);
        // A program's own items are nobody's interface.
        let is_public =
            matches!(visibility, Visibility::Public(_)) && !self.file.starts_with("src/bin/");
        let line = name.span().start().line;
        if is_public && doc.is_empty() {
            self.found.push(format!("{}:{line}: {name} has no doc comment", self.file));
        }
        self.check_words(name, &doc, ITEM_WORDS_MIN);
    }

    fn check_words(&mut self, name: &syn::Ident, doc: &str, words_min: usize) {
        let is_form = doc.contains(|mark: char| mark == '`' || mark.is_ascii_digit());
        if !doc.is_empty() && !is_form && doc.split_whitespace().count() < words_min {
            let line = name.span().start().line;
            self.found.push(format!("{}:{line}: {name} is only \"{doc}\"", self.file));
        }
    }
}

/// Does clap make help of the doc comments?
fn is_help(attributes: &[Attribute]) -> bool {
    attributes.iter().filter(|attribute| attribute.path().is_ident("derive")).any(|attribute| {
        let derived = attribute.meta.to_token_stream().to_string();
        ["Args", "Parser", "Subcommand", "ValueEnum"].iter().any(|name| derived.contains(name))
    })
}

fn doc_of(attributes: &[Attribute]) -> String {
    let mut doc = String::new();
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("doc")) {
        if let Meta::NameValue(meta) = &attribute.meta
            && let Expr::Lit(literal) = &meta.value
            && let Lit::Str(text) = &literal.lit
        {
            doc.push_str(&text.value());
        }
    }
    doc.trim().to_owned()
}

impl<'ast> Visit<'ast> for PoorDocs<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        if is_for_tests(attributes(item)) {
            return;
        }
        match item {
            Item::Struct(_) | Item::Enum(_) if is_help(attributes(item)) => return,
            Item::Const(item) => self.check(&item.ident, &item.vis, &item.attrs),
            Item::Enum(item) => self.check(&item.ident, &item.vis, &item.attrs),
            Item::Fn(item) => self.check(&item.sig.ident, &item.vis, &item.attrs),
            Item::Static(item) => self.check(&item.ident, &item.vis, &item.attrs),
            Item::Struct(item) => self.check(&item.ident, &item.vis, &item.attrs),
            Item::Trait(item) => self.check(&item.ident, &item.vis, &item.attrs),
            Item::Type(item) => self.check(&item.ident, &item.vis, &item.attrs),
            // A function of a trait is documented there.
            Item::Impl(item) if item.trait_.is_some() => return,
            _ => {}
        }
        visit::visit_item(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        let is_accessor = item.sig.inputs.len() == 1 && item.sig.receiver().is_some();
        // What an accessor gives, its name says.
        if !is_accessor || !doc_of(&item.attrs).is_empty() {
            self.check(&item.sig.ident, &item.vis, &item.attrs);
        }
    }

    fn visit_field(&mut self, field: &'ast syn::Field) {
        if let Some(name) = &field.ident {
            self.check_words(name, &doc_of(&field.attrs), MEMBER_WORDS_MIN);
        }
    }

    fn visit_variant(&mut self, variant: &'ast syn::Variant) {
        self.check_words(&variant.ident, &doc_of(&variant.attrs), MEMBER_WORDS_MIN);
        visit::visit_variant(self, variant);
    }
}
