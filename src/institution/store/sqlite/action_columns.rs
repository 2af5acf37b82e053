//! The columns that say what an operator does to which payment: `terminal`, `transaction_id`,
//! `action`, `refund`, `amount_minor` and `currency`.

use rusqlite::Row;

use crate::domain::{Amount, TransactionId};
use crate::institution::records::{OperatorAction, RefundId, TransactionKey};
use crate::institution::store::StoreError;

pub(super) fn read_key(row: &Row<'_>) -> Result<TransactionKey, StoreError> {
    let terminal: String = row.get("terminal")?;
    let id: [u8; 16] = row.get("transaction_id")?;
    Ok(TransactionKey {
        terminal: terminal.parse().map_err(|_| StoreError::corrupt("terminal id"))?,
        id: TransactionId::from_octets(&id).map_err(|_| StoreError::corrupt("transaction id"))?,
    })
}

pub(super) fn read_action(row: &Row<'_>) -> Result<OperatorAction, StoreError> {
    let corrupt = || StoreError::corrupt("operator's action");
    let name: String = row.get("action")?;
    let refund: Option<[u8; 16]> = row.get("refund")?;
    let minor: Option<u64> = row.get("amount_minor")?;
    let currency: Option<String> = row.get("currency")?;
    let refund = match (refund, minor, currency) {
        (Some(id), Some(minor), Some(currency)) => {
            let currency = currency.parse().map_err(|_| corrupt())?;
            Some((RefundId(id), Amount::new(minor, currency).map_err(|_| corrupt())?))
        }
        (None, None, None) => None,
        (_, _, _) => return Err(corrupt()),
    };
    OperatorAction::from_parts(&name, refund).ok_or_else(corrupt)
}
