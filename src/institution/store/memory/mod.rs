//! A store in memory, for tests and simulations: what it holds is gone with the value.
//!
//! It keeps every promise of [`Store`] but durability, with none of SQLite's help, so that the
//! trait is shown to ask for nothing that only SQL can do. Each method checks everything that it is
//! going to change before it changes anything.
//!
//! [`Store`]: super::Store

mod books;
mod books_check;
mod enrolment;
mod ledger;
mod life;
mod operations;
mod payments;
mod registry;
mod tables;

pub use tables::MemoryStore;
