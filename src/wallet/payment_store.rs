//! What a session needs of a wallet's storage. A directory of files is one such store; a phone app
//! brings its own.

use std::error::Error;

use super::{PaymentRecord, Reservation};
use crate::credential::Signed;
use crate::domain::TransactionId;

/// Why a store failed, in the store's own words.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct StoreError(#[from] pub Box<dyn Error + Send + Sync>);

/// Stores a card's counter and payments. When a call returns, its change is on the disk.
pub trait PaymentStore: Send {
    /// The record of this transaction, if there is one.
    ///
    /// # Errors
    /// [`StoreError`].
    fn record(&self, transaction_id: &TransactionId) -> Result<Option<PaymentRecord>, StoreError>;

    /// The record of this transaction, or, if there is none, the next value of the counter.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is paid then.
    fn reserve(&mut self, transaction_id: &TransactionId) -> Result<Reservation, StoreError>;

    /// Stores a record of which there is none yet.
    ///
    /// # Errors
    /// [`StoreError`], also where there is one.
    fn create(&mut self, record: &PaymentRecord) -> Result<(), StoreError>;

    /// Replaces the record of this transaction.
    ///
    /// # Errors
    /// [`StoreError`].
    fn update(&mut self, record: &PaymentRecord) -> Result<(), StoreError>;

    /// Replaces the card's keyring by this one, unless the card has a newer one.
    ///
    /// # Errors
    /// [`StoreError`]; the card's keyring is then as before.
    fn store_keyring(&mut self, keyring: &Signed) -> Result<(), StoreError>;
}
