//! The journal in a SQLite file: write-ahead log, every commit synced.

mod error;
mod existence_mark;
mod journal;
mod recovery_marker;
mod rewrite;
mod schema;
mod side_file;

pub use error::SqliteJournalError;
pub use journal::{Change, SqliteJournal};
