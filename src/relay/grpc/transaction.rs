//! A transaction as the institution tells it, where that can be understood.

use crate::domain::{DeclineReason, TransactionId};
use crate::institution_api;
use crate::terminal::{StoreGeneration, TransactionClaim, TransactionState};

/// Takes the institution's answer only where it is about this transaction and can be understood.
pub(super) fn read_transaction(
    transaction: Option<institution_api::Transaction>,
    transaction_id: TransactionId,
) -> Result<TransactionClaim, String> {
    let transaction = transaction.ok_or("no transaction in it")?;
    if transaction.transaction_id != transaction_id.as_octets() {
        return Err("it is about another transaction".into());
    }
    let state = read_state(&transaction)?;
    let present = |octets: Vec<u8>| Some(octets).filter(|octets| !octets.is_empty());
    Ok(TransactionClaim {
        state,
        receipt: present(transaction.receipt),
        exclusion: present(transaction.exclusion),
        store_generation: transaction.store_generation.try_into().ok().map(StoreGeneration),
    })
}

/// How a transaction stands, where that can be understood.
pub(super) fn read_state(
    transaction: &institution_api::Transaction,
) -> Result<TransactionState, String> {
    Ok(match transaction.state() {
        institution_api::TransactionState::Unknown => TransactionState::Unknown,
        institution_api::TransactionState::Declined => {
            // Whatever the reason, it is the institution's word that nothing is charged.
            let reason = DeclineReason::heard(transaction.decline_reason);
            TransactionState::Declined(reason.ok_or("a decline for no reason")?)
        }
        institution_api::TransactionState::Approved => TransactionState::Approved,
        institution_api::TransactionState::Captured => TransactionState::Captured,
        institution_api::TransactionState::Reversed => TransactionState::Reversed,
        institution_api::TransactionState::Unspecified => {
            return Err(format!("the state {}", transaction.state));
        }
    })
}
