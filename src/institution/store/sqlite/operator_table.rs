//! Table `operator`.

use rusqlite::{Connection, params};

use crate::domain::UnixTime;
use crate::institution::records::RegisteredOperator;
use crate::institution::store::StoreError;

/// Inserts the operator, or puts this in the place of an earlier one of the same name.
pub(super) fn put(
    connection: &Connection,
    operator: &RegisteredOperator,
) -> Result<(), StoreError> {
    connection.execute(
        "INSERT OR REPLACE INTO operator (name, key_digest, not_after, removed_at) \
         VALUES (?, ?, ?, ?)",
        params![
            operator.name.as_str(),
            operator.key_digest,
            operator.not_after.seconds,
            operator.removed_at.map(|time| time.seconds)
        ],
    )?;
    Ok(())
}

/// Every operator, by name.
pub(super) fn all(connection: &Connection) -> Result<Vec<RegisteredOperator>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT name, key_digest, not_after, removed_at FROM operator ORDER BY name",
    )?;
    let mut rows = statement.query([])?;
    let mut operators = Vec::new();
    while let Some(row) = rows.next()? {
        let name: String = row.get(0)?;
        operators.push(RegisteredOperator {
            name: name.parse().map_err(|_| StoreError::corrupt("operator's name"))?,
            key_digest: row.get(1)?,
            not_after: UnixTime { seconds: row.get(2)? },
            removed_at: row.get::<_, Option<u64>>(3)?.map(|seconds| UnixTime { seconds }),
        });
    }
    Ok(operators)
}
