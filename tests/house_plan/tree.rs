//! The source as a tree of modules, and what a path in it names: read with `syn`, from files or
//! from text.
//!
//! It follows `mod`, `use` (groups, renames, globs, re-exports), and paths in types, expressions,
//! patterns and macros. Code for tests alone (`#[cfg(test)]`) is left out. It knows no types, so
//! the methods of a value name nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Attribute, Item, ItemMod, ItemUse, UseTree, Visibility};

/// A crate by the name that others call it, and its root file.
pub type Root = (&'static str, &'static str);

/// The crates of this repository. The binaries are not named by anybody.
pub const ROOTS: [Root; 7] = [
    ("florin_core", "core/src/lib.rs"),
    ("florin", "src/lib.rs"),
    ("(florin)", "src/bin/florin/main.rs"),
    ("(florin-wallet)", "src/bin/florin-wallet/main.rs"),
    ("(florin-acquirer)", "src/bin/florin-acquirer/main.rs"),
    ("(simulate)", "examples/simulate/main.rs"),
    ("(radio_bench)", "examples/radio_bench/main.rs"),
];

/// One use of a name: in which file and line, as written, and which file it leads to.
#[derive(Debug, Clone)]
pub struct Reference {
    pub file: String,
    pub line: usize,
    /// The path as written, with `::`.
    pub path: String,
    /// The file that defines what is named; none outside of this repository.
    pub target: Option<String>,
    /// It only passes the name on.
    pub is_reexport: bool,
}

#[derive(Debug)]
enum Name {
    Defined,
    Module(usize),
    Imported(Vec<String>),
}

#[derive(Debug)]
struct Module {
    root: usize,
    parent: Option<usize>,
    file: String,
    names: BTreeMap<String, Name>,
    globs: Vec<Vec<String>>,
}

/// What a path leads to.
enum Found {
    Module(usize),
    File(String),
}

/// All modules of all crates.
pub struct Tree {
    roots: BTreeMap<String, usize>,
    modules: Vec<Module>,
    /// The parsed items of each module, for those that are files' own or inline.
    bodies: Vec<Vec<Item>>,
    files: BTreeSet<String>,
}

impl Tree {
    /// Reads the crates whose root files are there. `read` gives a file's text, by its path from
    /// the repository's root.
    pub fn read(roots: &[Root], read: &dyn Fn(&str) -> Option<String>) -> Self {
        let mut tree = Self {
            roots: BTreeMap::new(),
            modules: Vec::new(),
            bodies: Vec::new(),
            files: BTreeSet::new(),
        };
        for (name, file) in roots {
            if let Some(text) = read(file) {
                let directory = Path::new(file).parent().unwrap().to_owned();
                let id = tree.add_file(None, file, &text, &directory, read);
                tree.roots.insert((*name).to_owned(), id);
            }
        }
        tree
    }

    /// Every file that a crate is made of.
    pub fn files(&self) -> &BTreeSet<String> {
        &self.files
    }

    fn add_file(
        &mut self,
        parent: Option<usize>,
        file: &str,
        text: &str,
        directory: &Path,
        read: &dyn Fn(&str) -> Option<String>,
    ) -> usize {
        let parsed = syn::parse_file(text).unwrap_or_else(|error| panic!("{file}: {error}"));
        self.files.insert(file.to_owned());
        self.add_module(parent, file, parsed.items, directory, read)
    }

    fn add_module(
        &mut self,
        parent: Option<usize>,
        file: &str,
        items: Vec<Item>,
        directory: &Path,
        read: &dyn Fn(&str) -> Option<String>,
    ) -> usize {
        let id = self.modules.len();
        let root = parent.map_or(id, |parent| self.modules[parent].root);
        let (names, globs) = (BTreeMap::new(), Vec::new());
        self.modules.push(Module { root, parent, file: file.to_owned(), names, globs });
        self.bodies.push(Vec::new());
        let mut body = Vec::new();
        for item in items {
            if is_for_tests(attributes(&item)) {
                continue;
            }
            match item {
                Item::Mod(module) => {
                    let name = module.ident.to_string();
                    if let Some(child) = self.add_child(id, file, module, directory, read) {
                        self.modules[id].names.insert(name, Name::Module(child));
                    }
                }
                Item::Use(item) => {
                    for (name, path) in imports(&item) {
                        match name {
                            Some(name) => {
                                self.modules[id].names.insert(name, Name::Imported(path));
                            }
                            None => self.modules[id].globs.push(path),
                        }
                    }
                    body.push(Item::Use(item));
                }
                item => {
                    if let Some(name) = defined(&item) {
                        // A function may have the name of a module.
                        self.modules[id].names.entry(name).or_insert(Name::Defined);
                    }
                    body.push(item);
                }
            }
        }
        self.bodies[id] = body;
        id
    }

    fn add_child(
        &mut self,
        parent: usize,
        file: &str,
        module: ItemMod,
        directory: &Path,
        read: &dyn Fn(&str) -> Option<String>,
    ) -> Option<usize> {
        let name = module.ident.to_string();
        let below = directory.join(&name);
        if let Some((_, items)) = module.content {
            return Some(self.add_module(Some(parent), file, items, &below, read));
        }
        let places = [below.with_extension("rs"), below.join("mod.rs")];
        let (place, text) = places.iter().find_map(|place| {
            let place = place.to_str().unwrap();
            read(place).map(|text| (place.to_owned(), text))
        })?;
        Some(self.add_file(Some(parent), &place, &text, &below, read))
    }

    /// Every use of a name in code that is not for tests alone.
    pub fn references(&self) -> Vec<Reference> {
        let mut references = Vec::new();
        for (id, body) in self.bodies.iter().enumerate() {
            let mut finder = Finder { found: Vec::new() };
            for item in body {
                finder.visit_item(item);
            }
            for (path, line, is_reexport) in finder.found {
                if path.len() == 1 && !is_reexport && !self.names_file(id, &path[0]) {
                    continue;
                }
                references.push(Reference {
                    file: self.modules[id].file.clone(),
                    line,
                    target: self.find(id, &path, 0).and_then(|found| match found {
                        Found::File(file) => Some(file),
                        Found::Module(_) => None,
                    }),
                    path: path.join("::"),
                    is_reexport,
                });
            }
        }
        references
    }

    fn names_file(&self, module: usize, name: &str) -> bool {
        matches!(self.modules[module].names.get(name), Some(Name::Imported(_)))
    }

    /// Where a path leads that stands in this module.
    fn find(&self, module: usize, path: &[String], depth: usize) -> Option<Found> {
        if depth > 16 {
            return None;
        }
        let (first, rest) = path.split_first()?;
        let start = match first.as_str() {
            "crate" => Found::Module(self.modules[module].root),
            "self" => Found::Module(module),
            "super" => Found::Module(self.modules[module].parent?),
            name => match self.look_up(module, name, depth) {
                Some(found) => found,
                None => Found::Module(*self.roots.get(name)?),
            },
        };
        self.follow(start, rest, depth)
    }

    fn follow(&self, start: Found, rest: &[String], depth: usize) -> Option<Found> {
        let Found::Module(module) = start else { return Some(start) };
        let Some((next, rest)) = rest.split_first() else { return Some(start) };
        if next == "super" {
            return self.follow(Found::Module(self.modules[module].parent?), rest, depth);
        }
        match self.look_up(module, next, depth) {
            Some(found) => self.follow(found, rest, depth),
            // What a macro or generated code defines.
            None => Some(Found::File(self.modules[module].file.clone())),
        }
    }

    fn look_up(&self, module: usize, name: &str, depth: usize) -> Option<Found> {
        let here = &self.modules[module];
        match here.names.get(name) {
            Some(Name::Defined) => return Some(Found::File(here.file.clone())),
            Some(Name::Module(child)) => return Some(Found::Module(*child)),
            Some(Name::Imported(path)) if path.len() > 1 || path[0] != name => {
                return self.find(module, path, depth + 1);
            }
            Some(Name::Imported(_)) | None => {}
        }
        here.globs.iter().find_map(|glob| {
            let Found::Module(target) = self.find(module, glob, depth + 1)? else { return None };
            (target != module).then(|| self.look_up(target, name, depth + 1)).flatten()
        })
    }
}

/// Is it compiled for tests only?
pub fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("test")
            || (attribute.path().is_ident("cfg")
                && attribute.parse_args::<syn::Ident>().is_ok_and(|name| name == "test"))
    })
}

/// The attributes of an item.
pub fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

fn defined(item: &Item) -> Option<String> {
    let name = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        _ => return None,
    };
    Some(name.to_string())
}

/// The names that a `use` brings, with their paths; no name for a glob.
fn imports(item: &ItemUse) -> Vec<(Option<String>, Vec<String>)> {
    fn walk(tree: &UseTree, before: &[String], found: &mut Vec<(Option<String>, Vec<String>)>) {
        let with = |name: String| {
            let mut path = before.to_vec();
            if name != "self" || path.is_empty() {
                path.push(name);
            }
            path
        };
        match tree {
            UseTree::Path(tree) => walk(&tree.tree, &with(tree.ident.to_string()), found),
            UseTree::Name(tree) => {
                let path = with(tree.ident.to_string());
                found.push((path.last().cloned(), path));
            }
            UseTree::Rename(tree) => {
                found.push((Some(tree.rename.to_string()), with(tree.ident.to_string())));
            }
            UseTree::Glob(_) => found.push((None, before.to_vec())),
            UseTree::Group(tree) => {
                for tree in &tree.items {
                    walk(tree, before, found);
                }
            }
        }
    }
    let mut found = Vec::new();
    walk(&item.tree, &[], &mut found);
    found
}

/// Collects paths: their segments, their line, and whether they are only passed on.
struct Finder {
    found: Vec<(Vec<String>, usize, bool)>,
}

impl Finder {
    /// Paths in the tokens of a macro, which `syn` does not parse.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let (mut line, mut colons) = (0, 0);
        for token in tokens {
            match token {
                TokenTree::Ident(name) if !path.is_empty() && colons == 2 => {
                    path.push(name.to_string());
                    colons = 0;
                }
                TokenTree::Ident(name) => {
                    self.add(std::mem::take(&mut path), line);
                    line = name.span().start().line;
                    path.push(name.to_string());
                    colons = 0;
                }
                TokenTree::Punct(mark) if mark.as_char() == ':' => colons += 1,
                token => {
                    self.add(std::mem::take(&mut path), line);
                    if let TokenTree::Group(group) = token {
                        self.tokens(group.stream());
                    }
                }
            }
        }
        self.add(path, line);
    }

    fn add(&mut self, path: Vec<String>, line: usize) {
        if path.len() > 1 {
            self.found.push((path, line, false));
        }
    }
}

impl<'ast> Visit<'ast> for Finder {
    fn visit_item(&mut self, item: &'ast Item) {
        if !is_for_tests(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if !is_for_tests(&item.attrs) {
            visit::visit_impl_item_fn(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        let is_reexport = !matches!(item.vis, Visibility::Inherited);
        let line = item.span().start().line;
        for (_, path) in imports(item) {
            self.found.push((path, line, is_reexport));
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.add(segments, path.span().start().line);
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        self.tokens(item.tokens.clone());
        visit::visit_macro(self, item);
    }
}

/// Reads files below the repository's root.
pub fn from_disk(path: &str) -> Option<String> {
    std::fs::read_to_string(root().join(path)).ok()
}

/// The repository's root.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}
