//! What is to happen in the demo.

use std::path::PathBuf;

use florin::domain::Amount;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scenario {
    /// Everything goes well: approved, released, captured.
    Approved,
    /// There is not enough money in the account.
    Declined,
    /// The terminal shows the phone one amount and asks the institution for ten times as much.
    TamperedOffer,
    /// Somebody copied the card, and the copy pays with a counter that the card has used.
    StolenCounter,
    /// Approved, but the goods cannot be released.
    DispenseFailed,
    /// The institution decides, and its answer never arrives.
    InstitutionSilent,
}

impl Scenario {
    pub const ALL: [Self; 6] = [
        Self::Approved,
        Self::Declined,
        Self::TamperedOffer,
        Self::StolenCounter,
        Self::DispenseFailed,
        Self::InstitutionSilent,
    ];

    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Approved => "approved",
            Self::Declined => "declined",
            Self::TamperedOffer => "tampered-offer",
            Self::StolenCounter => "stolen-counter",
            Self::DispenseFailed => "dispense-failed",
            Self::InstitutionSilent => "institution-silent",
        }
    }

    /// How the payment has to end for the till.
    pub(super) fn expected_outcome(self) -> &'static str {
        match self {
            Self::Approved => "approved",
            Self::Declined | Self::TamperedOffer | Self::StolenCounter => "declined",
            Self::DispenseFailed | Self::InstitutionSilent => "reversed",
        }
    }
}

/// What to play.
#[derive(Debug, Clone)]
pub struct DemoSettings {
    pub amount: Amount,
    pub scenario: Scenario,
    /// Where all files are kept. If none, they are in a temporary directory, which is removed.
    pub directory: Option<PathBuf>,
}
