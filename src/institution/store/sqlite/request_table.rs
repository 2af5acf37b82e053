//! Table `operation_request`.

use rusqlite::{Connection, Row, named_params, params};

use super::action_columns::{read_action, read_key};
use crate::domain::UnixTime;
use crate::institution::records::{NewOperationRequest, OperationRequest, RequestDecision};
use crate::institution::store::{StoreError, Written};

fn read(row: &Row<'_>) -> Result<OperationRequest, StoreError> {
    let request = NewOperationRequest {
        requested_at: UnixTime { seconds: row.get("requested_at")? },
        operator: row.get("operator")?,
        key: read_key(row)?,
        action: read_action(row)?,
        reason: row.get("reason")?,
    };
    let decision = match row.get::<_, Option<u64>>("decided_at")? {
        Some(seconds) => Some(RequestDecision {
            decided_at: UnixTime { seconds },
            decided_by: row.get("decided_by")?,
            is_confirmed: row.get("is_confirmed")?,
        }),
        None => None,
    };
    Ok(OperationRequest { number: row.get("number")?, request, decision })
}

/// Returns the number of the request.
pub(super) fn insert(
    connection: &Connection,
    request: &NewOperationRequest,
) -> Result<i64, StoreError> {
    let refund = request.action.refund();
    connection.execute(
        "INSERT INTO operation_request (requested_at, operator, terminal, transaction_id, \
         action, refund, amount_minor, currency, reason) \
         VALUES (:requested_at, :operator, :terminal, :transaction_id, :action, :refund, \
         :amount_minor, :currency, :reason)",
        named_params! {
            ":requested_at": request.requested_at.seconds,
            ":operator": request.operator,
            ":terminal": request.key.terminal.as_str(),
            ":transaction_id": request.key.id.as_octets(),
            ":action": request.action.name(),
            ":refund": refund.map(|(id, _)| id.0),
            ":amount_minor": refund.map(|(_, amount)| amount.minor()),
            ":currency": refund.map(|(_, amount)| amount.currency().to_string()),
            ":reason": request.reason,
        },
    )?;
    Ok(connection.last_insert_rowid())
}

/// One request or all, by number.
pub(super) fn select(
    connection: &Connection,
    number: Option<i64>,
) -> Result<Vec<OperationRequest>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT * FROM operation_request WHERE ?1 IS NULL OR number = ?1 ORDER BY number",
    )?;
    let mut rows = statement.query([number])?;
    let mut requests = Vec::new();
    while let Some(row) = rows.next()? {
        requests.push(read(row)?);
    }
    Ok(requests)
}

/// Outdated if the request does not wait any more.
pub(super) fn decide(
    connection: &Connection,
    number: i64,
    decision: &RequestDecision,
) -> Result<Written, StoreError> {
    let changed = connection.execute(
        "UPDATE operation_request SET decided_at = ?, decided_by = ?, is_confirmed = ? \
         WHERE number = ? AND decided_at IS NULL",
        params![decision.decided_at.seconds, decision.decided_by, decision.is_confirmed, number],
    )?;
    Ok(if changed == 1 { Written::Done } else { Written::Outdated })
}
