//! How the house is checked: the source as a tree, the rules over it, and the rules over text.

pub mod rules;
pub mod text;
pub mod tree;
