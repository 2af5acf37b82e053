//! Renewal: a terminal gets new certificates with the ones that it has, before they end.
//!
//! The old client certificate is good until the new one was first used, so that a terminal that
//! could not keep the new one loses nothing. The channel key stays: it is what stickers name.

use super::Institution;
use super::certificate_authority::ClientIdentity;
use super::enrolment::{TerminalEnrolment, later};
use super::error::InstitutionError;
use super::records::{EnrolmentState, MaintenanceAction, NextClient, TerminalKeys};
use super::store::Written;
use super::validity::TERMINAL_VALIDITY_S;
use crate::domain::{TerminalId, UnixTime};

impl Institution {
    /// Renews the certificates of a terminal, for the client key with this digest. The same key may
    /// come again, so that a lost answer costs nothing.
    ///
    /// # Errors
    /// [`InstitutionError::NotFound`]; [`InstitutionError::Blocked`];
    /// [`InstitutionError::InvalidRequest`] for the key that the terminal uses already;
    /// [`InstitutionError::Store`].
    pub fn renew_terminal(
        &mut self,
        id: TerminalId,
        client_key_digest: &[u8; 32],
        now: UnixTime,
    ) -> Result<TerminalEnrolment, InstitutionError> {
        let not_found = || InstitutionError::not_found("enrolled terminal", id);
        let terminal = self.store.terminal(id)?.ok_or_else(not_found)?;
        let channel_key = terminal.channel_key.ok_or_else(not_found)?;
        if terminal.state == EnrolmentState::Blocked {
            return Err(InstitutionError::Blocked("terminal"));
        }
        if terminal.client_key_digest == Some(*client_key_digest) {
            let detail = "has the key that the terminal uses already; make a new key";
            return Err(InstitutionError::invalid("certificate_signing_request", detail));
        }
        // A repeat keeps the end of the first answer.
        let earlier = terminal.next_client.filter(|next| next.key_digest == *client_key_digest);
        let next = earlier.unwrap_or(NextClient {
            key_digest: *client_key_digest,
            certificate_not_after: later(now, TERMINAL_VALIDITY_S),
        });
        if !self.store.set_next_client(id, &next)? {
            return Err(not_found());
        }
        let keys = TerminalKeys {
            channel_key,
            client_key_digest: next.key_digest,
            certificate_not_after: next.certificate_not_after,
        };
        Ok(self.terminal_enrolment(&terminal, &keys, now))
    }

    /// As [`Self::check_client_key`]. After the store was restored from a copy it also takes over a
    /// certificate that the store has lost: a newer one than it knows, made before the adoption.
    ///
    /// # Errors
    /// [`InstitutionError::CertificateReplaced`]; [`InstitutionError::Store`].
    pub fn check_client(&mut self, client: &ClientIdentity) -> Result<(), InstitutionError> {
        let (id, key_digest) = (client.terminal_id, &client.key_digest);
        match self.check_client_key(id, key_digest) {
            Err(InstitutionError::CertificateReplaced(_)) if self.has_lost(client)? => {
                let certificate_not_after = client.not_after;
                let next = NextClient { key_digest: *key_digest, certificate_not_after };
                self.store.set_next_client(id, &next)?;
                self.check_client_key(id, key_digest)
            }
            checked => checked,
        }
    }

    /// Whether the store would know this certificate if it had not been restored.
    fn has_lost(&mut self, client: &ClientIdentity) -> Result<bool, InstitutionError> {
        let Some(terminal) = self.store.terminal(client.terminal_id)? else { return Ok(false) };
        let known = terminal.next_client.map(|next| next.certificate_not_after);
        let newest = known.max(terminal.certificate_not_after);
        let adopted_at = self
            .store
            .newest_maintenance(u32::MAX)?
            .into_iter()
            .filter(|entry| entry.action == MaintenanceAction::AdoptStore)
            .map(|entry| entry.made_at)
            .max();
        let was_before = adopted_at.is_some_and(|adopted_at| client.issued_at <= adopted_at);
        Ok(was_before && newest.is_some_and(|newest| client.not_after > newest))
    }

    /// Refuses a terminal that shows a certificate that was replaced. `client_key_digest` is
    /// SHA-256 of the public key in its client certificate. The first use of a renewed certificate
    /// ends the old one. An unknown terminal passes: its authorisations are declined with a reason.
    ///
    /// # Errors
    /// [`InstitutionError::CertificateReplaced`]; [`InstitutionError::Store`].
    pub fn check_client_key(
        &mut self,
        id: TerminalId,
        client_key_digest: &[u8; 32],
    ) -> Result<(), InstitutionError> {
        let Some(terminal) = self.store.terminal(id)? else { return Ok(()) };
        let Some(current) = terminal.client_key_digest else { return Ok(()) };
        if current == *client_key_digest {
            return Ok(());
        }
        let is_next =
            terminal.next_client.is_some_and(|next| next.key_digest == *client_key_digest);
        if is_next && self.store.use_next_client(id, client_key_digest)? == Written::Done {
            return Ok(());
        }
        // Another request with the same certificate may have been first.
        let newest = self.store.terminal(id)?.and_then(|terminal| terminal.client_key_digest);
        if newest == Some(*client_key_digest) {
            Ok(())
        } else {
            Err(InstitutionError::CertificateReplaced(id))
        }
    }
}
