//! How a terminal stands: whether its payments are decided by the card, or declined whatever the
//! card says.
//!
//! One rule for two callers: the decision on a payment, and a terminal that asks before somebody
//! pays.

use super::Institution;
use super::error::InstitutionError;
use super::records::{EnrolmentState, RegisteredTerminal};
use crate::domain::TerminalId;

/// Why a terminal may not ask for payments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StandingFault {
    /// The institution's operator blocked it.
    #[error(
        "the institution has blocked this terminal; ask the institution why, and to unblock it"
    )]
    Blocked,
    /// It is not registered, or has not enrolled.
    #[error(
        "the institution does not know this terminal; ask it for an enrolment code, and enrol: \
         `florin enrol --replace`"
    )]
    Unknown,
}

/// The terminal, if its payments are decided by the card.
pub(super) fn in_good_standing(
    terminal: Option<&RegisteredTerminal>,
) -> Result<&RegisteredTerminal, StandingFault> {
    let terminal = terminal.ok_or(StandingFault::Unknown)?;
    match terminal.state {
        EnrolmentState::Active => Ok(terminal),
        EnrolmentState::Blocked => Err(StandingFault::Blocked),
        EnrolmentState::Pending => Err(StandingFault::Unknown),
    }
}

impl Institution {
    /// How the terminal stands: what [`Institution::authorise`] would say before it looks at the
    /// card.
    ///
    /// # Errors
    /// [`InstitutionError::Store`].
    pub fn standing(
        &mut self,
        terminal: TerminalId,
    ) -> Result<Result<(), StandingFault>, InstitutionError> {
        let registered = self.store.terminal(terminal)?;
        Ok(in_good_standing(registered.as_ref()).map(drop))
    }
}
