//! Renewal: a terminal gets new certificates with the ones that it has, before they end.
//!
//! The old client certificate is good until the new one was first used, so that a terminal that
//! could not keep the new one loses nothing. The channel key stays: it is what stickers name.

use super::Institution;
use super::enrolment::{TerminalEnrolment, later};
use super::error::InstitutionError;
use super::records::{EnrolmentState, NextClient, TerminalKeys};
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
