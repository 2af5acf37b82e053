//! Operators with client certificates, for the administration service.

use super::Institution;
use super::error::InstitutionError;
use super::records::{OperatorName, RegisteredOperator};
use crate::domain::UnixTime;

impl Institution {
    /// Registers an operator with a key, or gives one a new key. The older key is good for nothing
    /// from then on.
    ///
    /// # Errors
    /// [`InstitutionError::Store`].
    pub fn add_operator(
        &mut self,
        name: &OperatorName,
        key_digest: [u8; 32],
        not_after: UnixTime,
    ) -> Result<(), InstitutionError> {
        let name = name.clone();
        let operator = RegisteredOperator { name, key_digest, not_after, removed_at: None };
        Ok(self.store.put_operator(&operator)?)
    }

    /// Shuts an operator out.
    ///
    /// # Errors
    /// [`InstitutionError::NotFound`]; [`InstitutionError::Store`].
    pub fn remove_operator(
        &mut self,
        name: &OperatorName,
        now: UnixTime,
    ) -> Result<(), InstitutionError> {
        let found = self.store.operators()?.into_iter().find(|operator| operator.name == *name);
        let operator = found.ok_or_else(|| InstitutionError::not_found("operator", name))?;
        let removed_at = operator.removed_at.or(Some(now));
        Ok(self.store.put_operator(&RegisteredOperator { removed_at, ..operator })?)
    }

    /// Every operator, by name.
    ///
    /// # Errors
    /// [`InstitutionError::Store`].
    pub fn operators(&mut self) -> Result<Vec<RegisteredOperator>, InstitutionError> {
        Ok(self.store.operators()?)
    }

    /// Refuses an operator who was never registered, was removed, or shows an older certificate.
    ///
    /// # Errors
    /// [`InstitutionError::OperatorRefused`]; [`InstitutionError::Store`].
    pub fn check_operator_key(
        &mut self,
        name: &OperatorName,
        key_digest: &[u8; 32],
    ) -> Result<(), InstitutionError> {
        let found = self.store.operators()?.into_iter().find(|operator| operator.name == *name);
        let is_good = found.is_some_and(|operator| {
            operator.removed_at.is_none() && operator.key_digest == *key_digest
        });
        is_good.then_some(()).ok_or_else(|| InstitutionError::OperatorRefused(name.clone()))
    }
}
