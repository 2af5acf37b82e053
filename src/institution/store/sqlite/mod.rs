//! The store of a single server: one SQLite file.
//!
//! `database` opens the file and runs its transactions; a file for each table has the SQL; and the
//! units of work over the tables are in `payments`, `operations`, `enrolment`, `registry` and
//! `ledger`.

mod account_table;
mod action_columns;
mod audit_table;
mod card_table;
mod database;
mod enrolment;
mod enrolment_code_table;
mod error;
mod ledger;
mod ledger_check;
mod ledger_tables;
mod life;
mod maintenance_table;
mod operations;
mod operator_table;
mod payments;
mod refund_table;
mod registry;
mod request_table;
mod terminal_table;
mod transaction_table;

#[cfg(test)]
mod tests;

pub use database::{SqliteOpenError, SqliteStore};
