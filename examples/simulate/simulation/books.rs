//! What the institution says of all its transactions, to compare with the model.

use std::collections::BTreeMap;

use florin::terminal::InstitutionTransaction;

/// Seconds of a day.
pub const DAY_S: u64 = 86_400;
/// Number of transactions, and their sum in minor units.
pub type Total = (u64, u64);

/// The institution's side of a reconciliation.
#[derive(Debug)]
pub struct Books {
    pub transactions: Vec<InstitutionTransaction>,
    /// By state and currency, as the ledger's own check has them.
    pub totals: BTreeMap<(String, String), Total>,
    /// By day (days since 1970-01-01 by the institution's clock), state and currency, as a
    /// terminal is told them.
    pub totals_of_days: BTreeMap<(u64, String, String), Total>,
    pub faults: Vec<String>,
}
