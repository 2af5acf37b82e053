//! Bugs that can be planted around the engine, the wallet and the institution, to see that the simulator finds them.
//!
//! None of them is in the parties' own code: each is done by what surrounds them here, in a world that is run for it.

/// One bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlantedBug {
    /// The journal confirms before the record is durable.
    EffectBeforeJournal,
    /// The journal loses the newest record that it had confirmed.
    ConfirmedRecordLost,
    /// An authorisation without an answer counts as declined.
    TimeoutIsDecline,
    /// An authorisation without an answer counts as not sent.
    UnansweredIsNotSent,
    /// An authorisation without an answer is tried again under a new transaction id.
    RetryUnderNewId,
    /// "I do not know it" counts as "reversed".
    UnknownIsNotCharged,
    /// A payment that is being reversed is forgotten at a restart.
    ReversalDroppedAtRestart,
    /// A payment that is being authorised counts as an offer at a restart.
    AuthorisingExpiresAtRestart,
    /// A capture is reported done without being sent.
    CaptureNotSent,
    /// A reversal is reported done without being sent.
    ReversalNotSent,
    /// The institution takes the money again when a capture is repeated.
    CapturedTwice,
    /// The institution keeps no tombstone for what it never saw.
    TombstoneForgotten,
    /// The card's counter stands still.
    CounterNotAdvanced,
    /// A late approval tells the till to release.
    LateApprovalReleases,
    /// The till is told to release for another payment.
    OtherPaymentReleased,
    /// The till reads the engine's own state, ahead of the journal.
    TillReadsEngine,
    /// The till's "could not be released" arrives as "released".
    FailedReleaseIsCaptured,
    /// The offer is over another amount than the till asked for.
    OfferedForLess,
    /// The till's idempotency key is not found again.
    KeyNotFound,
    /// A person is told another person's end.
    ToldToAnotherPhone,
}

impl PlantedBug {
    /// Every bug.
    pub const ALL: &[Self] = &[
        Self::EffectBeforeJournal,
        Self::ConfirmedRecordLost,
        Self::TimeoutIsDecline,
        Self::UnansweredIsNotSent,
        Self::RetryUnderNewId,
        Self::UnknownIsNotCharged,
        Self::ReversalDroppedAtRestart,
        Self::AuthorisingExpiresAtRestart,
        Self::CaptureNotSent,
        Self::ReversalNotSent,
        Self::CapturedTwice,
        Self::TombstoneForgotten,
        Self::CounterNotAdvanced,
        Self::LateApprovalReleases,
        Self::OtherPaymentReleased,
        Self::TillReadsEngine,
        Self::FailedReleaseIsCaptured,
        Self::OfferedForLess,
        Self::KeyNotFound,
        Self::ToldToAnotherPhone,
    ];

    /// In words.
    pub fn text(self) -> &'static str {
        match self {
            Self::EffectBeforeJournal => "effects come before the journal",
            Self::ConfirmedRecordLost => "the journal loses its newest confirmed record in a crash",
            Self::TimeoutIsDecline => "a time-out is read as a decline",
            Self::UnansweredIsNotSent => "a request without an answer counts as not sent",
            Self::RetryUnderNewId => "a request without an answer is tried again under a new id",
            Self::UnknownIsNotCharged => "an unknown transaction counts as reversed",
            Self::ReversalDroppedAtRestart => "reversals are dropped at a restart",
            Self::AuthorisingExpiresAtRestart => "an authorisation counts as an offer at a restart",
            Self::CaptureNotSent => "captures are reported done without being sent",
            Self::ReversalNotSent => "reversals are reported done without being sent",
            Self::CapturedTwice => "a repeated capture takes the money again",
            Self::TombstoneForgotten => "a reversal of an unknown id leaves no tombstone",
            Self::CounterNotAdvanced => "the card's counter is not advanced",
            Self::LateApprovalReleases => "a late approval releases the goods",
            Self::OtherPaymentReleased => "the till is told to release for another payment",
            Self::TillReadsEngine => "the till reads the engine instead of what is durable",
            Self::FailedReleaseIsCaptured => "a failed release is captured",
            Self::OfferedForLess => "the offer is over another amount than the till's",
            Self::KeyNotFound => "an idempotency key is not found again",
            Self::ToldToAnotherPhone => "a person is told another person's end",
        }
    }
}
