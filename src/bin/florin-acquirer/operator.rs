//! Who runs a command that moves money.

use std::env;

use clap::Args;

use crate::failure::Usage;

/// The environment variables that name the person, the first that is set.
const LOGIN_VARIABLES: [&str; 3] = ["SUDO_USER", "USER", "LOGNAME"];

/// The option that names the person.
#[derive(Debug, Args)]
pub struct OperatorName {
    /// Who does it, for the audit log [default: the name of the user who is logged in].
    #[arg(long, value_name = "NAME", env = "FLORIN_ACQUIRER_OPERATOR")]
    by: Option<String>,
}

impl OperatorName {
    /// The name that was given, or the user's.
    ///
    /// # Errors
    /// [`Usage`] if there is neither.
    pub fn resolve(self) -> Result<String, Usage> {
        let login = || LOGIN_VARIABLES.iter().find_map(|name| env::var(name).ok());
        let named = self.by.or_else(login).filter(|name| !name.trim().is_empty());
        named.ok_or_else(|| {
            let missing = "say who does it, for the audit log: add --by NAME";
            Usage(missing.to_owned())
        })
    }
}
