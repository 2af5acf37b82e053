//! How the phone verified the card's holder.

/// How the phone verified the card's holder, weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HolderVerification {
    /// The phone asked nobody.
    None,
    /// The person consented on the screen.
    Consent,
    /// The phone checked a passcode.
    Passcode,
    /// The phone checked a biometric trait.
    Biometric,
}
